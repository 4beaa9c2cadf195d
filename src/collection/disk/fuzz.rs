//! Fuzz target: records of arbitrary bytes, as a damaged disk has them.

use super::record::{Numbers, Record, check, decode, encode};
use crate::collection::document::Origin;
use crate::collection::passages::Span;

const DIMENSIONS: usize = 2;
const COLLECTION: u32 = 1;
const ROW: u64 = 2;

/// Bytes of the checksum and of the origin, which many numbers stand for (see `record`).
const FREE: usize = 4 + 8;

/// Checks that decoded bytes encode to the same bytes, except for the free ones.
pub(crate) fn record(bytes: &[u8]) {
    let _ = check(COLLECTION, ROW, bytes);
    let mut numbers = Numbers::default();
    if let Ok(read) = decode(ROW, bytes, DIMENSIONS, &mut numbers) {
        assert_eq!(encode(COLLECTION, ROW, &read)[FREE..], bytes[FREE..]);
    }
}

pub(crate) fn records() -> Vec<Vec<u8>> {
    let (vectors, origin) = (&[0.6, 0.8], Origin::Client);
    let whole = |metadata| Record { id: "id", text: "a text", metadata, vectors, spans: &[], origin };
    let spans = &[Span { start: 0, end: 1 }, Span { start: 2, end: 6 }];
    let passages = Record { vectors: &[0.6, 0.8, 0.8, -0.6], spans, ..whole(None) };
    [whole(None), whole(Some("{\"a\": 1}")), passages].map(|record| encode(COLLECTION, ROW, &record)).into()
}
