//! The directories of an index's segments: beside the store, a cache that is built again where it is missing.
//!
//! Invariants: a segment's directory has its name only when all its files are complete and synced. They never change.
//! When a segment is replaced, its last reader deletes them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::machine::files;

const EXTENSION: &str = "segment";
const NEW_EXTENSION: &str = "new";

/// The beginning of the name of an index's directory. Behind it stand the version and the language.
const NAME: &str = "lexical.";
/// The version of the terms and of the columns in a segment. Segments of another version are built again.
const VERSION: u32 = 2;

/// The place where an index may store its segments.
pub struct Storage {
    /// A directory for the indexes of one collection. It is created if it is missing.
    pub directory: PathBuf,
    /// Tells if there is space for a file of this many bytes.
    pub has_room: Box<dyn Fn(u64) -> bool + Send + Sync>,
}

/// The directories of an index's segments.
pub(super) struct Files {
    directory: PathBuf,
    has_room: Box<dyn Fn(u64) -> bool + Send + Sync>,
    /// The number of the next segment.
    number: AtomicU64,
    discarded: AtomicBool,
}

/// The directory of a segment that is being written. Deleted if it is dropped before it is complete.
pub(super) struct NewFiles {
    new: PathBuf,
    path: PathBuf,
}

/// The directory of a segment.
#[derive(Debug)]
pub(super) struct StoredFiles {
    path: PathBuf,
    bytes: usize,
    /// True if the next start does not need it.
    is_obsolete: AtomicBool,
}

impl Files {
    /// Opens the directory, created if it is missing, and lists its segments, newest first. Removes what is unfinished,
    /// and the segments of other versions and languages.
    pub(super) fn open(storage: Storage, language: Option<&str>) -> io::Result<(Self, Vec<StoredFiles>)> {
        let directory = storage.directory.join(format!("{NAME}{VERSION}.{}", language.unwrap_or("none")));
        // Words reveal the content of their texts: directories and files belong to their user alone.
        files::make_private_directories(&directory)?;
        if !files::is_directory(&directory) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a directory, found a link or a file"));
        }
        for path in entries(&storage.directory)? {
            let is_of_words = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NAME));
            if is_of_words && path != directory {
                fs::remove_dir_all(&path)?;
            }
        }
        let mut found = Vec::new();
        for path in entries(&directory)? {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            match (number, path.extension().and_then(|extension| extension.to_str())) {
                (Some(number), Some(EXTENSION)) if files::is_directory(&path) => found.push((number, path)),
                (Some(_), Some(NEW_EXTENSION)) => fs::remove_dir_all(&path)?,
                _ => {}
            }
        }
        found.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        let next = found.first().map_or(0, |(last, _)| last + 1);
        let stored = found.into_iter().map(|(_, path)| StoredFiles::new(path)).collect::<io::Result<_>>()?;
        let (number, discarded) = (AtomicU64::new(next), AtomicBool::new(false));
        Ok((Self { directory, has_room: storage.has_room, number, discarded }, stored))
    }

    /// Makes the directory of a new segment of about this many bytes.
    pub(super) fn begin(&self, bytes: usize) -> io::Result<NewFiles> {
        if self.are_discarded() || !(self.has_room)(bytes as u64) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let path = |extension| self.directory.join(format!("{number:010}.{extension}"));
        let files = NewFiles { new: path(NEW_EXTENSION), path: path(EXTENSION) };
        files::make_private_directories(&files.new)?;
        Ok(files)
    }

    /// Deletes all segments, except mapped files where the system forbids it, and ends all writing.
    pub(super) fn discard(&self) {
        self.discarded.store(true, Ordering::Relaxed);
        let _ = fs::remove_dir_all(&self.directory);
    }

    /// True after [`Files::discard`].
    pub(super) fn are_discarded(&self) -> bool {
        self.discarded.load(Ordering::Relaxed)
    }
}

impl NewFiles {
    /// The directory to write into.
    pub(super) fn directory(&self) -> &Path {
        &self.new
    }

    /// Syncs all files and gives the directory its name.
    pub(super) fn complete(self) -> io::Result<StoredFiles> {
        for file in entries(&self.new)? {
            File::open(file)?.sync_all()?;
        }
        files::sync_directory(&self.new)?;
        fs::rename(&self.new, &self.path)?;
        files::sync_directory(files::directory_of(&self.path))?;
        StoredFiles::new(self.path.clone())
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        // Nothing is there if the segment was completed.
        let _ = fs::remove_dir_all(&self.new);
    }
}

impl StoredFiles {
    fn new(path: PathBuf) -> io::Result<Self> {
        let mut bytes = 0;
        for file in entries(&path)? {
            bytes += fs::symlink_metadata(file)?.len() as usize;
        }
        Ok(Self { path, bytes, is_obsolete: AtomicBool::new(false) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets the last reader delete the files.
    pub(super) fn make_obsolete(&self) {
        self.is_obsolete.store(true, Ordering::Relaxed);
    }
}

impl Drop for StoredFiles {
    fn drop(&mut self) {
        if *self.is_obsolete.get_mut() {
            // If it cannot be deleted, the next start finds it useless and deletes it.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}
