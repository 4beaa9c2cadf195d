//! Tests of a store against a plain map, over many operations and restarts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use serde_json::json;

use super::*;
use crate::compute::stop::Stop;
use crate::index::{self, Effort};
use crate::kernel::embedding::Embedding;

const MODEL: Model<'_> = Model { name: "m", fingerprint: "f", dimensions: 8 };

/// A document of the map: the number that decides its text, vector and metadata, and the number that an update wrote
/// into its metadata instead.
type Said = (u32, Option<u32>);

/// The field `n` of a document.
fn n((said, updated): Said) -> u32 {
    updated.unwrap_or(said % 10)
}

fn embedding(said: u32, passage: u32) -> Embedding {
    let mut random = Rng::with_seed(u64::from(said) << 8 | u64::from(passage));
    Embedding::normalized((0..8).map(|_| random.f32() - 0.5).collect()).unwrap()
}

/// One document in four has two to four passages.
fn passages(said: u32) -> u32 {
    if said % 4 == 1 { 2 + said % 3 } else { 1 }
}

fn text(said: u32) -> String {
    said.to_string().repeat(passages(said) as usize)
}

fn vectors(said: u32) -> Vectors {
    if passages(said) == 1 {
        return embedding(said, 0).into();
    }
    let length = said.to_string().len() as u32;
    let passage = |n: u32| (Span { start: n * length, end: (n + 1) * length }, embedding(said, n));
    Vectors::of_passages(&text(said), (0..passages(said)).map(passage).collect()).unwrap()
}

fn document(id: &str, said: u32) -> Document {
    let metadata = json!({"n": said % 10, "even": said.is_multiple_of(2)});
    let content = Content::new(text(said), metadata.as_object());
    Document {
        id: DocId::new(id).unwrap(),
        content: Arc::new(content),
        vectors: vectors(said),
        origin: Default::default(),
    }
}

fn open(directory: &Path) -> Store {
    Store::open(Options {
        directory: Some(directory.to_owned()),
        disk: disk::Options { min_free_bytes: 1 << 20, ..disk::Options::default() },
        // Small limits, so that graphs are built, rebuilt and given up.
        index: index::Options { exact_below: 300, scan_rows_per_ef: 1, ..index::Options::default() },
        ..Options::default()
    })
    .unwrap()
}

fn check(collection: &Collection, map: &BTreeMap<String, Said>, at: &str) {
    let listed = collection.list(None, None, PageSize::of(usize::MAX), &Stop::never()).unwrap();
    assert_eq!(collection.len(), map.len(), "{at}");
    assert_eq!(collection.n_passages(), map.values().map(|it| passages(it.0) as usize).sum::<usize>(), "{at}");
    for (listed, (expected, &(said, _))) in listed.iter().zip(map) {
        assert_eq!((listed.id.as_str(), &*listed.text), (expected.as_str(), &*text(said)), "{at}");
        let stored = listed.vectors.iter().map(|vector| vector.to_vec());
        let said = (0..passages(said)).map(|passage| embedding(said, passage).into_values());
        assert!(stored.eq(said), "{at}");
    }
    let filter = filter::text::parse("n = 3 or (even = true and n > 5)").unwrap();
    let matching: Vec<_> = collection
        .list(Some(&filter), None, PageSize::of(usize::MAX), &Stop::never())
        .unwrap()
        .into_iter()
        .map(|listed| listed.id.to_string())
        .collect();
    let expected = map.iter().filter(|&(_, &it)| n(it) == 3 || (it.0.is_multiple_of(2) && n(it) > 5));
    assert_eq!(matching, expected.map(|(id, _)| id.clone()).collect::<Vec<_>>(), "{at}");
    let field = FacetField { by: filter::Path::readings("n").unwrap(), limit: 20 };
    let query = FacetQuery { filter: None, fields: vec![field], max_bytes: 1_000 };
    let sum: u64 = map.values().map(|&it| u64::from(n(it))).sum();
    let numbers = collection.facets(&query, &Stop::never()).unwrap().fields[0].numbers;
    assert_eq!(numbers.map_or(0.0, |numbers| numbers.mean * numbers.count as f64).round(), sum as f64, "{at}");
    assert_eq!(collection.unfound(), [], "{at}");
}

fn a_walk(operations: usize, seed: u64) {
    println!("seed {seed}");
    let random = &mut Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let mut map: BTreeMap<String, Said> = BTreeMap::new();
    store.create("c", MODEL, Settings::default()).unwrap();
    let mut done = 0;
    while done < operations {
        let at = format!("after {done} operations, seed {seed}");
        let collection = store.get("c").unwrap();
        match random.u32(..1_000) {
            0..=4 => {
                drop(collection);
                drop(store);
                store = open(directory.path());
                check(&store.get("c").unwrap(), &map, &at);
                done += 1;
            }
            5 => {
                assert_eq!(store.delete("c"), Ok(map.len()), "{at}");
                store.create("c", MODEL, Settings::default()).unwrap();
                map.clear();
                done += 1;
            }
            6..=20 => {
                let which = random.u32(..10);
                let filter = filter::text::parse(&format!("n = {which} and even exists")).unwrap();
                let expected: Vec<String> =
                    map.iter().filter(|(_, it)| n(**it) == which).map(|(id, _)| id.clone()).collect();
                let removed = collection.remove_matching(filter, &Stop::never()).unwrap();
                assert_eq!(removed.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{at}");
                map.retain(|_, it| n(*it) != which);
                done += expected.len().max(1);
            }
            21..=80 => {
                let some = |_| DocId::new(&format!("d{:04}", random.u32(..3_000))).unwrap();
                let ids: Vec<DocId> = (0..8).map(some).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
                let now = random.u32(..10);
                let fields = json!({"n": now, "absent": null}).as_object().unwrap().clone();
                let updated = collection.update(&ids, &Arc::new(Patch { fields, max_bytes: 100 }), None).unwrap();
                assert_eq!((updated.taken, updated.refused.len()), (ids.len(), 0), "{at}");
                for id in ids.iter().filter(|id| !updated.missing.contains(id)) {
                    map.get_mut(id.as_str()).unwrap_or_else(|| panic!("{id} is unknown: {at}")).1 = Some(now);
                }
                assert!(updated.missing.iter().all(|id| !map.contains_key(id.as_str())), "{at}");
                done += ids.len();
            }
            81..=300 => {
                let ids: Vec<DocId> = (0..random.u32(..8) + 1)
                    .map(|_| DocId::new(&format!("d{:04}", random.u32(..3_000))).unwrap())
                    .collect();
                let removed = collection.remove(&ids).unwrap();
                let expected = ids.iter().filter(|id| map.remove(id.as_str()).is_some());
                assert_eq!(removed, expected.cloned().collect::<Vec<_>>(), "{at}");
                done += ids.len();
            }
            301..=400 => {
                let Some((id, &(said, _))) = map.iter().nth(random.usize(..map.len().max(1))) else {
                    continue;
                };
                let search = Search::nearest(3, Effort::Graph { ef: None });
                let passage = random.u32(..passages(said));
                let found = collection.search(&embedding(said, passage), &search);
                assert_eq!(found.len(), 3.min(map.len()), "{at}");
                assert!(found.iter().all(|f| map.get(f.id.as_str()).is_some_and(|it| text(it.0) == *f.text)), "{at}");
                assert!(found[0].score > 0.9999, "{id} is not found: {at}");
                let ids: std::collections::HashSet<&DocId> = found.iter().map(|hit| &hit.id).collect();
                assert_eq!(ids.len(), found.len(), "{at}");
                done += 1;
            }
            _ => {
                let documents: Vec<Document> = (0..random.u32(..24) + 1)
                    .map(|_| (format!("d{:04}", random.u32(..3_000)), random.u32(..u32::MAX)))
                    .map(|(id, said)| {
                        map.insert(id.clone(), (said, None));
                        document(&id, said)
                    })
                    .collect();
                done += documents.len();
                collection.commit(documents).unwrap();
            }
        }
    }
    check(&store.get("c").unwrap(), &map, "at the end");
}

#[test]
fn a_hundred_thousand_random_operations_and_restarts_leave_what_a_map_holds() {
    let seed = std::env::var("COGNATE_SEED").map_or_else(|_| u64::from(std::process::id()), |s| s.parse().unwrap());
    a_walk(100_000, seed);
}

#[test]
fn a_restart_has_the_index_at_once_and_a_deleted_collection_leaves_none() {
    let directory = tempfile::tempdir().unwrap();
    let indexes = || {
        let found = std::fs::read_dir(directory.path().join("index")).unwrap();
        found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let store = open(directory.path());
    for name in ["a", "b"] {
        let collection = store.create(name, MODEL, Settings::default()).unwrap();
        collection.commit((0..600).map(|n| document(&format!("{name}{n:03}"), n)).collect()).unwrap();
        collection.finish_graph();
        assert!(collection.index_file_bytes() > 600 * 4 * 8);
    }
    let search = Search::nearest(5, Effort::Graph { ef: None });
    let found = |store: &Store| {
        let found = store.get("a").unwrap().search(&embedding(7, 0), &search);
        found.into_iter().map(|found| (found.id, found.score)).collect::<Vec<_>>()
    };
    let before = found(&store);
    store.delete("b").unwrap();
    assert_eq!(indexes().len(), 1);
    drop(store);
    // State after a crash between the deletion of a collection and that of its index.
    std::fs::create_dir(directory.path().join("index/77")).unwrap();
    let store = open(directory.path());
    assert_eq!(indexes().len(), 1);
    let collection = store.get("a").unwrap();
    assert!(collection.unindexed() == 0 && collection.index_file_bytes() > 600 * 4 * 8);
    assert_eq!(found(&store), before);
    // The index is a cache.
    drop((collection, store));
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    let store = open(directory.path());
    assert_eq!(found(&store), before);
}

#[test]
fn updated_documents_keep_their_graph_and_its_files_through_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let collection = store.create("c", MODEL, Settings::default()).unwrap();
    collection.commit((0..600).map(|n| document(&format!("{n:03}"), n)).collect()).unwrap();
    collection.finish_graph();
    let files = collection.index_file_bytes();
    let filter = filter::text::parse("even = true").unwrap();
    let ids = collection.matching_ids(&filter, &Stop::never()).unwrap();
    let fields = json!({"even": null, "note": {"by": "an update"}}).as_object().unwrap().clone();
    let (patch, only, mut taken) = (Arc::new(Patch { fields, max_bytes: 100 }), Arc::new(filter), 0);
    while taken < ids.len() {
        let updated = collection.update(&ids[taken..], &patch, Some(&only)).unwrap();
        assert!(updated.taken <= 8 && updated.documents == updated.taken, "{updated:?}");
        taken += updated.taken;
    }
    let again = collection.update(&ids, &patch, Some(&only)).unwrap();
    assert_eq!((again.taken, again.documents), (8, 0), "they match no longer");
    let bytes = collection.bytes();
    drop((collection, store));
    let store = open(directory.path());
    let collection = store.get("c").unwrap();
    assert_eq!((collection.unindexed(), collection.index_file_bytes()), (0, files));
    // Bitmaps are measured from time to time.
    assert!(collection.bytes().abs_diff(bytes) < bytes / 100, "{} and {bytes}", collection.bytes());
    let count = |filter: &str| collection.count(Some(&filter::text::parse(filter).unwrap()), &Stop::never()).unwrap();
    assert_eq!((count("note.by = 'an update'"), count("even = true"), count("even = false")), (300, 0, 300));
    assert_eq!(collection.unfound(), []);
}
