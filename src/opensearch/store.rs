//! The store: the collections of an engine, by name.
//!
//! Invariant: what is known of a collection is at most [`FRESH`] old. A collection that was deleted is never written
//! to, even within that time: its alias is gone.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::http::Method;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::collection::{Collection, Shared};
use super::describe::{Figures, described, figures};
use super::engine::Engine;
use super::error::{Error, StartError, Unavailable};
use super::export::MOST_OPEN;
use super::health::Health;
use super::mapping::{self, Meta, SCHEMA};
use super::options::Options;
use super::search::FOUND_BYTES;
use super::version;
use super::writer::WAITING_BYTES;
use crate::budget::ByteBudget;
use crate::collection::{CollectionError, Description, Model, NewName, Settings};
use crate::compute::Pools;

/// Time for which a collection is taken as it was last seen.
const FRESH: Duration = Duration::from_secs(1);

/// Collections that are remembered. Beyond it, all are forgotten.
const REMEMBERED: usize = 10_000;

/// The collections of an engine.
pub struct Store {
    engine: Arc<Engine>,
    /// The engine and its version.
    name: String,
    health: Arc<Health>,
    shared: Shared,
    seen: Mutex<HashMap<String, Seen>>,
}

/// A collection, and the time when its index was last asked.
#[derive(Clone)]
struct Seen {
    collection: Arc<Collection>,
    at: Instant,
}

/// The mappings of indices, by their names.
pub(super) type Mappings = BTreeMap<String, OfIndex>;

#[derive(Deserialize)]
pub(super) struct OfIndex {
    #[serde(default)]
    mappings: Mapping,
}

#[derive(Default, Deserialize)]
struct Mapping {
    #[serde(default, rename = "_meta")]
    meta: Option<Value>,
}

/// The descriptions of collections in mappings, with the names of their indices. An index without one is no collection.
pub(super) fn metas(mappings: Mappings) -> Result<Vec<(String, Meta)>, Error> {
    let read = |(index, OfIndex { mappings }): (String, OfIndex)| {
        let meta = mappings.meta?;
        if meta["schema"] != SCHEMA {
            return Some(Err(Error::unexpected(format!("index {index} has a mapping of another version"))));
        }
        let meta = Meta::read(meta).ok_or_else(|| Error::unexpected(format!("index {index} describes no collection")));
        Some(meta.map(|meta| (index, meta)))
    };
    mappings.into_iter().filter_map(read).collect()
}

impl Store {
    /// Connects to the engine, and checks its version and its plugin for vectors on every node.
    pub async fn connect(options: Options, pools: Pools) -> Result<Self, StartError> {
        let engine = Arc::new(Engine::new(options, pools)?);
        let name = version::checked(&engine).await?;
        let shared = Shared {
            waiting: ByteBudget::new(WAITING_BYTES),
            found: ByteBudget::new(FOUND_BYTES),
            exports: Arc::new(Semaphore::new(MOST_OPEN)),
        };
        let health = Health::watch(&engine);
        Ok(Self { engine, name, health, shared, seen: Mutex::default() })
    }

    /// The engine and its version.
    pub fn engine(&self) -> &str {
        &self.name
    }

    /// The reason why nothing can be stored or found now; `None`: the engine answers, and has all documents.
    pub fn stopped(&self) -> Option<Unavailable> {
        self.health.problem()
    }

    /// The collection of this name, of any model, which is created if it does not exist.
    pub async fn get_or_create(
        &self,
        name: NewName<'_>,
        model: Model<'_>,
        settings: Settings,
    ) -> Result<Arc<Collection>, Error> {
        match self.get(name.name).await {
            Err(Error::Collection(CollectionError::Unknown)) => {}
            found => return found,
        }
        match self.create(name, model, settings).await {
            Err(Error::Collection(CollectionError::Exists)) => self.get(name.name).await,
            created => created,
        }
    }

    /// Creates an empty collection.
    pub async fn create(
        &self,
        name: NewName<'_>,
        model: Model<'_>,
        settings: Settings,
    ) -> Result<Arc<Collection>, Error> {
        let random = getrandom::u64().map_err(|error| Error::unexpected(error.to_string()))?;
        let meta = Meta::new(name, model, settings, random);
        let body = mapping::body(&meta, &self.engine.options);
        // Documents may be stored as soon as the first copies of the shards are there.
        let path = format!("/{}?wait_for_active_shards=1", mapping::index(&self.engine.options.prefix, name.name));
        match self.engine.ask::<Value>(Method::Put, path, Some(&body)).await {
            Ok(_) => Ok(self.remember(meta)),
            // An attempt whose answer was lost may have created it.
            Err(Error::Collection(CollectionError::Exists)) => {
                let found = self.read(name.name).await?;
                if found.as_ref() == Some(&meta) {
                    return Ok(self.remember(meta));
                }
                Err(Error::Collection(CollectionError::Exists))
            }
            Err(error) => Err(error),
        }
    }

    /// Deletes a collection of any model. Returns the number of its documents.
    pub async fn delete(&self, name: &str) -> Result<usize, Error> {
        let documents = self.get(name).await?.count(None).await?;
        let path = format!("/{}", mapping::index(&self.engine.options.prefix, name));
        let deleted = self.engine.ask::<Value>(Method::Delete, path, None).await;
        self.seen().remove(name);
        match deleted {
            // An attempt whose answer was lost may have deleted it.
            Ok(_) | Err(Error::Collection(CollectionError::Unknown)) => Ok(documents as usize),
            Err(error) => Err(error),
        }
    }

    /// The collections whose names are wanted, in the order of their names.
    pub async fn describe(&self, wanted: &(dyn Fn(&str) -> bool + Send + Sync)) -> Result<Vec<Description>, Error> {
        let all = self.mappings("*").await?;
        let metas: Vec<(String, Meta)> = all.into_iter().filter(|(_, meta)| wanted(&meta.name)).collect();
        let figures = if metas.is_empty() { Figures::new() } else { figures(&self.engine, "*").await? };
        let described = metas.iter().map(|(index, meta)| described(index, meta, &figures));
        let mut described: Vec<Description> = described.collect();
        described.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(described)
    }

    /// The collection of this name, of any model.
    pub async fn get(&self, name: &str) -> Result<Arc<Collection>, Error> {
        let seen = self.seen().get(name).cloned();
        if let Some(Seen { collection, at }) = &seen
            && at.elapsed() < FRESH
        {
            return Ok(Arc::clone(collection));
        }
        match self.read(name).await? {
            Some(meta) => Ok(self.remember(meta)),
            None => {
                self.seen().remove(name);
                Err(Error::unknown())
            }
        }
    }

    /// Asks an index for the description of its collection; `None` without such an index.
    async fn read(&self, name: &str) -> Result<Option<Meta>, Error> {
        let index = mapping::index("", name);
        match self.mappings(&index).await {
            Ok(mut found) => Ok(found.pop().map(|(_, meta)| meta)),
            Err(Error::Collection(CollectionError::Unknown)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The descriptions of collections in the indices of these names.
    async fn mappings(&self, names: &str) -> Result<Vec<(String, Meta)>, Error> {
        let path = format!("/{}{names}/_mapping?filter_path=*.mappings._meta", self.engine.options.prefix);
        metas(self.engine.ask(Method::Get, path, None).await?)
    }

    /// Remembers a collection as it is now. The one that was seen before stays, with its queue, if it is the same.
    fn remember(&self, meta: Meta) -> Arc<Collection> {
        let mut seen = self.seen();
        let at = Instant::now();
        if let Some(before) = seen.get_mut(&meta.name)
            && before.collection.meta == meta
        {
            before.at = at;
            return Arc::clone(&before.collection);
        }
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        let name = meta.name.clone();
        let collection = Arc::new(Collection::new(Arc::clone(&self.engine), meta, self.shared.clone()));
        seen.insert(name, Seen { collection: Arc::clone(&collection), at });
        collection
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
