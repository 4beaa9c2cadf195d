//! The table of a follower's pending ids: documents of its leader that changed since the follower took them over.
//!
//! Each id stands with a number that grows with each change: a CRC-32 of collection, id and number, then the number.
//! The leader's commit notes the ids that it changes, and the follower's commit settles those that it brings up to
//! date, each in the transaction of its documents.
//!
//! Invariant: a lower number never replaces a higher one, and an id is settled only under the number that it has. So
//! the order of the two commits does not matter.

use std::ops::ControlFlow;

use redb::{ReadTransaction, ReadableTable, StorageError, Table, TableDefinition, TableError, WriteTransaction};

use super::record::Damage;
use super::snapshot::{ReadError, Snapshot};

/// A table of pending ids, open for writing.
pub(super) type PendingTable<'t> = Table<'t, &'static str, &'static [u8]>;

/// Ids that one transaction of the purge deletes.
const PURGED: usize = 8 * 1024;

/// Name of the table with the pending ids of a follower.
pub(super) fn table_name(follower: u32) -> String {
    format!("pending/{follower}")
}

/// The definition of the table with the name that [`table_name`] returns.
pub(super) fn table(name: &str) -> TableDefinition<'_, &'static str, &'static [u8]> {
    TableDefinition::new(name)
}

/// Notes an id under a number.
pub(super) fn note(table: &mut PendingTable<'_>, (follower, id): (u32, &str), number: u64) -> Result<(), StorageError> {
    // A damaged entry is replaced: its document is taken over anew in any case.
    let noted = table.get(id)?.and_then(|sealed| unseal(follower, id, sealed.value()).ok());
    if noted.is_none_or(|noted| noted < number) {
        table.insert(id, seal(follower, id, number).as_slice())?;
    }
    Ok(())
}

/// Settles an id, if it still has this number.
pub(super) fn settle(
    table: &mut PendingTable<'_>,
    (follower, id): (u32, &str),
    number: u64,
) -> Result<(), StorageError> {
    let noted = table.get(id)?.and_then(|sealed| unseal(follower, id, sealed.value()).ok());
    if noted == Some(number) {
        table.remove(id)?;
    }
    Ok(())
}

/// Copies a table into another file, in place of the one that is there.
pub(super) fn copy(from: &ReadTransaction, to: &WriteTransaction, follower: u32) -> Result<(), redb::Error> {
    let name = table_name(follower);
    to.delete_table(table(&name))?;
    let Some(pending) = opened(from, &name)? else { return Ok(()) };
    let mut copy = to.open_table(table(&name))?;
    for entry in pending.iter()? {
        let (id, sealed) = entry?;
        copy.insert(id.value(), sealed.value())?;
    }
    Ok(())
}

/// Number of pending ids.
pub(super) fn len(from: &ReadTransaction, follower: u32) -> Result<u64, redb::Error> {
    use redb::ReadableTableMetadata;
    Ok(opened(from, &table_name(follower))?.map_or(Ok(0), |pending| pending.len())?)
}

/// Deletes a part of the table; true if it is gone.
pub(super) fn purge(transaction: &WriteTransaction, follower: u32) -> Result<bool, redb::Error> {
    let name = table_name(follower);
    let mut pending = transaction.open_table(table(&name))?;
    let rest = pending.iter()?.nth(PURGED).transpose()?.map(|(id, _)| id.value().to_owned());
    if let Some(rest) = rest {
        pending.retain_in(..&*rest, |_, _| false)?;
        return Ok(false);
    }
    drop(pending);
    transaction.delete_table(table(&name))?;
    Ok(true)
}

impl Snapshot {
    /// Reads the pending ids of a follower with their numbers, in the order of the ids, and checks each. Ends at the
    /// first damaged one.
    pub fn pending(&self, follower: u32, mut visit: impl FnMut(&str, u64)) -> Result<(), ReadError> {
        let entry = self.entry(follower)?;
        let damaged = self.scan_pending(follower, |id, number| match number {
            Ok(number) => {
                visit(id, number);
                ControlFlow::Continue(())
            }
            Err(damage) => ControlFlow::Break((id.to_owned(), damage)),
        })?;
        let Some((id, damage)) = damaged else { return Ok(()) };
        let (path, collection) = (self.path().to_owned(), entry.name.clone());
        Err(ReadError::PendingDamaged { path, collection, id, damage })
    }

    /// Reads the pending ids of a follower, each with its number or its damage. Returns the value that `visit` broke
    /// with.
    pub(super) fn scan_pending<B>(
        &self,
        follower: u32,
        mut visit: impl FnMut(&str, Result<u64, Damage>) -> ControlFlow<B>,
    ) -> Result<Option<B>, ReadError> {
        let mut scan = || -> Result<Option<B>, redb::Error> {
            let Some(pending) = opened(self.transaction(), &table_name(follower))? else { return Ok(None) };
            for entry in pending.iter()? {
                let (id, sealed) = entry?;
                if let ControlFlow::Break(end) = visit(id.value(), unseal(follower, id.value(), sealed.value())) {
                    return Ok(Some(end));
                }
            }
            Ok(None)
        };
        scan().map_err(|error| ReadError::Failed { path: self.path().to_owned(), reason: error.to_string() })
    }
}

/// The table; `None`: nothing was ever noted.
fn opened(
    from: &ReadTransaction,
    name: &str,
) -> Result<Option<redb::ReadOnlyTable<&'static str, &'static [u8]>>, redb::Error> {
    match from.open_table(table(name)) {
        Ok(pending) => Ok(Some(pending)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn seal(follower: u32, id: &str, number: u64) -> [u8; 12] {
    let mut sealed = [0; 12];
    sealed[..4].copy_from_slice(&checksum(follower, id, number).to_le_bytes());
    sealed[4..].copy_from_slice(&number.to_le_bytes());
    sealed
}

fn unseal(follower: u32, id: &str, sealed: &[u8]) -> Result<u64, Damage> {
    let (stored, number) = sealed.split_first_chunk::<4>().ok_or(Damage::Incomplete)?;
    let number = u64::from_le_bytes(number.try_into().map_err(|_| Damage::Incomplete)?);
    let (stored, computed) = (u32::from_le_bytes(*stored), checksum(follower, id, number));
    if stored == computed { Ok(number) } else { Err(Damage::Checksum { stored, computed }) }
}

fn checksum(follower: u32, id: &str, number: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&follower.to_le_bytes());
    hasher.update(id.as_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.finalize()
}
