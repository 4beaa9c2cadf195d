//! Tests of space: a disk that is almost full, files that shrink, backups.

use std::fs;
use std::time::{Duration, Instant};

use super::super::{BackupError, CommitError, CopyError, RestoreError, restore, space};
use super::*;

#[test]
fn an_almost_full_disk_takes_removals_and_no_documents() {
    let (directory, disk) = filled(10);
    drop(disk);
    let full = Options { min_free_bytes: u64::MAX / 2, ..options() };
    let disk = Disk::open(directory.path(), full).unwrap();
    let puts = (0..1000).map(|n| put(0, 10 + n, &"text ".repeat(200))).collect();
    let refused = disk.submit(puts);
    let rejected = disk.submit(vec![remove(0, 10)]);
    let removed = disk.submit(vec![remove(0, 9)]);
    let error = refused.wait().unwrap_err();
    assert!(matches!(&error, CommitError::DiskFull(full) if full.path == directory.path()), "{error}");
    assert!(matches!(rejected.wait(), Err(CommitError::Rejected(_))), "what builds on it fails too");
    assert_eq!(removed.wait(), Ok(()));
    assert_eq!(disk.commit(vec![Change::DeleteCollection { collection: 0 }]), Ok(()));
    assert_eq!(disk.stopped(), None);
    assert!(matches!(
        disk.backup(&directory.path().join("b"), &|| true),
        Err(BackupError::Copy(CopyError::DiskFull { .. }))
    ));
}

#[test]
fn space_inside_the_file_is_used_even_where_the_disk_is_full() {
    let (directory, disk) = filled(3000);
    disk.commit((0..2900).map(|row| remove(0, row)).collect()).unwrap();
    drop(disk);
    let free = space::free(directory.path()).unwrap();
    let open = |min_free_bytes| Disk::open(directory.path(), Options { min_free_bytes, ..options() }).unwrap();
    let puts = |first: u64| (first..first + 200).map(|row| put(0, row, &"text ".repeat(200))).collect();
    let disk = open(free / 2 * 3);
    disk.commit(puts(3000)).unwrap();
    let error = disk.commit((10_000..16_000).map(|row| put(0, row, &"text ".repeat(200))).collect());
    assert!(matches!(error, Err(CommitError::DiskFull { .. })), "more than is free inside: {error:?}");
    drop(disk);
    let error = open(free * 3).commit(puts(4000));
    assert!(matches!(error, Err(CommitError::DiskFull { .. })), "half of the reserve is never touched: {error:?}");
}

#[test]
fn space_freed_by_a_few_deletions_on_a_full_disk_is_used_at_once() {
    let (directory, disk) = filled(3000);
    drop(disk);
    let free = space::free(directory.path()).unwrap();
    let disk = Disk::open(directory.path(), Options { min_free_bytes: free / 2 * 3, ..options() }).unwrap();
    let puts = |rows: std::ops::Range<u64>| rows.map(|row| put(0, row, &"text ".repeat(200))).collect::<Vec<_>>();
    // Every tenth document.
    disk.commit((0..3_000).step_by(10).map(|row| remove(0, row)).collect()).unwrap();
    disk.commit(puts(4_000..4_250)).expect("what was deleted makes room for as much");
    let refused = disk.commit(puts(5_000..9_000));
    assert!(matches!(refused, Err(CommitError::DiskFull { .. })), "and for no more: {refused:?}");
}

#[test]
fn a_file_that_is_mostly_holes_shrinks_while_commits_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let compact = Options { compact_above_bytes: 1 << 20, ..options() };
    let disk = Disk::open(directory.path(), compact.clone()).unwrap();
    let puts = (0..12_000).map(|row| put(0, row, &"text ".repeat(200)));
    disk.commit([create(0, "c"), create(1, "d")].into_iter().chain(puts).collect()).unwrap();
    let full = disk.stats().file_bytes.unwrap();
    disk.commit((0..9000).map(|row| remove(0, row)).collect()).unwrap();

    let start = Instant::now();
    let mut next = 12_000;
    while disk.stats().compactions == 0 {
        disk.commit(vec![put(0, next, "meanwhile"), remove(0, next - 50)]).unwrap();
        disk.commit(vec![put(1, next, "meanwhile")]).unwrap();
        next += 1;
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", disk.stats());
    }
    disk.commit(vec![Change::DeleteCollection { collection: 1 }, put(0, next, "after")]).unwrap();
    let small = disk.stats().file_bytes.unwrap();
    assert!(small < full / 2, "{full} bytes became {small}");
    let before = contents(&disk.snapshot().unwrap()).unwrap();
    assert_eq!((before.len(), before["c"].len()), (1, 3001));
    assert!(disk.verify().unwrap().is_clean());
    drop(disk);
    let disk = Disk::open(directory.path(), compact).unwrap();
    assert!(contents(&disk.snapshot().unwrap()).unwrap() == before);
}

#[test]
fn a_snapshot_outlives_the_file_that_it_reads() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::open(directory.path(), Options { compact_above_bytes: 1 << 20, ..options() }).unwrap();
    let puts = (0..3000).map(|row| put(0, row, &"text ".repeat(200)));
    disk.commit([create(0, "c")].into_iter().chain(puts).collect()).unwrap();
    let snapshot = disk.snapshot().unwrap();
    disk.commit((0..2990).map(|row| remove(0, row)).collect()).unwrap();
    while disk.stats().compactions == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(contents(&snapshot).unwrap()["c"].len(), 3000);
    assert_eq!(contents(&disk.snapshot().unwrap()).unwrap()["c"].len(), 10);
}

#[test]
fn a_backup_holds_one_moment_and_is_restored_whole() {
    let (directory, disk) = filled(500);
    let backup = directory.path().join("backup.redb");
    std::thread::scope(|scope| {
        let done = scope.spawn(|| disk.backup(&backup, &|| true));
        for row in 500.. {
            // Each batch keeps the number of documents, so a backup of one moment has 500.
            disk.commit(vec![put(0, row, "x"), remove(0, row - 500)]).unwrap();
            if done.is_finished() {
                break;
            }
        }
        done.join().unwrap().unwrap();
    });
    assert!(matches!(disk.backup(&backup, &|| true), Err(BackupError::Exists { .. })));

    let target = directory.path().join("restored");
    restore(&backup, &target, &options()).unwrap();
    assert!(matches!(restore(&backup, &target, &options()), Err(RestoreError::Occupied { .. })));
    let restored = Disk::open(&target, options()).unwrap();
    let rows: Vec<u64> = contents(&restored.snapshot().unwrap()).unwrap()["c"].keys().copied().collect();
    assert_eq!(rows.len(), 500);
    assert_eq!(rows, (rows[0]..rows[0] + 500).collect::<Vec<_>>());
    assert!(restored.verify().unwrap().is_clean());
    restored.commit(vec![put(0, 1_000_000, "it goes on")]).unwrap();
}

#[test]
fn a_backup_takes_the_space_of_its_documents() {
    let (directory, disk) = filled(3000);
    disk.commit((0..2900).map(|row| remove(0, row)).collect()).unwrap();
    let backup = directory.path().join("backup.redb");
    disk.backup(&backup, &|| true).unwrap();
    let bytes = space::allocated(&backup).unwrap();
    assert!(bytes < 400_000, "{bytes} for 100 documents of a kilobyte");
    assert!(!directory.path().join("backup.redb.partial").exists());
}

#[test]
fn a_backup_that_nobody_wants_any_more_leaves_nothing() {
    let (directory, disk) = filled(100);
    let backup = directory.path().join("backup.redb");
    let given_up = disk.backup(&backup, &|| false);
    assert!(matches!(given_up, Err(BackupError::Copy(CopyError::GivenUp))), "{given_up:?}");
    let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with("backup")));
}

#[test]
fn a_file_that_is_not_a_backup_is_not_restored() {
    let directory = tempfile::tempdir().unwrap();
    let (no_file, target) = (directory.path().join("none"), directory.path().join("target"));
    assert!(matches!(restore(&no_file, &target, &options()), Err(RestoreError::Open(_))));
    fs::write(&no_file, "something else").unwrap();
    let error = restore(&no_file, &target, &options()).unwrap_err();
    assert!(error.to_string().contains("none"), "names the backup: {error}");
    assert!(Disk::open(&target, options()).unwrap().snapshot().unwrap().collections().is_empty());
}
