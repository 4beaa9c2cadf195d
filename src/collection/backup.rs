//! A backup of the whole store, made while commits go on.
//!
//! One backup exists at a time, from its start until its file is closed, because each takes the disk space of all
//! documents.

use std::fs::File;
use std::io;

use super::backup_turns::Turn;
use super::disk;
use super::store::Store;
use crate::compute::stop::Stop;
use crate::machine::files;

/// Name of the backup file in the data directory.
const FILE: &str = "backup.redb";

/// Reasons why a backup is not made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The store is in memory alone.
    #[error("the server keeps its collections in memory alone, so there is nothing to back up: set data_dir")]
    InMemory,
    /// Another backup is being made or read.
    #[error("another backup is being made or read: try again when it has ended")]
    Busy,
    /// Writing the backup failed.
    #[error(transparent)]
    Disk(#[from] disk::BackupError),
    /// The backup was written but cannot be opened.
    #[error("the backup cannot be opened: {0}")]
    Io(#[from] io::Error),
}

/// A backup that is being read. Its file is unlinked already, so dropping this frees the space.
pub struct Backup {
    /// The whole file, positioned at its beginning.
    pub file: File,
    _turn: Turn,
}

impl Store {
    /// Writes all that is committed now into a file that [`disk::restore`] reads, and checks every document.
    /// Blocks. `stop` ends it within moments, and the partial file is removed.
    pub fn backup(&self, stop: &Stop) -> Result<Backup, BackupError> {
        let (Some(disk), Some(directory)) = (&self.disk, &self.directory) else { return Err(BackupError::InMemory) };
        let turn = self.backups.take().ok_or(BackupError::Busy)?;
        let path = directory.join(FILE);
        // A process that was killed in the middle of this function leaves a file behind.
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
