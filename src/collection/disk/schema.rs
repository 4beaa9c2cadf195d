//! The tables of the file, and their version.
//!
//! | schema | |
//! | --- | --- |
//! | 1 | a document has one vector |
//! | 2 | a document may have several passages, and a collection may have sizes for them |
//! | 3 | a collection may follow another, which notes its changes |
//!
//! A file of an earlier schema is read and written as it is. The first change that needs a later schema raises its
//! number, and from then on earlier versions refuse it. A later schema gets a new number here, and the caller of
//! [`found`] migrates or refuses.

use redb::{Database, ReadTransaction, ReadableDatabase, TableDefinition, TableError};

/// The latest schema that is read.
pub(super) const VERSION: u64 = 3;
/// The schema of new files.
const NEW: u64 = 2;
/// The earliest schema that is read.
pub(super) const EARLIEST: u64 = 1;

/// Numbers by name. The presence of this table identifies the file as ours.
pub(super) const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("cognate");
/// Key in [`NUMBERS`]: the schema of the file.
pub(super) const SCHEMA: &str = "schema";
/// Key in [`NUMBERS`]: the lowest number that no collection ever had.
pub(super) const NEXT_COLLECTION: &str = "next collection";

/// Collections by number, sealed (see `catalog`).
pub(super) const COLLECTIONS: TableDefinition<u32, &[u8]> = TableDefinition::new("collections");
/// Numbers of collections whose rows are still to be purged.
pub(super) const DROPPED: TableDefinition<u32, ()> = TableDefinition::new("dropped");

/// Row number, and index of a piece of its record.
pub(super) type RowKey = (u64, u32);

/// Name of the table with a collection's rows. Each collection has its own, because appending at the end of a tree
/// fills its pages, while inserting in the middle of a common one would leave them half empty.
pub(super) fn rows_table(collection: u32) -> String {
    format!("rows/{collection}")
}

/// The definition of the table with the name [`rows_table`] returns.
pub(super) fn rows(name: &str) -> TableDefinition<'_, RowKey, &'static [u8]> {
    TableDefinition::new(name)
}

/// Creates the tables of an empty file.
pub(super) fn create(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    {
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert(SCHEMA, NEW)?;
        numbers.insert(NEXT_COLLECTION, 0)?;
        transaction.open_table(COLLECTIONS)?;
        transaction.open_table(DROPPED)?;
    }
    transaction.commit()?;
    Ok(())
}

/// The schema of a file; `None` if it is not a data file.
pub(super) fn found(database: &impl ReadableDatabase) -> Result<Option<u64>, redb::Error> {
    let transaction: ReadTransaction = database.begin_read()?;
    let numbers = match transaction.open_table(NUMBERS) {
        Ok(numbers) => numbers,
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(_) => return Ok(None),
    };
    Ok(redb::ReadableTable::get(&numbers, SCHEMA)?.map(|schema| schema.value()))
}
