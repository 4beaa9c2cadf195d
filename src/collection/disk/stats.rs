//! Counts for metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a disk did and what it holds. Counts are since it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes that the file takes on its file system; `None` if the system does not say.
    pub file_bytes: Option<u64>,
    /// Bytes of the documents in it.
    pub record_bytes: u64,
    /// Bytes that the file system has left; `None` if the system does not say.
    pub free_bytes: Option<u64>,
    /// Collections that are not deleted.
    pub collections: u64,
    /// Documents in them.
    pub rows: u64,
    /// Deleted collections whose space is not free yet.
    pub dropped: u64,
    /// Batches that were stored.
    pub batches: u64,
    /// Transactions that stored them, or purged: each is two fsyncs. `batches / transactions` is what
    /// group commit gains.
    pub transactions: u64,
    /// Times that the file was rewritten.
    pub compactions: u64,
    /// Why nothing is written any more, if so.
    pub stopped: Option<Arc<str>>,
}

/// The counts as the writer keeps them.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) record_bytes: AtomicU64,
    pub(super) collections: AtomicU64,
    pub(super) rows: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) transactions: AtomicU64,
    pub(super) compactions: AtomicU64,
}

impl Counters {
    /// The counts now; the fields that are not counts are left empty.
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
            ..Stats::default()
        }
    }
}
