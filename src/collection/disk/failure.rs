//! Why a batch was not stored.

use std::path::PathBuf;
use std::sync::Arc;

/// Why a batch was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The disk failed, and nothing is written until a restart has read again what is really there.
    /// Whether this batch is on disk will be known then: whole or not at all.
    #[error("{path} takes no writes until a restart: {reason}")]
    Stopped {
        /// The data file.
        path: PathBuf,
        /// What failed.
        reason: Arc<str>,
    },
    /// The file system is almost full. Nothing of this batch was stored; batches that only remove go on.
    #[error("{path} has {free} bytes left, and {needed} are needed with the reserve: free some, or delete documents")]
    DiskFull {
        /// The data directory.
        path: PathBuf,
        /// Bytes that the file system has left.
        free: u64,
        /// Bytes that it would need to have.
        needed: u64,
    },
    /// The batch does not fit what is on disk. Nothing of it was stored.
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// How a batch does not fit what is on disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// A change to a collection that was never made, or is deleted.
    #[error("there is no collection number {0}")]
    NoCollection(u32),
    /// A new collection has a number that one has or had.
    #[error("collection number {0} was used before")]
    NumberTaken(u32),
    /// A new collection has the name of another.
    #[error("there is a collection {0:?} already")]
    NameTaken(String),
    /// A vector does not have its collection's length.
    #[error("a vector of length {found} for collection number {collection}, whose vectors have {expected}")]
    Dimensions {
        /// The collection's number.
        collection: u32,
        /// The length of its vectors.
        expected: usize,
        /// The length of this one.
        found: usize,
    },
    /// A new row is there already.
    #[error("row {row} of collection number {collection} exists")]
    RowTaken {
        /// The collection's number.
        collection: u32,
        /// The row.
        row: u64,
    },
    /// A row to be removed is not there. So a batch that builds on one that failed fails too, and
    /// batches may be submitted before the answers to earlier ones are known.
    #[error("collection number {collection} has no row {row}")]
    NoRow {
        /// The collection's number.
        collection: u32,
        /// The row.
        row: u64,
    },
}
