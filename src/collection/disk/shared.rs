//! The state that the writer shares with the readers: the open database, and the reason why writes stopped.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use redb::Database;

use super::failure::{CommitError, WritesStopped};
use super::open::{self, Directory, OpenError};
use super::options::Options;
use super::stats::Counters;

/// State shared by the writer and the readers.
pub(super) struct Shared {
    /// Replaced by a compaction. Declared before the directory, so that the file closes before its lock is
    /// released.
    database: Mutex<Arc<Database>>,
    /// The file as an error left it, for readers, once one has needed it.
    frozen: Mutex<Option<Arc<Database>>>,
    pub(super) directory: Directory,
    pub(super) options: Options,
    /// The reason why writes stopped. Set once, by the writer.
    pub(super) stopped: OnceLock<Arc<str>>,
    pub(super) counters: Counters,
}

impl Shared {
    pub(super) fn new(database: Arc<Database>, directory: Directory, options: Options) -> Self {
        Self {
            database: Mutex::new(database),
            frozen: Mutex::default(),
            directory,
            options,
            stopped: OnceLock::new(),
            counters: Counters::default(),
        }
    }

    pub(super) fn database(&self) -> Arc<Database> {
        Arc::clone(&self.lock())
    }

    /// Replaces the database. The old one closes when its last reader ends.
    pub(super) fn replace(&self, database: Database) {
        *self.lock() = Arc::new(database);
    }

    /// The file as an error left it. redb reads nothing after an error of the system until it is opened anew.
    pub(super) fn frozen(&self) -> Result<Arc<Database>, OpenError> {
        let mut frozen = self.frozen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = &*frozen {
            return Ok(Arc::clone(database));
        }
        let database = Arc::new(open::frozen(&self.directory.file, self.options.cache_bytes)?);
        Ok(Arc::clone(frozen.insert(database)))
    }

    /// Works on the database exclusively; `None` if a reader has it.
    pub(super) fn alone<T>(&self, work: impl FnOnce(&mut Database) -> T) -> Option<T> {
        Arc::get_mut(&mut self.lock()).map(work)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Arc<Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stopped(&self) -> Option<CommitError> {
        self.stopped.get().map(|_| self.refusal())
    }

    /// The error of a disk that has stopped.
    pub(super) fn refusal(&self) -> CommitError {
        let reason = self.stopped.get().cloned().unwrap_or_else(|| "the thread that writes has ended".into());
        WritesStopped { path: self.directory.file.clone(), reason }.into()
    }
}
