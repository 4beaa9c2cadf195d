//! The second source: the hub cache on disk, in the layout of Python's huggingface_hub.
//!
//! ```text
//! models--owner--name/refs/<branch or tag>      text: a commit
//! models--owner--name/snapshots/<commit>/…      the files (links into blobs/)
//! models--owner--name/.no_exist/<commit>/<file> empty: the hub was asked and has no such file
//! .locks/models--owner--name/…                  locks for writers
//! ```
//! Invariants: a snapshot is used only if it is whole. We install a snapshot by a single rename, so it appears whole or
//! not at all. Other programs (Python, hf-hub) and processes of ours write here at the same time.

mod staging;

#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

use super::error::Reason;
use super::layout::Kind;
use super::modules::MODULES;
use super::options::MAIN;
use staging::Staging;

/// A whole model in the cache.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// The commit, or a name in its place.
    pub revision: String,
    /// The folder of the files.
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

    /// Finds the snapshot of a revision, by `refs/` or as a commit, or else the one named `also`.
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

    /// Checks that a snapshot is whole. One without `modules.json` may be a model whose modules were never fetched. So
    /// the cache, unlike a user's directory, must have a record that the model has no modules.
    fn check_complete(&self, id: &str, revision: &str, directory: &Path) -> Result<(), Reason> {
        self.kind.check_complete(directory).map_err(Reason::Incomplete)?;
        let has_modules = directory.join(MODULES).is_file();
        if !self.kind.has_modules() || has_modules || self.no_exist(id, revision, MODULES).is_file() {
            Ok(())
        } else {
            Err(Reason::UnknownPooling { directory: directory.to_owned() })
        }
    }

    /// Records for the next start that the hub does not have this file in this revision.
    pub(super) fn record_absence(&self, id: &str, revision: &str, file: &str) -> Result<(), Reason> {
        let marker = self.no_exist(id, revision, file);
        make_parent(&marker)?;
        fs::write(&marker, "").map_err(|source| Reason::Disk { path: marker, source })
    }

    /// Moves the whole model in `staged` into place as `revision`. It becomes `main` if there is no `main` yet. If
    /// another process was faster, its result is used.
    pub(super) fn install(&self, id: &str, revision: &str, staged: &Path) -> Result<Snapshot, Reason> {
        let directory = self.repository(id).join("snapshots").join(revision);
        make_parent(&directory)?;
        let mut moved = fs::rename(staged, &directory);
        if moved.is_err() && directory.is_dir() && self.kind.check_complete(&directory).is_err() {
            // The snapshot there is damaged: someone deleted one of its files, as our own message says to do.
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
        self.write_reference_if_absent(id, MAIN, revision)?;
        Ok(Snapshot { revision: revision.to_owned(), directory })
    }

    /// Makes a staging folder on the cache's disk.
    pub(super) fn staging(&self, id: &str) -> Result<Staging, Reason> {
        let repository = self.repository(id);
        fs::create_dir_all(&repository).map_err(|source| Reason::Disk { path: repository.clone(), source })?;
        staging::remove_abandoned(&repository);
        Staging::new(&repository)
    }

    /// Takes the lock of a model, so that one process fetches it while others wait. Calls `waiting` before it waits.
    /// Returns the lock, which is released when it is dropped, and whether it waited. A file system without locks gives
    /// no lock.
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

    /// Returns a model's folder.
    fn repository(&self, id: &str) -> PathBuf {
        self.root.join(folder(id))
    }

    /// Returns the path that records a missing file.
    fn no_exist(&self, id: &str, revision: &str, file: &str) -> PathBuf {
        self.repository(id).join(".no_exist").join(revision).join(file)
    }

    /// Returns the path of a branch or tag.
    fn reference_path(&self, id: &str, revision: &str) -> Option<PathBuf> {
        // `refs/pr/1` is a revision with folders. `..` is not a revision.
        let inside = Path::new(revision).components().all(|part| matches!(part, Component::Normal(_)));
        inside.then(|| self.repository(id).join("refs").join(revision))
    }

    /// Reads the commit of a branch or tag.
    fn reference(&self, id: &str, revision: &str) -> Option<String> {
        let commit = fs::read_to_string(self.reference_path(id, revision)?).ok()?;
        Some(commit.trim().to_owned())
    }

    /// Writes a branch or tag that does not exist yet.
    fn write_reference_if_absent(&self, id: &str, revision: &str, commit: &str) -> Result<(), Reason> {
        let Some(path) = self.reference_path(id, revision) else { return Ok(()) };
        make_parent(&path)?;
        // A reader between the two steps finds an empty file and goes on as if it did not exist.
        match File::create_new(&path).and_then(|mut file| file.write_all(commit.as_bytes())) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(Reason::Disk { path, source }),
            _ => Ok(()),
        }
    }
}

/// Makes the folder of a path.
fn make_parent(path: &Path) -> Result<(), Reason> {
    let parent = path.parent().expect("each path here has the cache's root above it");
    fs::create_dir_all(parent).map_err(|source| Reason::Disk { path: parent.to_owned(), source })
}

/// Returns the name of a model's folder.
fn folder(id: &str) -> String {
    format!("models--{}", id.replace('/', "--"))
}

/// Returns whether a text is a hub id: `name` or `owner/name`, in the characters that the hub allows.
pub fn is_hub_id(source: &str) -> bool {
    let is_part = |part: &str| {
        is_file_name(part) && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    source.split('/').count() <= 2 && source.split('/').all(is_part)
}

/// Returns whether a text is a single file name: not `..`, not `a/b`, not empty.
fn is_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}
