//! Tests of a store in memory: models, quotas, limits, and collections against a plain map.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::{Content, DocId, Document, PageSize, Search};
use super::*;
use crate::collection::CommitError;
use crate::compute::stop::Stop;
use crate::index::Effort;
use crate::kernel::embedding::Embedding;

const MODEL: Model<'_> = Model { name: "m", fingerprint: "f", dimensions: 2 };

fn store(max_bytes: usize) -> Store {
    let quota = Usage { bytes: max_bytes, ..Usage::UNLIMITED };
    Store::open(Options { quota, ..Options::default() }).unwrap()
}

fn document(id: &str, angle: f32) -> Document {
    let embedding = Embedding::normalized(vec![angle.cos(), angle.sin()]).unwrap();
    let content = Content::new(format!("at {angle}"), None);
    Document {
        id: DocId::new(id).unwrap(),
        content: Arc::new(content),
        vectors: embedding.into(),
        origin: Default::default(),
    }
}

fn ids(collection: &Collection, angle: f32, k: usize) -> Vec<String> {
    let query = Embedding::normalized(vec![angle.cos(), angle.sin()]).unwrap();
    let search = Search::nearest(k, Effort::Exact);
    collection.search(&query, &search).iter().map(|found| found.id.to_string()).collect()
}

#[test]
fn a_collection_keeps_its_model_whichever_is_asked_for_later() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Store::open(Options { directory: Some(directory.path().to_owned()), ..Options::default() }).unwrap();
    let store = open();
    store.create("c", MODEL, Settings::default()).unwrap();
    let other = Model { name: "other", fingerprint: "g", dimensions: 3 };
    let of = |collection: &Collection| {
        (collection.model().to_owned(), collection.fingerprint().to_owned(), collection.dimensions())
    };
    let expected = ("m".to_owned(), "f".to_owned(), 2);
    assert_eq!(of(&store.get_or_create("c", other, Settings::default()).unwrap()), expected);
    drop(store);
    let store = open();
    assert_eq!(of(&store.get("c").unwrap()), expected);
    assert_eq!(store.delete("c"), Ok(0));
    assert_eq!(store.get("c").err(), Some(CollectionError::Unknown));
}

#[test]
fn a_commit_over_the_budget_is_refused_whole_and_deleting_makes_space() {
    let store = store(EMPTY.bytes + 20_000);
    let collection = store.create("c", MODEL, Settings::default()).unwrap();
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
    assert!(matches!(store.create("d", MODEL, Settings::default()), Err(CollectionError::Full(_))));
    collection.remove(&[DocId::new("001").unwrap()]).unwrap();
    collection.commit(vec![document("zzz", 0.1)]).expect("a document fits again");
    store.delete("c").unwrap();
    assert_eq!(store.budget.used(), NOTHING);
}

#[test]
fn one_collection_more_than_the_limit_is_refused_until_one_is_deleted() {
    let store = Store::open(Options { max_collections: 2, ..Options::default() }).unwrap();
    for name in ["a", "b"] {
        store.create(name, MODEL, Settings::default()).unwrap();
    }
    let refused = store.get_or_create("c", MODEL, Settings::default()).err().expect("it is one too many");
    let said = "max_collections: 1 collections more would exceed the limit of 2: 2 are in use";
    assert_eq!(refused.to_string(), said);
    assert!(store.get_or_create("b", MODEL, Settings::default()).is_ok(), "what exists is still had");
    store.delete("a").unwrap();
    assert!(store.create("c", MODEL, Settings::default()).is_ok());
    let names = |after, limit| store.list_after(after, limit).iter().map(|c| c.name().to_owned()).collect::<Vec<_>>();
    assert_eq!(
        (names(None, 1), names(Some("b"), 9), names(Some("bb"), 9)),
        (vec!["b".into()], vec!["c".into()], vec!["c".into()])
    );
}

#[test]
fn counts_are_read_while_the_documents_are_locked() {
    let store = store(usize::MAX);
    let collection = store.create("c", MODEL, Settings::default()).unwrap();
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
    let collection = store.create("c", MODEL, Settings::default()).unwrap();
    store.delete("c").unwrap();
    assert!(matches!(collection.commit(vec![document("a", 0.0)]), Err(CommitError::Deleted)));
}

#[test]
fn equal_scores_come_in_id_order_even_where_k_cuts_through_them() {
    let store = store(usize::MAX);
    let collection = store.create("c", MODEL, Settings::default()).unwrap();
    let documents = (0..500).rev().map(|n| document(&format!("{n:03}"), 1.0)).collect();
    collection.commit(documents).unwrap();
    assert_eq!(ids(&collection, 1.0, 3), ["000", "001", "002"]);
}

#[test]
fn the_last_of_documents_with_one_id_stays() {
    let store = store(usize::MAX);
    let collection = store.create("c", MODEL, Settings::default()).unwrap();
    collection.commit(vec![document("a", 0.0), document("a", 1.0)]).unwrap();
    assert_eq!(collection.len(), 1);
    assert_eq!(collection.get(&DocId::new("a").unwrap()).unwrap().unwrap().text.as_ref(), "at 1");
}

proptest! {
    /// Compares commits, replacements and removals with a plain map.
    #[test]
    fn a_collection_holds_what_a_map_would(steps in prop::collection::vec((0u8..12, 0u8..6, any::<bool>()), 1..80)) {
        let store = store(usize::MAX);
        let collection = store.create("c", MODEL, Settings::default()).unwrap();
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
            let listed = collection.list(None, None, PageSize::of(100), &Stop::never()).unwrap();
            let listed: Vec<String> = listed.iter().map(|listed| listed.id.to_string()).collect();
            prop_assert_eq!(&listed, &model.keys().cloned().collect::<Vec<_>>());
            for angle in 0..6u8 {
                let with_angle = model.iter().filter(|(_, a)| **a == angle);
                let with_angle: BTreeSet<_> = with_angle.map(|(id, _)| id.clone()).collect();
                let found = ids(&collection, f32::from(angle), with_angle.len().max(1));
                if !with_angle.is_empty() {
                    prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), with_angle);
                }
            }
        }
    }
}
