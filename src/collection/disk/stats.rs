//! Counters for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::compute::{CALL_TIMES, Distribution, Histogram};

/// Activity and sizes of a disk. Counters start when it is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of the file on its file system; `None` if the system does not report them.
    pub file_bytes: Option<u64>,
    /// Bytes of the documents in the file.
    pub record_bytes: u64,
    /// Free bytes of the file system; `None` if the system does not report them.
    pub free_bytes: Option<u64>,
    /// Free bytes that additions leave.
    pub min_free_bytes: u64,
    /// Number of collections that are not deleted.
    pub collections: u64,
    /// Number of documents in them.
    pub rows: u64,
    /// Number of deleted collections whose space is not free yet.
    pub dropped: u64,
    /// Number of stored batches.
    pub batches: u64,
    /// Number of transactions that stored batches or purged; each takes two fsyncs. `batches / transactions` is the
    /// gain of group commit.
    pub transactions: u64,
    /// Number of compactions.
    pub compactions: u64,
    /// The time of each transaction's commit, which is nearly all in its fsyncs, in nanoseconds.
    pub commit_times: Distribution,
    /// Reason why writes stopped; `None`: they go on.
    pub stopped: Option<Arc<str>>,
}

/// The counters that the writer updates.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) record_bytes: AtomicU64,
    pub(super) collections: AtomicU64,
    pub(super) rows: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) transactions: AtomicU64,
    pub(super) compactions: AtomicU64,
    pub(super) commit_times: CommitTimes,
}

/// The times of commits.
pub(super) struct CommitTimes(pub(super) Histogram);

impl Default for CommitTimes {
    fn default() -> Self {
        Self(Histogram::new(CALL_TIMES))
    }
}

impl Counters {
    /// Reads the counters. The other fields stay empty.
    pub(super) fn read(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            record_bytes: get(&self.record_bytes),
            collections: get(&self.collections),
            rows: get(&self.rows),
            dropped: get(&self.dropped),
            batches: get(&self.batches),
            transactions: get(&self.transactions),
            compactions: get(&self.compactions),
            commit_times: self.commit_times.0.distribution(),
            ..Stats::default()
        }
    }
}
