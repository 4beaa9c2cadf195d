//! The handle of a collection. `reads`, `search`, `export` and `writes` add the operations.

use std::sync::Arc;

use super::error::Error;
use crate::collection;
use crate::collection::{Description, Model, PassageSizes};
use crate::{lexical, opensearch};

/// A collection of a store. Cheap to clone.
#[derive(Clone)]
pub enum Collection {
    /// A collection of this process.
    Local(Arc<collection::Collection>),
    /// A collection of a search engine.
    OpenSearch(Arc<opensearch::Collection>),
}

impl Collection {
    /// The name.
    pub fn name(&self) -> &str {
        match self {
            Self::Local(local) => local.name(),
            Self::OpenSearch(remote) => remote.name(),
        }
    }

    /// The model of its vectors. Its name is empty if it is not known.
    pub fn model(&self) -> Model<'_> {
        match self {
            Self::Local(local) => {
                Model { name: local.model(), fingerprint: local.fingerprint(), dimensions: local.dimensions() }
            }
            Self::OpenSearch(remote) => remote.model(),
        }
    }

    /// Returns true if a migration has put another collection in its place, so that it takes no changes.
    pub fn has_moved(&self) -> bool {
        match self {
            Self::Local(local) => local.has_moved(),
            Self::OpenSearch(_) => false,
        }
    }

    /// The sizes of its passages; `None`: a text is one passage, however long it is.
    pub fn passages(&self) -> Option<PassageSizes> {
        match self {
            Self::Local(local) => local.passages(),
            Self::OpenSearch(remote) => remote.passages(),
        }
    }

    /// The settings of its lexical index; `None`: it has none.
    pub fn lexical(&self) -> Option<lexical::Options> {
        match self {
            Self::Local(local) => local.lexical(),
            Self::OpenSearch(remote) => remote.lexical(),
        }
    }

    /// The number of chunks of one upload that a commit takes, if `ready` are there. The local store answers when the
    /// disk does, and an engine after its next refresh, with few documents or many.
    pub fn chunks_together(&self, ready: usize) -> usize {
        match self {
            Self::Local(_) => 1,
            Self::OpenSearch(_) => ready,
        }
    }

    /// Describes the collection.
    pub async fn describe(&self) -> Result<Description, Error> {
        match self {
            Self::Local(local) => Ok(local.describe()),
            Self::OpenSearch(remote) => remote.describe().await.map_err(Error::of_engine(remote.name())),
        }
    }
}
