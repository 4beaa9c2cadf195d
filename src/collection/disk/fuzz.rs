//! Fuzz target: records of arbitrary bytes, as a damaged disk has them.

use super::record::{Record, check, decode, encode};

const DIMENSIONS: usize = 2;
const COLLECTION: u32 = 1;
const ROW: u64 = 2;

/// Bytes of the checksum and of the number that nobody reads (see `record`).
const UNREAD: usize = 4 + 8;

/// Checks that decoded bytes encode to the same bytes, except for the unread ones.
pub(crate) fn record(bytes: &[u8]) {
    let _ = check(COLLECTION, ROW, bytes);
    let mut vector = Vec::new();
    if let Ok(read) = decode(bytes, DIMENSIONS, &mut vector) {
        assert_eq!(encode(COLLECTION, ROW, &read)[UNREAD..], bytes[UNREAD..]);
    }
}

pub(crate) fn records() -> Vec<Vec<u8>> {
    let record = |metadata| Record { id: "id", text: "a text", metadata, vector: &[0.6, 0.8] };
    [None, Some("{\"a\": 1}")].map(|metadata| encode(COLLECTION, ROW, &record(metadata))).into()
}
