//! The store of a server: its collections are created, found, listed and deleted here.

use std::sync::Arc;

use super::collection::Collection;
use super::error::Error;
use crate::collection::{self, Description, Model, NewName, Settings, Store};
use crate::compute::stop::Stop;
use crate::compute::{Pool, SHORT, WhenFull};
use crate::opensearch;

/// Collections that are listed together. Creating and deleting wait meanwhile.
const BATCH: usize = 1_024;

/// The store that the collections of a server are in. Cheap to clone.
#[derive(Clone)]
pub enum Backend {
    /// This process, with its data directory.
    Local(Arc<Store>),
    /// A search engine, which other servers may use too.
    OpenSearch(Arc<opensearch::Store>),
}

/// The state of a store, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Documents are stored and found.
    Good,
    /// Nothing can be stored until a restart, and reads go on.
    ReadOnly(String),
    /// Nothing can be stored or found until the store answers again.
    Away(String),
}

impl Health {
    /// The reason why nothing can be stored.
    pub fn stopped(self) -> Option<String> {
        match self {
            Self::Good => None,
            Self::ReadOnly(reason) | Self::Away(reason) => Some(reason),
        }
    }
}

/// A collection that is to be created.
#[derive(Debug, Clone)]
pub struct New {
    /// The name.
    pub name: String,
    /// The caller who will own it; `None`: nobody.
    pub owner: Option<Arc<str>>,
    /// The name of the model of its vectors.
    pub model: String,
    /// Fingerprint of this model.
    pub fingerprint: String,
    /// Length of the vectors.
    pub dimensions: usize,
    /// Its settings.
    pub settings: Settings,
}

impl New {
    fn name(&self) -> NewName<'_> {
        NewName { name: &self.name, owner: self.owner.as_deref() }
    }

    fn model(&self) -> Model<'_> {
        let Self { model, fingerprint, dimensions, .. } = self;
        Model { name: model, fingerprint, dimensions: *dimensions }
    }
}

impl From<Arc<Store>> for Backend {
    fn from(store: Arc<Store>) -> Self {
        Self::Local(store)
    }
}

impl From<Arc<opensearch::Store>> for Backend {
    fn from(store: Arc<opensearch::Store>) -> Self {
        Self::OpenSearch(store)
    }
}

impl Backend {
    /// The store of this process; `None`: the collections are elsewhere.
    pub fn local(&self) -> Option<&Arc<Store>> {
        match self {
            Self::Local(store) => Some(store),
            Self::OpenSearch(_) => None,
        }
    }

    /// The state. Never waits.
    pub fn health(&self) -> Health {
        match self {
            Self::Local(store) => store.stopped().map_or(Health::Good, |error| Health::ReadOnly(error.to_string())),
            Self::OpenSearch(store) => store.stopped().map_or(Health::Good, |error| Health::Away(error.to_string())),
        }
    }

    /// Returns the collection of this name, of any model.
    pub async fn get(&self, name: &str) -> Result<Collection, Error> {
        match self {
            Self::Local(store) => store.get(name).map(Collection::Local).map_err(Error::of_collection(name)),
            Self::OpenSearch(store) => {
                let found = Box::pin(store.get(name)).await;
                found.map(Collection::OpenSearch).map_err(Error::of_engine(name))
            }
        }
    }

    /// Creates a collection.
    pub async fn create(&self, storage: &Pool, new: New) -> Result<Collection, Error> {
        match self {
            Self::Local(store) => {
                let store = Arc::clone(store);
                let create = move |_: &Stop| {
                    let created = store.create(new.name(), new.model(), new.settings);
                    created.map(Collection::Local).map_err(Error::of_collection(&new.name))
                };
                storage.run(WhenFull::Wait, SHORT, create).await?
            }
            Self::OpenSearch(store) => {
                let created = Box::pin(store.create(new.name(), new.model(), new.settings)).await;
                created.map(Collection::OpenSearch).map_err(Error::of_engine(&new.name))
            }
        }
    }

    /// Returns the collection of this name, of any model, and creates it if it does not exist.
    pub async fn get_or_create(&self, storage: &Pool, new: New) -> Result<Collection, Error> {
        match self {
            Self::Local(store) => {
                let store = Arc::clone(store);
                let create = move |_: &Stop| {
                    let found = store.get_or_create(new.name(), new.model(), new.settings);
                    found.map(Collection::Local).map_err(Error::of_collection(&new.name))
                };
                storage.run(WhenFull::Wait, SHORT, create).await?
            }
            Self::OpenSearch(store) => {
                let found = Box::pin(store.get_or_create(new.name(), new.model(), new.settings)).await;
                found.map(Collection::OpenSearch).map_err(Error::of_engine(&new.name))
            }
        }
    }

    /// Deletes the collection of this name, whatever its model, and returns the number of its documents.
    pub async fn delete(&self, storage: &Pool, name: String) -> Result<usize, Error> {
        match self {
            Self::Local(store) => {
                let store = Arc::clone(store);
                // Freeing a large collection takes a while.
                let delete = move |_: &Stop| store.delete(&name).map_err(Error::of_collection(&name));
                storage.run(WhenFull::Wait, SHORT, delete).await?
            }
            Self::OpenSearch(store) => Box::pin(store.delete(&name)).await.map_err(Error::of_engine(&name)),
        }
    }

    /// Describes the collections that a caller may use, in name order from behind a name on. `then` takes as many as it
    /// wants.
    pub async fn list<T: Send + 'static>(
        &self,
        pool: &Pool,
        after: Option<String>,
        may_use: impl Fn(&str) -> bool + Send + Sync + 'static,
        then: impl FnOnce(&mut dyn Iterator<Item = Description>) -> T + Send + 'static,
    ) -> Result<T, Error> {
        match self {
            Self::Local(store) => {
                let store = Arc::clone(store);
                // Thousands of collections take milliseconds to describe.
                let list = move |_: &Stop| {
                    let mut all = local(&store, after).filter(|one| may_use(one.name())).map(|one| one.describe());
                    then(&mut all)
                };
                Ok(pool.run(WhenFull::Wait, SHORT, list).await?)
            }
            Self::OpenSearch(store) => {
                let described = Box::pin(store.describe(&may_use)).await.map_err(Error::of_engine(""))?;
                let behind = move |one: &Description| after.as_deref().is_none_or(|after| *one.name > *after);
                let then = move |_: &Stop| then(&mut described.into_iter().filter(behind));
                Ok(pool.run(WhenFull::Wait, SHORT, then).await?)
            }
        }
    }
}

/// The collections of a store after a name, in name order.
fn local(store: &Store, after: Option<String>) -> impl Iterator<Item = Arc<collection::Collection>> {
    let batch_after = |name: Option<&str>| Some(store.list_after(name, BATCH)).filter(|batch| !batch.is_empty());
    let next = move |batch: &Vec<Arc<collection::Collection>>| {
        // A batch that is not full was the last one.
        batch.get(BATCH - 1).and_then(|last| batch_after(Some(last.name())))
    };
    std::iter::successors(batch_after(after.as_deref()), next).flatten()
}
