//! A backup of the whole store, while commits go on. There is one at a time, from the moment at which it is begun to the one
//! at which its file is closed: each takes the space of all documents.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk;
use super::store::Store;
use crate::compute::stop::Stop;
use crate::machine::files;

/// The backup while it is made, in the data directory.
const FILE: &str = "backup.redb";

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Nothing is stored.
    #[error("the server keeps its collections in memory alone: there is nothing to back up")]
    InMemory,
    /// One is being made.
    #[error("another backup is being made or read: try again when it has ended")]
    Busy,
    /// It could not be made.
    #[error(transparent)]
    Disk(#[from] disk::BackupError),
    /// It was made and cannot be had.
    #[error("the backup cannot be opened: {0}")]
    Io(#[from] io::Error),
}

/// The one backup that there is. Its file has no name any more: its space is free when this is dropped.
pub struct Backup {
    /// The whole file, to be read from its beginning.
    pub file: File,
    _turn: Turn,
}

/// Held by the backup that is made or read.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<AtomicBool>);

struct Turn(Arc<AtomicBool>);

impl Turns {
    fn take(&self) -> Option<Turn> {
        let was_taken = self.0.swap(true, Ordering::Acquire);
        (!was_taken).then(|| Turn(Arc::clone(&self.0)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Store {
    /// All that is committed now, every document checked, as a file that [`disk::restore`] reads. Blocks; `stop` ends it
    /// within moments, and what was written is removed.
    pub fn backup(&self, stop: &Stop) -> Result<Backup, BackupError> {
        let (Some(disk), Some(directory)) = (&self.disk, &self.directory) else { return Err(BackupError::InMemory) };
        let turn = self.backups.take().ok_or(BackupError::Busy)?;
        let path = directory.join(FILE);
        // A process that was killed between two lines of this function leaves one behind.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        disk.backup(&path, &|| !stop.is_raised())?;
        let file = files::open_to_read(&path);
        std::fs::remove_file(&path)?;
        Ok(Backup { file: file?, _turn: turn })
    }
}
