//! The usage of owners against plain maps: over random operations, restarts and exports, and with many threads.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use serde_json::json;

use super::EMPTY;
use crate::collection::budget::NOTHING;
use crate::collection::{
    Collection, CollectionError, CommitError, Content, DocId, Document, Filter, Full, Limit, Model, NewName, Options,
    PageSize, Patch, Settings, Store, Usage, disk, filter,
};
use crate::compute::stop::Stop;
use crate::compute::{Allowances, Limits};
use crate::kernel::embedding::Embedding;
use crate::lexical;
use crate::machine::raise_on_drop::RaiseOnDrop;

const MODEL: Model<'_> = Model { name: "m", fingerprint: "f", dimensions: 4 };
const OWNERS: [&str; 2] = ["a", "b"];
/// Each owner has two of these; the others have none.
const COLLECTIONS: [(&str, Option<&str>); 5] =
    [("a1", Some("a")), ("a2", Some("a")), ("b1", Some("b")), ("b2", Some("b")), ("nobody's", None)];

/// The ids of the documents of each collection.
type Stored = BTreeMap<&'static str, BTreeSet<String>>;

fn open(directory: Option<&Path>, allowances: &Allowances) -> Store {
    Store::open(Options {
        directory: directory.map(Path::to_owned),
        disk: disk::Options { min_free_bytes: 1 << 20, ..disk::Options::default() },
        allowances: allowances.clone(),
        ..Options::default()
    })
    .unwrap()
}

fn owner_of(collection: &str) -> Option<&'static str> {
    COLLECTIONS.iter().find(|(name, _)| *name == collection).unwrap().1
}

fn create(store: &Store, name: &str) -> Result<Arc<Collection>, CollectionError> {
    let lexical = name.ends_with('1').then(lexical::Options::default);
    store.get_or_create(NewName { name, owner: owner_of(name) }, MODEL, Settings { lexical, passages: None })
}

fn document(id: &str, random: &mut Rng) -> Document {
    let embedding = Embedding::normalized((0..4).map(|_| random.f32() + 0.1).collect()).unwrap();
    let metadata = json!({ "n": random.u32(..3), "note": "x".repeat(random.usize(..200)) });
    let content = Content::new("some words ".repeat(random.usize(..40)), metadata.as_object());
    Document {
        id: DocId::new(id).unwrap(),
        content: Arc::new(content),
        vectors: embedding.into(),
        origin: Default::default(),
    }
}

fn filter(random: &mut Rng) -> Filter {
    filter::text::parse(&format!("n = {}", random.u32(..3))).unwrap()
}

/// The usage of an owner as the store counts it.
fn counted(store: &Store, owner: &str) -> Usage {
    let all = store.used_by_owners();
    all.iter().find(|(name, _)| &**name == owner).map_or(NOTHING, |(_, used)| *used)
}

/// Compares the usage of each owner with its documents and with what its collections count. Bytes of words may change
/// between two reads while the maintenance thread seals them.
fn check(store: &Store, stored: &Stored, at: &str) {
    for owner in OWNERS {
        let own = || stored.iter().filter(|(name, _)| owner_of(name) == Some(owner));
        let bytes = || own().map(|(name, _)| EMPTY.bytes + store.get(name).unwrap().bytes()).sum::<usize>();
        let expected = || Usage { documents: own().map(|(_, ids)| ids.len()).sum(), bytes: bytes() };
        let is_right = (0..10_000).any(|_| {
            std::thread::yield_now();
            counted(store, owner) == expected()
        });
        assert!(is_right, "{owner} uses {:?}, and {:?} is counted {at}", expected(), counted(store, owner));
    }
}

fn documents(most: u64) -> Limits {
    Limits { documents: NonZeroU64::new(most), ..Limits::default() }
}

fn is_of(error: &Full, owner: &str, limit: Limit) -> bool {
    error.owner.as_deref() == Some(owner) && error.limit == limit
}

/// One change of the store and of the map. A change that is refused must be beyond the limit of the owner.
fn step(store: &Store, stored: &mut Stored, most: u64, random: &mut Rng) {
    let (name, owner) = COLLECTIONS[random.usize(..COLLECTIONS.len())];
    let collection = create(store, name).unwrap();
    let ids = stored.entry(name).or_default();
    let some = |random: &mut Rng| (0..random.u32(1..9)).map(|_| format!("d{}", random.u32(..40))).collect::<Vec<_>>();
    let as_ids = |ids: &[String]| ids.iter().map(|id| DocId::new(id).unwrap()).collect::<Vec<_>>();
    match random.u32(..10) {
        0 => {
            assert_eq!(store.delete(name), Ok(ids.len()));
            stored.remove(name);
        }
        1 => {
            let removed = collection.remove_matching(filter(random), &Stop::never()).unwrap();
            ids.retain(|id| !removed.iter().any(|gone| gone.as_str() == id));
        }
        2 => {
            let gone = some(random);
            collection.remove(&as_ids(&gone)).unwrap();
            ids.retain(|id| !gone.contains(id));
        }
        3 | 4 => {
            let changed: BTreeSet<DocId> = as_ids(&some(random)).into_iter().collect();
            let fields = json!({ "note": "y".repeat(random.usize(..400)) }).as_object().unwrap().clone();
            let patch = Arc::new(Patch { fields, max_bytes: 1_000 });
            collection.update(&changed.into_iter().collect::<Vec<_>>(), &patch, None).unwrap();
        }
        _ => {
            let put = some(random);
            let after: BTreeSet<String> = ids.iter().cloned().chain(put.clone()).collect();
            let documents = put.iter().map(|id| document(id, random)).collect();
            let grows = after.len() > ids.len();
            match collection.commit(documents) {
                Ok(_) => *ids = after,
                Err(CommitError::Full(full)) => {
                    assert!(is_of(&full, owner.unwrap(), Limit::OwnerDocuments) && grows, "{full}");
                    assert!((full.used + full.wanted) as u64 > most, "{full}");
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn the_usage_of_an_owner_is_that_of_its_collections_after_any_changes_restarts_and_exports() {
    for seed in [1, 2, fastrand::u64(..)] {
        println!("seed {seed}");
        let (directory, allowances) = (tempfile::tempdir().unwrap(), Allowances::default());
        let (mut store, mut stored, mut most) = (open(Some(directory.path()), &allowances), Stored::new(), u64::MAX);
        let random = &mut Rng::with_seed(seed);
        for done in 0..150 {
            let at = format!("after {done} steps with seed {seed}");
            match random.u32(..20) {
                0 => {
                    drop(store);
                    store = open(Some(directory.path()), &allowances);
                }
                1 => {
                    // Sometimes below the use: what is there stays, also at a start.
                    most = random.u64(1..80);
                    allowances.set(OWNERS.map(|owner| (owner, documents(most))));
                }
                2 => {
                    let names: Vec<_> = stored.keys().copied().collect();
                    let open = |name: &&str| store.get(name).unwrap().export(None, &Stop::never()).unwrap();
                    let exports: Vec<_> = names.iter().map(open).collect();
                    (0..random.u32(..4)).for_each(|_| step(&store, &mut stored, most, random));
                    drop(exports);
                }
                _ => step(&store, &mut stored, most, random),
            }
            check(&store, &stored, &at);
        }
        stored.iter().for_each(|(name, ids)| assert_eq!(store.delete(name), Ok(ids.len())));
        check(&store, &Stored::new(), "when all is deleted");
        assert_eq!(store.used(), NOTHING);
    }
}

#[test]
fn no_commits_of_many_threads_exceed_the_limit_of_an_owner_and_the_sums_stay_right() {
    const MOST: usize = 60;
    let allowances = Allowances::default();
    allowances.set(OWNERS.map(|owner| (owner, documents(MOST as u64))));
    let (store, is_over) = (open(None, &allowances), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let ending = RaiseOnDrop(&is_over);
        let changes = (0..6).map(|thread| {
            let store = &store;
            scope.spawn(move || {
                let random = &mut Rng::with_seed(thread);
                for n in 0..120 {
                    let (name, _) = COLLECTIONS[random.usize(..COLLECTIONS.len())];
                    let Ok(collection) = create(store, name) else { panic!("a collection has no document") };
                    let documents = (0..5).map(|_| document(&format!("d{}", random.u32(..60)), random)).collect();
                    match collection.commit(documents) {
                        Ok(_) | Err(CommitError::Full(_) | CommitError::Deleted) => {}
                        Err(other) => panic!("{other}"),
                    }
                    let gone = DocId::new(&format!("d{}", random.u32(..60))).unwrap();
                    assert!(!matches!(collection.remove(&[gone]), Err(CommitError::Full(_))), "a removal never grows");
                    if n % 40 == 39 {
                        // Another thread may have deleted it.
                        let _ = store.delete(name);
                    }
                }
            })
        });
        let changes: Vec<_> = changes.collect();
        let watch = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                OWNERS.iter().for_each(|owner| assert!(counted(&store, owner).documents <= MOST));
                std::thread::yield_now();
            }
        });
        changes.into_iter().for_each(|change| change.join().unwrap());
        drop(ending);
        watch.join().unwrap();
    });
    let ids = |one: &Arc<Collection>| {
        let listed = one.list(None, None, PageSize::of(usize::MAX), &Stop::never()).unwrap();
        listed.iter().map(|listed| listed.id.to_string()).collect()
    };
    let there = |name: &&'static str| Some((*name, ids(&store.get(name).ok()?)));
    let stored: Stored = COLLECTIONS.map(|(name, _)| name).iter().filter_map(there).collect();
    check(&store, &stored, "after all threads");
}

#[test]
fn a_collection_counts_for_its_owner_before_it_has_documents_and_one_too_many_is_refused() {
    let allowances = Allowances::default();
    let stored_bytes = NonZeroU64::new(2 * EMPTY.bytes as u64);
    allowances.set([("a", Limits { stored_bytes, ..Limits::default() })]);
    let store = open(None, &allowances);
    for name in ["a1", "a2", "b1", "nobody's"] {
        create(&store, name).unwrap();
    }
    let third = NewName { name: "a3", owner: Some("a") };
    let Err(CollectionError::Full(full)) = store.create(third, MODEL, Settings::default()) else { panic!("it fits") };
    assert!(is_of(&full, "a", Limit::OwnerBytes), "{full}");
    let used = store.used();
    store.delete("a2").unwrap();
    store.create(third, MODEL, Settings::default()).unwrap();
    assert_eq!((store.used(), counted(&store, "a").bytes), (used, 2 * EMPTY.bytes), "the refused one left nothing");
    assert_eq!(store.get("a3").unwrap().owner(), Some("a"));
    assert_eq!(store.get("nobody's").unwrap().owner(), None);
}
