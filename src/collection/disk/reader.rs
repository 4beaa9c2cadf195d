//! Reads of single texts by their rows, while commits go on.
//!
//! A reader is one read transaction: it finds what was committed when it was opened, however long it lives. Meanwhile
//! the space of rows that are removed is not reused. The checksum covers a whole record, so a record is read whole.
//!
//! Invariant: what was committed can be read after the disk failed. redb refuses that, so the file is then opened a
//! second time, to be read alone.

use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadOnlyTable, ReadableDatabase, TableError};

use super::handle::Disk;
use super::record;
use super::rows::Joiner;
use super::schema::{self, RowKey};
use super::shared::Shared;
use super::snapshot::ReadError;

/// The collection whose rows are read.
#[derive(Debug, Clone, Copy)]
pub struct RowsOf<'c> {
    /// Its number.
    pub number: u32,
    /// Its name, for messages.
    pub name: &'c str,
    /// Length of its vectors.
    pub dimensions: usize,
}

/// A reader of the texts of a collection.
pub struct Reader {
    /// The table of rows; `None`: the collection has none yet.
    rows: Option<Rows>,
    shared: Arc<Shared>,
    number: u32,
    name: String,
    dimensions: usize,
}

/// A table in one state.
struct Rows {
    table: ReadOnlyTable<RowKey, &'static [u8]>,
    /// Kept alive, because dropping a database closes its file under its readers.
    _database: Arc<Database>,
}

impl Disk {
    /// Opens a reader, which finds what is committed now.
    pub fn reader(&self, RowsOf { number, name, dimensions }: RowsOf<'_>) -> Result<Reader, ReadError> {
        let shared = Arc::clone(&self.shared);
        let rows = Rows::of(shared.database(), number).or_else(|_| frozen(&shared, number))?;
        Ok(Reader { rows, shared, number, name: name.to_owned(), dimensions })
    }
}

impl Rows {
    fn of(database: Arc<Database>, number: u32) -> Result<Option<Self>, redb::Error> {
        match database.begin_read()?.open_table(schema::rows(&schema::rows_table(number))) {
            Ok(table) => Ok(Some(Self { table, _database: database })),
            // The first row creates the table, and the purge of a deleted collection removes it.
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn join(&self, row: u64) -> Result<Joiner, redb::Error> {
        let mut joiner = Joiner::default();
        for piece in self.table.range((row, 0)..=(row, u32::MAX))? {
            let (key, bytes) = piece?;
            joiner.push(key.value(), bytes.value());
        }
        Ok(joiner)
    }
}

impl Reader {
    /// The text of a row. [`ReadError::NoRow`]: the row was not there when the reader was opened.
    pub fn text(&self, row: u64) -> Result<Arc<str>, ReadError> {
        let (path, collection) = (|| self.shared.directory.file.clone(), || self.name.clone());
        let missing = || ReadError::NoRow { path: path(), collection: collection(), row };
        let mut joiner = match self.rows.as_ref().ok_or_else(missing)?.join(row) {
            Ok(joiner) => joiner,
            Err(_) => {
                let rows = frozen(&self.shared, self.number)?.ok_or_else(missing)?;
                rows.join(row).map_err(|error| failed(&self.shared.directory.file, &error))?
            }
        };
        let (_, checked) = joiner.take(self.number).ok_or_else(missing)?;
        let text = checked.and_then(|bytes| record::text(bytes, self.dimensions).map(Arc::from));
        text.map_err(|damage| ReadError::Damaged { path: path(), collection: collection(), row, damage })
    }
}

/// The rows in the file as an error left it.
fn frozen(shared: &Shared, number: u32) -> Result<Option<Rows>, ReadError> {
    let path = &shared.directory.file;
    let database = shared.frozen().map_err(|error| failed(path, &error))?;
    Rows::of(database, number).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &dyn std::error::Error) -> ReadError {
    ReadError::Failed { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plain;
    use super::super::{Change, Options, Put, Record};
    use super::*;

    const OF: RowsOf<'_> = RowsOf { number: 0, name: "c", dimensions: 1 };

    fn put(row: u64, text: &str) -> Change {
        Change::Put(Put::new(
            0,
            row,
            &Record { id: "a", text, metadata: Some("{}"), vectors: &[1.0], spans: &[], origin: Default::default() },
        ))
    }

    fn filled(directory: &Path) -> Disk {
        let disk = Disk::open(directory, Options { min_free_bytes: 0, ..Options::default() }).unwrap();
        let create = Change::CreateCollection(plain(0, "c", 1));
        disk.commit(vec![create, put(0, "first"), put(1, &"long ".repeat(2_000))]).unwrap();
        disk
    }

    #[test]
    fn a_reader_finds_what_was_committed_when_it_was_opened() {
        let directory = tempfile::tempdir().unwrap();
        let disk = filled(directory.path());
        let before = disk.reader(OF).unwrap();
        disk.commit(vec![Change::Remove { collection: 0, row: 0 }, put(2, "third")]).unwrap();
        let after = disk.reader(OF).unwrap();
        assert_eq!((&*before.text(0).unwrap(), before.text(1).unwrap().len()), ("first", 10_000));
        assert!(matches!(before.text(2), Err(ReadError::NoRow { row: 2, .. })));
        assert!(matches!(after.text(0), Err(ReadError::NoRow { row: 0, .. })));
        assert_eq!((&*after.text(2).unwrap(), after.text(1).unwrap().len()), ("third", 10_000));
        let unknown = disk.reader(RowsOf { number: 7, ..OF }).unwrap();
        assert!(matches!(unknown.text(0), Err(ReadError::NoRow { .. })));
    }

    #[test]
    fn texts_are_read_from_the_file_as_an_error_left_it_while_the_first_handle_is_open() {
        let directory = tempfile::tempdir().unwrap();
        let disk = filled(directory.path());
        let file = disk.shared.directory.file.clone();
        let before = std::fs::read(&file).unwrap();
        let reader = Reader { rows: frozen(&disk.shared, 0).unwrap(), ..disk.reader(OF).unwrap() };
        assert_eq!((&*reader.text(0).unwrap(), reader.text(1).unwrap().len()), ("first", 10_000));
        assert_eq!(std::fs::read(&file).unwrap(), before, "nothing is written to it");
        disk.commit(vec![put(2, "third")]).unwrap();
        assert_eq!(&*disk.reader(OF).unwrap().text(2).unwrap(), "third");
    }
}
