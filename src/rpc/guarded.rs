//! The store, as calls reach it: by the names of collections that their callers may use.
//!
//! Invariant: no function here gives a caller anything of a collection without its [`Access`] or an [`AllowedName`].

use std::sync::Arc;

use super::access::{Access, AllowedName};
use super::status::Failure;
use crate::backend::{Backend, Collection, New, Storage};
use crate::collection::{Backup, Description, Model, Settings, Store};
use crate::compute::Pool;
use crate::compute::stop::Stop;

/// The means of an engine instead of a backup.
const SNAPSHOTS: &str = "the server keeps its collections in a search engine, and has nothing to back up: use the \
                         engine's snapshots (docs/scale-out.md)";

/// The documents of a server, behind the rights of its callers.
#[derive(Clone)]
pub struct Guarded(Backend);

impl From<Arc<Store>> for Guarded {
    fn from(store: Arc<Store>) -> Self {
        Self(store.into())
    }
}

impl From<Backend> for Guarded {
    fn from(store: Backend) -> Self {
        Self(store)
    }
}

impl Guarded {
    /// The store itself, for those who look after the server. Calls do not use it.
    pub fn unguarded(&self) -> &Backend {
        &self.0
    }

    /// Returns a collection, of any model.
    pub async fn get(&self, name: &AllowedName) -> Result<Collection, Failure> {
        Ok(self.0.get(name.as_str()).await?)
    }

    /// Returns a collection, of any model, and creates it for the caller if it does not exist.
    pub async fn get_or_create(
        &self,
        storage: &Pool,
        name: &AllowedName,
        model: Model<'_>,
        settings: Settings,
    ) -> Result<Collection, Failure> {
        Ok(self.0.get_or_create(storage, new(name, model, settings)).await?)
    }

    /// Creates a collection that the caller owns.
    pub async fn create(
        &self,
        storage: &Pool,
        name: &AllowedName,
        model: Model<'_>,
        settings: Settings,
    ) -> Result<Collection, Failure> {
        Ok(self.0.create(storage, new(name, model, settings)).await?)
    }

    /// Deletes a collection, and returns the number of its documents.
    pub async fn delete(&self, storage: &Pool, name: &AllowedName) -> Result<usize, Failure> {
        Ok(self.0.delete(storage, name.as_str().to_owned()).await?)
    }

    /// Describes the collections that the caller may use, in name order from behind a name on. `then` takes as many as
    /// it wants.
    pub async fn list<T: Send + 'static>(
        &self,
        pool: &Pool,
        access: Access,
        after: Option<String>,
        then: impl FnOnce(&mut dyn Iterator<Item = Description>) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        Ok(self.0.list(pool, after, move |name| access.may_use(name), then).await?)
    }

    /// The figures of the store, as far as it is the caller's.
    pub async fn storage(&self, access: &Access) -> Result<Storage, Failure> {
        Ok(if access.administers_server() {
            self.0.storage().await?
        } else {
            self.0.storage_of(|name| access.may_use(name)).await?
        })
    }

    /// Copies everything, for an administrator of the server.
    pub fn backup(&self, access: &Access, stop: &Stop) -> Result<Backup, Failure> {
        if !access.administers_server() {
            let reason = "a backup has all collections, and the caller may not use all of them".to_owned();
            return Err(Failure::NotAllowed { reason });
        }
        let store = self.0.local().ok_or(Failure::NotOfThisStore { reason: SNAPSHOTS })?;
        store.backup(stop).map_err(Failure::backup)
    }
}

/// The collection that a caller creates.
fn new(name: &AllowedName, model: Model<'_>, settings: Settings) -> New {
    New {
        name: name.as_str().to_owned(),
        owner: name.caller().cloned(),
        model: model.name.to_owned(),
        fingerprint: model.fingerprint.to_owned(),
        dimensions: model.dimensions,
        settings,
    }
}
