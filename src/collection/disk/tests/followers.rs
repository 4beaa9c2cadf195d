//! Tests of followers on disk: their notes, their schema, and what does not fit.

use std::time::{Duration, Instant};

use redb::Database;

use super::super::{FirstPass, Follows, OpenError, Pending, Problem, Rejected, pending, schema};
use super::*;

fn follows(leader: u32) -> Follows {
    Follows { leader, first_pass: FirstPass::start(), keeps_vectors: true, replaces_vectors: false, switched: false }
}

/// A collection with this number that follows collection 0.
fn follower(number: u32) -> Change {
    let Change::CreateCollection(new) = create(number, "c") else { unreachable!() };
    Change::CreateFollower(new, follows(0))
}

fn pending_id(id: &str, number: u64) -> Pending {
    Pending { follower: 1, id: id.into(), number }
}

fn note(id: &str, number: u64) -> Change {
    Change::Note(pending_id(id, number))
}

fn settle(id: &str, number: u64) -> Change {
    Change::Settle(pending_id(id, number))
}

fn over() -> Change {
    Change::FirstPass { follower: 1, first_pass: FirstPass::Over }
}

/// The ids that the follower with the number 1 lacks.
fn noted(disk: &Disk) -> Result<Vec<(String, u64)>, ReadError> {
    let mut all = Vec::new();
    disk.snapshot().unwrap().pending(1, |id, number| all.push((id.to_owned(), number)))?;
    Ok(all)
}

fn named(notes: &[(&str, u64)]) -> Vec<(String, u64)> {
    notes.iter().map(|(id, number)| ((*id).to_owned(), *number)).collect()
}

/// Changes the closed file of a disk.
fn change(directory: &tempfile::TempDir, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(directory.path().join("documents.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

#[test]
fn the_latest_change_of_a_document_stays_noted_until_it_is_settled_in_any_order_of_commits() {
    let (directory, disk) = filled(1);
    disk.commit(vec![follower(1), note("b", 1), note("a", 1)]).expect_err("a new follower has nothing in its batch");
    disk.commit(vec![follower(1)]).unwrap();
    disk.commit(vec![note("b", 1), note("a", 1), put(0, 1, "x")]).unwrap();
    disk.commit(vec![note("a", 3), settle("b", 0)]).unwrap();
    disk.commit(vec![note("a", 2), settle("a", 1), settle("c", 1)]).unwrap();
    assert_eq!(noted(&disk).unwrap(), named(&[("a", 3), ("b", 1)]));
    disk.commit(vec![settle("a", 3)]).unwrap();
    drop(disk);
    let disk = Disk::open(directory.path(), options()).unwrap();
    assert_eq!(noted(&disk).unwrap(), named(&[("b", 1)]));
}

#[test]
fn leader_and_follower_are_exchanged_only_when_nothing_is_lacking() {
    let (_directory, disk) = filled(1);
    let exchange = |follower| disk.commit(vec![Change::Exchange { follower }]).map_err(|error| error.to_string());
    let rejected = |why: Rejected| Err(why.to_string());
    disk.commit(vec![follower(1)]).unwrap();
    assert_eq!(exchange(0), rejected(Rejected::NotFollower(0)));
    assert_eq!(exchange(1), rejected(Rejected::Lacking(1)), "the first pass is not over");
    disk.commit(vec![over(), note("a", 1)]).unwrap();
    assert_eq!(exchange(1), rejected(Rejected::Lacking(1)));
    disk.commit(vec![settle("a", 1)]).unwrap();
    assert_eq!(exchange(1), Ok(()));
    let told = |number: usize| disk.snapshot().unwrap().collections()[number].follows.clone();
    let expected = Follows {
        leader: 1,
        first_pass: FirstPass::Over,
        keeps_vectors: true,
        replaces_vectors: false,
        switched: true,
    };
    assert_eq!((told(0), told(1)), (Some(expected), None));
    assert_eq!(exchange(0), Ok(()), "and back");
    assert!(!told(1).unwrap().switched);
}

#[test]
fn a_collection_has_one_follower_and_goes_with_it() {
    let (_directory, disk) = filled(1);
    let rejected = |batch: Vec<Change>| match disk.commit(batch) {
        Err(super::super::CommitError::Rejected(why)) => why,
        other => panic!("{other:?}"),
    };
    let delete = |collection| Change::DeleteCollection { collection };
    assert_eq!(rejected(vec![note("a", 1)]), Rejected::NoCollection(1));
    disk.commit(vec![follower(1)]).unwrap();
    assert_eq!(rejected(vec![follower(1)]), Rejected::NumberTaken(1));
    assert_eq!(rejected(vec![follower(2)]), Rejected::InMigration(0));
    assert_eq!(rejected(vec![delete(0)]), Rejected::InMigration(0));
    assert_eq!(rejected(vec![create(2, "c")]), Rejected::NameTaken("c".to_owned()));
    disk.commit(vec![note("a", 1), put(1, 0, "x")]).unwrap();
    disk.commit(vec![delete(1), delete(0)]).unwrap();
    while disk.stats().dropped > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(contents(&disk.snapshot().unwrap()).unwrap().is_empty());
    assert!(disk.verify().unwrap().is_clean());
}

#[test]
fn a_file_gets_the_third_schema_with_its_first_follower() {
    let (directory, disk) = filled(1);
    drop(disk);
    let schema_of = || schema::found(&Database::open(directory.path().join("documents.redb")).unwrap()).unwrap();
    for earlier in [1, 2] {
        change(&directory, |transaction| {
            transaction.open_table(schema::NUMBERS).unwrap().insert("schema", earlier).unwrap();
        });
        Disk::open(directory.path(), options()).unwrap().commit(vec![put(0, earlier, "x")]).unwrap();
        assert_eq!(schema_of(), Some(earlier));
    }
    Disk::open(directory.path(), options()).unwrap().commit(vec![follower(1)]).unwrap();
    assert_eq!(schema_of(), Some(3));
}

#[test]
fn a_damaged_note_is_refused_by_its_id_and_listed() {
    let (directory, disk) = filled(1);
    disk.commit(vec![follower(1)]).unwrap();
    disk.commit(vec![note("a", 1), note("b", 2)]).unwrap();
    drop(disk);
    let backup = directory.path().join("backup");
    for sealed in [&[7; 12][..], b"short"] {
        change(&directory, |transaction| {
            transaction.open_table(pending::table("pending/1")).unwrap().insert("b", sealed).unwrap();
        });
        let disk = Disk::open(directory.path(), options()).unwrap();
        let error = noted(&disk).expect_err("it is damaged");
        assert!(matches!(&error, ReadError::PendingDamaged { id, .. } if id == "b"), "{error}");
        let report = disk.verify().unwrap();
        assert!(matches!(&report.problems[..], [Problem::Pending { id, .. }] if id == "b"), "{report:?}");
        // A copy has it as it is, and a restore refuses it.
        let _ = std::fs::remove_file(&backup);
        disk.backup(&backup, &|| true).unwrap();
        let restored = tempfile::tempdir().unwrap();
        super::super::restore(&backup, restored.path(), &options()).expect_err("it is damaged");
        disk.commit(vec![note("b", 3)]).unwrap();
        assert_eq!(noted(&disk).unwrap(), named(&[("a", 1), ("b", 3)]), "a new note replaces it");
    }
}

#[test]
fn a_follower_without_its_leader_is_refused() {
    let (directory, disk) = filled(1);
    disk.commit(vec![follower(1)]).unwrap();
    drop(disk);
    change(&directory, |transaction| drop(transaction.open_table(schema::COLLECTIONS).unwrap().remove(0).unwrap()));
    let error = Disk::open(directory.path(), options()).err().expect("it is refused");
    let said = "collection number 1: it follows a collection that is not there";
    assert!(matches!(&error, OpenError::Damaged { .. }) && error.to_string().contains(said), "{error}");
}

#[test]
fn a_compaction_takes_the_notes_along_those_of_the_meantime_too() {
    let directory = tempfile::tempdir().unwrap();
    let compact = Options { compact_above_bytes: 1 << 20, ..options() };
    let disk = Disk::open(directory.path(), compact.clone()).unwrap();
    let puts = (0..3_000).map(|row| put(0, row, &"text ".repeat(200)));
    disk.commit([create(0, "c")].into_iter().chain(puts).collect()).unwrap();
    disk.commit(vec![follower(1)]).unwrap();
    disk.commit((0..2_990).map(|row| remove(0, row)).chain([note("before", 0), note("gone", 0)]).collect()).unwrap();
    let (start, mut number) = (Instant::now(), 1);
    while disk.stats().compactions == 0 {
        disk.commit(vec![note("meanwhile", number), settle("gone", 0)]).unwrap();
        number += 1;
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", disk.stats());
    }
    let expected = named(&[("before", 0), ("meanwhile", number - 1)]);
    assert_eq!(noted(&disk).unwrap(), expected);
    drop(disk);
    let disk = Disk::open(directory.path(), compact).unwrap();
    assert_eq!(noted(&disk).unwrap(), expected);
    assert!(disk.verify().unwrap().is_clean());
}
