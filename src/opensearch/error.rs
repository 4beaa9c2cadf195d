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

/// The engine does not answer, or cannot serve the collection now. Its text is for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the search engine is not available: {reason}")]
pub struct Unavailable {
    /// The last failure, without addresses, and without names of nodes and indices.
    pub reason: String,
    /// The same with them, for the log.
    pub details: String,
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
    #[error("{}: check the addresses of store, and the user and the certificates that it asks for", .0.details())]
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

    /// The text for those who run the server, with addresses.
    fn details(&self) -> String {
        match self {
            Self::Unavailable(Unavailable { details, .. }) => format!("the search engine is not available: {details}"),
            error => error.to_string(),
        }
    }

    /// The collection does not exist any more.
    pub(super) fn unknown() -> Self {
        Self::Collection(CollectionError::Unknown)
    }
}

impl Unavailable {
    /// A failure whose reason has nothing that a client must not see.
    pub(super) fn new(reason: impl Into<String>, retry_after: Duration) -> Self {
        let reason = reason.into();
        Self { details: reason.clone(), reason, retry_after }
    }
}
