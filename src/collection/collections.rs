//! The collections of a store by name, and their migrations.
//!
//! Invariant: a name stands for one collection at each moment, also while leader and follower are exchanged. A follower
//! has no name of its own here; it is reached through its migration.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::migration::Migration;
use super::single::Collection;

/// The collections of a store.
#[derive(Default)]
pub(super) struct Collections(RwLock<Named>);

#[derive(Default)]
struct Named {
    collections: BTreeMap<String, Arc<Collection>>,
    migrations: BTreeMap<String, Arc<Migration>>,
}

impl Collections {
    /// The collection of this name.
    pub fn find(&self, name: &str) -> Option<Arc<Collection>> {
        self.read().collections.get(name).cloned()
    }

    /// The migration of the collection of this name.
    pub fn migration(&self, name: &str) -> Option<Arc<Migration>> {
        self.read().migrations.get(name).cloned()
    }

    /// Adds a collection, or puts it in place of the one of its name.
    pub fn insert(&self, collection: Arc<Collection>) {
        self.write().collections.insert(collection.name().to_owned(), collection);
    }

    /// Adds a migration.
    pub fn begin(&self, migration: Arc<Migration>) {
        self.write().migrations.insert(migration.leader().name().to_owned(), migration);
    }

    /// Forgets a migration.
    pub fn end(&self, name: &str) {
        self.write().migrations.remove(name);
    }

    /// Forgets a collection, and its migration.
    pub fn remove(&self, name: &str) {
        let mut named = self.write();
        named.collections.remove(name);
        named.migrations.remove(name);
    }

    /// The first `limit` collections whose names come after `name`, in name order; `None`: from the first one.
    pub fn list_after(&self, name: Option<&str>, limit: usize) -> Vec<Arc<Collection>> {
        let after = name.map_or(Bound::Unbounded, Bound::Excluded);
        let named = self.read();
        named
            .collections
            .range::<str, _>((after, Bound::Unbounded))
            .take(limit)
            .map(|(_, one)| Arc::clone(one))
            .collect()
    }

    /// The migrations, in name order.
    pub fn migrations(&self) -> Vec<Arc<Migration>> {
        self.read().migrations.values().cloned().collect()
    }

    /// All collections, followers included.
    pub fn all(&self) -> Vec<Arc<Collection>> {
        let followers = self.migrations().into_iter().map(|migration| migration.follower());
        self.list_after(None, usize::MAX).into_iter().chain(followers).collect()
    }

    /// Number of collections, without followers.
    pub fn len(&self) -> usize {
        self.read().collections.len()
    }

    fn read(&self) -> RwLockReadGuard<'_, Named> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Named> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
