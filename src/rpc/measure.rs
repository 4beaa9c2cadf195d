//! Measures a request before it is decoded: counts its items, and computes the memory that it will take.
//!
//! Two bytes on the wire can become a hundred in memory, and 16 KB of a compressed message can become eight million
//! items. So counts and memory are checked here, before anything is allocated for them. The pass takes about a
//! millisecond for each MiB, and ends early when a limit is exceeded. The decoder validates the message; this pass
//! refuses only bytes that it cannot parse.

use super::Limits;
use super::schema::{Field, Kind, Limit, SCHEMA};
use super::status::Failure;

/// A message and the values decoded from it take at most this many times max_message_bytes.
pub const MEMORY_FACTOR: usize = 4;

/// Items are counted up to this many times their limit. Above it, the exact number does not matter.
const COUNT_FACTOR: usize = 8;

/// The deepest nesting of messages; the same limit as prost's.
const MAX_DEPTH: usize = 100;

/// Field numbers that are counted; all counted fields have lower numbers.
const COUNTED_FIELDS: usize = 32;

/// Overhead of an allocation, in bytes.
const ALLOCATION: usize = 16;

/// The reason why a message is not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeasureError {
    /// A field has more items than allowed.
    TooMany(TooMany),
    /// The decoded message would take too much memory.
    TooLarge {
        /// Bytes that it may take, with the encoded message.
        memory_limit: usize,
    },
    /// The bytes are not a message.
    Malformed(&'static str),
}

/// A count above its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooMany {
    /// The name of the field.
    pub field: &'static str,
    /// The number of its items, or a part of it if `at_least` is set.
    pub count: usize,
    /// True if there may be more items.
    pub at_least: bool,
    /// The limit.
    pub limit: usize,
}

impl From<MeasureError> for Failure {
    fn from(refused: MeasureError) -> Self {
        match refused {
            MeasureError::TooMany(TooMany { field, count, at_least, limit }) => {
                let more = if at_least { "or more " } else { "" };
                Self::invalid(field, format!("{count} {more}items exceed the limit of {limit}"))
            }
            MeasureError::TooLarge { memory_limit } => Self::Malformed(format!(
                "the message would take more than {memory_limit} bytes of memory, {MEMORY_FACTOR} times \
                 max_message_bytes: send fewer and larger items in each message"
            )),
            MeasureError::Malformed(reason) => Self::Malformed(format!("the message cannot be read: {reason}")),
        }
    }
}

/// Returns the bytes of memory that the decoded message will take, without the encoded one. `request` is its index in
/// the schema.
pub fn measure(request: usize, message: &[u8], limits: &Limits) -> Result<usize, MeasureError> {
    let memory_limit = max_memory(limits).saturating_sub(message.len());
    let mut measuring = Measuring { bytes: SCHEMA.message(request).bytes, memory_limit, limits };
    measuring.message(request, message, 0)?;
    Ok(measuring.bytes)
}

/// Bytes that a message and the values decoded from it may take. Small messages always pass.
fn max_memory(limits: &Limits) -> usize {
    const SMALL: usize = 64 * 1024;
    limits.max_message_bytes.saturating_mul(MEMORY_FACTOR).max(SMALL)
}

struct Measuring<'l> {
    /// The memory so far.
    bytes: usize,
    /// The limit of memory.
    memory_limit: usize,
    limits: &'l Limits,
}

impl Measuring<'_> {
    fn message(&mut self, at: usize, mut rest: &[u8], depth: usize) -> Result<(), MeasureError> {
        if depth > MAX_DEPTH {
            return Err(MeasureError::Malformed("messages are nested more than 100 deep"));
        }
        let message = SCHEMA.message(at);
        let mut counts = [0usize; COUNTED_FIELDS];
        let mut too_many: Option<(&'static Field, usize)> = None;
        while !rest.is_empty() {
            let key = varint(&mut rest)?;
            let (number, wire) = (key >> 3, key & 7);
            let field = message.field(number);
            let Some(payload) = payload(wire, &mut rest)? else {
                group(number, &mut rest)?;
                continue;
            };
            let Some(field) = field else { continue };
            if field.repeated {
                let count = &mut counts[number as usize % COUNTED_FIELDS];
                let items = items(field.kind, wire, payload);
                *count += items;
                if let Some(limit) = field.limit.map(|limit| self.limit(limit)).filter(|limit| *count > *limit) {
                    too_many = Some((field, number as usize));
                    if *count >= limit.saturating_mul(COUNT_FACTOR) {
                        break;
                    }
                }
                if too_many.is_none() {
                    self.add(items.saturating_mul(SCHEMA.element_bytes(field.kind)))?;
                }
            }
            // After a count has exceeded its limit, items are only counted.
            if too_many.is_none() {
                self.payload(field, payload, depth)?;
            }
        }
        if let Some((field, number)) = too_many {
            let (count, at_least) = (counts[number % COUNTED_FIELDS], !rest.is_empty());
            let limit = field.limit.map_or(0, |limit| self.limit(limit));
            return Err(MeasureError::TooMany(TooMany { field: &field.name, count, at_least, limit }));
        }
        // Containers have capacity for more than they hold.
        for (number, field) in message.fields().filter(|(_, field)| field.repeated) {
            let count = counts[number % COUNTED_FIELDS];
            let counted = count.saturating_mul(SCHEMA.element_bytes(field.kind));
            self.add(SCHEMA.container_bytes(field.kind, count).saturating_sub(counted))?;
        }
        Ok(())
    }

    /// Adds the memory of a field's content, apart from its place in the message's struct.
    fn payload(&mut self, field: &Field, payload: &[u8], depth: usize) -> Result<(), MeasureError> {
        match field.kind {
            Kind::Text if !payload.is_empty() => self.add(payload.len() + ALLOCATION),
            Kind::Message(inner) => {
                // Either in a box, or inline in the message: both are counted.
                self.add(if field.repeated { 0 } else { SCHEMA.message(inner).bytes })?;
                self.message(inner, payload, depth + 1)
            }
            Kind::Entry(inner) => self.message(inner, payload, depth + 1),
            Kind::Text | Kind::Bytes | Kind::Varint(_) | Kind::Fixed(_) => Ok(()),
        }
    }

    fn add(&mut self, bytes: usize) -> Result<(), MeasureError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.memory_limit {
            return Err(MeasureError::TooLarge { memory_limit: max_memory(self.limits) });
        }
        Ok(())
    }

    fn limit(&self, limit: Limit) -> usize {
        match limit {
            Limit::Texts => self.limits.max_texts,
            Limit::Documents => self.limits.max_documents_per_message,
            Limit::Facets => self.limits.max_facet_fields,
        }
    }
}

/// The number of items in one occurrence of a repeated field: numbers may be packed.
fn items(kind: Kind, wire: u64, payload: &[u8]) -> usize {
    match kind {
        Kind::Fixed(bytes) if wire == LENGTH_DELIMITED => payload.len() / bytes,
        Kind::Varint(_) if wire == LENGTH_DELIMITED => payload.iter().filter(|byte| **byte < 0x80).count(),
        _ => 1,
    }
}

const LENGTH_DELIMITED: u64 = 2;

/// Reads the payload after a key. Returns `None` at the start of a group, which is skipped in another way.
fn payload<'m>(wire: u64, rest: &mut &'m [u8]) -> Result<Option<&'m [u8]>, MeasureError> {
    let bytes = match wire {
        0 => {
            varint(rest)?;
            0
        }
        1 => 8,
        LENGTH_DELIMITED => usize::try_from(varint(rest)?).map_err(|_| ENDS_EARLY)?,
        3 => return Ok(None),
        5 => 4,
        _ => return Err(MeasureError::Malformed("a field has an unknown wire type")),
    };
    let (payload, after) = rest.split_at_checked(bytes).ok_or(ENDS_EARLY)?;
    *rest = after;
    Ok(Some(payload))
}

const ENDS_EARLY: MeasureError = MeasureError::Malformed("it ends in the middle of a field");

/// Skips a group, a deprecated form of nesting that no field of ours has.
fn group(number: u64, rest: &mut &[u8]) -> Result<(), MeasureError> {
    let mut open = vec![number];
    while let Some(innermost) = open.last() {
        let key = varint(rest)?;
        match key & 7 {
            3 if open.len() > MAX_DEPTH => return Err(MeasureError::Malformed("groups are nested more than 100 deep")),
            3 => open.push(key >> 3),
            4 if key >> 3 == *innermost => {
                open.pop();
            }
            wire => {
                payload(wire, rest)?;
            }
        }
    }
    Ok(())
}

fn varint(rest: &mut &[u8]) -> Result<u64, MeasureError> {
    let mut value = 0;
    for (n, &byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * n).min(63);
        if byte < 0x80 {
            *rest = &rest[n + 1..];
            return Ok(value);
        }
    }
    Err(if rest.len() < 10 { ENDS_EARLY } else { MeasureError::Malformed("invalid varint") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::wire::{self, filter::Condition};

    fn of(method: &str, message: &[u8], limits: &Limits) -> Result<usize, MeasureError> {
        let request = SCHEMA.request(&format!("/cognate.v1.Cognate/{method}")).expect("a method");
        measure(request, message, limits)
    }

    fn too_many(field: &'static str, count: usize, at_least: bool, limit: usize) -> Result<usize, MeasureError> {
        Err(MeasureError::TooMany(TooMany { field, count, at_least, limit }))
    }

    #[test]
    fn items_are_counted_before_anything_is_allocated_for_them() {
        let limits = Limits { max_texts: 10, max_documents_per_message: 5, ..Limits::default() };
        let texts = |n| wire::EmbedRequest { texts: vec![String::new(); n], ..Default::default() }.encode_to_vec();
        assert!(of("Embed", &texts(10), &limits).is_ok());
        assert_eq!(of("Embed", &texts(11), &limits), too_many("texts", 11, false, 10));
        assert_eq!(of("EmbedStream", &texts(8_000_000), &limits), too_many("texts", 80, true, 10));
        let documents = wire::UploadRequest { documents: vec![wire::Document::default(); 6], ..Default::default() };
        assert_eq!(of("Upload", &documents.encode_to_vec(), &limits), too_many("documents", 6, false, 5));
        let b = wire::SimilarityRequest { a: vec!["a".into()], b: vec!["b".into(); 11], ..Default::default() };
        assert_eq!(of("Similarity", &b.encode_to_vec(), &limits), too_many("b", 11, false, 10));
        let queries = wire::TopKRequest { queries: vec![wire::Query::default(); 11], ..Default::default() };
        assert_eq!(of("TopK", &queries.encode_to_vec(), &limits), too_many("queries", 11, false, 10));
    }

    #[test]
    fn the_error_names_field_count_and_limit() {
        let refused = TooMany { field: "texts", count: 11, at_least: false, limit: 10 };
        let failure = Failure::from(MeasureError::TooMany(refused));
        assert_eq!(tonic::Status::from(failure).message(), "texts: 11 items exceed the limit of 10");
    }

    /// A list of `n` empty values in the metadata of a document, 2 bytes each on the wire.
    fn list_in_metadata(n: usize) -> Vec<u8> {
        let values = vec![prost_types::Value { kind: None }; n];
        let list = prost_types::value::Kind::ListValue(prost_types::ListValue { values });
        let fields = [("k".to_owned(), prost_types::Value { kind: Some(list) })].into();
        let document = wire::Document { metadata: Some(prost_types::Struct { fields }), ..Default::default() };
        wire::UploadRequest { documents: vec![document], ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn small_items_without_a_count_limit_are_bounded_by_their_memory() {
        let limits = Limits { max_message_bytes: 1 << 20, ..Limits::default() };
        let memory_limit = 4 << 20;
        assert!(list_in_metadata(400_000).len() < 1 << 20);
        assert_eq!(of("Upload", &list_in_metadata(400_000), &limits), Err(MeasureError::TooLarge { memory_limit }));
        assert!(of("Upload", &list_in_metadata(10_000), &limits).is_ok());
        let filters = wire::FilterList { filters: vec![wire::Filter::default(); 400_000] };
        let filter = Some(wire::Filter { condition: Some(Condition::AllOf(filters)) });
        let listed = wire::ListDocumentsRequest { filter, ..Default::default() }.encode_to_vec();
        assert_eq!(of("ListDocuments", &listed, &limits), Err(MeasureError::TooLarge { memory_limit }));
        // Objects with one entry in a list: 640 bytes of memory for a dozen bytes on the wire.
        let entry = prost_types::Struct { fields: [(String::new(), prost_types::Value { kind: None })].into() };
        let kind = prost_types::value::Kind::StructValue(entry);
        let values = vec![prost_types::Value { kind: Some(kind) }; 50_000];
        let equals = wire::InCondition { path: Some("p".into()), values };
        let filter = Some(wire::Filter { condition: Some(Condition::OneOf(equals)) });
        let listed = wire::ListDocumentsRequest { filter, ..Default::default() }.encode_to_vec();
        assert!(listed.len() < 1 << 20);
        assert_eq!(of("ListDocuments", &listed, &limits), Err(MeasureError::TooLarge { memory_limit }));
    }

    #[test]
    fn normal_requests_are_far_below_the_limit() {
        let limits = Limits::default();
        // As many texts as fit, and documents with vectors and metadata.
        let texts = wire::EmbedRequest { texts: vec!["t".repeat(16_000); 1024], ..Default::default() };
        let bytes = texts.encode_to_vec();
        assert!(of("Embed", &bytes, &limits).is_ok(), "{}", bytes.len());
        let fields = (0..10).map(|n| {
            let kind = prost_types::value::Kind::StringValue("a value".into());
            (format!("key {n}"), prost_types::Value { kind: Some(kind) })
        });
        let document = wire::Document {
            id: "an id".into(),
            text: "a text".into(),
            metadata: Some(prost_types::Struct { fields: fields.collect() }),
            vector: Some(wire::Vector { values: vec![0.5; 384], ..Default::default() }),
            passages: Vec::new(),
        };
        let upload = wire::UploadRequest { documents: vec![document; 8_500], ..Default::default() }.encode_to_vec();
        assert!(upload.len() > 14 << 20);
        let measured = of("Upload", &upload, &limits);
        assert!(measured.as_ref().is_ok_and(|bytes| *bytes < 48 << 20), "{measured:?}");
    }

    #[test]
    fn groups_and_unknown_fields_are_skipped_and_malformed_ones_refused() {
        let limits = Limits::default();
        let known = [0x0a, 1, b'a'];
        let group = [0xfb, 0x06, 0x08, 5, 0x13, 0x14, 0xfc, 0x06]; // field 111, with a varint and field 2 within it
        let unknown = [0xfa, 0x06, 3, 1, 2, 3];
        assert!(of("Embed", &[&known[..], &group, &unknown, &known].concat(), &limits).is_ok());
        for broken in [&[0x0a, 9, b'a'][..], &[0xff; 12], &[0x0a], &[0x0e, 1], &[0x0c], &[0xfb, 0x06], &[0x0d, 1]] {
            let refused = of("Embed", broken, &limits);
            assert!(matches!(refused, Err(MeasureError::Malformed(_))), "{broken:?}: {refused:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_measured(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for request in ["Embed", "TopK", "Upload", "ListDocuments"] {
                // May refuse, but never panics. Bytes that prost decodes are never malformed.
                let walked = of(request, &bytes, &Limits::default());
                if request == "TopK" && wire::TopKRequest::decode(&*bytes).is_ok() {
                    prop_assert!(walked.is_ok(), "{:?}", walked);
                }
            }
        }
    }
}
