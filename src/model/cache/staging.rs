//! Folders in which a model is put together before it is moved into the cache.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use super::super::error::Reason;

/// The prefix of a folder's name. The folder is hidden, so Python's scan of the cache skips it.
pub(super) const STAGING: &str = ".cognate-";

/// The age at which a folder has certainly lost its process: no live download takes a day.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A folder that no other process uses. It is removed when it is dropped.
#[derive(Debug)]
pub(in super::super) struct Staging {
    path: PathBuf,
}

impl Staging {
    /// Makes a folder in `parent`.
    pub(super) fn new(parent: &Path) -> Result<Self, Reason> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            // Containers that share a cache may have equal process ids; the time distinguishes them.
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

    pub(in super::super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a temporary folder could not be removed");
        }
    }
}

/// Removes the folders of processes that were killed while they fetched.
pub(super) fn remove_abandoned(repository: &Path) {
    for entry in fs::read_dir(repository).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(STAGING);
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified.ok().and_then(|modified| modified.elapsed().ok());
        if ours && age.is_some_and(|age| age > ABANDONED) {
            // Another process may remove it at the same time.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
