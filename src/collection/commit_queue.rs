//! The queue of the group commit: operations that wait for the leader, and the channels to their callers.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use super::budget::Full;
use super::disk::{self, Disk, Rejected};
use super::distinct::TooManyFields;
use super::document::{DocId, Document};
use super::filter::Filter;
use crate::compute::stop::{Stop, Stopped};

/// Reasons why an operation changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The collection was deleted while the caller still held it.
    #[error("the collection was deleted meanwhile")]
    Deleted,
    /// A quota does not allow the documents.
    #[error(transparent)]
    Full(#[from] Full),
    /// The caller has gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The disk refused the change.
    #[error(transparent)]
    Disk(disk::CommitError),
}

impl From<disk::CommitError> for CommitError {
    fn from(error: disk::CommitError) -> Self {
        match error {
            disk::CommitError::Rejected(Rejected::NoCollection(_)) => Self::Deleted,
            other => Self::Disk(other),
        }
    }
}

/// The storage of a collection.
pub(super) struct OnDisk {
    pub disk: Arc<Disk>,
    /// The collection's number there.
    pub number: u32,
}

/// Operations that wait, and the lock of the leader.
#[derive(Default)]
pub(super) struct GroupCommit {
    pub waiting: Mutex<Vec<QueuedOperation>>,
    /// Locked by the leader. Holds the lowest unused row number.
    pub turn: Mutex<u64>,
}

/// An operation that waits.
pub(super) struct QueuedOperation {
    pub operation: Operation,
    pub done: Asker,
}

/// Result of an operation: the documents that it removed, and those that it could not add.
#[derive(Debug, Clone, Default)]
pub(super) struct Done {
    pub removed: Vec<DocId>,
    pub refused: Vec<TooManyFields>,
}

/// Channel to the caller of an operation.
pub(super) type Asker = SyncSender<Result<Done, CommitError>>;

/// A change of the collection.
pub(super) enum Operation {
    Put(Vec<Document>),
    Remove(Vec<DocId>),
    RemoveMatching(Filter, Stop),
}

impl GroupCommit {
    /// Makes the queue of a collection whose rows below `next_row` were used.
    pub(super) fn new(next_row: u64) -> Self {
        Self { waiting: Mutex::default(), turn: Mutex::new(next_row) }
    }
}
