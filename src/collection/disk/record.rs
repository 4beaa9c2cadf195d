//! The encoding of a document, with a checksum of our own.
//!
//! ```text
//! crc32 u32 | origin u64 | id bytes u64 | text bytes u64 | metadata bytes u64 | vector, id, text, metadata
//! several passages: | start u32, end u32 of each | the vectors of all but the first
//! ```
//!
//! Numbers are little endian. The last line is there only for a document of several passages; its length tells their
//! number. A document of one passage has the bytes that the first schema gave it. The origin is the complement of the
//! row if a client gave the vectors, and the row otherwise. It was a small version number once, and earlier programs ignore
//! it: any other number means what the row means. The checksum covers collection and row too, so it detects a record in
//! the wrong place. Unlike redb's page checksums, it is computed where the document is made and checked
//! where it is used, so it also detects faults of memory and code in between.

use crate::collection::document::Origin;
use crate::collection::passages::Span;

/// A document, borrowed from its writer's memory or its reader's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Record<'a> {
    /// The id.
    pub id: &'a str,
    /// The text; may be empty.
    pub text: &'a str,
    /// The metadata as JSON; `None` if the document came without.
    pub metadata: Option<&'a str>,
    /// The vector of each passage, `[passages, dimensions]`; bit for bit as written.
    pub vectors: &'a [f32],
    /// The bytes of the text that each passage takes; empty: the document is one passage.
    pub spans: &'a [Span],
    /// The origin of the vectors.
    pub origin: Origin,
}

/// Memory for the numbers of a record that is read.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    vectors: Vec<f32>,
    spans: Vec<Span>,
}

/// Kinds of damage in bytes from the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The bytes are not those that were written.
    #[error("its checksum is {computed:08x}, and {stored:08x} was stored with it")]
    Checksum {
        /// The stored checksum.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A piece is missing or out of order.
    #[error("it is not complete")]
    Incomplete,
    /// The checksum is right, and the content does not fit the collection: a program error.
    #[error("it is not a document of its collection")]
    Form,
    /// The entry of a follower does not fit the others.
    #[error("it follows a collection that is not there, or that does not fit it")]
    Follows,
}

const HEADER_BYTES: usize = 4 + 4 * 8;
/// Length that stands for absent metadata.
const NONE: u64 = u64::MAX;
/// Bytes of a passage's place in the text.
const SPAN_BYTES: usize = 2 * size_of::<u32>();

/// Encodes a record for `row`.
pub(super) fn encode(collection: u32, row: u64, record: &Record<'_>) -> Vec<u8> {
    let metadata = record.metadata.unwrap_or_default();
    let numbers = size_of_val(record.vectors) + SPAN_BYTES * record.spans.len();
    let bytes = HEADER_BYTES + numbers + record.id.len() + record.text.len() + metadata.len();
    let (first, others) = record.vectors.split_at(record.vectors.len() / record.spans.len().max(1));
    let mut out = Vec::with_capacity(bytes);
    out.extend([0; 4]);
    let metadata_bytes = record.metadata.map_or(NONE, |json| json.len() as u64);
    let origin = match record.origin {
        Origin::Model => row,
        Origin::Client => !row,
    };
    for number in [origin, record.id.len() as u64, record.text.len() as u64, metadata_bytes] {
        out.extend(number.to_le_bytes());
    }
    out.extend(first.iter().flat_map(|x| x.to_le_bytes()));
    for text in [record.id, record.text, metadata] {
        out.extend(text.as_bytes());
    }
    out.extend(record.spans.iter().flat_map(|span| [span.start, span.end]).flat_map(u32::to_le_bytes));
    out.extend(others.iter().flat_map(|x| x.to_le_bytes()));
    let checksum = checksum(collection, row, &out[4..]);
    out[..4].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// Checks that the bytes are those that were stored at `row`.
pub(super) fn check(collection: u32, row: u64, bytes: &[u8]) -> Result<(), Damage> {
    let (stored, rest) = bytes.split_first_chunk().ok_or(Damage::Incomplete)?;
    let (stored, computed) = (u32::from_le_bytes(*stored), checksum(collection, row, rest));
    if stored == computed { Ok(()) } else { Err(Damage::Checksum { stored, computed }) }
}

/// Decodes the bytes at `row`, which passed [`check`]. `numbers` receives the floats and the spans.
pub(super) fn decode<'a>(
    row: u64,
    bytes: &'a [u8],
    dimensions: usize,
    numbers: &'a mut Numbers,
) -> Result<Record<'a>, Damage> {
    let rest = bytes.get(4..).ok_or(Damage::Form)?;
    let (origin, rest) = number(rest)?;
    let origin = if origin == !row { Origin::Client } else { Origin::Model };
    let (id_bytes, rest) = number(rest)?;
    let (text_bytes, rest) = number(rest)?;
    let (metadata_bytes, rest) = number(rest)?;
    let vector_bytes = dimensions * size_of::<f32>();
    let (first, rest) = rest.split_at_checked(vector_bytes).ok_or(Damage::Form)?;
    let (id, rest) = string(rest, id_bytes)?;
    let (text, rest) = string(rest, text_bytes)?;
    let (metadata, rest) = match metadata_bytes {
        NONE => (None, rest),
        bytes => string(rest, bytes).map(|(json, rest)| (Some(json), rest))?,
    };
    let (spans, others) = match rest.len() {
        0 => (rest, rest),
        more => {
            let passages = (more + vector_bytes) / (SPAN_BYTES + vector_bytes);
            if passages < 2 || more + vector_bytes != passages * (SPAN_BYTES + vector_bytes) {
                return Err(Damage::Form);
            }
            rest.split_at(passages * SPAN_BYTES)
        }
    };
    let Numbers { vectors, spans: read } = numbers;
    vectors.clear();
    for floats in [first, others] {
        vectors.extend(floats.as_chunks().0.iter().map(|float| f32::from_le_bytes(*float)));
    }
    read.clear();
    let place = |bytes: &[u8; SPAN_BYTES]| {
        let [start, end] = [0, 4].map(|at| u32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[at + byte])));
        Span { start, end }
    };
    read.extend(spans.as_chunks().0.iter().map(place));
    Ok(Record { id, text, metadata, vectors, spans: read, origin })
}

/// The text in bytes that passed [`check`].
pub(super) fn text(bytes: &[u8], dimensions: usize) -> Result<&str, Damage> {
    let rest = bytes.get(4..).ok_or(Damage::Form)?;
    let (_origin, rest) = number(rest)?;
    let (id_bytes, rest) = number(rest)?;
    let (text_bytes, rest) = number(rest)?;
    let (_metadata_bytes, rest) = number(rest)?;
    let (_vector, rest) = rest.split_at_checked(dimensions * size_of::<f32>()).ok_or(Damage::Form)?;
    let (_id, rest) = string(rest, id_bytes)?;
    string(rest, text_bytes).map(|(text, _)| text)
}

fn checksum(collection: u32, row: u64, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&collection.to_le_bytes());
    hasher.update(&row.to_le_bytes());
    hasher.update(rest);
    hasher.finalize()
}

fn number(bytes: &[u8]) -> Result<(u64, &[u8]), Damage> {
    let (number, rest) = bytes.split_first_chunk().ok_or(Damage::Form)?;
    Ok((u64::from_le_bytes(*number), rest))
}

fn string(bytes: &[u8], length: u64) -> Result<(&str, &[u8]), Damage> {
    let length = usize::try_from(length).map_err(|_| Damage::Form)?;
    let (string, rest) = bytes.split_at_checked(length).ok_or(Damage::Form)?;
    Ok((str::from_utf8(string).map_err(|_| Damage::Form)?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            id in ".{1,20}", text in ".{0,60}", metadata in prop::option::of(".{0,60}"),
            dimensions in 1usize..9, passages in 1usize..6, row: u64, seed: u64,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let vectors: Vec<f32> = (0..dimensions * passages).map(|_| f32::from_bits(random.u32(..))).collect();
            let spans: Vec<Span> = (0..passages).map(|_| Span { start: random.u32(..), end: random.u32(..) }).collect();
            let spans = if passages == 1 { &[] } else { &*spans };
            let metadata = metadata.as_deref();
            let origin = if random.bool() { Origin::Client } else { Origin::Model };
            let record = Record { id: &id, text: &text, metadata, vectors: &vectors, spans, origin };
            let bytes = encode(3, row, &record);
            prop_assert_eq!(check(3, row, &bytes), Ok(()));
            let mut numbers = Numbers::default();
            let read = decode(row, &bytes, dimensions, &mut numbers).unwrap();
            prop_assert_eq!((read.id, read.text, read.metadata), (record.id, record.text, record.metadata));
            prop_assert_eq!(super::text(&bytes, dimensions), Ok(record.text));
            let bits = |floats: &[f32]| floats.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(read.vectors), bits(&vectors), "not even the payload of a NaN changes");
            prop_assert_eq!((read.spans, read.origin), (spans, origin));
        }

        #[test]
        fn one_flipped_bit_is_found(at in 0usize..1000, bit in 0u8..8) {
            let spans = &[Span { start: 0, end: 4 }, Span { start: 5, end: 9 }];
            let (vectors, origin) = (&[0.5; 8], Origin::Model);
            let record = Record { id: "a", text: "some text", metadata: None, vectors, spans, origin };
            let mut bytes = encode(1, 2, &record);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let found = matches!(check(1, 2, &bytes), Err(Damage::Checksum { .. }));
            prop_assert!(found);
        }

        #[test]
        fn bytes_that_are_no_record_are_an_error_and_no_panic(bytes: Vec<u8>, dimensions in 0usize..9) {
            let _ = check(1, 2, &bytes);
            let _ = decode(2, &bytes, dimensions, &mut Numbers::default());
            let _ = super::text(&bytes, dimensions);
        }
    }

    #[test]
    fn a_record_keeps_the_bytes_of_earlier_versions_and_their_numbers_for_its_origin_are_read() {
        let origin = Origin::Model;
        let record = Record { id: "a", text: "b", metadata: Some("{}"), vectors: &[1.0], spans: &[], origin };
        let mut bytes = encode(1, 2, &record);
        let mut stored = vec![0x3f, 0x54, 0x54, 0xbb];
        for number in [2u64, 1, 1, 2] {
            stored.extend(number.to_le_bytes());
        }
        stored.extend(1.0f32.to_le_bytes());
        stored.extend(b"ab{}");
        assert_eq!(bytes, stored);
        for version in [0, 1, 7, u64::MAX] {
            bytes[4..12].copy_from_slice(&version.to_le_bytes());
            assert_eq!(decode(2, &bytes, 1, &mut Numbers::default()), Ok(record));
        }
    }

    #[test]
    fn a_record_in_the_place_of_another_is_found() {
        let (vectors, origin) = (&[1.0], Origin::Model);
        let bytes = encode(1, 2, &Record { id: "a", text: "", metadata: None, vectors, spans: &[], origin });
        for (collection, row) in [(1, 3), (2, 2)] {
            assert!(matches!(check(collection, row, &bytes), Err(Damage::Checksum { .. })));
        }
        assert_eq!(decode(2, &bytes, 2, &mut Numbers::default()), Err(Damage::Form), "a vector of another length");
    }
}
