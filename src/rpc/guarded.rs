//! The store, as calls reach it: by the names of collections that their callers may use.
//!
//! Invariant: no function here gives a caller anything of a collection without its [`Access`] or an [`AllowedName`].

use std::sync::Arc;

use super::access::{Access, AllowedName};
use super::status::Failure;
use crate::backend::{Backend, Collection, New, Storage};
use crate::collection::{Backup, Description, Migration, MigrationError, Model, Settings, Store};
use crate::collection::{ClientVectors, PassageSizes};
use crate::compute::stop::Stop;
use crate::compute::{Pool, SHORT, WhenFull};

/// The means of an engine instead of a backup.
const SNAPSHOTS: &str = "the server keeps its collections in a search engine, and has nothing to back up: use the \
                         engine's snapshots (docs/scale-out.md)";

/// The means of an engine instead of a migration.
const COPY: &str = "the server keeps its collections in a search engine, which has no migrations: copy the \
                    collection to a server with a data directory (`cognate copy`), migrate it there with \
                    client_vectors REPLACE, and copy it back";

/// The start of a migration.
pub struct NewMigration<'m> {
    /// The model to migrate to.
    pub model: Model<'m>,
    /// The sizes of its passages.
    pub passages: Option<PassageSizes>,
    /// The treatment of documents whose vectors came from a client.
    pub client_vectors: ClientVectors,
}

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

    /// Returns the collection that has the name of this one now. A caller who holds it was allowed to use that name.
    pub async fn renewed(&self, held: &Collection) -> Result<Collection, Failure> {
        Ok(self.0.get(held.name()).await?)
    }

    /// The migration of a collection; `None`: it has none.
    pub async fn migration(&self, name: &AllowedName) -> Result<Option<Arc<Migration>>, Failure> {
        let store = self.migrating()?;
        self.get(name).await?;
        Ok(store.migration(name.as_str()))
    }

    /// Begins a migration.
    pub async fn begin_migration(
        &self,
        storage: &Pool,
        name: &AllowedName,
        NewMigration { model, passages, client_vectors }: NewMigration<'_>,
    ) -> Result<Arc<Migration>, Failure> {
        let (store, name) = (Arc::clone(self.migrating()?), name.as_str().to_owned());
        let (model, fingerprint, dimensions) = (model.name.to_owned(), model.fingerprint.to_owned(), model.dimensions);
        let begin = move |_: &Stop| {
            let model = Model { name: &model, fingerprint: &fingerprint, dimensions };
            let begun = store.begin_migration(&name, model, passages, client_vectors);
            begun.map_err(|error| Failure::migration(&name, error))
        };
        storage.run(WhenFull::Wait, SHORT, begin).await?
    }

    /// Exchanges the roles of the collections of a migration.
    pub async fn switch(&self, storage: &Pool, name: &str) -> Result<(), Failure> {
        self.change(storage, name, Store::switch).await
    }

    /// Ends a migration, and deletes the collection that does not lead.
    pub async fn end_migration(&self, storage: &Pool, name: &str) -> Result<(), Failure> {
        self.change(storage, name, Store::end_migration).await
    }

    async fn change(
        &self,
        storage: &Pool,
        name: &str,
        change: fn(&Store, &str) -> Result<(), MigrationError>,
    ) -> Result<(), Failure> {
        let (store, name) = (Arc::clone(self.migrating()?), name.to_owned());
        let change = move |_: &Stop| change(&store, &name).map_err(|error| Failure::migration(&name, error));
        storage.run(WhenFull::Wait, SHORT, change).await?
    }

    /// The store, if it has migrations.
    fn migrating(&self) -> Result<&Arc<Store>, Failure> {
        self.0.local().ok_or(Failure::NotOfThisStore { reason: COPY })
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
