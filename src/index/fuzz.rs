//! Reads segment files of arbitrary bytes, as a damaged disk may contain them.

use std::fs;
use std::path::PathBuf;

use super::file::{Files, SegmentStorage, nothing_stored, with_its_checksum};

const DIMENSIONS: usize = 8;

/// Opens the bytes as a file, once unchanged and once with a correct checksum. Every row of an accepted file must be
/// readable.
pub(crate) fn segment(bytes: &[u8]) {
    let directory = std::env::temp_dir().join(format!("cognate-fuzz-{}", std::process::id()));
    open(&directory, bytes);
    if let Some(bytes) = with_its_checksum(bytes.to_vec(), DIMENSIONS) {
        open(&directory, &bytes);
    }
    let _ = fs::remove_dir_all(&directory);
}

fn open(directory: &PathBuf, bytes: &[u8]) {
    let written = fs::create_dir_all(directory).and_then(|()| fs::write(directory.join("0000000000.segment"), bytes));
    written.expect("there is room for a file");
    let storage = SegmentStorage { directory: directory.clone(), has_room: Box::new(|_| true) };
    let Ok((_, stored)) = Files::open(storage, DIMENSIONS, true) else { return };
    for segment in stored {
        (0..segment.keys.len()).for_each(|number| assert_eq!(segment.rows.row(number).len(), DIMENSIONS));
    }
}

pub(crate) fn segments() -> Vec<Vec<u8>> {
    [(0, true), (3, true), (3, false)].map(|(vectors, sketched)| nothing_stored(DIMENSIONS, vectors, sketched)).to_vec()
}
