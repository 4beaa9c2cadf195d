//! Records in a redb table, cut into pieces.
//!
//! redb stores a value larger than its page of 4 KiB in a run of pages whose number is a power of two, and fills a
//! page only with whole values: a vector of 1,024 floats would take 8 KiB, one of 512 floats 4 KiB. Cut into
//! pieces, records of all sizes fill their pages (1,650 bytes take 1,852 on disk instead of 2,084; 4,200 bytes take
//! 4,692 instead of 8,272). All pages have one size, so freed pages can be reused.

use redb::{StorageError, Table};

use super::record::{self, Damage};
use super::schema::RowKey;

/// Eight pieces fill a page: `(4096 - 4) / 8`, less a key of 12 bytes and a length of 4.
const PIECE_BYTES: usize = 495;

/// A table of rows, open for writing.
pub(super) type RowsTable<'t> = Table<'t, RowKey, &'static [u8]>;

/// Inserts a record at an unused row.
pub(super) fn insert(rows: &mut RowsTable<'_>, row: u64, bytes: &[u8]) -> Result<(), StorageError> {
    for (piece, bytes) in (0..).zip(bytes.chunks(PIECE_BYTES)) {
        rows.insert((row, piece), bytes)?;
    }
    Ok(())
}

/// Removes a record and returns its bytes.
pub(super) fn remove(rows: &mut RowsTable<'_>, row: u64) -> Result<u64, StorageError> {
    let mut removed = 0;
    for piece in rows.extract_from_if((row, 0)..=(row, u32::MAX), |_, _| true)? {
        removed += piece?.1.value().len() as u64;
    }
    Ok(removed)
}

/// Joins pieces into records and checks them.
#[derive(Default)]
pub(super) struct Joiner {
    row: Option<u64>,
    bytes: Vec<u8>,
    next_piece: u32,
    complete: bool,
}

impl Joiner {
    /// True if a piece of `row` begins a new record. Then the record before has all its pieces, and must be
    /// [taken](Self::take) first.
    pub(super) fn starts(&self, row: u64) -> bool {
        self.row != Some(row)
    }

    /// Adds a piece to its row.
    pub(super) fn push(&mut self, (row, piece): (u64, u32), bytes: &[u8]) {
        if self.starts(row) {
            *self = Self { row: Some(row), bytes: std::mem::take(&mut self.bytes), next_piece: 0, complete: true };
            self.bytes.clear();
        }
        self.complete &= piece == self.next_piece;
        self.next_piece = piece.wrapping_add(1);
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the completed row, if there is one.
    pub(super) fn take(&mut self, collection: u32) -> Option<(u64, Result<&[u8], Damage>)> {
        let row = self.row.take()?;
        let checked = if self.complete { record::check(collection, row, &self.bytes) } else { Err(Damage::Incomplete) };
        Some((row, checked.map(|()| self.bytes.as_slice())))
    }
}
