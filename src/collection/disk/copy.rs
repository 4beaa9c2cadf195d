//! Copies: a snapshot written into a new file, packed, with each record checked. Backups and compactions are copies
//! that are renamed.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use redb::Database;

use super::failure::DiskFull;
use super::open::{self, OpenError};
use super::record::Damage;
use super::snapshot::{ReadError, Snapshot};
use super::{pending, rows, schema, space};
use crate::machine::files;

/// Bytes of records per transaction, held in memory. Four times as much is not faster.
const CHUNK_BYTES: usize = 8 << 20;

/// Parameters of a copy.
pub(super) struct Copy<'a> {
    /// Path of the new file.
    pub(super) to: &'a Path,
    /// Memory for pages of the new file.
    pub(super) cache_bytes: usize,
    /// Free bytes that the copy must leave.
    pub(super) min_free_bytes: u64,
    /// Called from time to time; false ends the copy.
    pub(super) go_on: &'a dyn Fn() -> bool,
}

/// Reasons why a copy was not made.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file system lacks the space.
    #[error(transparent)]
    DiskFull(#[from] DiskFull),
    /// The source cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The new file cannot be created.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new file cannot be written.
    #[error("cannot write {path}: {reason}")]
    Write {
        /// The new file.
        path: PathBuf,
        /// The error.
        reason: String,
        /// True if the file system is full.
        is_full: bool,
    },
    /// The caller ended the copy.
    #[error("the copy was ended by its caller")]
    GivenUp,
}

/// Reasons why a scan ended early.
enum Stop {
    Damage(u64, Damage),
    Copy(CopyError),
}

impl Copy<'_> {
    /// Makes the file. On return its content is synced, but its name is not.
    pub(super) fn make(&self, snapshot: &Snapshot) -> Result<Database, CopyError> {
        let needed = self.room(snapshot)?;
        let made = self.fill(snapshot);
        // Other processes may have taken the space meanwhile.
        made.map_err(|error| match error {
            CopyError::Write { is_full: true, path, .. } => {
                let free = space::free(files::directory_of(self.to)).unwrap_or(0);
                DiskFull { path, free, needed }.into()
            }
            other => other,
        })
    }

    fn fill(&self, snapshot: &Snapshot) -> Result<Database, CopyError> {
        let database = open::create(self.to, self.cache_bytes)?;
        for collection in snapshot.collections() {
            self.rows(snapshot, &database, collection.number)?;
        }
        let mut catalog = snapshot.catalog().clone();
        catalog.forget_dropped();
        let mut save = || -> Result<(), redb::Error> {
            let mut transaction = database.begin_write()?;
            transaction.set_two_phase_commit(true);
            for (follower, _) in snapshot.catalog().followers() {
                pending::copy(snapshot.transaction(), &transaction, follower)?;
            }
            catalog.save_all(&transaction)?;
            Ok(transaction.commit()?)
        };
        save().map_err(|error| self.failed(&error))?;
        Ok(database)
    }

    /// Checks the free space. Returns the bytes that must be free.
    fn room(&self, snapshot: &Snapshot) -> Result<u64, CopyError> {
        let path = files::directory_of(self.to);
        let free = space::free(path).map_err(|error| OpenError::io(path, "find the free space of", error))?;
        let needed = space::packed(snapshot.catalog().record_bytes()).saturating_add(self.min_free_bytes);
        if free >= needed { Ok(needed) } else { Err(DiskFull { path: path.to_owned(), free, needed }.into()) }
    }

    fn rows(&self, snapshot: &Snapshot, database: &Database, number: u32) -> Result<(), CopyError> {
        let entry = snapshot.entry(number)?;
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        let end = snapshot.scan(number, |row, record| {
            let record = match record {
                Ok(record) => record,
                Err(damage) => return ControlFlow::Break(Stop::Damage(row, damage)),
            };
            bytes += record.len();
            chunk.push((row, record.to_vec()));
            if bytes < CHUNK_BYTES {
                return ControlFlow::Continue(());
            }
            bytes = 0;
            match self.write(database, number, std::mem::take(&mut chunk)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(Stop::Copy(error)),
            }
        })?;
        match end {
            Ok(found) => snapshot.expect(entry, found)?,
            Err(Stop::Damage(row, damage)) => return Err(snapshot.damaged(entry, row, damage).into()),
            Err(Stop::Copy(error)) => return Err(error),
        }
        self.write(database, number, chunk)
    }

    fn write(&self, database: &Database, number: u32, chunk: Vec<(u64, Vec<u8>)>) -> Result<(), CopyError> {
        if !(self.go_on)() {
            return Err(CopyError::GivenUp);
        }
        let write = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            {
                let mut rows = transaction.open_table(schema::rows(&schema::rows_table(number)))?;
                for (row, bytes) in chunk {
                    rows::insert(&mut rows, row, &bytes)?;
                }
            }
            Ok(transaction.commit()?)
        };
        write().map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &redb::Error) -> CopyError {
        let is_full = matches!(error, redb::Error::Io(io) if is_full(io.kind()));
        CopyError::Write { path: self.to.to_owned(), reason: error.to_string(), is_full }
    }
}

fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}
