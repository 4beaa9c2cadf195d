//! Segment files beside the store: written once, mapped, and never required. A missing or damaged file is built again
//! from the vectors, which others keep. `format` writes and reads one.
//!
//! Sketches follow from the codes. If a process wants them and a file has none, they are computed when it is read. If
//! it wants none, those of the file are left unread.
//!
//! Invariants: a file has its name only when it is complete and synced. It never changes. When a segment is replaced,
//! its last reader deletes the file.

mod format;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::graph::sketches::Sketches;
use super::learned::Learned;
use super::parts::{Member, SegmentParts};
use crate::machine::files;
pub(super) use format::{Stored, nothing_stored, with_its_checksum};

const EXTENSION: &str = "segment";
const NEW_EXTENSION: &str = "new";

/// The place where an index may store its segments.
pub struct SegmentStorage {
    /// A directory for this index alone. It is created if it is missing.
    pub directory: PathBuf,
    /// Tells if there is space for a file of this many bytes.
    pub has_room: Box<dyn Fn(u64) -> bool + Send + Sync>,
}

/// The segment files of an index.
pub(super) struct Files {
    storage: SegmentStorage,
    dimensions: usize,
    /// True if the graphs have sketches.
    sketches: bool,
    /// The number of the next file.
    number: AtomicU64,
    discarded: AtomicBool,
}

impl Files {
    /// Opens the directory, created if it is missing, and the segments in it, newest first. Removes files that are
    /// damaged, unfinished or of another number of dimensions, and logs a warning for each damaged one. `sketches`: the
    /// graphs have them.
    pub(super) fn open(storage: SegmentStorage, dimensions: usize, sketches: bool) -> io::Result<(Files, Vec<Stored>)> {
        let directory = &storage.directory;
        // Vectors reveal the content of their texts: directories and files belong to their user alone.
        files::make_private_directories(directory)?;
        if !files::is_directory(directory) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a directory, found a link or a file"));
        }
        let mut numbers = Vec::new();
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            match (number, path.extension().and_then(|extension| extension.to_str())) {
                (Some(number), Some(EXTENSION)) => numbers.push(number),
                (Some(_), Some(NEW_EXTENSION)) => fs::remove_file(&path)?,
                _ => {}
            }
        }
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let next = numbers.first().map_or(0, |last| last + 1);
        let (number, discarded) = (AtomicU64::new(next), AtomicBool::new(false));
        let files = Files { storage, dimensions, sketches, number, discarded };
        let mut found = Vec::new();
        for number in numbers {
            let path = files.path(number, EXTENSION);
            match files.read(&path) {
                Ok(stored) => found.push(stored),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "an index segment is unreadable and is built again");
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok((files, found))
    }

    /// Writes a segment and maps it. Blocks until it is on disk.
    pub(super) fn write(&self, parts: &SegmentParts, members: &[Member]) -> io::Result<Stored> {
        let length = format::length(self.dimensions, parts, members.len());
        if !length.is_some_and(|length| (self.storage.has_room)(length as u64)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (new, path) = (self.path(number, NEW_EXTENSION), self.path(number, EXTENSION));
        let written = format::write(&new, self.dimensions, parts, members).and_then(|()| fs::rename(&new, &path));
        if self.are_discarded() {
            // The other thread may have found the directory not empty.
            self.discard();
        }
        if let Err(error) = written {
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        self.read(&path)
    }

    /// Reads a file, with the sketches that this process wants.
    fn read(&self, path: &Path) -> io::Result<Stored> {
        let mut stored = format::read(path, self.dimensions)?;
        let has_sketches = !stored.parts.graph.sketches().is_empty();
        if has_sketches != self.sketches {
            let sketches = if self.sketches { Sketches::of(stored.parts.graph.codes()) } else { Sketches::none() };
            stored.parts.graph = stored.parts.graph.with_sketches(sketches);
        }
        Ok(stored)
    }

    /// Deletes the directory and its files, except mapped files where the system forbids it, and ends all writing.
    pub(super) fn discard(&self) {
        self.discarded.store(true, Ordering::Relaxed);
        let _ = fs::remove_dir_all(&self.storage.directory);
    }

    /// The search settings that an earlier process learned, if they can be read.
    pub(super) fn learned(&self) -> Option<Learned> {
        Learned::read(&self.storage.directory)
    }

    /// Stores the learned search settings. A failure costs the next process only the time to learn them again.
    pub(super) fn save_learned(&self, learned: Learned) {
        if self.are_discarded() || !(self.storage.has_room)(size_of::<Learned>() as u64) {
            return;
        }
        if let Err(error) = learned.write(&self.storage.directory)
            && !self.are_discarded()
        {
            tracing::debug!(%error, "the learned search settings cannot be stored");
        }
    }

    /// True after [`Files::discard`].
    pub(super) fn are_discarded(&self) -> bool {
        self.discarded.load(Ordering::Relaxed)
    }

    fn path(&self, number: u64, extension: &str) -> PathBuf {
        self.storage.directory.join(format!("{number:010}.{extension}"))
    }
}
