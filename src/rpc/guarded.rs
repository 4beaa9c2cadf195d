//! The store, as calls reach it: by the names of collections that their callers may use.
//!
//! Invariant: no function here gives a caller anything of a collection without its [`Access`] or an [`AllowedName`].

use std::sync::Arc;

use super::access::{Access, AllowedName};
use super::status::Failure;
use crate::collection::{Backup, Collection, CollectionError, Model, Settings, Store};
use crate::compute::stop::Stop;

/// The documents of a server, behind the rights of its callers.
#[derive(Clone)]
pub struct Guarded(Arc<Store>);

impl From<Arc<Store>> for Guarded {
    fn from(store: Arc<Store>) -> Self {
        Self(store)
    }
}

impl Guarded {
    /// The store itself, for those who look after the server. Calls do not use it.
    pub fn unguarded(&self) -> &Arc<Store> {
        &self.0
    }

    /// Returns a collection that holds vectors of the model.
    pub fn get(&self, name: &AllowedName, model: Model<'_>) -> Result<Arc<Collection>, Failure> {
        failed(name, self.0.get(name.as_str(), model))
    }

    /// Returns a collection, and creates it for the caller if it does not exist.
    pub fn get_or_create(
        &self,
        name: &AllowedName,
        model: Model<'_>,
        settings: Settings,
    ) -> Result<Arc<Collection>, Failure> {
        failed(name, self.0.get_or_create(name.of_new(), model, settings))
    }

    /// Creates a collection that the caller owns.
    pub fn create(&self, name: &AllowedName, model: Model<'_>, settings: Settings) -> Result<Arc<Collection>, Failure> {
        failed(name, self.0.create(name.of_new(), model, settings))
    }

    /// Deletes a collection, and returns the number of its documents.
    pub fn delete(&self, name: &AllowedName) -> Result<usize, Failure> {
        failed(name, self.0.delete(name.as_str()))
    }

    /// Those of the `n` collections after a name that the caller may use. The second value is the name after which the
    /// list goes on; `None`: it ends here.
    pub fn list_after(&self, access: &Access, after: Option<&str>, n: usize) -> (Vec<Arc<Collection>>, Option<String>) {
        let mut some = self.0.list_after(after, n);
        let next = some.last().filter(|_| some.len() == n).map(|last| last.name().to_owned());
        some.retain(|collection| access.may_use(collection.name()));
        (some, next)
    }

    /// All collections that the caller may use.
    pub fn list(&self, access: &Access) -> Vec<Arc<Collection>> {
        let mut all = self.0.list();
        all.retain(|collection| access.may_use(collection.name()));
        all
    }

    /// Copies everything, for an administrator of the server.
    pub fn backup(&self, access: &Access, stop: &Stop) -> Result<Backup, Failure> {
        if !access.administers_server() {
            let reason = "a backup has all collections, and the caller may not use all of them".to_owned();
            return Err(Failure::NotAllowed { reason });
        }
        self.0.backup(stop).map_err(Failure::backup)
    }
}

fn failed<T>(name: &AllowedName, result: Result<T, CollectionError>) -> Result<T, Failure> {
    result.map_err(|error| Failure::collection(name.as_str(), error))
}
