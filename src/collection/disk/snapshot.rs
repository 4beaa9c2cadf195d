//! Snapshots: a consistent view of the disk while commits go on.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableError};

use super::catalog::{Catalog, CatalogError, Entry};
use super::follows::Follows;
use super::record::{self, Damage, Numbers, Record};
use super::rows::Joiner;
use super::schema;
use crate::collection::passages::PassageSizes;
use crate::lexical;

/// The state that was committed when the snapshot was taken. While it lives, the space of rows that are removed is
/// not reused.
pub struct Snapshot {
    transaction: ReadTransaction,
    catalog: Catalog,
    path: PathBuf,
    /// Kept alive, because dropping a database closes its file under its readers.
    _database: Arc<Database>,
}

/// The entry of a collection on disk, without its documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCollection {
    /// The number.
    pub number: u32,
    /// The name.
    pub name: String,
    /// The caller who created it; `None`: it had no name.
    pub owner: Option<String>,
    /// The name of the model of its vectors; empty: not known.
    pub model: String,
    /// Fingerprint of this model.
    pub fingerprint: String,
    /// Length of its vectors.
    pub dimensions: usize,
    /// Number of documents.
    pub rows: u64,
    /// The lowest unused row number.
    pub next_row: u64,
    /// Bytes of the records.
    pub record_bytes: u64,
    /// The sizes of its passages; `None`: each document is one passage.
    pub passages: Option<PassageSizes>,
    /// The settings of its lexical index; `None`: it has none.
    pub lexical: Option<lexical::Options>,
    /// The collection that it follows; `None`: it is no follower.
    pub follows: Option<Follows>,
}

/// Reasons why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// A document is damaged.
    #[error(
        "{path}: row {row} of collection {collection:?} is damaged: {damage}. \
         Run `cognate verify` to list all damage, and restore a backup"
    )]
    Damaged {
        /// The data file.
        path: PathBuf,
        /// The collection's name.
        collection: String,
        /// The document's row.
        row: u64,
        /// The damage.
        damage: Damage,
    },
    /// The entry of a collection is damaged.
    #[error("{path}: the entry of collection number {number} is damaged: {damage}. Restore a backup")]
    CollectionDamaged {
        /// The data file.
        path: PathBuf,
        /// The collection's number.
        number: u32,
        /// The damage.
        damage: Damage,
    },
    /// Documents are missing.
    #[error("{path}: collection {collection:?} has {found} documents, and {expected} were stored. Restore a backup")]
    Missing {
        /// The data file.
        path: PathBuf,
        /// The collection's name.
        collection: String,
        /// The stored count.
        expected: u64,
        /// The count that was found.
        found: u64,
    },
    /// A document that is in memory is not in the file.
    #[error("{path}: row {row} of collection {collection:?} is missing. Restart the server, which checks all rows")]
    NoRow {
        /// The data file.
        path: PathBuf,
        /// The collection's name.
        collection: String,
        /// The document's row.
        row: u64,
    },
    /// A note of a document that a follower lacks is damaged.
    #[error(
        "{path}: the note that the follower of collection {collection:?} lacks document {id:?} is damaged: {damage}. \
         Restore a backup"
    )]
    PendingDamaged {
        /// The data file.
        path: PathBuf,
        /// The collection's name.
        collection: String,
        /// The document's id.
        id: String,
        /// The damage.
        damage: Damage,
    },
    /// The collection does not exist.
    #[error("{path} has no collection number {number}")]
    NoCollection {
        /// The data file.
        path: PathBuf,
        /// The requested number.
        number: u32,
    },
    /// Reading the file failed.
    #[error("cannot read {path}: {reason}")]
    Failed {
        /// The data file.
        path: PathBuf,
        /// The error.
        reason: String,
    },
}

impl Snapshot {
    /// Takes a snapshot of `database`. `path` is for messages.
    pub(super) fn of(database: &Arc<Database>, path: &Path) -> Result<Self, ReadError> {
        let path = path.to_owned();
        let transaction = database
            .begin_read()
            .map_err(|error| ReadError::Failed { path: path.clone(), reason: error.to_string() })?;
        let catalog = Catalog::load(&transaction).map_err(|error| match error {
            CatalogError::Damaged { number, damage } => {
                ReadError::CollectionDamaged { path: path.clone(), number, damage }
            }
            CatalogError::Database(error) => ReadError::Failed { path: path.clone(), reason: error.to_string() },
        })?;
        Ok(Self { transaction, catalog, path, _database: Arc::clone(database) })
    }

    /// The collections, in order of numbers.
    pub fn collections(&self) -> Vec<StoredCollection> {
        self.catalog.entries().map(|(number, entry)| stored(number, entry)).collect()
    }

    /// Reads all documents of a collection in the order of their rows, and checks each. Ends at the first damaged
    /// one, or when `visit` breaks.
    pub fn read(
        &self,
        number: u32,
        mut visit: impl FnMut(u64, Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let entry = self.entry(number)?;
        let mut numbers = Numbers::default();
        let end = self.scan(number, |row, bytes| {
            match bytes.and_then(|bytes| record::decode(row, bytes, entry.dimensions, &mut numbers)) {
                Ok(record) => visit(row, record).map_break(|()| None),
                Err(damage) => ControlFlow::Break(Some((row, damage))),
            }
        })?;
        match end {
            Ok(found) => self.expect(entry, found),
            Err(None) => Ok(()),
            Err(Some((row, damage))) => Err(self.damaged(entry, row, damage)),
        }
    }

    /// Reads all records of a collection as bytes, each with the result of its check. Returns their number, or the
    /// value that `visit` broke with.
    pub(super) fn scan<B>(
        &self,
        number: u32,
        mut visit: impl FnMut(u64, Result<&[u8], Damage>) -> ControlFlow<B>,
    ) -> Result<Result<u64, B>, ReadError> {
        let failed = |error: redb::Error| ReadError::Failed { path: self.path.clone(), reason: error.to_string() };
        let rows = match self.transaction.open_table(schema::rows(&schema::rows_table(number))) {
            Ok(rows) => rows,
            // The first row creates the table.
            Err(TableError::TableDoesNotExist(_)) => return Ok(Ok(0)),
            Err(error) => return Err(failed(error.into())),
        };
        let mut found = 0;
        let mut joiner = Joiner::default();
        for piece in rows.iter().map_err(|error| failed(error.into()))? {
            let (key, bytes) = piece.map_err(|error| failed(error.into()))?;
            let key = key.value();
            if joiner.starts(key.0)
                && let Some((row, record)) = joiner.take(number)
            {
                found += 1;
                if let ControlFlow::Break(end) = visit(row, record) {
                    return Ok(Err(end));
                }
            }
            joiner.push(key, bytes.value());
        }
        if let Some((row, record)) = joiner.take(number) {
            found += 1;
            if let ControlFlow::Break(end) = visit(row, record) {
                return Ok(Err(end));
            }
        }
        Ok(Ok(found))
    }

    /// Checks that as many documents were found as were stored.
    pub(super) fn expect(&self, entry: &Entry, found: u64) -> Result<(), ReadError> {
        if found == entry.rows {
            return Ok(());
        }
        let (path, collection) = (self.path.clone(), entry.name.clone());
        Err(ReadError::Missing { path, collection, expected: entry.rows, found })
    }

    pub(super) fn damaged(&self, entry: &Entry, row: u64, damage: Damage) -> ReadError {
        ReadError::Damaged { path: self.path.clone(), collection: entry.name.clone(), row, damage }
    }

    pub(super) fn entry(&self, number: u32) -> Result<&Entry, ReadError> {
        self.catalog.get(number).ok_or_else(|| ReadError::NoCollection { path: self.path.clone(), number })
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub(super) fn transaction(&self) -> &ReadTransaction {
        &self.transaction
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn stored(number: u32, entry: &Entry) -> StoredCollection {
    StoredCollection {
        number,
        name: entry.name.clone(),
        owner: entry.owner.clone(),
        model: entry.model.clone(),
        fingerprint: entry.fingerprint.clone(),
        dimensions: entry.dimensions,
        rows: entry.rows,
        next_row: entry.next_row,
        record_bytes: entry.record_bytes,
        passages: entry.passages,
        lexical: entry.lexical,
        follows: entry.follows.clone(),
    }
}
