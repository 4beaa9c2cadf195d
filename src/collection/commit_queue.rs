//! The queue of the group commit: operations that wait for the leader, their effects, and the channels to their
//! callers.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::budget::Full;
use super::disk::{self, Change, Disk, ReadError, Rejected};
use super::distinct::TooManyFields;
use super::document::{Content, DocId, Document, Kept};
use super::filter::Filter;
use super::metadata::Metadata;
use super::patch::{Update, Updated};
use super::text_cache::TextCache;
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
    /// The text of a document that gets other metadata cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
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
    /// Texts that were read from there lately.
    pub texts: Arc<TextCache>,
}

/// Operations that wait, and the lock of the leader.
#[derive(Default)]
pub(super) struct GroupCommit {
    pub waiting: Mutex<Vec<QueuedOperation>>,
    /// Locked by the leader. Holds the lowest unused row number.
    turn: Mutex<u64>,
    /// Locked by a reader that waits for the turn, so that leaders wait behind it.
    gate: Mutex<()>,
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
    Patched(Arc<Kept>),
}

/// The content of a document as commits need it.
#[derive(Clone, Copy)]
pub(super) struct Brief<'c> {
    pub metadata: Option<&'c Metadata>,
    pub text_bytes: u32,
}

impl<'c> From<&'c Kept> for Brief<'c> {
    fn from(kept: &'c Kept) -> Self {
        Self { metadata: kept.metadata.as_ref(), text_bytes: kept.text_bytes() }
    }
}

impl<'c> From<&'c Content> for Brief<'c> {
    fn from(content: &'c Content) -> Self {
        Self { metadata: content.metadata.as_ref(), text_bytes: content.text_bytes() }
    }
}

impl After {
    /// The content; `None`: the document is gone.
    pub(super) fn brief(&self) -> Option<Brief<'_>> {
        match self {
            Self::Removed => None,
            Self::Stored(document) => Some((&*document.content).into()),
            Self::Patched(kept) => Some((&**kept).into()),
        }
    }
}

impl GroupCommit {
    /// Makes the queue of a collection whose rows below `next_row` were used.
    pub(super) fn new(next_row: u64) -> Self {
        Self { turn: Mutex::new(next_row), ..Self::default() }
    }

    /// Waits for the turn of a leader. Readers that wait already have theirs before.
    pub(super) fn turn(&self) -> MutexGuard<'_, u64> {
        drop(lock(&self.gate));
        lock(&self.turn)
    }

    /// Waits until no commit is in progress. None begins as long as the guard lives.
    pub(super) fn turn_of_reader(&self) -> MutexGuard<'_, u64> {
        let _gate = lock(&self.gate);
        lock(&self.turn)
    }
}

/// Locks a mutex. A panic under one of these locks leaves the data usable: operations are taken as a whole, and a
/// skipped row number is never used.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
