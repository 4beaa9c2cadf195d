//! The pools of a process, one for each class of work.
//!
//! Searches, tokenisation and bulk work have `threads` threads each, so that one class cannot delay another. The pool
//! for storage has more threads than cores, because they wait for the disk. A long call moves to the pool for bulk
//! work, whose threads have low priority, and leaves the other pools to short calls.

use std::time::Duration;

use super::allowance::Allowances;
use super::pool::{Options, Pool};
use crate::machine::priority;

/// A call that has computed for longer moves to the pool for long work, which has a lower priority. 50 ms: a hundred
/// searches through a graph.
const LONG: Duration = Duration::from_millis(50);

/// Calls in one pool. Higher than the default of `max_calls`, so this limit matters only when that setting is raised.
const CALLS: usize = 1_024;

/// Threads that wait for a disk: this many commits can share one fsync. They do not compute, so there are more than
/// cores.
const STORAGE_THREADS: usize = 32;

/// The expected time of a search, and of other short work; a pool corrects it by measurement.
pub const SHORT: Duration = Duration::from_micros(200);

/// The pools of the process. Clones share them.
#[derive(Debug, Clone)]
pub struct Pools {
    /// Searches. A long call moves to `bulk`.
    pub search: Pool,
    /// Tokenisation. A call with long texts moves to `bulk`.
    pub texts: Pool,
    /// Exports, answers with many texts, and long calls of the other pools. Its threads have low priority.
    pub bulk: Pool,
    /// Work that waits for a disk: commits, new and deleted collections, backups.
    pub storage: Pool,
    /// The limits of callers, for those who compute.
    pub allowances: Allowances,
}

impl Pools {
    /// Pools of `threads` threads each, which start when there is work.
    pub fn new(threads: usize) -> Self {
        let pool = |name, nice, long| Pool::new(Options { name, threads, calls: CALLS, nice, long });
        let bulk = pool("bulk", priority::MODEL, None);
        let long = || Some((LONG, bulk.clone()));
        Self {
            search: pool("search", 0, long()),
            texts: pool("texts", 0, long()),
            storage: Pool::new(Options {
                name: "storage",
                threads: STORAGE_THREADS,
                calls: CALLS,
                nice: 0,
                long: None,
            }),
            bulk,
            allowances: Allowances::default(),
        }
    }
}
