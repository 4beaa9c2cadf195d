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

const MODEL: Model<'_> = Model { fingerprint: "f", also_compatible: &[], dimensions: 8 };

/// Content of a document of the map. Its vector and metadata follow from this number.
type Said = u32;

fn embedding(said: Said) -> Embedding {
    let mut random = Rng::with_seed(said.into());
    Embedding::normalized((0..8).map(|_| random.f32() - 0.5).collect()).unwrap()
}

fn document(id: &str, said: Said) -> Document {
    let metadata = json!({"n": said % 10, "even": said.is_multiple_of(2)});
    let content = Content::new(said.to_string(), metadata.as_object());
    Document { id: DocId::new(id).unwrap(), content: Arc::new(content), embedding: embedding(said) }
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
    let listed = collection.list(None, None, usize::MAX, &Stop::never()).unwrap();
    assert_eq!(collection.len(), map.len(), "{at}");
    for ((id, content, vector), (expected, &said)) in listed.iter().zip(map) {
        assert_eq!((id.as_str(), &*content.text), (expected.as_str(), &*said.to_string()), "{at}");
        assert!(embedding(said).cosine(&Embedding::restored(vector.to_vec()).unwrap()) > 0.9999, "{at}");
    }
    let filter = filter::text::parse("n = 3 or (even = true and n > 5)").unwrap();
    let matching: Vec<_> = collection
        .list(Some(&filter), None, usize::MAX, &Stop::never())
        .unwrap()
        .into_iter()
        .map(|d| d.0.to_string())
        .collect();
    let expected = map.iter().filter(|(_, said)| matches!(*said % 10, 3 | 6 | 8)).map(|(id, _)| id.clone());
    assert_eq!(matching, expected.collect::<Vec<_>>(), "{at}");
    assert_eq!(collection.unfound(), [], "{at}");
}

fn a_walk(operations: usize, seed: u64) {
    println!("seed {seed}");
    let random = &mut Rng::with_seed(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let mut map: BTreeMap<String, Said> = BTreeMap::new();
    store.create("c", MODEL).unwrap();
    let mut done = 0;
    while done < operations {
        let at = format!("after {done} operations, seed {seed}");
        let collection = store.get("c", MODEL).unwrap();
        match random.u32(..1_000) {
            0..=4 => {
                drop(collection);
                drop(store);
                store = open(directory.path());
                check(&store.get("c", MODEL).unwrap(), &map, &at);
                done += 1;
            }
            5 => {
                assert_eq!(store.delete("c"), Ok(map.len()), "{at}");
                store.create("c", MODEL).unwrap();
                map.clear();
                done += 1;
            }
            6..=20 => {
                let n = random.u32(..10);
                let filter = filter::text::parse(&format!("n = {n} and even exists")).unwrap();
                let expected: Vec<String> =
                    map.iter().filter(|(_, said)| *said % 10 == n).map(|(id, _)| id.clone()).collect();
                let removed = collection.remove_matching(filter, &Stop::never()).unwrap();
                assert_eq!(removed.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{at}");
                map.retain(|_, said| *said % 10 != n);
                done += expected.len().max(1);
            }
            21..=300 => {
                let ids: Vec<DocId> = (0..random.u32(..8) + 1)
                    .map(|_| DocId::new(&format!("d{:04}", random.u32(..3_000))).unwrap())
                    .collect();
                let removed = collection.remove(&ids).unwrap();
                let expected = ids.iter().filter(|id| map.remove(id.as_str()).is_some());
                assert_eq!(removed, expected.cloned().collect::<Vec<_>>(), "{at}");
                done += ids.len();
            }
            301..=400 => {
                let Some((id, &said)) = map.iter().nth(random.usize(..map.len().max(1))) else {
                    continue;
                };
                let search = Search::nearest(3, Effort::Graph { ef: None });
                let found = collection.search(&embedding(said), &search);
                assert_eq!(found.len(), 3.min(map.len()), "{at}");
                assert!(
                    found.iter().all(|f| map.get(f.id.as_str()).is_some_and(|s| s.to_string() == *f.content.text)),
                    "{at}"
                );
                assert!(found[0].score > 0.9999, "{id} is not found: {at}");
                done += 1;
            }
            _ => {
                let documents: Vec<Document> = (0..random.u32(..24) + 1)
                    .map(|_| (format!("d{:04}", random.u32(..3_000)), random.u32(..u32::MAX)))
                    .map(|(id, said)| {
                        map.insert(id.clone(), said);
                        document(&id, said)
                    })
                    .collect();
                done += documents.len();
                collection.commit(documents).unwrap();
            }
        }
    }
    check(&store.get("c", MODEL).unwrap(), &map, "at the end");
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
        let collection = store.create(name, MODEL).unwrap();
        collection.commit((0..600).map(|n| document(&format!("{name}{n:03}"), n)).collect()).unwrap();
        collection.finish_graph();
        assert!(collection.index_file_bytes() > 600 * 4 * 8);
    }
    let search = Search::nearest(5, Effort::Graph { ef: None });
    let found = |store: &Store| {
        let found = store.get("a", MODEL).unwrap().search(&embedding(7), &search);
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
    let collection = store.get("a", MODEL).unwrap();
    assert!(collection.unindexed() == 0 && collection.index_file_bytes() > 600 * 4 * 8);
    assert_eq!(found(&store), before);
    // The index is a cache.
    drop((collection, store));
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    let store = open(directory.path());
    assert_eq!(found(&store), before);
}
