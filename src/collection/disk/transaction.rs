//! Batches within one redb transaction.
//!
//! A batch is checked before any of it is written, so a rejected one leaves no trace and does not disturb the
//! others of its transaction.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};

use super::catalog::Catalog;
use super::change::{Change, Pending, Put};
use super::draft::{Draft, RowId};
use super::failure::Rejected;
use super::pending::{self, PendingTable};
use super::rows::{self, RowsTable};
use super::schema;

/// A transaction that is being filled.
pub(super) struct Transaction<'t> {
    inner: &'t WriteTransaction,
    catalog: &'t mut Catalog,
    tables: BTreeMap<u32, RowsTable<'t>>,
    /// The pending ids of followers.
    pending: BTreeMap<u32, PendingTable<'t>>,
    /// Rows that were put or removed, if a compaction wants to know.
    touched: Option<&'t mut BTreeSet<RowId>>,
}

impl<'t> Transaction<'t> {
    pub(super) fn new(
        inner: &'t WriteTransaction,
        catalog: &'t mut Catalog,
        touched: Option<&'t mut BTreeSet<RowId>>,
    ) -> Self {
        Self { inner, catalog, tables: BTreeMap::new(), pending: BTreeMap::new(), touched }
    }

    /// Applies all changes or, if they do not fit the stored state, none. The outer error is the disk's; after it
    /// the transaction must not be committed.
    pub(super) fn apply(&mut self, changes: &[Change]) -> Result<Result<(), Rejected>, redb::Error> {
        let mut draft = Draft::default();
        for change in changes {
            let stored = match change {
                Change::Put(put) | Change::Replace(put) => self.has(put.collection, put.row)?,
                Change::Remove { collection, row } => self.has(*collection, *row)?,
                Change::Exchange { follower } => !self.pending(*follower)?.is_empty()?,
                Change::CreateCollection(_) | Change::CreateFollower(..) | Change::DeleteCollection { .. } => false,
                Change::Note(_) | Change::Settle(_) | Change::FirstPass { .. } => false,
            };
            if let Err(rejected) = draft.add(self.catalog, change, stored) {
                return Ok(Err(rejected));
            }
        }
        for change in changes {
            self.make(change)?;
        }
        if let Some(schema) = changes.iter().map(Change::schema).max() {
            self.catalog.raise_schema(schema);
        }
        Ok(Ok(()))
    }

    fn has(&mut self, collection: u32, row: u64) -> Result<bool, redb::Error> {
        let new = self.catalog.get(collection).is_none_or(|entry| row >= entry.next_row);
        Ok(!new && self.table(collection)?.get((row, 0))?.is_some())
    }

    fn make(&mut self, change: &Change) -> Result<(), redb::Error> {
        match change {
            Change::CreateCollection(new) => self.catalog.create(new),
            Change::DeleteCollection { collection } => {
                self.tables.remove(collection);
                self.pending.remove(collection);
                self.catalog.delete(*collection);
            }
            Change::CreateFollower(new, follows) => {
                self.catalog.create(new);
                self.catalog.follow(new.number, follows.clone());
            }
            Change::Note(Pending { follower, id, number }) => {
                pending::note(self.pending(*follower)?, (*follower, id), *number)?;
            }
            Change::Settle(Pending { follower, id, number }) => {
                pending::settle(self.pending(*follower)?, (*follower, id), *number)?;
            }
            Change::FirstPass { follower, first_pass } => self.catalog.pass(*follower, first_pass),
            Change::Exchange { follower } => self.catalog.exchange(*follower),
            Change::Put(put) => self.put(put)?,
            Change::Replace(put) => {
                self.remove(put.collection, put.row)?;
                self.put(put)?;
            }
            Change::Remove { collection, row } => self.remove(*collection, *row)?,
        }
        Ok(())
    }

    fn put(&mut self, put: &Put) -> Result<(), redb::Error> {
        rows::insert(self.table(put.collection)?, put.row, &put.bytes)?;
        self.catalog.added(put);
        self.touch((put.collection, put.row));
        Ok(())
    }

    fn remove(&mut self, collection: u32, row: u64) -> Result<(), redb::Error> {
        let bytes = rows::remove(self.table(collection)?, row)?;
        self.catalog.removed(collection, bytes);
        self.touch((collection, row));
        Ok(())
    }

    fn touch(&mut self, row_id: RowId) {
        if let Some(touched) = &mut self.touched {
            touched.insert(row_id);
        }
    }

    fn pending(&mut self, follower: u32) -> Result<&mut PendingTable<'t>, redb::Error> {
        Ok(match self.pending.entry(follower) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => {
                vacant.insert(self.inner.open_table(pending::table(&pending::table_name(follower)))?)
            }
        })
    }

    fn table(&mut self, collection: u32) -> Result<&mut RowsTable<'t>, redb::Error> {
        Ok(match self.tables.entry(collection) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) => {
                vacant.insert(self.inner.open_table(schema::rows(&schema::rows_table(collection)))?)
            }
        })
    }
}
