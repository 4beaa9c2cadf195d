//! Reasons why a migration does not begin, go on, switch or end.

use super::super::budget::Full;
use super::super::commit_queue::CommitError;
use super::super::disk;
use super::super::document::DocId;
use super::super::texts::FetchError;

/// Reasons why a migration does not begin, go on, switch or end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MigrationError {
    /// No collection has this name.
    #[error("there is no collection of this name")]
    Unknown,
    /// The collection is not being migrated, or its migration has ended.
    #[error("the collection is not being migrated")]
    NoMigration,
    /// The collection is being migrated already.
    #[error("the collection is being migrated already, and the other model is {model:?}")]
    InProgress {
        /// The follower's model.
        model: String,
    },
    /// The collection has this model already.
    #[error("the collection has vectors of this model already")]
    SameModel,
    /// Documents came with vectors of a client's own, and nobody said what becomes of them.
    #[error("{count} documents came with vectors of a client's own; the first are {}", ids(.first))]
    ClientVectors {
        /// Number of the documents.
        count: usize,
        /// The first ids.
        first: Vec<DocId>,
    },
    /// Documents have no text, so the new model cannot embed them.
    #[error("{count} documents have no text, so that another model cannot embed them; the first are {}", ids(.first))]
    WithoutText {
        /// Number of the documents.
        count: usize,
        /// The first ids.
        first: Vec<DocId>,
    },
    /// Vectors that came from clients do not fit the new model.
    #[error(
        "{count} documents came with vectors of a client's own, and their {leader} values cannot be kept beside a \
         model of {follower}; the first are {}", ids(.first)
    )]
    OtherDimensions {
        /// Number of the documents.
        count: usize,
        /// The first ids.
        first: Vec<DocId>,
        /// Length of their vectors.
        leader: usize,
        /// Length of the new model's.
        follower: usize,
    },
    /// The follower lacks documents.
    #[error(
        "the other collection lacks {pending} changed documents, {refused} of which could not be embedded{}",
        if *.first_pass_over { "" } else { ", and the first pass over all documents is not over" }
    )]
    NotReady {
        /// True if the first pass over all documents is over.
        first_pass_over: bool,
        /// Number of documents that changed since they were copied.
        pending: usize,
        /// Number of those among them that are refused.
        refused: usize,
    },
    /// A later step was taken, or leader and follower were exchanged.
    #[error("a later step of the migration was taken")]
    Stale,
    /// A limit does not allow another collection.
    #[error(transparent)]
    Full(#[from] Full),
    /// A commit failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A text cannot be read.
    #[error(transparent)]
    Read(#[from] FetchError),
}

impl From<disk::CommitError> for MigrationError {
    fn from(error: disk::CommitError) -> Self {
        Self::Commit(error.into())
    }
}

fn ids(first: &[DocId]) -> String {
    let quoted: Vec<String> = first.iter().map(|id| format!("{:?}", id.as_str())).collect();
    quoted.join(", ")
}
