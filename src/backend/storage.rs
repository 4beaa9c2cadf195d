//! The figures of a store, for `Info`.

use std::path::PathBuf;
use std::sync::Arc;

use super::error::Error;
use super::store::Backend;
use crate::collection::{Collection, Store};
use crate::opensearch;

/// The name of the store of this process.
const LOCAL: &str = "local";

/// The figures of a store.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Storage {
    /// The store: `local`, or the engine with its version.
    pub engine: String,
    /// The data directory.
    pub directory: Option<PathBuf>,
    /// The reason why nothing can be stored. The engine's, if it does not answer: the other figures are 0 then.
    pub stopped: Option<String>,
    /// Number of collections.
    pub collections: usize,
    /// Number of their documents.
    pub documents: usize,
    /// Bytes that they take in the memory of this process.
    pub memory_bytes: usize,
    /// Size of the file of documents, or of the first copies of the engine's indices.
    pub file_bytes: u64,
    /// Free space of its file system.
    pub free_bytes: u64,
    /// Bytes of the index files.
    pub index_file_bytes: usize,
    /// The lowest recall that was measured.
    pub recall: Option<f32>,
}

impl Backend {
    /// The figures of everything that the store holds.
    pub async fn storage(&self) -> Result<Storage, Error> {
        match self {
            Self::Local(store) => Ok(of_all(store)),
            Self::OpenSearch(store) => Ok(of_engine(store, &|_| true).await),
        }
    }

    /// The figures of the collections that a caller may use, without paths.
    pub async fn storage_of(&self, may_use: impl Fn(&str) -> bool + Send + Sync) -> Result<Storage, Error> {
        match self {
            Self::Local(store) => {
                let mut collections = store.list();
                collections.retain(|collection| may_use(collection.name()));
                let sum = |of: fn(&Collection) -> usize| collections.iter().map(|collection| of(collection)).sum();
                Ok(Storage {
                    stopped: self.health().stopped(),
                    documents: sum(Collection::len),
                    memory_bytes: sum(Collection::bytes),
                    ..of_each(&collections)
                })
            }
            Self::OpenSearch(store) => Ok(of_engine(store, &may_use).await),
        }
    }
}

/// The figures of the collections of an engine whose names are wanted.
async fn of_engine(store: &opensearch::Store, wanted: &(dyn Fn(&str) -> bool + Send + Sync)) -> Storage {
    let (described, stopped) = match Box::pin(store.describe(wanted)).await {
        Ok(described) => (described, store.stopped().map(|unavailable| unavailable.to_string())),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Storage {
        engine: store.engine().to_owned(),
        stopped,
        collections: described.len(),
        documents: described.iter().map(|one| one.documents).sum(),
        file_bytes: described.iter().map(|one| one.bytes as u64).sum(),
        ..Storage::default()
    }
}

fn of_all(store: &Store) -> Storage {
    let (collections, used, disk) = (store.list(), store.used(), store.disk_stats());
    Storage {
        directory: store.directory().map(ToOwned::to_owned),
        stopped: store.stopped().map(|error| error.to_string()),
        documents: used.documents,
        memory_bytes: used.bytes,
        file_bytes: disk.as_ref().and_then(|disk| disk.file_bytes).unwrap_or(0),
        free_bytes: disk.as_ref().and_then(|disk| disk.free_bytes).unwrap_or(0),
        ..of_each(&collections)
    }
}

/// The figures that are those of the collections alone.
fn of_each(collections: &[Arc<Collection>]) -> Storage {
    Storage {
        engine: LOCAL.to_owned(),
        collections: collections.len(),
        index_file_bytes: collections.iter().map(|collection| collection.index_file_bytes()).sum(),
        recall: collections.iter().filter_map(|collection| collection.quality().recall).min_by(f32::total_cmp),
        ..Storage::default()
    }
}
