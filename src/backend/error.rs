//! The reasons why a store did not do what it was asked.

use std::time::Duration;

use crate::collection::disk::ReadError;
use crate::collection::{CollectionError, CommitError, ExportError, FetchError, TooManyFields};
use crate::compute::Refused;
use crate::compute::stop::Stopped;
use crate::opensearch;

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
    /// The values of facets, or the texts of documents, have more bytes than the query allows.
    #[error("the values or texts have more than {limit} bytes")]
    TooLarge {
        /// The limit of the query.
        limit: usize,
    },
    /// The text of a document cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The caller has left.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The pool does not compute the call.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The store does not answer, or cannot serve the collection now.
    #[error("{reason}")]
    Unavailable {
        /// The last failure.
        reason: String,
        /// The time after which another attempt may succeed.
        retry_after: Duration,
    },
    /// The store has no room left.
    #[error("{reason}")]
    Full {
        /// Its reason, and what to do.
        reason: String,
    },
    /// As many exports are open as the store allows.
    #[error("{reason}")]
    TooManyExports {
        /// The limit, and what to do.
        reason: String,
    },
    /// A field of the request asks for more than the store can give.
    #[error("{field}: {reason}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// The limit, and what to do.
        reason: String,
    },
    /// The store and this process do not understand each other.
    #[error("{reason}")]
    Unexpected {
        /// The request and the answer, for the log.
        reason: String,
    },
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

impl From<FetchError> for Error {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Stopped(stopped) => stopped.into(),
            FetchError::Read(error) => error.into(),
            FetchError::TooLarge { most } => Self::TooLarge { limit: most },
        }
    }
}

impl Error {
    /// The failure of an engine that was asked about the collection of this name.
    pub(super) fn of_engine(name: &str) -> impl Fn(opensearch::Error) -> Self {
        use opensearch::Error as Of;
        move |error| match error {
            Of::Collection(error) => Self::Collection { name: name.to_owned(), error },
            Of::Unavailable(opensearch::Unavailable { retry_after, .. }) => {
                Self::Unavailable { reason: error.to_string(), retry_after }
            }
            Of::Full { .. } => Self::Full { reason: error.to_string() },
            Of::TooManyExports { .. } => Self::TooManyExports { reason: error.to_string() },
            Of::TooLarge => Self::TooLarge { limit: 0 },
            Of::Unsupported { field, reason } => Self::Unsupported { field, reason },
            Of::Refused(refused) => Self::Refused(refused),
            Of::Unexpected { reason } => Self::Unexpected { reason },
        }
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
