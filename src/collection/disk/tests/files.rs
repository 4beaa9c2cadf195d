//! Tests of damaged files and directories: each gives a clear error, and none a panic.

use std::fs;
use std::path::Path;

use fastrand::Rng;
use redb::{Database, WriteTransaction};

use super::super::{OpenError, restore, schema};
use super::*;
use crate::collection::passages::{PassageSizes, Span};

fn refused(directory: &Path) -> OpenError {
    Disk::open(directory, options()).err().expect("it is refused")
}

#[test]
fn a_second_process_is_refused_and_told_who_has_the_directory() {
    let (directory, disk) = filled(1);
    let error = refused(directory.path());
    assert!(matches!(&error, OpenError::InUse { process: Some(id), .. } if *id == std::process::id()), "{error}");
    assert!(error.to_string().contains(&directory.path().display().to_string()), "{error}");
    drop(disk);
    Disk::open(directory.path(), options()).expect("it is free again");
}

#[test]
fn a_directory_that_is_missing_is_made_for_this_user_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    drop(Disk::open(&path, options()).unwrap());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("documents.redb"))), (0o700, 0o600));
    }
}

#[test]
fn a_file_in_the_place_of_the_directory_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(refused(file.path()), OpenError::Io { doing: "make", .. }));
}

/// The kernel's own file systems refuse writes even from root, whom no mode stops.
#[test]
#[cfg(target_os = "linux")]
fn a_directory_that_may_not_be_written_is_refused() {
    let error = refused(Path::new("/sys/kernel"));
    // Users other than root fail earlier.
    assert!(matches!(&error, OpenError::Denied { doing: "lock", .. } | OpenError::Shared { .. }), "{error}");
    assert!(error.to_string().contains("choose another directory"), "{error}");
    let read_only = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
    assert!(matches!(OpenError::io(Path::new("x"), "make", read_only), OpenError::Denied { .. }));
}

/// The files in a data directory must not be links.
#[test]
#[cfg(unix)]
fn no_link_in_the_data_directory_is_followed() {
    for name in ["lock", "documents.redb"] {
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = elsewhere.path().join("precious");
        fs::write(&target, "precious").unwrap();
        let link = directory.path().join(name);
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let error = refused(directory.path());
        assert!(matches!(&error, OpenError::Link { path, .. } if *path == link), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("lock"), "no number of a process").unwrap();
    assert!(matches!(refused(directory.path()), OpenError::NotOurs { .. }));
    assert_eq!(fs::read(directory.path().join("lock")).unwrap(), b"no number of a process");
}

#[test]
#[cfg(unix)]
fn a_directory_that_others_can_write_is_refused_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    for mode in [0o770, 0o777, 0o1777] {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        let error = refused(directory.path());
        assert!(matches!(error, OpenError::Shared { .. }), "{error}");
        assert!(error.to_string().contains("`chmod go-w "), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was written there");
        drop(Disk::open(&directory.path().join("cognate"), options()).expect("a directory in it is ours alone"));
    }
}

#[test]
fn a_foreign_file_is_refused_and_left_alone() {
    for content in [&b""[..], b"short", &[0; 4096], &[7; 100_000]] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("documents.redb");
        fs::write(&file, content).unwrap();
        let error = refused(directory.path());
        assert!(matches!(error, OpenError::NotOurs { .. } | OpenError::Damaged { .. }), "{error}");
        assert_eq!(fs::read(&file).unwrap(), content);
    }
    let directory = tempfile::tempdir().unwrap();
    drop(Database::create(directory.path().join("documents.redb")).unwrap());
    assert!(matches!(refused(directory.path()), OpenError::NotOurs { .. }));
}

/// A closed disk with `rows` documents, changed by something else.
fn changed(rows: u64, change: impl FnOnce(&WriteTransaction)) -> tempfile::TempDir {
    let (directory, disk) = filled(rows);
    drop(disk);
    let database = Database::open(directory.path().join("documents.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
    directory
}

#[test]
fn a_file_of_another_schema_is_refused_with_both_numbers() {
    for found in [0, schema::VERSION + 1] {
        let directory = changed(1, |transaction| {
            transaction.open_table(schema::NUMBERS).unwrap().insert("schema", found).unwrap();
        });
        let error = refused(directory.path());
        assert!(matches!(error, OpenError::OtherSchema { supported: schema::VERSION, found: f, .. } if f == found));
    }
}

#[test]
fn a_file_of_the_first_schema_keeps_it_until_something_needs_the_second() {
    let schema_of = |directory: &tempfile::TempDir| {
        let database = Database::open(directory.path().join("documents.redb")).unwrap();
        schema::found(&database).unwrap()
    };
    let old = || {
        changed(3, |transaction| {
            transaction.open_table(schema::NUMBERS).unwrap().insert("schema", 1).unwrap();
        })
    };
    let sizes = PassageSizes { max_tokens: 256, overlap_tokens: 32 };
    let owner = Some("team-a".to_owned());
    let with_passages = NewCollection { passages: Some(sizes), owner, ..plain(1, "d", 4) };
    let spans = &[Span { start: 0, end: 2 }, Span { start: 2, end: 4 }];
    let long = Record { id: "a", text: "text", metadata: None, vectors: &[0.5; 8], spans, origin: Default::default() };
    for (change, expected) in [
        (put(0, 3, "text"), 1),
        (create(1, "d"), 1),
        (Change::CreateCollection(with_passages), 2),
        (Change::Put(Put::new(0, 3, &long)), 2),
    ] {
        let directory = old();
        let disk = Disk::open(directory.path(), options()).unwrap();
        let before = contents(&disk.snapshot().unwrap()).unwrap();
        assert_eq!(before["c"].len(), 3, "a file of the first schema is read");
        disk.commit(vec![change.clone()]).unwrap();
        // A copy has the schema of its source.
        let backup = directory.path().join("backup");
        disk.backup(&backup, &|| true).unwrap();
        drop(disk);
        let copied = schema::found(&Database::open(&backup).unwrap()).unwrap();
        assert_eq!((schema_of(&directory), copied), (Some(expected), Some(expected)), "{change:?}");
        let disk = Disk::open(directory.path(), options()).unwrap();
        let collections = disk.snapshot().unwrap().collections();
        let told: Vec<_> = collections.iter().map(|stored| (&*stored.name, stored.passages, stored.next_row)).collect();
        match &change {
            Change::Put(put) => assert_eq!(told, [("c", None, 3 + put.passages)], "a row number for each passage"),
            _ => assert_eq!(told[1], ("d", (expected == 2).then_some(sizes), 0)),
        }
        let restored = directory.path().join("restored");
        restore(&backup, &restored, &options()).unwrap();
        let restored = Disk::open(&restored, options()).unwrap();
        assert_eq!(restored.snapshot().unwrap().collections(), collections, "owners included");
    }
}

#[test]
fn leftovers_of_an_interrupted_start_are_ignored() {
    let (directory, disk) = filled(1);
    drop(disk);
    fs::write(directory.path().join("documents.redb.new"), "half").unwrap();
    let disk = Disk::open(directory.path(), options()).unwrap();
    assert_eq!(disk.stats().rows, 1);
    assert!(!directory.path().join("documents.redb.new").exists());
}

/// A closed file with 40 documents, and its contents.
fn closed() -> (Vec<u8>, Contents) {
    let (directory, disk) = filled(40);
    let before = contents(&disk.snapshot().unwrap()).unwrap();
    drop(disk);
    (fs::read(directory.path().join("documents.redb")).unwrap(), before)
}

/// True if a file with these bytes has all documents; false if it is refused. Anything else fails.
fn all_or_error(bytes: &[u8], expected: &Contents, what: &str) -> bool {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("documents.redb"), bytes).unwrap();
    let backup = directory.path().join("documents.redb");
    let restored = restore(&backup, &directory.path().join("restored"), &options());
    match Disk::open(directory.path(), options()) {
        Ok(disk) => {
            assert!(contents(&disk.snapshot().unwrap()).unwrap() == *expected, "{what}: something else is read");
            restored.unwrap_or_else(|error| panic!("{what}: it can be opened and not be restored: {error}"));
            true
        }
        Err(error) => {
            assert!(restored.is_err(), "{what}: {error}, and yet it is restored");
            false
        }
    }
}

#[test]
fn a_truncated_file_is_refused() {
    let (bytes, before) = closed();
    for share in [1, 10, 30, 60, 90, 99] {
        let kept = bytes.len() * share / 100;
        assert!(!all_or_error(&bytes[..kept], &before, &format!("{share} %")), "{share} % of it is enough");
    }
}

#[test]
fn a_flipped_bit_is_refused_or_changes_nothing() {
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut random = Rng::with_seed(seed);
    let (bytes, before) = closed();
    let mut refused = 0;
    for n in 0..200 {
        let mut bytes = bytes.clone();
        // Every second bit is in the header and the first pages.
        let within = if n % 2 == 0 { 512 } else { bytes.len() as u64 };
        let at = random.usize(..usize::try_from(within).unwrap());
        bytes[at] ^= 1 << random.u64(..8);
        refused += usize::from(!all_or_error(&bytes, &before, &format!("seed {seed}, byte {at}")));
    }
    assert!(refused > 20, "{refused} of 200 were found");
}

#[test]
fn a_record_that_is_wrong_behind_right_page_checksums_is_found_and_named() {
    let directory = changed(5, |transaction| {
        let mut rows = transaction.open_table(schema::rows("rows/0")).unwrap();
        let mut piece = rows.remove((3, 1)).unwrap().unwrap().value().to_vec();
        piece[100] ^= 1;
        rows.insert((3, 1), piece.as_slice()).unwrap();
        rows.remove((4, 1)).unwrap();
    });
    let disk = Disk::open(directory.path(), options()).unwrap();
    let error = contents(&disk.snapshot().unwrap()).unwrap_err();
    assert!(matches!(&error, ReadError::Damaged { row: 3, collection, .. } if collection == "c"), "{error}");
    let report = disk.verify().unwrap();
    assert!(!report.is_clean() && report.problem_count == 2 && report.collections[0].rows == 3, "{report:?}");
    let backup = directory.path().join("backup");
    assert!(disk.backup(&backup, &|| true).is_err() && !backup.exists(), "damage does not get into a backup");
}

#[test]
fn a_record_that_is_missing_is_found_by_the_count() {
    let directory = changed(5, |transaction| {
        transaction.open_table(schema::rows("rows/0")).unwrap().retain_in((2, 0)..(3, 0), |_, _| false).unwrap();
    });
    let disk = Disk::open(directory.path(), options()).unwrap();
    let error = contents(&disk.snapshot().unwrap()).unwrap_err();
    assert!(matches!(error, ReadError::Missing { expected: 5, found: 4, .. }), "{error}");
    assert_eq!(disk.verify().unwrap().problem_count, 1);
}
