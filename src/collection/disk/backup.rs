//! Backups, which are made while commits go on, and their restoration.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::copy::{Copy, CopyError};
use super::handle::Disk;
use super::open::{self, Directory, OpenError};
use super::options::Options;
use super::snapshot::{ReadError, Snapshot};
use crate::machine::files;

/// Reasons why a backup was not made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The name is taken.
    #[error("{path} exists already: choose another name, or remove it")]
    Exists {
        /// Path of the backup.
        path: PathBuf,
    },
    /// Writing the backup or reading its source failed.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The system reported another error.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operation that failed, as a verb.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

/// Reasons why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The directory has documents already.
    #[error("{path} exists already: choose an empty directory, or move the file away")]
    Occupied {
        /// The existing data file.
        path: PathBuf,
    },
    /// The backup or the directory cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The backup is damaged.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Disk {
    /// Writes all that is committed now into a new file and checks every record, while commits go on. The file gets
    /// its name when it is complete and synced. It is packed and closed, so copies of it are as good. Its length
    /// exceeds its allocated bytes, because redb grows a file by doubling; cutting that off would take longer than
    /// all the rest. `go_on` is called every few megabytes; if it returns false, the partial file is removed.
    pub fn backup(&self, to: &Path, go_on: &dyn Fn() -> bool) -> Result<(), BackupError> {
        let io = |path: &Path, doing| {
            let path = path.to_owned();
            move |source| BackupError::Io { path, doing, source }
        };
        if open::exists(to).map_err(io(to, "look for"))? {
            return Err(BackupError::Exists { path: to.to_owned() });
        }
        let mut partial = to.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        match std::fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(&partial, "remove")(error)),
            _ => {}
        }
        let written = self.write_backup(&partial, go_on);
        if let Err(error) = written {
            // The partial file is useless. Failing to remove it adds nothing to the error.
            let _ = std::fs::remove_file(&partial);
            return Err(error);
        }
        std::fs::rename(&partial, to).map_err(io(to, "rename the finished backup to"))?;
        let directory = files::directory_of(to);
        files::sync_directory(directory).map_err(io(directory, "sync"))
    }

    fn write_backup(&self, partial: &Path, go_on: &dyn Fn() -> bool) -> Result<(), BackupError> {
        let options = self.options();
        let copy =
            Copy { to: partial, cache_bytes: options.cache_bytes, min_free_bytes: options.min_free_bytes, go_on };
        let database = copy.make(&self.snapshot().map_err(CopyError::from)?)?;
        let closed = database.close();
        closed.map_err(|error| {
            CopyError::Write { path: partial.to_owned(), reason: error.to_string(), is_full: false }.into()
        })
    }
}

/// Makes the data directory `to` from a backup. The copy is checked, every page and every record, before it gets
/// its name: afterwards all of it is there, or nothing. A directory that has documents is left alone.
pub fn restore(backup: &Path, to: &Path, options: &Options) -> Result<(), RestoreError> {
    let directory = Directory::take(to)?;
    let exists = open::exists(&directory.file).map_err(|error| OpenError::io(&directory.file, "look for", error))?;
    if exists {
        return Err(RestoreError::Occupied { path: directory.file.clone() });
    }
    let restored = copy_checked(backup, &directory.new_file, options);
    if restored.is_err() {
        // The next start removes it too.
        let _ = std::fs::remove_file(&directory.new_file);
        return restored;
    }
    directory.install().map_err(|error| OpenError::io(&directory.file, "install", error).into())
}

fn copy_checked(backup: &Path, to: &Path, options: &Options) -> Result<(), RestoreError> {
    let mut from = File::open(backup).map_err(|error| OpenError::io(backup, "open", error))?;
    let mut file = files::create_private(to).map_err(|error| OpenError::io(to, "make", error))?;
    let copied = io::copy(&mut from, &mut file).and_then(|_| file.sync_all());
    copied.map_err(|error| OpenError::io(to, "write", error))?;
    let database = open::open(to, options.cache_bytes).map_err(|error| error.at(backup))?;
    let database = Arc::new(database);
    let snapshot = Snapshot::of(&database, backup)?;
    for collection in snapshot.collections() {
        snapshot.read(collection.number, |_, _| ControlFlow::Continue(()))?;
        snapshot.pending(collection.number, |_, _| {})?;
    }
    Ok(())
}
