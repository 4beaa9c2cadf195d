//! The second source: the hub cache on disk, in the layout that Python's huggingface_hub made.
//!
//! ```text
//! models--owner--name/refs/<branch or tag>      text: a commit
//! models--owner--name/snapshots/<commit>/…      the files (links into blobs/)
//! models--owner--name/.no_exist/<commit>/<file> empty: the hub was asked and has no such file
//! .locks/models--owner--name/…                  one writer at a time
//! ```
//! Invariants: a snapshot is used only if it is whole; a snapshot appears whole, by one rename, or
//! not at all. Others write here too (Python, hf-hub, further processes of ours), at the same time.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::error::Reason;
use super::kind::Kind;
use super::layout::MODULES;

/// The name of a staging folder starts so. Hidden: Python's scan of the cache passes it by.
const STAGING: &str = ".cognate-";

/// A staging folder of this age has lost its process: no download that still moves takes a day.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A whole model in the cache.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// The commit, or what stands for it.
    pub revision: String,
    /// Its files.
    pub directory: PathBuf,
}

/// The cache's folder, for models of one kind.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
    kind: Kind,
}

impl Cache {
    pub(super) fn new(root: impl Into<PathBuf>, kind: Kind) -> Self {
        Self { root: root.into(), kind }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The snapshot that `revision` names, by `refs/` or as a commit, or else the one called `also`.
    pub(super) fn find(&self, id: &str, revision: &str, also: Option<&str>) -> Result<Snapshot, Reason> {
        let repository = self.repository(id);
        let named = self.reference(id, revision);
        let candidates = [named.as_deref(), Some(revision), also];
        let mut reason = None;
        for name in candidates.into_iter().flatten().filter(|name| is_file_name(name)) {
            let directory = repository.join("snapshots").join(name);
            if !directory.is_dir() {
                continue;
            }
            match self.check_complete(id, name, &directory) {
                Ok(()) => return Ok(Snapshot { revision: name.to_owned(), directory }),
                Err(incomplete) => reason = reason.or(Some(incomplete)),
            }
        }
        Err(reason.unwrap_or_else(|| Reason::NotCached { revision: revision.to_owned() }))
    }

    /// A snapshot without `modules.json` may be half of a model whose modules nobody has fetched, so
    /// here, unlike in a user's directory, there must be a record that it has none.
    fn check_complete(&self, id: &str, revision: &str, directory: &Path) -> Result<(), Reason> {
        self.kind.check_complete(directory).map_err(Reason::Incomplete)?;
        let has_modules = directory.join(MODULES).is_file();
        if !self.kind.has_modules() || has_modules || self.no_exist(id, revision, MODULES).is_file() {
            Ok(())
        } else {
            Err(Reason::UnknownPooling { directory: directory.to_owned() })
        }
    }

    /// Records that the hub has no such file in this revision, for the next start.
    pub(super) fn record_absence(&self, id: &str, revision: &str, file: &str) -> Result<(), Reason> {
        let marker = self.no_exist(id, revision, file);
        make_parent(&marker)?;
        fs::write(&marker, "").map_err(|source| Reason::Disk { path: marker, source })
    }

    /// Moves the whole model in `staged` into place as `revision`, which becomes `main` where there is
    /// no `main` yet. If another process was faster, its result is as good as ours.
    pub(super) fn install(&self, id: &str, revision: &str, staged: &Path) -> Result<Snapshot, Reason> {
        let directory = self.repository(id).join("snapshots").join(revision);
        make_parent(&directory)?;
        let mut moved = fs::rename(staged, &directory);
        if moved.is_err() && directory.is_dir() && self.kind.check_complete(&directory).is_err() {
            // What is there is damaged: someone deleted a file of it, as our own message says to do.
            let aside = Staging::new(&self.repository(id))?;
            if fs::rename(&directory, aside.path().join("damaged")).is_ok() {
                moved = fs::rename(staged, &directory);
            }
        }
        if let Err(source) = moved
            && self.kind.check_complete(&directory).is_err()
        {
            return Err(Reason::Disk { path: directory, source });
        }
        self.write_reference_if_absent(id, super::MAIN, revision)?;
        Ok(Snapshot { revision: revision.to_owned(), directory })
    }

    /// A folder of our own on the cache's disk, removed when dropped.
    pub(super) fn staging(&self, id: &str) -> Result<Staging, Reason> {
        let repository = self.repository(id);
        fs::create_dir_all(&repository).map_err(|source| Reason::Disk { path: repository.clone(), source })?;
        remove_abandoned(&repository);
        Staging::new(&repository)
    }

    /// Lets one process fetch this model while the others wait. Returns the lock, held until it is
    /// dropped, and whether we had to wait, after telling so. No lock where the disk has none.
    pub(super) fn lock(&self, id: &str, waiting: impl FnOnce()) -> (Option<File>, bool) {
        let path = self.root.join(".locks").join(folder(id)).join("cognate.lock");
        let Some(file) = make_parent(&path).ok().and_then(|()| File::create(&path).ok()) else {
            return (None, false);
        };
        match file.try_lock() {
            Ok(()) => (Some(file), false),
            Err(TryLockError::WouldBlock) => {
                waiting();
                let locked = file.lock().is_ok();
                (locked.then_some(file), true)
            }
            Err(TryLockError::Error(_)) => (None, false),
        }
    }

    fn repository(&self, id: &str) -> PathBuf {
        self.root.join(folder(id))
    }

    fn no_exist(&self, id: &str, revision: &str, file: &str) -> PathBuf {
        self.repository(id).join(".no_exist").join(revision).join(file)
    }

    fn reference_path(&self, id: &str, revision: &str) -> Option<PathBuf> {
        // `refs/pr/1` is a revision with folders; `..` is none.
        let inside = Path::new(revision).components().all(|part| matches!(part, Component::Normal(_)));
        inside.then(|| self.repository(id).join("refs").join(revision))
    }

    fn reference(&self, id: &str, revision: &str) -> Option<String> {
        let commit = fs::read_to_string(self.reference_path(id, revision)?).ok()?;
        Some(commit.trim().to_owned())
    }

    fn write_reference_if_absent(&self, id: &str, revision: &str, commit: &str) -> Result<(), Reason> {
        let Some(path) = self.reference_path(id, revision) else { return Ok(()) };
        make_parent(&path)?;
        // Only where there is none. A reader that comes between the two steps finds no commit in it
        // and goes on, as if the file were not there yet.
        match File::create_new(&path).and_then(|mut file| file.write_all(commit.as_bytes())) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(Reason::Disk { path, source }),
            _ => Ok(()),
        }
    }
}

/// A folder that nobody else uses and that goes when it is dropped.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
}

impl Staging {
    fn new(parent: &Path) -> Result<Self, Reason> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            // Process ids repeat between containers that share a cache; the time tells those apart.
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
            let path = parent.join(format!("{STAGING}{}-{count}-{nanos}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Reason::Disk { path, source }),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a temporary folder stays behind");
        }
    }
}

/// Removes what processes left that were killed while they fetched.
fn remove_abandoned(repository: &Path) {
    for entry in fs::read_dir(repository).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(STAGING);
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| modified.elapsed().ok());
        if ours && age.is_some_and(|age| age > ABANDONED) {
            // Another process may be removing it as well; then it is gone, which is the point.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

fn make_parent(path: &Path) -> Result<(), Reason> {
    let parent = path.parent().expect("each path here has the cache's root above it");
    fs::create_dir_all(parent).map_err(|source| Reason::Disk { path: parent.to_owned(), source })
}

fn folder(id: &str) -> String {
    format!("models--{}", id.replace('/', "--"))
}

/// `name` or `owner/name`, of the characters that the hub allows.
pub fn is_hub_id(source: &str) -> bool {
    let is_part = |part: &str| {
        is_file_name(part) && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    source.split('/').count() <= 2 && source.split('/').all(is_part)
}

/// One component that leads nowhere else: not `..`, not `a/b`, not empty.
fn is_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

#[cfg(test)]
mod tests {
    use super::super::tests::write_model;
    use super::*;

    const ID: &str = "owner/name";
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A cache with one whole snapshot.
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
    fn where_the_branch_is_incomplete_the_other_name_is_used() {
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
}
