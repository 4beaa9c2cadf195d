//! COMPUTATION, away from the async threads: bounded pools of threads that serve calls fairly and stop when the caller
//! leaves.
//!
//! ```text
//! call ── Pool::run ── a permit, or refused ── Queue: fair between calls ── threads ── result ── call
//!                                                   │ a long computation
//!                                                   └────► the pool for long work, whose threads have low priority
//! ```
//!
//! Invariants: a pool has a fixed number of threads and a bounded number of calls. The work of a caller who has left is
//! not started, and running work is told to stop. The pools do not know what they compute.

mod allowance;
mod caller;
mod deadline;
mod histogram;
mod limits;
mod place;
mod pool;
mod pools;
mod queue;
mod refused;
pub mod stop;
mod task;

pub use allowance::{Allowance, Allowances, CallInProgress, Exceeded};
pub use caller::{Caller, Terms};
pub use deadline::{Deadline, WhenFull};
pub use histogram::{CALL_TIMES, Distribution, Histogram, SIZES};
pub use limits::{Limit, Limits};
pub use place::Place;
pub use pool::{Options, Pool};
pub use pools::{Pools, SHORT};
pub use refused::Refused;
