//! The pools of a process, one for each class of work.
//!
//! Searches, texts to tokens and bulk work have `threads` threads each, so that none of them can hold up another. The
//! pool for storage has more threads than cores, because they wait for the disk. A call that computes for long moves to
//! the pool for bulk work, whose threads have low priority: it leaves the other pools to short calls.

use std::time::Duration;

use super::pool::{Options, Pool};
use crate::kernel::priority;

/// A call that has computed for this long goes on where long work is done, at lower priority. 50 ms: a hundred searches
/// through a graph.
const LONG: Duration = Duration::from_millis(50);

/// Calls in one pool: more than `max_calls` lets in by default, so that this binds only where that was raised.
const CALLS: usize = 1_024;

/// Threads that wait for a disk: as many commits share one fsync. They do not compute, so there are more than cores.
const STORAGE_THREADS: usize = 32;

/// Where calls compute. Clones share the pools.
#[derive(Debug, Clone)]
pub struct Pools {
    /// Searches. A call that takes long goes on in `bulk`.
    pub search: Pool,
    /// Texts to tokens. A call of long texts goes on in `bulk`.
    pub texts: Pool,
    /// Exports, answers of many texts, and what took long elsewhere; its threads give way to all others.
    pub bulk: Pool,
    /// What waits for a disk: commits, new and deleted collections, backups.
    pub storage: Pool,
}

impl Pools {
    /// Pools of `threads` threads each; they are started when there is work for them.
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
        }
    }
}
