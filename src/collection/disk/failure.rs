//! Errors of commits and of checks: what the writer answers with.

use std::path::PathBuf;
use std::sync::Arc;

use super::snapshot::ReadError;

/// Reasons why a batch was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The disk failed. The next start will show if this batch is on disk; if so, as a whole.
    #[error(transparent)]
    Stopped(#[from] WritesStopped),
    /// The file system is almost full. Nothing of this batch was stored; batches that only remove still succeed.
    #[error(transparent)]
    DiskFull(#[from] DiskFull),
    /// The batch contradicts the stored state. Nothing of it was stored.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// The disk failed. Nothing is written until a restart has read what is really there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} accepts no writes until a restart: {reason}. Repair the disk, then restart the server")]
pub struct WritesStopped {
    /// The data file.
    pub path: PathBuf,
    /// The failure.
    pub reason: Arc<str>,
}

/// The file system has too little space.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the file system of {path} has {free} bytes free, and {needed} are needed, with the reserve (min_free_bytes): \
     free some, or delete documents"
)]
pub struct DiskFull {
    /// A file or directory on the file system.
    pub path: PathBuf,
    /// Free bytes of the file system.
    pub free: u64,
    /// Free bytes that are needed.
    pub needed: u64,
}

/// Contradictions between a batch and the stored state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The collection does not exist, or is deleted.
    #[error("there is no collection number {0}")]
    NoCollection(u32),
    /// A new collection has the number of another, present or former.
    #[error("collection number {0} was used before")]
    NumberTaken(u32),
    /// A new collection has the name of another.
    #[error("there is a collection {0:?} already")]
    NameTaken(String),
    /// A vector has another length than its collection's.
    #[error("the vector has {found} values, and those of collection number {collection} have {expected}")]
    Dimensions {
        /// The collection's number.
        collection: u32,
        /// Length of the collection's vectors.
        expected: usize,
        /// Length of this vector.
        found: usize,
    },
    /// A new row exists already.
    #[error("collection number {collection} has a row {row} already")]
    RowTaken {
        /// The collection's number.
        collection: u32,
        /// The row.
        row: u64,
    },
    /// A row to be removed or replaced does not exist. So a batch that builds on a failed one fails too, and batches
    /// may be submitted before earlier ones are answered.
    #[error("collection number {collection} has no row {row}")]
    NoRow {
        /// The collection's number.
        collection: u32,
        /// The row.
        row: u64,
    },
    /// A collection that is to be followed, or to be deleted alone, has a part in a migration.
    #[error("collection number {0} has a part in a migration")]
    InMigration(u32),
    /// A follower is not one.
    #[error("collection number {0} follows no other")]
    NotFollower(u32),
    /// A follower that is to lead lacks documents.
    #[error("collection number {0} lacks documents of its leader")]
    Lacking(u32),
}

/// Reasons why a verification ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A backup or a compaction is reading the file.
    #[error("{path} is being read by a backup or a compaction: try again later")]
    Busy {
        /// The data file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk failed before.
    #[error(transparent)]
    Stopped(CommitError),
}
