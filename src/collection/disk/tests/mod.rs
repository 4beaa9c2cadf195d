//! Tests of the disk through its interface. `model` makes batches with a known outcome, `medium` is a disk that
//! fails, `files` damages files, `followers` is about migrations, `crash` kills processes, `space` is about full disks,
//! `batches` about the rest.

mod batches;
mod crash;
mod files;
mod followers;
mod medium;
mod model;
mod power;
mod space;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{Change, Disk, NewCollection, Options, Put, ReadError, Record, Snapshot};

/// A document, as read: id, text, metadata, the spans of several passages and the bits of all vectors.
type Read = (String, String, Option<String>, Vec<u32>);

/// All documents of a disk, by collection and row.
type Contents = BTreeMap<String, BTreeMap<u64, Read>>;

fn contents(snapshot: &Snapshot) -> Result<Contents, ReadError> {
    let mut all = Contents::new();
    for collection in snapshot.collections() {
        let rows = all.entry(collection.name).or_default();
        snapshot.read(collection.number, |row, record| {
            let bits = record.spans.iter().flat_map(|span| [span.start, span.end]);
            let bits = bits.chain(record.vectors.iter().map(|x| x.to_bits())).collect();
            let metadata = record.metadata.map(str::to_owned);
            rows.insert(row, (record.id.to_owned(), record.text.to_owned(), metadata, bits));
            ControlFlow::Continue(())
        })?;
    }
    Ok(all)
}

/// Small limits, so that small files reach them.
fn options() -> Options {
    Options { cache_bytes: 1 << 20, min_free_bytes: 0, compact_above_bytes: u64::MAX, ..Options::default() }
}

/// A collection that nobody owns, without passages and without words.
pub(super) fn plain(number: u32, name: &str, dimensions: usize) -> NewCollection {
    NewCollection {
        number,
        name: name.to_owned(),
        model: "m".to_owned(),
        fingerprint: "f".to_owned(),
        dimensions,
        passages: None,
        lexical: None,
        owner: None,
    }
}

fn create(number: u32, name: &str) -> Change {
    Change::CreateCollection(plain(number, name, 4))
}

fn put(collection: u32, row: u64, text: &str) -> Change {
    let id = format!("id {row}");
    let vectors = &[0.5, -0.5, 0.5, 0.5];
    let record =
        Record { id: &id, text, metadata: Some(r#"{"a":1}"#), vectors, spans: &[], origin: Default::default() };
    Change::Put(Put::new(collection, row, &record))
}

fn remove(collection: u32, row: u64) -> Change {
    Change::Remove { collection, row }
}

/// A disk in a new directory, with `rows` documents of about a kilobyte in collection 0, named "c".
fn filled(rows: u64) -> (tempfile::TempDir, Disk) {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::open(directory.path(), options()).unwrap();
    let puts = (0..rows).map(|row| put(0, row, &"text ".repeat(200)));
    disk.commit([create(0, "c")].into_iter().chain(puts).collect()).unwrap();
    (directory, disk)
}
