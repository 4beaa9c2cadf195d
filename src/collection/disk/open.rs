//! Opening a data directory, with errors that say what to do.
//!
//! A new file gets its tables under another name, and is renamed when they are on disk. So a data file is complete
//! from its first moment, and an empty or foreign file is never taken for a new one.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageBackend, StorageError};

use super::frozen::Frozen;
use super::lock::{Lock, LockError};
use super::{lock, schema};
use crate::machine::files::{self, Exposure};

/// Name of the data file in its directory.
const FILE: &str = "documents.redb";
/// Name of the data file while it is written: by the first start, by a restore, by a compaction.
const NEW_FILE: &str = "documents.redb.new";

/// A data directory that this process has locked.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    /// The data file.
    pub(super) file: PathBuf,
    /// Path for a new data file that is being written.
    pub(super) new_file: PathBuf,
    _lock: Option<Lock>,
}

/// Reasons why a directory or file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the directory.
    #[error(
        "{path} is in use by another process{}: stop it, or choose another directory",
        .process.map(|id| format!(" ({id})")).unwrap_or_default()
    )]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// The id of that process, if it could be read.
        process: Option<u32>,
    },
    /// The process lacks permission to read or write.
    #[error("cannot {doing} {path}: {source}. Give this user the right to write there, or choose another directory")]
    Denied {
        /// The file or directory.
        path: PathBuf,
        /// The operation that failed, as a verb.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The file is not a data file.
    #[error("{path} is not a data file of Cognate: move it away, or choose another directory")]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// Another version wrote the file.
    #[error(
        "{path} has schema {found}, and this version reads schemas up to {supported}: use the version that wrote it"
    )]
    OtherSchema {
        /// The file.
        path: PathBuf,
        /// The file's schema.
        found: u64,
        /// The latest schema that this version reads.
        supported: u64,
    },
    /// The file's content is wrong.
    #[error("{path} is damaged: {reason}. Keep a copy of it, and restore a backup into an empty directory")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damage that was found.
        reason: String,
    },
    /// Other users can change the directory.
    #[error("{path} {}: {}", who(.shared), remedy(.path, .shared))]
    Shared {
        /// The data directory.
        path: PathBuf,
        /// The users who can.
        shared: Exposure,
    },
    /// A name in the data directory is a link, or has the wrong type.
    #[error(
        "{path} is not a {expected}, or it is a link, and nothing is opened through a link: \
         remove it, or choose another directory"
    )]
    Link {
        /// The path.
        path: PathBuf,
        /// The expected type.
        expected: &'static str,
    },
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

impl OpenError {
    pub(super) fn io(path: &Path, doing: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::InvalidInput => Self::Link { path, expected: "file" },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Denied { path, doing, source },
            _ => Self::Io { path, doing, source },
        }
    }

    /// Returns this error with the path of the original, if the failing file is a copy.
    pub(super) fn at(self, original: &Path) -> Self {
        let path = original.to_owned();
        match self {
            Self::NotOurs { .. } => Self::NotOurs { path },
            Self::OtherSchema { found, supported, .. } => Self::OtherSchema { path, found, supported },
            Self::Damaged { reason, .. } => Self::Damaged { path, reason },
            other => other,
        }
    }

    fn database(path: &Path, error: DatabaseError) -> Self {
        let path = path.to_owned();
        match error {
            DatabaseError::DatabaseAlreadyOpen => {
                Self::InUse { path: path.parent().unwrap_or(&path).to_owned(), process: None }
            }
            DatabaseError::UpgradeRequired(_) => Self::NotOurs { path },
            DatabaseError::Storage(StorageError::Io(error)) => match error.kind() {
                ErrorKind::InvalidData => Self::NotOurs { path },
                ErrorKind::UnexpectedEof => Self::Damaged { path, reason: "it is too short".to_owned() },
                _ => Self::io(&path, "open", error),
            },
            error => Self::Damaged { path, reason: error.to_string() },
        }
    }
}

impl Directory {
    /// Creates the directory if it is missing, and locks it.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        make_directory(path).map_err(|error| OpenError::io(path, "make", error))?;
        // Checked before anything in it is touched.
        let shared = files::exposure(path).map_err(|error| OpenError::io(path, "examine", error))?;
        if let Some(shared) = shared {
            return Err(OpenError::Shared { path: path.to_owned(), shared });
        }
        let lock = Lock::take(path).map_err(|error| match error {
            LockError::Held(process) => OpenError::InUse { path: path.to_owned(), process },
            LockError::NotOurs => OpenError::NotOurs { path: path.join(lock::NAME) },
            LockError::Io(error) => match OpenError::io(path, "lock", error) {
                OpenError::Link { expected, .. } => OpenError::Link { path: path.join(lock::NAME), expected },
                other => other,
            },
        })?;
        let directory = Self { _lock: Some(lock), ..Self::unlocked(path) };
        match std::fs::remove_file(&directory.new_file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(OpenError::io(&directory.new_file, "remove the unfinished", error))
            }
            _ => Ok(directory),
        }
    }

    /// A directory without a lock, for paths that no other process knows.
    pub(super) fn unlocked(path: &Path) -> Self {
        Self { path: path.to_owned(), file: path.join(FILE), new_file: path.join(NEW_FILE), _lock: None }
    }

    /// The path of a subdirectory, which may be missing.
    pub(super) fn subdirectory(&self, name: &str) -> Result<PathBuf, OpenError> {
        let path = self.path.join(name);
        match exists(&path) {
            Ok(true) if !files::is_directory(&path) => Err(OpenError::Link { path, expected: "directory" }),
            Ok(_) => Ok(path),
            Err(error) => Err(OpenError::io(&path, "examine", error)),
        }
    }

    /// Renames the new file to the data file, and syncs the directory so that it survives a power cut.
    pub(super) fn install(&self) -> io::Result<()> {
        std::fs::rename(&self.new_file, &self.file)?;
        files::sync_directory(&self.path)
    }

    /// Opens the data file, and creates it if it is missing.
    pub(super) fn open(&self, cache_bytes: usize) -> Result<Database, OpenError> {
        let exists = exists(&self.file).map_err(|error| OpenError::io(&self.file, "open", error))?;
        if !exists {
            drop(create(&self.new_file, cache_bytes)?);
            self.install().map_err(|error| OpenError::io(&self.file, "make", error))?;
        }
        let start = Instant::now();
        loop {
            match open(&self.file, cache_bytes) {
                // redb has a file lock of its own.
                Err(OpenError::InUse { .. }) if start.elapsed() < lock::PATIENCE => std::thread::sleep(lock::RETRY),
                opened => return opened,
            }
        }
    }
}

/// Creates a file with its tables. The name must be free.
pub(super) fn create(path: &Path, cache_bytes: usize) -> Result<Database, OpenError> {
    let file = files::create_private(path).map_err(|error| OpenError::io(path, "make", error))?;
    let backend = FileBackend::new(file).map_err(|error| OpenError::database(path, error))?;
    let database = Builder::new()
        .set_cache_size(cache_bytes)
        .create_with_backend(backend)
        .map_err(|error| OpenError::database(path, error))?;
    schema::create(&database).map_err(|error| failed(path, "make", error))?;
    Ok(database)
}

/// Opens an existing file and checks all its pages. This reads the whole file (two to three seconds for a million
/// documents of 384 floats), which loading does anyway. Without the check, redb trusts what it reads and may panic.
pub(super) fn open(path: &Path, cache_bytes: usize) -> Result<Database, OpenError> {
    opened(path, cache_bytes, || {
        let file = files::open(path, OpenOptions::new().read(true).write(true))?;
        if file.metadata()?.len() == 0 {
            // redb would initialise an empty file as a new one.
            return Err(io::Error::from(ErrorKind::InvalidData).into());
        }
        FileBackend::new(file)
    })
}

/// Opens an existing file as [`open`] does, to be read alone: what redb repairs in it stays in memory.
pub(super) fn frozen(path: &Path, cache_bytes: usize) -> Result<Database, OpenError> {
    opened(path, cache_bytes, || Ok(Frozen::new(files::open_to_read(path)?)?))
}

fn opened<B: StorageBackend>(
    path: &Path,
    cache_bytes: usize,
    backend: impl FnOnce() -> Result<B, DatabaseError>,
) -> Result<Database, OpenError> {
    // In builds with debug assertions, damage that redb would report may trip an assertion instead.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let mut builder = Builder::new();
        builder.set_cache_size(cache_bytes).set_check_integrity_on_open(true).create_with_backend(backend()?)
    }));
    let database = match opened {
        Ok(opened) => opened.map_err(|error| OpenError::database(path, error))?,
        Err(_) => {
            return Err(OpenError::Damaged { path: path.to_owned(), reason: "its structure is wrong".to_owned() });
        }
    };
    let found = schema::found(&database).map_err(|error| failed(path, "read", error))?;
    of_our_schema(path, found)?;
    Ok(database)
}

/// Accepts the present version and those before it, which need no migration.
fn of_our_schema(path: &Path, found: Option<u64>) -> Result<(), OpenError> {
    match found {
        Some(schema::EARLIEST..=schema::VERSION) => Ok(()),
        Some(found) => Err(OpenError::OtherSchema { path: path.to_owned(), found, supported: schema::VERSION }),
        None => Err(OpenError::NotOurs { path: path.to_owned() }),
    }
}

fn failed(path: &Path, doing: &'static str, error: redb::Error) -> OpenError {
    match error {
        redb::Error::Io(error) => OpenError::io(path, doing, error),
        error => OpenError::Damaged { path: path.to_owned(), reason: error.to_string() },
    }
}

/// Creates a directory and its missing parents, readable by its user alone, because documents may be private.
/// Parents that existed are synced, so that the new directory survives a power cut.
fn make_directory(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    files::make_private_directories(path)?;
    missing.into_iter().map(files::directory_of).try_for_each(files::sync_directory)
}

/// True if the name exists, even as a dangling link.
pub(super) fn exists(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        found => found.map(|_| true),
    }
}

fn who(shared: &Exposure) -> String {
    match shared {
        Exposure::Owner { owner, user } => {
            format!("belongs to user {owner}, who can put links in it, and this process runs as user {user}")
        }
        Exposure::Writable { mode } => format!("has mode {mode:04o}, so other users can put links in it"),
    }
}

fn remedy(path: &Path, shared: &Exposure) -> String {
    let path = path.display();
    let own = match shared {
        Exposure::Owner { user, .. } => format!("`chown {user} {path}`"),
        Exposure::Writable { .. } => format!("`chmod go-w {path}`"),
    };
    format!("{own}, or give a directory in it, for example {path}/cognate, which is made for this user alone")
}
