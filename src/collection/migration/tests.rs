//! Tests of migrations. `random_steps` compares random operations with a plain model, `crash` kills processes.
//!
//! Two made-up models embed a text as a vector that depends on the text and on the model.

mod client_vectors;
mod crash;
mod random_steps;

use std::path::Path;
use std::sync::Arc;

use fastrand::Rng;
use serde_json::json;

use super::super::disk::{self, VerifyError};
use super::super::{
    Collection, CollectionError, CommitError, Content, DocId, Document, Model, Options, Origin, Patch, Quota, Settings,
    Store, Usage, Vectors,
};
use super::*;
use crate::compute::stop::Stop;
use crate::kernel::embedding::Embedding;

const OLD: Model<'_> = Model { name: "old", fingerprint: "o", dimensions: 4 };
const NEW: Model<'_> = Model { name: "new", fingerprint: "n", dimensions: 3 };
/// A model of the old one's dimensions.
const WIDE: Model<'_> = Model { name: "wide", fingerprint: "w", dimensions: 4 };

/// The vector of a text by the model of a collection.
fn embed(of: &Collection, text: &str) -> Embedding {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(of.fingerprint().as_bytes());
    hasher.update(text.as_bytes());
    let mut random = Rng::with_seed(u64::from(hasher.finalize()));
    Embedding::normalized((0..of.dimensions()).map(|_| random.f32() - 0.5).collect()).unwrap()
}

fn id(id: &str) -> DocId {
    DocId::new(id).unwrap()
}

fn put(collection: &Collection, name: &str, text: &str) -> Result<(), CommitError> {
    let metadata = json!({ "length": text.len() });
    let content = Arc::new(Content::new(text, metadata.as_object()));
    let document =
        Document { id: id(name), content, vectors: embed(collection, text).into(), origin: Default::default() };
    collection.commit(vec![document]).map(drop)
}

/// A document with a vector of a client's own, that of `of`.
fn put_given(collection: &Collection, name: &str, (text, of): (&str, &str)) {
    let (content, vectors) = (Arc::new(Content::new(text, None)), embed(collection, of).into());
    let document = Document { id: id(name), content, vectors, origin: Origin::Client };
    collection.commit(vec![document]).unwrap();
}

/// A document without a text.
fn put_vector(collection: &Collection, name: &str) {
    put_given(collection, name, ("", name));
}

fn open(directory: &Path) -> Store {
    let disk = disk::Options { min_free_bytes: 0, ..disk::Options::default() };
    Store::open(Options { directory: Some(directory.to_owned()), disk, ..Options::default() }).unwrap()
}

/// A store in memory with a collection "c".
fn in_memory() -> (Store, Arc<Collection>) {
    let store = Store::open(Options::default()).unwrap();
    let collection = store.create("c", OLD, Settings::default()).unwrap();
    (store, collection)
}

/// Applies a step. Texts that begin with "bad" cannot be embedded.
fn apply(migration: &Migration, step: Step) -> Result<(), MigrationError> {
    let follower = migration.follower();
    let vectors = step.documents().iter().map(|document| {
        let good = !document.text.starts_with("bad");
        good.then(|| Vectors::Whole(embed(&follower, &document.text)))
    });
    let vectors = vectors.collect();
    migration.apply(step, vectors)
}

/// Takes steps until nothing is left. Returns their number.
fn catch_up(migration: &Migration) -> usize {
    for steps in 0.. {
        let step = migration.next(3, usize::MAX).unwrap();
        if step.is_empty() {
            return steps;
        }
        apply(migration, step).unwrap();
    }
    unreachable!()
}

/// The documents of a collection: id, text, metadata, bits of the vectors.
fn documents(collection: &Collection) -> Vec<(String, String, Option<String>, Vec<u32>)> {
    let all = collection.export(None, &Stop::never()).unwrap();
    let row = |listed: crate::collection::Listed| {
        let bits = listed.vectors.iter().flat_map(|vector| vector.iter().map(|x| x.to_bits())).collect();
        let metadata = listed.kept.metadata.as_ref().map(|metadata| metadata.as_json().to_owned());
        (listed.id.to_string(), listed.text.to_string(), metadata, bits)
    };
    all.map(|listed| row(listed.unwrap())).collect()
}

/// Asserts that both have the same documents, with vectors of their own models.
fn assert_same(migration: &Migration) {
    let (leader, follower) = (documents(&migration.leader()), documents(&migration.follower()));
    assert_eq!(leader.len(), follower.len());
    for (of, all) in [(migration.leader(), &leader), (migration.follower(), &follower)] {
        for (name, text, _, bits) in all {
            let expected = embed(&of, if text.is_empty() { name } else { text });
            let expected: Vec<u32> = expected.values().iter().map(|x| x.to_bits()).collect();
            assert!(text.is_empty() || *bits == expected, "{name}: {text:?}");
        }
    }
    let rest = |all: Vec<(String, String, Option<String>, Vec<u32>)>| {
        all.into_iter().map(|(name, text, metadata, _)| (name, text, metadata)).collect::<Vec<_>>()
    };
    assert_eq!(rest(leader), rest(follower));
}

#[test]
fn a_follower_is_brought_to_its_leader_and_leads_after_a_switch() {
    let (store, old) = in_memory();
    for n in 0..10 {
        put(&old, &format!("{n}"), &format!("text {n}")).unwrap();
    }
    let migration = store.begin_migration("c", NEW, None, ClientVectors::Refuse).unwrap();
    let lacks = MigrationError::NotReady { first_pass_over: false, pending: 0, refused: 0 };
    assert_eq!(store.switch("c"), Err(lacks));
    assert!(catch_up(&migration) >= 4);
    put(&old, "3", "another text").unwrap();
    put(&old, "new", "a new one").unwrap();
    old.remove(&[id("5")]).unwrap();
    let patch = Patch { fields: json!({ "patched": true }).as_object().unwrap().clone(), max_bytes: 1_000 };
    old.update(&[id("7")], &Arc::new(patch), None).unwrap();
    let state = migration.state();
    assert_eq!((state.documents, state.copied, state.pending, state.first_pass_over), (10, 10, 4, true));
    assert_eq!(store.switch("c"), Err(MigrationError::NotReady { first_pass_over: true, pending: 4, refused: 0 }));
    catch_up(&migration);
    assert_same(&migration);
    assert_eq!(store.switch("c"), Ok(()));
    let new = store.get("c").unwrap();
    assert_eq!((new.model(), new.dimensions(), new.len()), ("new", 3, 10));
    assert_eq!(store.list().len(), 1);
    assert!(migration.state().switched && migration.leader().model() == "new");

    // The former leader follows, and misses nothing.
    assert!(old.has_moved() && !new.has_moved());
    assert_eq!(put(&old, "x", "for the former leader"), Err(CommitError::Moved));
    put(&new, "x", "for the new one").unwrap();
    assert_eq!(store.switch("c"), Err(MigrationError::NotReady { first_pass_over: true, pending: 1, refused: 0 }));
    catch_up(&migration);
    assert_same(&migration);
    store.switch("c").unwrap();
    assert!(!old.has_moved() && !migration.state().switched);
    assert_eq!(store.get("c").unwrap().len(), 11);
    put(&old, "y", "it leads again").unwrap();
    catch_up(&migration);
    store.switch("c").unwrap();

    store.end_migration("c").unwrap();
    assert_eq!(store.end_migration("c"), Err(MigrationError::NoMigration));
    assert_eq!(put(&old, "z", "after the end"), Err(CommitError::Moved));
    assert!(matches!(migration.next(1, 1), Err(MigrationError::NoMigration)));
    put(&new, "z", "after the end").unwrap();
    assert_eq!(store.delete("c"), Ok(13));
    assert_eq!(store.used(), Usage::default());
}

#[test]
fn a_document_that_cannot_be_embedded_stays_pending_until_it_changes_or_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let collection = store.create("c", OLD, Settings::default()).unwrap();
    for (name, text) in [("a", "good"), ("b", "bad"), ("c", "bad too"), ("d", "good")] {
        put(&collection, name, text).unwrap();
    }
    let migration = store.begin_migration("c", NEW, None, ClientVectors::Refuse).unwrap();
    catch_up(&migration);
    assert_eq!(migration.refused(9), [id("b"), id("c")]);
    let state = migration.state();
    assert_eq!((state.copied, state.pending, state.refused), (2, 2, 2));
    put(&collection, "b", "good now").unwrap();
    assert_eq!(migration.state().refused, 1);
    catch_up(&migration);
    assert_eq!(migration.refused(9), [id("c")]);
    assert!(migration.next(9, 9).unwrap().is_empty());
    migration.retry();
    assert_eq!(migration.next(9, 9).unwrap().documents().len(), 1);
    drop((migration, collection, store));

    let store = open(directory.path());
    let migration = store.migration("c").unwrap();
    assert_eq!(migration.next(9, 9).unwrap().documents()[0].id, id("c"), "a restart tries it again");
    store.get("c").unwrap().remove(&[id("c")]).unwrap();
    catch_up(&migration);
    assert_same(&migration);
    store.switch("c").unwrap();
}

#[test]
fn a_change_between_a_step_and_its_application_is_not_lost() {
    let (store, collection) = in_memory();
    for name in ["a", "b", "c", "d"] {
        put(&collection, name, name).unwrap();
    }
    let migration = store.begin_migration("c", NEW, None, ClientVectors::Refuse).unwrap();
    let step = migration.next(3, usize::MAX).unwrap();
    put(&collection, "a", "changed").unwrap();
    collection.remove(&[id("b")]).unwrap();
    put(&collection, "d", "not read yet").unwrap();
    assert_eq!(migration.state().pending, 2);
    apply(&migration, step).unwrap();
    let step = migration.next(9, usize::MAX).unwrap();
    put(&collection, "a", "changed again").unwrap();
    apply(&migration, step).unwrap();
    assert_eq!(migration.state().pending, 1);
    catch_up(&migration);
    assert_same(&migration);
}

#[test]
fn a_step_that_is_not_the_latest_is_not_applied() {
    let (store, collection) = in_memory();
    put(&collection, "a", "first").unwrap();
    let migration = store.begin_migration("c", NEW, None, ClientVectors::Refuse).unwrap();
    let early = migration.next(9, usize::MAX).unwrap();
    put(&collection, "a", "second").unwrap();
    catch_up(&migration);
    assert_eq!(apply(&migration, early), Err(MigrationError::Stale));
    assert_same(&migration);
    let before = migration.next(9, usize::MAX).unwrap();
    store.switch("c").unwrap();
    assert_eq!(apply(&migration, before), Err(MigrationError::Stale));
}

#[test]
fn a_step_has_the_documents_and_the_bytes_that_were_asked_for() {
    let (store, collection) = in_memory();
    for n in 0..9 {
        put(&collection, &format!("{n}"), &"x".repeat(100)).unwrap();
    }
    let migration = store.begin_migration("c", NEW, None, ClientVectors::Refuse).unwrap();
    assert_eq!(migration.next(4, usize::MAX).unwrap().documents().len(), 4);
    assert_eq!(migration.next(9, 150).unwrap().documents().len(), 2);
    assert_eq!(migration.next(0, 0).unwrap().documents().len(), 1);
    catch_up(&migration);
    for n in 0..9 {
        put(&collection, &format!("{n}"), &"y".repeat(100)).unwrap();
    }
    let step = migration.next(5, usize::MAX).unwrap();
    assert_eq!(step.documents().len(), 5);
    assert_eq!(migration.next(5, 350).unwrap().documents()[0].id, id("5"), "pending ids come in turn");
}

#[test]
fn followers_and_pending_ids_count_in_the_budgets_and_a_full_one_loses_nothing() {
    let quota = Quota { documents: 5, ..Usage::UNLIMITED };
    let store = Store::open(Options { quota, max_collections: 1, ..Options::default() }).unwrap();
    let collection = store.create("c", OLD, Settings::default()).unwrap();
    for name in ["a", "b", "c"] {
        put(&collection, name, name).unwrap();
    }
    let before = store.used();
    let migration = store.begin_migration("c", NEW, None, ClientVectors::Refuse).unwrap();
    apply(&migration, migration.next(2, usize::MAX).unwrap()).unwrap();
    let used = store.used();
    assert_eq!(used.documents, 5);
    put(&collection, "a", "x").unwrap();
    assert!(store.used().bytes > used.bytes, "a pending id takes memory");
    let full = apply(&migration, migration.next(9, usize::MAX).unwrap());
    assert!(matches!(full, Err(MigrationError::Commit(CommitError::Full(_)))), "{full:?}");
    collection.remove(&[id("b")]).unwrap();
    catch_up(&migration);
    assert_same(&migration);
    put(&collection, "b", "b").unwrap();
    store.end_migration("c").unwrap();
    put(&collection, "a", "a").unwrap();
    assert_eq!(store.used(), before);
}

#[test]
fn a_migration_is_begun_once_and_to_another_model() {
    let (store, _collection) = in_memory();
    let begin = |name, model| store.begin_migration(name, model, None, ClientVectors::Refuse).err();
    assert_eq!(begin("d", NEW), Some(MigrationError::Unknown));
    assert_eq!(begin("c", OLD), Some(MigrationError::SameModel));
    assert_eq!(store.switch("c"), Err(MigrationError::NoMigration));
    assert_eq!(begin("c", NEW), None);
    assert_eq!(begin("c", WIDE), Some(MigrationError::InProgress { model: "new".to_owned() }));
    assert_eq!(store.migrations().len(), 1);
}

#[test]
fn deleting_a_collection_deletes_its_follower() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let collection = store.create("c", OLD, Settings::default()).unwrap();
    put(&collection, "a", "a").unwrap();
    let migration = store.begin_migration("c", NEW, None, ClientVectors::Refuse).unwrap();
    catch_up(&migration);
    put(&collection, "a", "b").unwrap();
    assert_eq!(store.delete("c"), Ok(1));
    assert_eq!(put(&collection, "a", "c"), Err(CommitError::Deleted));
    assert_eq!(put(&migration.follower(), "a", "c"), Err(CommitError::Moved));
    assert_eq!(store.used(), Usage::default());
    assert_eq!(store.get("c").err(), Some(CollectionError::Unknown));
    drop((migration, collection, store));
    let store = open(directory.path());
    assert!(store.is_empty() && store.migrations().is_empty());
}

#[test]
fn a_backup_has_the_migration_and_verification_reads_its_notes() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let collection = store.create("c", OLD, Settings::default()).unwrap();
    for name in ["a", "b", "c"] {
        put(&collection, name, name).unwrap();
    }
    let migration = store.begin_migration("c", NEW, None, ClientVectors::Refuse).unwrap();
    apply(&migration, migration.next(2, usize::MAX).unwrap()).unwrap();
    put(&collection, "a", "changed").unwrap();
    let backup = directory.path().join("b");
    store.disk.as_ref().unwrap().backup(&backup, &|| true).unwrap();
    let report = store.disk.as_ref().unwrap().verify();
    let report = report.inspect_err(|error: &VerifyError| panic!("{error}")).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(
        report.collections.iter().map(|one| (one.follower, one.rows)).collect::<Vec<_>>(),
        [(false, 3), (true, 2)]
    );

    let restored = tempfile::tempdir().unwrap();
    disk::restore(&backup, restored.path(), &disk::Options::default()).unwrap();
    let store = open(restored.path());
    let migration = store.migration("c").unwrap();
    let state = migration.state();
    assert_eq!((state.documents, state.copied, state.pending, state.first_pass_over), (3, 2, 1, false));
    catch_up(&migration);
    assert_same(&migration);
}

#[test]
fn steps_read_texts_without_the_cache_of_searches() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let collection = store.create("c", OLD, Settings::default()).unwrap();
    put(&collection, "a", "a text on disk").unwrap();
    let migration = store.begin_migration("c", NEW, None, ClientVectors::Refuse).unwrap();
    catch_up(&migration);
    let cache = store.text_cache().unwrap();
    assert_eq!((cache.misses, cache.bytes), (0, 0));
    assert_eq!(&*migration.follower().get(&id("a")).unwrap().unwrap().text, "a text on disk");
}
