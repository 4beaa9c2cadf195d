//! The store: all collections of a process, their data directory, and their common limits.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::backup::Turns;
use super::budget::{Budget, Full, Limit, Quota, Usage};
use super::commits::Place;
use super::disk::{self, Change, Disk, NewCollection};
use super::gardener::{Collections, Gardener};
use super::load::{self, OpenError};
use super::single::{Collection, New};
use crate::index::{self, Keep};

/// Settings of a [`Store`].
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory; `None`: documents are in memory alone, and gone with the process.
    pub directory: Option<PathBuf>,
    /// Settings of the disk storage.
    pub disk: disk::Options,
    /// Limits on all collections together; a commit beyond them is refused.
    pub quota: Quota,
    /// Limits on one collection.
    pub collection_quota: Quota,
    /// Most collections; one more is refused.
    pub max_collections: usize,
    /// Most fields that the documents of one collection may have between them; a document that exceeds it is
    /// refused.
    pub max_collection_fields: usize,
    /// Settings of the collections' indexes.
    pub index: index::Options,
}

impl Default for Options {
    /// A store in memory, without limits.
    fn default() -> Self {
        Self {
            directory: None,
            disk: disk::Options::default(),
            quota: Usage::UNLIMITED,
            collection_quota: Usage::UNLIMITED,
            max_collections: usize::MAX,
            max_collection_fields: usize::MAX,
            index: index::Options::default(),
        }
    }
}

/// Usage of an empty collection, so that quotas bound the number of collections too.
const EMPTY: Usage = Usage { documents: 0, bytes: 16 * 1024 };

/// Subdirectory of the data directory with one directory per collection number: the index files. They are a cache
/// and may be deleted while no server runs.
const INDEXES: &str = "index";

const NOTHING: Usage = Usage { documents: 0, bytes: 0 };

/// Reasons why a collection is not created, returned or deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CollectionError {
    /// No collection has this name.
    #[error("there is no collection of this name")]
    Unknown,
    /// A collection of this name exists already.
    #[error("a collection of this name exists already")]
    Exists,
    /// The vectors of the collection come from another model and cannot be compared with those of this one.
    #[error(
        "the collection holds vectors of the model with fingerprint {theirs}, and this server runs {ours}: \
         serve the other model, or use another collection"
    )]
    OtherModel {
        /// The collection's fingerprint.
        theirs: String,
        /// Fingerprint of the server's model.
        ours: String,
    },
    /// A limit does not allow another collection.
    #[error(transparent)]
    Full(#[from] Full),
    /// The disk refused the change.
    #[error(transparent)]
    Disk(#[from] disk::CommitError),
}

/// The model whose vectors a collection holds.
#[derive(Debug, Clone, Copy)]
pub struct Model<'a> {
    /// The model's fingerprint.
    pub fingerprint: &'a str,
    /// Fingerprints of models whose vectors may be mixed with this one's.
    pub also_compatible: &'a [String],
    /// Length of the model's vectors.
    pub dimensions: usize,
}

/// Collections by name.
pub struct Store {
    collections: Arc<Collections>,
    /// Held while a collection is created or deleted. Both are commits.
    changes: Mutex<()>,
    gardener: Gardener,
    index: index::Options,
    budget: Arc<Budget>,
    collection_quota: Quota,
    max_collections: usize,
    max_collection_fields: usize,
    pub(super) disk: Option<Arc<Disk>>,
    pub(super) directory: Option<PathBuf>,
    /// Directory of the indexes' files; `None`: they are not stored.
    indexes: Option<PathBuf>,
    pub(super) backups: Turns,
}

impl Store {
    /// Opens the store in the directory, or an empty one in memory. Reads every document.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let disk = match &options.directory {
            Some(directory) => Some(Arc::new(Disk::open(directory, options.disk)?)),
            None => None,
        };
        let indexes = disk.as_ref().map(|disk| disk.subdirectory(INDEXES)).transpose()?;
        let collections = Arc::<Collections>::default();
        let store = Self {
            gardener: Gardener::start(Arc::downgrade(&collections)),
            collections,
            changes: Mutex::default(),
            index: options.index,
            budget: Arc::new(Budget::of_all(options.quota)),
            collection_quota: options.collection_quota,
            max_collections: options.max_collections,
            max_collection_fields: options.max_collection_fields,
            disk,
            directory: options.directory,
            indexes,
            backups: Turns::default(),
        };
        if let Some(disk) = &store.disk {
            let snapshot = disk.snapshot()?;
            let collections = snapshot.collections();
            store.room_for_collections(0, collections.len()).map_err(OpenError::Full)?;
            for stored in &collections {
                store.budget.exchange(NOTHING, EMPTY).map_err(OpenError::Full)?;
                let model =
                    Model { fingerprint: &stored.fingerprint, also_compatible: &[], dimensions: stored.dimensions };
                let collection = store.collection(&stored.name, model, Some(stored.number), stored.next_row);
                load::fill(&collection, stored, &snapshot)?;
                store.insert(collection);
            }
            store.forget_indexes(&collections.iter().map(|stored| stored.number).collect());
        }
        store.gardener.wake();
        Ok(store)
    }

    /// The data directory; `None`: the collections are in memory alone.
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Usage of all collections together.
    pub fn used(&self) -> Usage {
        self.budget.used()
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

    /// Returns the collection of this name if its vectors can be compared with the model's.
    pub fn get(&self, name: &str, model: Model<'_>) -> Result<Arc<Collection>, CollectionError> {
        of_model(self.find(name).ok_or(CollectionError::Unknown)?, model)
    }

    /// Returns the collection of this name, and creates it if it does not exist. Blocks.
    pub fn get_or_create(&self, name: &str, model: Model<'_>) -> Result<Arc<Collection>, CollectionError> {
        match self.create(name, model) {
            Err(CollectionError::Exists) => self.get(name, model),
            created => created,
        }
    }

    /// Creates an empty collection. Blocks until it is on disk.
    pub fn create(&self, name: &str, model: Model<'_>) -> Result<Arc<Collection>, CollectionError> {
        let _changing = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if self.find(name).is_some() {
            return Err(CollectionError::Exists);
        }
        self.room_for_collections(self.len(), 1)?;
        self.budget.exchange(NOTHING, EMPTY)?;
        let number = self.disk.as_ref().map(|disk| disk.new_collection_number());
        if let (Some(disk), Some(number)) = (&self.disk, number) {
            let new = NewCollection {
                number,
                name: name.to_owned(),
                fingerprint: model.fingerprint.to_owned(),
                dimensions: model.dimensions,
            };
            disk.commit(vec![Change::CreateCollection(new)]).inspect_err(|_| self.budget.release(EMPTY))?;
        }
        let collection = self.collection(name, model, number, 0);
        collection.loaded();
        Ok(self.insert(collection))
    }

    /// Deletes a collection of any model and returns the number of its documents. Blocks until it is gone from
    /// disk.
    pub fn delete(&self, name: &str) -> Result<usize, CollectionError> {
        let _changing = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let collection = self.find(name).ok_or(CollectionError::Unknown)?;
        if let Some(Place { disk, number }) = &collection.place {
            disk.commit(vec![Change::DeleteCollection { collection: *number }])?;
        }
        self.collections.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        let documents = collection.delete();
        self.budget.release(EMPTY);
        Ok(documents)
    }

    fn room_for_collections(&self, used: usize, wanted: usize) -> Result<(), Full> {
        let most = self.max_collections;
        if used.saturating_add(wanted) <= most {
            return Ok(());
        }
        Err(Full { limit: Limit::Collections, used, wanted, most })
    }

    fn find(&self, name: &str) -> Option<Arc<Collection>> {
        self.collections.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn insert(&self, collection: Collection) -> Arc<Collection> {
        let collection = Arc::new(collection);
        let mut collections = self.collections.write().unwrap_or_else(PoisonError::into_inner);
        collections.insert(collection.name().to_owned(), Arc::clone(&collection));
        collection
    }

    fn collection(&self, name: &str, model: Model<'_>, number: Option<u32>, next_row: u64) -> Collection {
        let place = |disk: &Arc<Disk>| Some(Place { disk: Arc::clone(disk), number: number? });
        let keep = |(indexes, disk): (&PathBuf, &Arc<Disk>)| {
            let directory = indexes.join(number?.to_string());
            let disk = Arc::downgrade(disk);
            let has_room = move |bytes| disk.upgrade().is_some_and(|disk| disk.has_room(bytes));
            Some(Keep { directory, has_room: Box::new(has_room) })
        };
        Collection::new(New {
            name,
            fingerprint: model.fingerprint,
            dimensions: model.dimensions,
            index: self.index.clone(),
            keep_index: self.indexes.as_ref().zip(self.disk.as_ref()).and_then(keep),
            budget: Arc::clone(&self.budget),
            quota: self.collection_quota,
            max_fields: self.max_collection_fields,
            gardener: self.gardener.clone(),
            place: self.disk.as_ref().and_then(place),
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
        let after = name.map_or(Bound::Unbounded, Bound::Excluded);
        let collections = self.collections.read().unwrap_or_else(PoisonError::into_inner);
        collections.range::<str, _>((after, Bound::Unbounded)).take(limit).map(|(_, one)| Arc::clone(one)).collect()
    }

    /// Number of collections.
    pub fn len(&self) -> usize {
        self.collections.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// True if there are no collections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn of_model(collection: Arc<Collection>, model: Model<'_>) -> Result<Arc<Collection>, CollectionError> {
    let theirs = collection.fingerprint();
    if theirs == model.fingerprint || model.also_compatible.iter().any(|other| other == theirs) {
        return Ok(collection);
    }
    Err(CollectionError::OtherModel { theirs: theirs.to_owned(), ours: model.fingerprint.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::{Content, DocId, Document, Search};
    use super::*;
    use crate::collection::CommitError;
    use crate::compute::stop::Stop;
    use crate::embedder::Embedding;
    use crate::index::Effort;

    const MODEL: Model<'_> = Model { fingerprint: "f", also_compatible: &[], dimensions: 2 };

    fn store(max_bytes: usize) -> Store {
        let quota = Usage { bytes: max_bytes, ..Usage::UNLIMITED };
        Store::open(Options { quota, ..Options::default() }).unwrap()
    }

    fn document(id: &str, angle: f32) -> Document {
        let embedding = Embedding::normalized(vec![angle.cos(), angle.sin()]).unwrap();
        let content = Content::new(format!("at {angle}"), None);
        Document { id: DocId::new(id).unwrap(), content: Arc::new(content), embedding }
    }

    fn ids(collection: &Collection, angle: f32, k: usize) -> Vec<String> {
        let query = Embedding::normalized(vec![angle.cos(), angle.sin()]).unwrap();
        let search = Search::nearest(k, Effort::Exact);
        collection.search(&query, &search).iter().map(|found| found.id.to_string()).collect()
    }

    #[test]
    fn a_collection_of_another_model_is_not_searched() {
        let store = store(usize::MAX);
        store.create("c", MODEL).unwrap();
        let other = Model { fingerprint: "g", also_compatible: &[], dimensions: 2 };
        let refused = CollectionError::OtherModel { theirs: "f".to_owned(), ours: "g".to_owned() };
        assert_eq!(store.get("c", other).err(), Some(refused.clone()));
        assert_eq!(store.get_or_create("c", other).err(), Some(refused));
        let near = Model { also_compatible: &["f".to_owned()], ..other };
        assert!(store.get("c", near).is_ok() && store.get_or_create("c", near).is_ok());
        assert_eq!(store.delete("c"), Ok(0));
        assert_eq!(store.get("c", MODEL).err(), Some(CollectionError::Unknown));
    }

    #[test]
    fn what_exceeds_the_budget_is_refused_whole_and_deleting_makes_room() {
        let store = store(EMPTY.bytes + 20_000);
        let collection = store.create("c", MODEL).unwrap();
        let mut stored = 0;
        let full = loop {
            match collection.commit(vec![document(&format!("{stored:03}"), 0.1)]) {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(full, CommitError::Full(_)) && stored > 1, "{full:?} after {stored}");
        assert_eq!(collection.len(), stored);
        collection.commit(vec![document("000", 0.2)]).expect("a replacement of the same size fits");
        assert!(matches!(store.create("d", MODEL), Err(CollectionError::Full(_))));
        collection.remove(&[DocId::new("001").unwrap()]).unwrap();
        collection.commit(vec![document("zzz", 0.1)]).expect("there is room again");
        store.delete("c").unwrap();
        assert_eq!(store.budget.used(), NOTHING);
    }

    #[test]
    fn one_collection_more_than_the_limit_is_refused_until_one_is_deleted() {
        let store = Store::open(Options { max_collections: 2, ..Options::default() }).unwrap();
        for name in ["a", "b"] {
            store.create(name, MODEL).unwrap();
        }
        let refused = store.get_or_create("c", MODEL).err().expect("it is one too many");
        let said = "max_collections: 1 collections more would exceed the limit of 2: 2 are in use";
        assert_eq!(refused.to_string(), said);
        assert!(store.get_or_create("b", MODEL).is_ok(), "what exists is still had");
        store.delete("a").unwrap();
        assert!(store.create("c", MODEL).is_ok());
        let names =
            |after, limit| store.list_after(after, limit).iter().map(|c| c.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(
            (names(None, 1), names(Some("b"), 9), names(Some("bb"), 9)),
            (vec!["b".into()], vec!["c".into()], vec!["c".into()])
        );
    }

    #[test]
    fn counts_are_read_while_the_documents_are_locked() {
        let store = store(usize::MAX);
        let collection = store.create("c", MODEL).unwrap();
        collection.commit(vec![document("a", 0.0), document("b", 1.0)]).unwrap();
        let held = collection.write();
        assert_eq!((collection.len(), collection.bytes()), (2, held.used.bytes));
        drop(held);
        collection.remove(&[DocId::new("a").unwrap()]).unwrap();
        assert_eq!((collection.len(), collection.bytes()), (1, collection.read().used.bytes));
        store.delete("c").unwrap();
        assert_eq!((collection.len(), collection.bytes()), (0, 0));
    }

    #[test]
    fn a_commit_into_a_deleted_collection_is_not_acknowledged() {
        let store = store(usize::MAX);
        let collection = store.create("c", MODEL).unwrap();
        store.delete("c").unwrap();
        assert!(matches!(collection.commit(vec![document("a", 0.0)]), Err(CommitError::Deleted)));
    }

    #[test]
    fn equal_scores_come_in_id_order_even_where_k_cuts_through_them() {
        let store = store(usize::MAX);
        let collection = store.create("c", MODEL).unwrap();
        let documents = (0..500).rev().map(|n| document(&format!("{n:03}"), 1.0)).collect();
        collection.commit(documents).unwrap();
        assert_eq!(ids(&collection, 1.0, 3), ["000", "001", "002"]);
    }

    #[test]
    fn the_last_of_documents_with_one_id_stays() {
        let store = store(usize::MAX);
        let collection = store.create("c", MODEL).unwrap();
        collection.commit(vec![document("a", 0.0), document("a", 1.0)]).unwrap();
        assert_eq!(collection.len(), 1);
        assert_eq!(collection.get(&DocId::new("a").unwrap()).unwrap().0.text.as_ref(), "at 1");
    }

    proptest! {
        /// Compares commits, replacements and removals with a plain map.
        #[test]
        fn a_collection_holds_what_a_map_would(steps in prop::collection::vec((0u8..12, 0u8..6, any::<bool>()), 1..80)) {
            let store = store(usize::MAX);
            let collection = store.create("c", MODEL).unwrap();
            let mut model = BTreeMap::new();
            for (id, angle, keep) in steps {
                let id = format!("d{id:02}");
                if keep {
                    collection.commit(vec![document(&id, f32::from(angle))]).unwrap();
                    model.insert(id, angle);
                } else {
                    let removed = collection.remove(&[DocId::new(&id).unwrap()]).unwrap();
                    prop_assert_eq!(!removed.is_empty(), model.remove(&id).is_some());
                }
                let listed: Vec<String> = collection.list(None, None, 100, &Stop::never()).unwrap().iter().map(|d| d.0.to_string()).collect();
                prop_assert_eq!(&listed, &model.keys().cloned().collect::<Vec<_>>());
                for angle in 0..6u8 {
                    let with_angle: BTreeSet<_> = model.iter().filter(|(_, a)| **a == angle).map(|(id, _)| id.clone()).collect();
                    let found = ids(&collection, f32::from(angle), with_angle.len().max(1));
                    if !with_angle.is_empty() {
                        prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), with_angle);
                    }
                }
            }
        }
    }
}
