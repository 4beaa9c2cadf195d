//! The queue of the group commit: operations that wait for the leader, their effects, and the channels to their
//! callers.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use super::budget::Full;
use super::disk::{self, Change, Disk, Rejected};
use super::distinct::TooManyFields;
use super::document::{Content, DocId, Document};
use super::filter::Filter;
use super::patch::{Update, Updated};
use crate::compute::stop::{Stop, Stopped};

/// Reasons why an operation changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The collection was deleted while the caller still held it.
    #[error("the collection was deleted meanwhile")]
    Deleted,
    /// Another collection leads under this name: this one follows it, or did. The caller gets it by its name again.
    #[error("the collection was exchanged with one of another model meanwhile")]
    Moved,
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

/// Result of an operation: the documents that it removed or updated, and those that it could not add.
#[derive(Debug, Clone, Default)]
pub(super) struct Done {
    pub removed: Vec<DocId>,
    pub refused: Vec<TooManyFields>,
    pub updated: Updated,
}

/// Channel to the caller of an operation.
pub(super) type Asker = SyncSender<Result<Done, CommitError>>;

/// A change of the collection.
pub(super) enum Operation {
    Put(Vec<Document>),
    Remove(Vec<DocId>),
    RemoveMatching(Filter, Stop),
    Update(Update),
    /// A step of a migration.
    Follow(Follow),
}

/// A step that brings a follower to its leader's documents.
pub(super) struct Follow {
    pub documents: Vec<Document>,
    pub removed: Vec<DocId>,
    /// Changes on disk in the same transaction.
    pub changes: Vec<Change>,
}

/// The state of a touched document after a commit.
pub(super) enum After {
    Removed,
    /// A new version, with a row and a slot of its own.
    Stored(Document),
    /// Other metadata; vector, text, row and slot are the same.
    Patched(Arc<Content>),
}

impl After {
    /// The content; `None`: the document is gone.
    pub(super) fn content(&self) -> Option<&Arc<Content>> {
        match self {
            Self::Removed => None,
            Self::Stored(document) => Some(&document.content),
            Self::Patched(content) => Some(content),
        }
    }

    /// The same state with other metadata.
    pub(super) fn patched(before: Option<&Self>, content: Arc<Content>) -> Self {
        match before {
            Some(Self::Stored(document)) => Self::Stored(Document { content, ..document.clone() }),
            Some(Self::Patched(_) | Self::Removed) | None => Self::Patched(content),
        }
    }
}

impl GroupCommit {
    /// Makes the queue of a collection whose rows below `next_row` were used.
    pub(super) fn new(next_row: u64) -> Self {
        Self { waiting: Mutex::default(), turn: Mutex::new(next_row) }
    }
}
