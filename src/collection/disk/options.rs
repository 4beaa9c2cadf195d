//! Settings of a disk.

/// Settings of a [`Disk`](super::Disk).
#[derive(Debug, Clone)]
pub struct Options {
    /// Memory for pages of the file. Documents are in memory anyway: more than the inner pages of the trees and one
    /// transaction's pages gains nothing.
    pub cache_bytes: usize,
    /// Most batches that wait for the writer; callers wait when the queue is full. Higher: more batches share an
    /// fsync, and more memory is held.
    pub queue_batches: usize,
    /// A transaction of this size takes no further batch. Higher: fewer fsyncs under load, but longer ones.
    pub transaction_bytes: usize,
    /// Puts are refused if they would leave less of the file system free. Half of it is for puts that fit inside
    /// the file, the other half for removals, which need some space too: not zero.
    pub min_free_bytes: u64,
    /// A file that takes more than this, and twice what its documents need, is rewritten. Meanwhile both versions
    /// are on disk.
    pub compact_above_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // 16, 64 and 512 MiB commit at the same speed (100,000 documents of 384 floats).
            cache_bytes: 32 << 20,
            queue_batches: 64,
            transaction_bytes: 16 << 20,
            min_free_bytes: 256 << 20,
            compact_above_bytes: 64 << 20,
        }
    }
}
