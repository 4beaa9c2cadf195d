//! The cache in directories of the tests.

use super::super::tests::write_model;
use super::staging::STAGING;
use super::*;

const ID: &str = "owner/name";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Makes a cache with one whole snapshot.
fn cache_with(revision: &str) -> (tempfile::TempDir, Cache, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("models--owner--name/snapshots").join(revision);
    write_model(&directory);
    let cache = Cache::new(root.path(), Kind::Encoder);
    (root, cache, directory)
}

fn write_reference(root: &Path, name: &str, commit: &str) {
    let path = root.join("models--owner--name/refs").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, commit).unwrap();
}

#[test]
fn a_branch_leads_to_its_commit() {
    let (root, cache, directory) = cache_with(COMMIT);
    write_reference(root.path(), "main", &format!("{COMMIT}\n"));
    write_reference(root.path(), "refs/pr/1", COMMIT);
    for revision in ["main", "refs/pr/1"] {
        let snapshot = cache.find(ID, revision, None).unwrap();
        assert_eq!(snapshot, Snapshot { revision: COMMIT.to_owned(), directory: directory.clone() });
    }
}

#[test]
fn a_commit_is_found_without_a_reference_and_another_branch_is_not() {
    let (_root, cache, directory) = cache_with(COMMIT);
    assert_eq!(cache.find(ID, COMMIT, None).unwrap().directory, directory);
    let error = cache.find(ID, "main", None).unwrap_err();
    assert_eq!(error.to_string(), "no snapshot of revision main");
}

#[test]
fn a_revision_cannot_lead_out_of_the_cache() {
    let (root, cache, _) = cache_with(COMMIT);
    write_model(&root.path().join("models--owner--name/evil"));
    fs::write(root.path().join("models--owner--name/link"), "../evil").unwrap();
    write_reference(root.path(), "main", "../evil");
    for revision in ["main", "../evil", "../link", ".."] {
        let error = cache.find(ID, revision, None).unwrap_err();
        assert!(matches!(error, Reason::NotCached { .. }), "{revision}: {error}");
    }
}

#[test]
fn an_incomplete_snapshot_is_not_used_and_the_reason_names_the_file() {
    for file in ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"] {
        let (_root, cache, directory) = cache_with(COMMIT);
        fs::remove_file(directory.join(file)).unwrap();
        let error = cache.find(ID, COMMIT, None).unwrap_err().to_string();
        assert!(error.starts_with("incomplete: ") && error.contains(file), "{error}");
    }
}

#[test]
fn the_other_name_is_used_if_the_branch_is_incomplete() {
    let (root, cache, directory) = cache_with("other");
    write_reference(root.path(), "main", COMMIT);
    fs::create_dir_all(directory.with_file_name(COMMIT)).unwrap();
    assert_eq!(cache.find(ID, "main", Some("other")).unwrap().revision, "other");
    assert!(matches!(cache.find(ID, "main", None), Err(Reason::Incomplete(_))));
}

#[test]
fn a_snapshot_without_modules_needs_a_record_that_the_model_has_none() {
    let (_root, cache, directory) = cache_with(COMMIT);
    fs::remove_file(directory.join("modules.json")).unwrap();
    let error = cache.find(ID, COMMIT, None).unwrap_err();
    assert!(matches!(error, Reason::UnknownPooling { .. }), "{error}");
    cache.record_absence(ID, COMMIT, "modules.json").unwrap();
    assert_eq!(cache.find(ID, COMMIT, None).unwrap().directory, directory);
}

#[test]
fn an_installed_snapshot_becomes_main_only_where_there_is_no_main() {
    let (root, cache, _) = cache_with(COMMIT);
    let install = |revision: &str| {
        let staging = cache.staging(ID).unwrap();
        write_model(&staging.path().join("model"));
        cache.install(ID, revision, &staging.path().join("model")).unwrap()
    };
    let first = install("first");
    assert_eq!(cache.find(ID, "main", None).unwrap(), first);
    install("second");
    assert_eq!(cache.find(ID, "main", None).unwrap(), first);
    let left: Vec<_> = fs::read_dir(root.path().join("models--owner--name")).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(STAGING)), "{left:?}");
}

#[test]
fn many_installers_at_once_all_succeed() {
    let root = tempfile::tempdir().unwrap();
    let cache = Cache::new(root.path(), Kind::Encoder);
    std::thread::scope(|scope| {
        let installers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let staging = cache.staging(ID).unwrap();
                    write_model(&staging.path().join("model"));
                    cache.install(ID, "wheel", &staging.path().join("model"))
                })
            })
            .collect();
        for installer in installers {
            assert_eq!(installer.join().unwrap().unwrap().revision, "wheel");
        }
    });
    assert_eq!(cache.find(ID, "main", None).unwrap().revision, "wheel");
}

#[test]
fn a_damaged_snapshot_is_replaced() {
    let (_root, cache, directory) = cache_with("wheel");
    fs::remove_file(directory.join("model.safetensors")).unwrap();
    let staging = cache.staging(ID).unwrap();
    write_model(&staging.path().join("model"));
    cache.install(ID, "wheel", &staging.path().join("model")).unwrap();
    assert!(directory.join("model.safetensors").is_file());
}

#[test]
fn a_second_fetcher_waits_for_the_first() {
    let root = tempfile::tempdir().unwrap();
    let cache = Cache::new(root.path(), Kind::Encoder);
    let (first, waited) = cache.lock(ID, || panic!("nobody to wait for"));
    assert!(first.is_some() && !waited);
    let (told, is_told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| cache.lock(ID, || told.send(()).unwrap()));
        is_told.recv().unwrap();
        drop(first);
        let (second, waited) = second.join().unwrap();
        assert!(second.is_some() && waited);
    });
}

#[test]
fn ids_are_told_from_other_text() {
    for id in ["gpt2", "sentence-transformers/all-MiniLM-L6-v2", "a/b_c.d"] {
        assert!(is_hub_id(id), "{id}");
    }
    for other in ["", "a/", "/a", "a/b/c", "a/..", "a b", "modèle", "a\\b"] {
        assert!(!is_hub_id(other), "{other}");
    }
}
