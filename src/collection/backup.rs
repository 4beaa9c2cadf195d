//! A backup of the whole store, while commits go on.

use std::fs::File;
use std::io;

use super::disk;
use super::store::Store;

/// The backup while it is made, in the data directory.
const FILE: &str = "backup.redb";

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Nothing is stored.
    #[error("the server keeps its collections in memory alone: there is nothing to back up")]
    InMemory,
    /// One is being made.
    #[error("another backup is being made: try again later")]
    Busy,
    /// It could not be made.
    #[error(transparent)]
    Disk(#[from] disk::BackupError),
    /// It was made and cannot be had.
    #[error("the backup cannot be opened: {0}")]
    Io(#[from] io::Error),
}

impl Store {
    /// All that is committed now, every document checked, as a file that [`disk::restore`] reads. It has no name any
    /// more: its space is free when it is closed. Blocks.
    pub fn backup(&self) -> Result<File, BackupError> {
        let (Some(disk), Some(directory)) = (&self.disk, &self.directory) else { return Err(BackupError::InMemory) };
        let Ok(_alone) = self.backups.try_lock() else { return Err(BackupError::Busy) };
        let path = directory.join(FILE);
        // A process that was killed between two lines of this function leaves one behind.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        disk.backup(&path)?;
        let file = File::open(&path);
        std::fs::remove_file(&path)?;
        Ok(file?)
    }
}
