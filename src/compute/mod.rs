//! COMPUTATION, away from the async threads: bounded pools of threads, fair between calls, that stop with their caller.
//!
//! ```text
//! call ── Pool::run ── a place, or refused ── Queue: fair between calls ── threads ── result ── call
//!                                                  │ a long computation
//!                                                  └────► the pool for long work, whose threads have low priority
//! ```
//!
//! Invariants: a pool has a fixed number of threads and a bounded number of calls; work of a caller who has left is
//! not begun, and work that has begun is told to stop. Knows nothing of what is computed.

mod deadline;
mod pool;
mod pools;
mod queue;
pub mod stop;
mod task;

pub use deadline::{Deadline, WhenFull};
pub use pool::{Options, Pool, Refused};
pub use pools::Pools;
