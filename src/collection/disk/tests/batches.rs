//! Tests of batches: they are stored whole, in order, together with others, and found again.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::super::{CommitError, Rejected};
use super::model::Model;
use super::*;

#[test]
fn committed_changes_are_there_after_a_restart() {
    let (directory, disk) = filled(3);
    disk.commit(vec![remove(0, 1), put(0, 3, "")]).unwrap();
    let before = contents(&disk.snapshot().unwrap()).unwrap();
    drop(disk);
    let disk = Disk::open(directory.path(), options()).unwrap();
    assert_eq!(contents(&disk.snapshot().unwrap()).unwrap(), before);
    assert_eq!(before["c"].keys().copied().collect::<Vec<_>>(), [0, 2, 3]);
    let collection = disk.snapshot().unwrap().collections().remove(0);
    assert_eq!((collection.rows, collection.next_row, collection.dimensions), (3, 4, 4));
    assert_eq!(disk.new_collection_number(), 1);
}

#[test]
fn random_batches_and_restarts_leave_what_the_model_says() {
    batches_and_restarts(8);
}

#[test]
#[ignore = "takes a minute"]
fn a_hundred_thousand_random_changes_and_restarts_leave_what_the_model_says() {
    assert!(batches_and_restarts(400) > 100_000);
}

/// Runs up to 120 batches between two restarts. Returns the number of changes.
fn batches_and_restarts(restarts: u32) -> usize {
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let directory = tempfile::tempdir().unwrap();
    let (mut random, mut model) = (Rng::with_seed(seed), Model::new(seed));
    let mut changes = 0;
    for _ in 0..restarts {
        let disk = Disk::open(directory.path(), options()).unwrap();
        for _ in 0..random.u64(..120) {
            let batch = model.step();
            changes += batch.len();
            disk.commit(batch).unwrap();
        }
        assert!(contents(&disk.snapshot().unwrap()).unwrap() == model.contents, "seed {seed}");
        let report = disk.verify().unwrap();
        assert!(report.is_clean(), "seed {seed}: {report:?}");
    }
    changes
}

#[test]
fn batches_that_wait_share_a_transaction() {
    let (_directory, disk) = filled(0);
    let before = disk.stats();
    let pending: Vec<_> = (0..60).map(|row| disk.submit(vec![put(0, row, "x")])).collect();
    for pending in pending {
        pending.wait().unwrap();
    }
    let after = disk.stats();
    assert_eq!(after.batches - before.batches, 60);
    assert!(after.transactions - before.transactions < 40, "{after:?}");
    assert_eq!((after.rows, after.collections), (60, 1));
}

#[test]
fn committers_of_many_threads_are_all_stored() {
    let (directory, disk) = filled(0);
    let disk = Arc::new(disk);
    let threads: Vec<_> = (0..4u64)
        .map(|n| {
            let disk = Arc::clone(&disk);
            std::thread::spawn(move || {
                for row in (0..50).map(|row| row * 4 + n) {
                    disk.commit(vec![put(0, row, "x")]).unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    drop(disk);
    let disk = Disk::open(directory.path(), options()).unwrap();
    assert_eq!(contents(&disk.snapshot().unwrap()).unwrap()["c"].len(), 200);
}

#[test]
fn a_rejected_batch_leaves_no_trace_and_takes_those_that_build_on_it_with_it() {
    let (_directory, disk) = filled(2);
    let first = disk.submit(vec![put(0, 2, "new"), remove(0, 77)]);
    let second = disk.submit(vec![remove(0, 2), put(0, 3, "newer")]);
    let third = disk.submit(vec![put(0, 4, "other")]);
    let no_row = |row| Err(CommitError::Rejected(Rejected::NoRow { collection: 0, row }));
    assert_eq!(first.wait(), no_row(77));
    assert_eq!(second.wait(), no_row(2));
    assert_eq!(third.wait(), Ok(()));
    let rows: Vec<u64> = contents(&disk.snapshot().unwrap()).unwrap()["c"].keys().copied().collect();
    assert_eq!(rows, [0, 1, 4]);
    assert!(disk.verify().unwrap().is_clean());
}

#[test]
fn a_snapshot_is_not_disturbed_by_later_batches() {
    let (_directory, disk) = filled(5);
    let snapshot = disk.snapshot().unwrap();
    let before = contents(&snapshot).unwrap();
    disk.commit(vec![remove(0, 0), put(0, 5, "later")]).unwrap();
    disk.commit(vec![Change::DeleteCollection { collection: 0 }, create(1, "c")]).unwrap();
    assert_eq!(contents(&snapshot).unwrap(), before);
    assert!(contents(&disk.snapshot().unwrap()).unwrap()["c"].is_empty());
}

#[test]
fn a_deleted_collection_is_gone_at_once_and_its_space_later_even_after_a_restart() {
    let (directory, disk) = filled(0);
    for chunk in 0..10 {
        disk.commit((0..1000).map(|n| put(0, chunk * 1000 + n, &"text ".repeat(200))).collect()).unwrap();
    }
    disk.commit(vec![Change::DeleteCollection { collection: 0 }, create(1, "c"), put(1, 0, "new")]).unwrap();
    assert_eq!(contents(&disk.snapshot().unwrap()).unwrap()["c"].len(), 1);
    assert_eq!(disk.stats().dropped, 1, "10,000 documents are not purged in one transaction");
    drop(disk);
    let disk = Disk::open(directory.path(), options()).unwrap();
    assert_eq!(contents(&disk.snapshot().unwrap()).unwrap()["c"].len(), 1);
    while disk.stats().dropped > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(contents(&disk.snapshot().unwrap()).unwrap()["c"].len(), 1);
    assert!(disk.verify().unwrap().is_clean());
}

#[test]
fn batches_are_stored_while_the_disk_is_dropped() {
    let (directory, disk) = filled(0);
    let pending: Vec<_> = (0..20).map(|row| disk.submit(vec![put(0, row, "x")])).collect();
    drop(disk);
    assert!(pending.into_iter().all(|pending| pending.wait().is_ok()));
    let disk = Disk::open(directory.path(), options()).unwrap();
    assert_eq!(disk.stats().rows, 20);
}
