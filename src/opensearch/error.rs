//! The reasons why the engine gives no answer, or not the one that is asked for.

use std::time::Duration;

use crate::collection::CollectionError;
use crate::compute::Refused;

/// Reasons why a call on the engine has no answer. Their texts are for the client, except for [`Error::Unexpected`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The collection does not exist, exists already, or has vectors of another model.
    #[error(transparent)]
    Collection(#[from] CollectionError),
    /// The engine does not answer, or not yet.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The engine stores nothing more.
    #[error("the search engine stores nothing more ({reason}): free disk space, or add a node")]
    Full {
        /// Its reason.
        reason: String,
    },
    /// There are as many exports as are allowed.
    #[error("{most} exports are open, which is the most: try again when one has ended")]
    TooManyExports {
        /// The limit.
        most: usize,
    },
    /// The values of facets take too many bytes.
    #[error("the most frequent values have too many bytes")]
    TooLarge,
    /// A field of the request asks for more than the engine can give.
    #[error("{reason}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// The limit, and what to do.
        reason: String,
    },
    /// No pool computes the answer.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The answer is not understood, or the engine did not understand the request.
    #[error("unexpected answer of the search engine: {reason}")]
    Unexpected {
        /// The request and the answer, for the log.
        reason: String,
    },
}

/// The engine does not answer, or cannot serve the collection now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the search engine is not available: {reason}")]
pub struct Unavailable {
    /// The last failure.
    pub reason: String,
    /// The time after which another attempt may succeed.
    pub retry_after: Duration,
}

/// A document of a commit that was not stored, while others were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotStored {
    /// Its index in the commit.
    pub position: usize,
    /// The reason.
    pub reason: Error,
}

/// The reason why no store is opened.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The engine does not answer.
    #[error("{0}: check the addresses of store, and that a node listens there")]
    Unreachable(Error),
    /// It is another engine, or a version that was not tried.
    #[error("{found} answers, but OpenSearch of a version from 2.19 and below 4 is needed")]
    Version {
        /// The engine and its version.
        found: String,
    },
    /// Nodes lack the plugin for vectors.
    #[error("the node {node} has no plugin opensearch-knn, which every node needs: install it there")]
    NoPlugin {
        /// The name of the node.
        node: String,
    },
}

impl Error {
    /// An answer that is not understood.
    pub(super) fn unexpected(reason: impl Into<String>) -> Self {
        Self::Unexpected { reason: reason.into() }
    }

    /// The collection does not exist any more.
    pub(super) fn unknown() -> Self {
        Self::Collection(CollectionError::Unknown)
    }
}
