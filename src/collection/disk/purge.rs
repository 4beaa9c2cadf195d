//! The purge: frees the space of deleted collections, a bounded piece in each transaction.
//!
//! Deleting a table of a million documents at once takes two seconds, in which no other commit runs. So a deletion
//! writes two small entries, and the rows go in steps of some megabytes, which continue after a restart.

use redb::{ReadableTable, WriteTransaction};

use super::catalog::Catalog;
use super::{pending, schema};

/// Pieces that one transaction deletes: 4 MiB, a few milliseconds.
const PIECES: usize = 8 * 1024;

/// Purges a piece of a dropped collection, if there is one.
pub(super) fn some(transaction: &WriteTransaction, catalog: &mut Catalog) -> Result<(), redb::Error> {
    let Some(collection) = catalog.first_dropped() else { return Ok(()) };
    let name = schema::rows_table(collection);
    let mut rows = transaction.open_table(schema::rows(&name))?;
    let rest = rows.iter()?.nth(PIECES).transpose()?.map(|(key, _)| key.value());
    match rest {
        Some(rest) => rows.retain_in(..rest, |_, _| false)?,
        None => {
            drop(rows);
            transaction.delete_table(schema::rows(&name))?;
            if pending::purge(transaction, collection)? {
                catalog.purged(collection);
            }
        }
    }
    Ok(())
}
