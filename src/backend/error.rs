//! The reasons why a store did not do what it was asked.

use crate::collection::{CollectionError, CommitError, ExportError, TooManyFields};
use crate::compute::Refused;
use crate::compute::stop::Stopped;

/// The reason why an operation has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A collection is not created, returned or deleted.
    #[error("collection {name}: {error}")]
    Collection {
        /// The collection.
        name: String,
        /// The reason.
        error: CollectionError,
    },
    /// A change of a collection is not made.
    #[error("collection {name}: {error}")]
    Commit {
        /// The collection.
        name: String,
        /// The reason.
        error: CommitError,
    },
    /// An export does not begin.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A document would bring too many fields.
    #[error(transparent)]
    TooManyFields(#[from] TooManyFields),
    /// The values of facets have more bytes than the query allows.
    #[error("the values have more than {limit} bytes")]
    TooLarge {
        /// The limit of the query.
        limit: usize,
    },
    /// The caller has left.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The pool does not compute the call.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Error {
    /// The failure of the collection of this name.
    pub(super) fn of_collection(name: &str) -> impl FnOnce(CollectionError) -> Self {
        move |error| Self::Collection { name: name.to_owned(), error }
    }

    /// The failure of a change of the collection of this name.
    pub(super) fn of_commit(name: &str) -> impl FnOnce(CommitError) -> Self {
        move |error| Self::Commit { name: name.to_owned(), error }
    }
}

/// A document that is not stored, while others of its commit are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotStored {
    /// Index of the document in the commit.
    pub position: usize,
    /// The reason.
    pub reason: Error,
}
