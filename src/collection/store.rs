//! The store: all collections of a process, their data directory, and their common limits.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::backup_turns::Turns;
use super::budget::{Budget, Full, Limit, NOTHING, Quota, Usage};
use super::budgets::{Budgets, EMPTY, Owners, SharedBudgets};
use super::collections::Collections;
use super::commit_queue::OnDisk;
use super::disk::{self, Change, Disk, NewCollection, Snapshot, StoredCollection};
use super::document::DocId;
use super::load::{self, OpenError};
use super::maintenance;
use super::maintenance_thread::MaintenanceThread;
use super::migration::Migration;
use super::options::Options;
use super::passages::PassageSizes;
use super::single::{Collection, New};
use super::stats::{Counters, Searches};
use super::text_cache::{TextCache, TextCacheStats};
use crate::index::{self, SegmentStorage};
use crate::lexical;

/// Subdirectory of the data directory with one directory per collection number: the index files. They are a cache
/// and may be deleted while no server runs.
const INDEXES: &str = "index";

/// Reasons why a collection is not created, returned or deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollectionError {
    /// No collection has this name.
    #[error("there is no collection of this name")]
    Unknown,
    /// A collection of this name exists already.
    #[error("a collection of this name exists already")]
    Exists,
    /// A limit does not allow another collection.
    #[error(transparent)]
    Full(#[from] Full),
    /// The disk refused the change.
    #[error(transparent)]
    Disk(#[from] disk::CommitError),
}

/// The model whose vectors a collection holds. It is told by its fingerprint; the name is for people.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    /// Its name when the collection was created; empty: not known.
    pub name: &'a str,
    /// The model's fingerprint.
    pub fingerprint: &'a str,
    /// Length of the model's vectors.
    pub dimensions: usize,
}

/// The settings of a collection, fixed when it is created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// The sizes of its passages; `None`: a text is one passage.
    pub passages: Option<PassageSizes>,
    /// The settings of its lexical index; `None`: it has none, and is searched by vectors alone.
    pub lexical: Option<lexical::Options>,
}

/// The name of a collection that is to be created, and its owner.
#[derive(Debug, Clone, Copy)]
pub struct NewName<'a> {
    /// The name.
    pub name: &'a str,
    /// The caller whose limits its documents count for; `None`: they count for nobody's.
    pub owner: Option<&'a str>,
}

impl<'a> From<&'a str> for NewName<'a> {
    /// A collection without an owner.
    fn from(name: &'a str) -> Self {
        Self { name, owner: None }
    }
}

/// Collections by name.
pub struct Store {
    pub(super) collections: Arc<Collections>,
    /// Held while a collection is created or deleted, and while a migration begins, switches or ends. All are commits.
    pub(super) changes: Mutex<()>,
    maintenance: MaintenanceThread,
    index: index::Options,
    budget: Arc<Budget>,
    owners: Owners,
    collection_quota: Quota,
    max_collections: usize,
    max_collection_fields: usize,
    pub(super) disk: Option<Arc<Disk>>,
    pub(super) directory: Option<PathBuf>,
    /// Directory of the indexes' files; `None`: they are not stored.
    indexes: Option<PathBuf>,
    pub(super) backups: Turns,
    searches: Arc<Counters>,
    texts: Arc<TextCache>,
}

impl Store {
    /// Opens the store in the directory, or an empty one in memory. Reads every document, and keeps all but the texts.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let disk = match &options.directory {
            Some(directory) => Some(Arc::new(Disk::open(directory, options.disk)?)),
            None => None,
        };
        let indexes = disk.as_ref().map(|disk| disk.subdirectory(INDEXES)).transpose()?;
        let collections = Arc::<Collections>::default();
        let store = Self {
            maintenance: maintenance::start(Arc::downgrade(&collections), options.index.threads.max(1)),
            collections,
            changes: Mutex::default(),
            index: options.index,
            budget: Arc::new(Budget::of_all(options.quota)),
            owners: Owners::new(options.allowances),
            collection_quota: options.collection_quota,
            max_collections: options.max_collections,
            max_collection_fields: options.max_collection_fields,
            disk,
            directory: options.directory,
            indexes,
            backups: Turns::default(),
            searches: Arc::default(),
            texts: Arc::new(TextCache::new(options.text_cache_bytes)),
        };
        if let Some(disk) = &store.disk {
            let snapshot = disk.snapshot()?;
            let collections = snapshot.collections();
            let named = collections.iter().filter(|stored| stored.follows.is_none()).count();
            store.room_for_collections(0, named).map_err(OpenError::Full)?;
            let mut followers = Vec::new();
            for stored in &collections {
                let budgets = store.budgets(stored.owner.as_deref());
                budgets.take_stored(EMPTY).map_err(OpenError::Full)?;
                let (name, fingerprint) = (&stored.model, &stored.fingerprint);
                let model = Model { name, fingerprint, dimensions: stored.dimensions };
                let settings = Settings { passages: stored.passages, lexical: stored.lexical };
                let rows = Some((stored.number, stored.next_row));
                let collection = store.collection((&stored.name, budgets), model, settings, rows);
                load::fill(&collection, stored, &snapshot)?;
                match stored.follows {
                    None => drop(store.insert(collection)),
                    Some(_) => followers.push((stored, Arc::new(collection))),
                }
            }
            followers.into_iter().try_for_each(|(stored, follower)| store.resume(&snapshot, stored, follower))?;
            store.forget_indexes(&collections.iter().map(|stored| stored.number).collect());
        }
        store.maintenance.wake();
        Ok(store)
    }

    /// The data directory; `None`: the collections are in memory alone.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Searches in all collections, those that were deleted included.
    pub fn searches(&self) -> Searches {
        self.searches.read()
    }

    /// The cache of texts; `None`: all are in memory.
    pub fn text_cache(&self) -> Option<TextCacheStats> {
        self.disk.as_ref().map(|_| self.texts.stats())
    }

    /// Usage of all collections together.
    pub fn used(&self) -> Usage {
        self.budget.used()
    }

    /// Usage of the collections of each owner, in no order.
    pub fn used_by_owners(&self) -> Vec<(Arc<str>, Usage)> {
        self.owners.used()
    }

    /// Sets the limit on the bytes of all collections. Documents beyond it stay.
    pub fn set_most_bytes(&self, bytes: usize) {
        self.budget.set_most_bytes(bytes);
    }

    /// Figures about the disk; `None`: the store is in memory alone.
    pub fn disk_stats(&self) -> Option<disk::Stats> {
        Some(self.disk.as_ref()?.stats())
    }

    /// Reason why the disk accepts no changes any more; `None`: it accepts them.
    pub fn stopped(&self) -> Option<disk::CommitError> {
        self.disk.as_ref()?.stopped()
    }

    /// Returns the collection of this name, of any model.
    pub fn get(&self, name: &str) -> Result<Arc<Collection>, CollectionError> {
        self.find(name).ok_or(CollectionError::Unknown)
    }

    /// Returns the collection of this name, of any model, and creates it if it does not exist. Blocks.
    pub fn get_or_create<'a>(
        &self,
        name: impl Into<NewName<'a>>,
        model: Model<'_>,
        settings: Settings,
    ) -> Result<Arc<Collection>, CollectionError> {
        let name = name.into();
        match self.create(name, model, settings) {
            Err(CollectionError::Exists) => self.get(name.name),
            created => created,
        }
    }

    /// Creates an empty collection. Blocks until it is on disk.
    pub fn create<'a>(
        &self,
        name: impl Into<NewName<'a>>,
        model: Model<'_>,
        settings: Settings,
    ) -> Result<Arc<Collection>, CollectionError> {
        let NewName { name, owner } = name.into();
        let _changing = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if self.find(name).is_some() {
            return Err(CollectionError::Exists);
        }
        self.room_for_collections(self.len(), 1)?;
        let budgets = self.budgets(owner);
        budgets.exchange(NOTHING, EMPTY)?;
        let number = self.disk.as_ref().map(|disk| disk.new_collection_number());
        if let (Some(disk), Some(number)) = (&self.disk, number) {
            let new = self.new_collection((name, owner), model, settings, number);
            disk.commit(vec![Change::CreateCollection(new)]).inspect_err(|_| budgets.release(EMPTY))?;
        }
        let collection = self.collection((name, budgets), model, settings, number.map(|number| (number, 0)));
        collection.loaded();
        Ok(self.insert(collection))
    }

    /// A collection as the disk creates it.
    pub(super) fn new_collection(
        &self,
        (name, owner): (&str, Option<&str>),
        model: Model<'_>,
        settings: Settings,
        number: u32,
    ) -> NewCollection {
        NewCollection {
            number,
            name: name.to_owned(),
            owner: owner.map(str::to_owned),
            model: model.name.to_owned(),
            fingerprint: model.fingerprint.to_owned(),
            dimensions: model.dimensions,
            passages: settings.passages,
            lexical: settings.lexical,
        }
    }

    /// Takes up the migration of a stored follower. Its leader is loaded.
    fn resume(
        &self,
        snapshot: &Snapshot,
        stored: &StoredCollection,
        follower: Arc<Collection>,
    ) -> Result<(), OpenError> {
        let Some((leader, follows)) = self.find(&stored.name).zip(stored.follows.clone()) else { return Ok(()) };
        let mut pending = Vec::new();
        snapshot.pending(stored.number, |id, number| pending.extend(DocId::new(id).map(|id| (id, number))))?;
        self.collections.begin(Arc::new(Migration::new(leader, follower, follows, pending)));
        Ok(())
    }

    /// Deletes a collection of any model, with its follower, and returns the number of its documents. Blocks until it
    /// is gone from disk.
    pub fn delete(&self, name: &str) -> Result<usize, CollectionError> {
        let _changing = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let collection = self.find(name).ok_or(CollectionError::Unknown)?;
        let migration = self.collections.migration(name);
        let _steps = migration.as_ref().map(|migration| migration.steps());
        // Commits that are on disk come into memory before, and readers that let no commit begin finish.
        let _turn = collection.turn();
        let follower = migration.as_ref().map(|migration| migration.follower());
        let _of_follower = follower.as_ref().map(|follower| follower.turn());
        if let Some(OnDisk { disk, .. }) = &collection.on_disk {
            let gone = follower.iter().chain([&collection]).filter_map(|gone| gone.on_disk.as_ref());
            disk.commit(gone.map(|gone| Change::DeleteCollection { collection: gone.number }).collect())?;
        }
        self.collections.remove(name);
        migration.iter().for_each(|migration| migration.end());
        let delete = |gone: &Collection| {
            gone.budgets.shared.release(EMPTY);
            gone.delete()
        };
        if let Some(follower) = &follower {
            delete(follower);
        }
        Ok(delete(&collection))
    }

    /// The budgets of a collection of this owner that it shares with others.
    pub(super) fn budgets(&self, owner: Option<&str>) -> SharedBudgets {
        SharedBudgets { of_all: Arc::clone(&self.budget), of_owner: owner.map(|name| self.owners.budget(name)) }
    }

    fn room_for_collections(&self, used: usize, wanted: usize) -> Result<(), Full> {
        let most = self.max_collections;
        if used.saturating_add(wanted) <= most {
            return Ok(());
        }
        Err(Full { limit: Limit::Collections, owner: None, used, wanted, most })
    }

    fn find(&self, name: &str) -> Option<Arc<Collection>> {
        self.collections.find(name)
    }

    fn insert(&self, collection: Collection) -> Arc<Collection> {
        let collection = Arc::new(collection);
        self.collections.insert(Arc::clone(&collection));
        collection
    }

    /// A collection without documents. `on_disk`: its number, and the lowest unused row number.
    pub(super) fn collection(
        &self,
        (name, shared): (&str, SharedBudgets),
        model: Model<'_>,
        settings: Settings,
        on_disk: Option<(u32, u64)>,
    ) -> Collection {
        let (number, next_row) = (on_disk.map(|(number, _)| number), on_disk.map_or(0, |(_, next_row)| next_row));
        let texts = || Arc::clone(&self.texts);
        let on_disk = |disk: &Arc<Disk>| Some(OnDisk { disk: Arc::clone(disk), number: number?, texts: texts() });
        let storage = |(indexes, disk): (&PathBuf, &Arc<Disk>)| {
            let disk = Arc::downgrade(disk);
            let has_room = move |bytes| disk.upgrade().is_some_and(|disk| disk.has_room(bytes));
            let directory = indexes.join(number?.to_string());
            let of_words = lexical::Storage { directory: directory.clone(), has_room: Box::new(has_room.clone()) };
            Some((SegmentStorage { directory, has_room: Box::new(has_room) }, of_words))
        };
        let storage = self.indexes.as_ref().zip(self.disk.as_ref()).and_then(storage);
        let (index_storage, lexical_storage) = storage.unzip();
        Collection::new(New {
            name,
            model: model.name,
            fingerprint: model.fingerprint,
            dimensions: model.dimensions,
            passages: settings.passages,
            index: self.index.clone(),
            index_storage,
            lexical: settings.lexical,
            lexical_storage,
            searches: Arc::clone(&self.searches),
            budgets: Budgets::new(self.collection_quota, shared),
            max_fields: self.max_collection_fields,
            maintenance: self.maintenance.clone(),
            on_disk: self.disk.as_ref().and_then(on_disk),
            next_row,
        })
    }

    /// Deletes index files that a crash left behind and whose collection no longer exists.
    fn forget_indexes(&self, collections: &BTreeSet<u32>) {
        let entries = self.indexes.iter().filter_map(|indexes| fs::read_dir(indexes).ok()).flatten();
        for path in entries.flatten().map(|entry| entry.path()) {
            let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            if number.is_some_and(|number| !collections.contains(&number)) {
                let _ = fs::remove_dir_all(path);
            }
        }
    }

    /// All collections, in name order.
    pub fn list(&self) -> Vec<Arc<Collection>> {
        self.list_after(None, usize::MAX)
    }

    /// The first `limit` collections whose names come after `name`, in name order; `None`: from the first one.
    pub fn list_after(&self, name: Option<&str>, limit: usize) -> Vec<Arc<Collection>> {
        self.collections.list_after(name, limit)
    }

    /// Number of collections.
    pub fn len(&self) -> usize {
        self.collections.len()
    }

    /// True if there are no collections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
