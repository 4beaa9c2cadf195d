//! A walk over the bytes of a request before they are decoded: how many items it has, and what it will take in memory.
//!
//! Two bytes on the wire can become a hundred in memory, and 16 KB of a compressed message eight million items. So
//! counts and memory are checked here, where nothing is allocated for them. The walk takes about a millisecond for each
//! MiB, and ends early where a bound is passed. Whether the bytes are a valid message is the decoder's business; what
//! cannot even be walked through is refused here.

use super::Limits;
use super::schema::{Field, Kind, Limit, SCHEMA};
use super::status::Failure;

/// A message and what is decoded from it take at most this many times max_message_bytes.
pub const MEMORY_FACTOR: usize = 4;

/// Items are counted to this many times their limit; beyond, it does not matter how many there are.
const COUNT_FACTOR: usize = 8;

/// Messages nest no deeper than this. prost's own limit.
const MAX_DEPTH: usize = 100;

/// Fields of one message that are counted; all have lower numbers.
const COUNTED_FIELDS: usize = 32;

/// Bytes that an allocation takes beside what it was asked for.
const ALLOCATION: usize = 16;

/// Why a message is not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A field has more items than allowed.
    TooMany(TooMany),
    /// It would take too much memory.
    TooLarge {
        /// Bytes that it may take, with the message itself.
        most: usize,
    },
    /// It is no message.
    Malformed(&'static str),
}

/// A count above its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooMany {
    /// The field.
    pub field: &'static str,
    /// Its items: all of them, unless `at_least`.
    pub count: usize,
    /// There may be more of them.
    pub at_least: bool,
    /// How many are allowed.
    pub limit: usize,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::TooMany(TooMany { field, count, at_least, limit }) => {
                let more = if at_least { "or more " } else { "" };
                Self::invalid(field, format!("{count} {more}items exceed the limit of {limit}"))
            }
            Refused::TooLarge { most } => Self::Malformed(format!(
                "the message would take more than {most} bytes of memory, {MEMORY_FACTOR} times max_message_bytes: \
                 send fewer and larger items in each"
            )),
            Refused::Malformed(reason) => Self::Malformed(format!("the message cannot be read: {reason}")),
        }
    }
}

/// Bytes of memory that the message takes once it is decoded, beside its own. `request`: its index in the schema.
pub fn measure(request: usize, message: &[u8], limits: &Limits) -> Result<usize, Refused> {
    let most = most_bytes(limits).saturating_sub(message.len());
    let mut walk = Walk { bytes: SCHEMA.message(request).bytes, most, limits };
    walk.message(request, message, 0)?;
    Ok(walk.bytes)
}

/// Bytes that a message and what is decoded from it may take. Small messages always pass.
fn most_bytes(limits: &Limits) -> usize {
    const SMALL: usize = 64 * 1024;
    limits.max_message_bytes.saturating_mul(MEMORY_FACTOR).max(SMALL)
}

struct Walk<'l> {
    /// Memory so far.
    bytes: usize,
    /// Memory allowed.
    most: usize,
    limits: &'l Limits,
}

impl Walk<'_> {
    fn message(&mut self, at: usize, mut rest: &[u8], depth: usize) -> Result<(), Refused> {
        if depth > MAX_DEPTH {
            return Err(Refused::Malformed("messages are nested more than 100 deep"));
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
            // What is refused for its count is only counted on.
            if too_many.is_none() {
                self.payload(field, payload, depth)?;
            }
        }
        if let Some((field, number)) = too_many {
            let (count, at_least) = (counts[number % COUNTED_FIELDS], !rest.is_empty());
            let limit = field.limit.map_or(0, |limit| self.limit(limit));
            return Err(Refused::TooMany(TooMany { field: &field.name, count, at_least, limit }));
        }
        // Containers have room for more than they hold.
        for (number, field) in message.fields().filter(|(_, field)| field.repeated) {
            let count = counts[number % COUNTED_FIELDS];
            let counted = count.saturating_mul(SCHEMA.element_bytes(field.kind));
            self.add(SCHEMA.container_bytes(field.kind, count).saturating_sub(counted))?;
        }
        Ok(())
    }

    /// What the content of a field takes, beside its place in the message.
    fn payload(&mut self, field: &Field, payload: &[u8], depth: usize) -> Result<(), Refused> {
        match field.kind {
            Kind::Text if !payload.is_empty() => self.add(payload.len() + ALLOCATION),
            Kind::Message(inner) => {
                // In a box, or in the message: count it either way.
                self.add(if field.repeated { 0 } else { SCHEMA.message(inner).bytes })?;
                self.message(inner, payload, depth + 1)
            }
            Kind::Entry(inner) => self.message(inner, payload, depth + 1),
            Kind::Text | Kind::Bytes | Kind::Varint(_) | Kind::Fixed(_) => Ok(()),
        }
    }

    fn add(&mut self, bytes: usize) -> Result<(), Refused> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.most {
            return Err(Refused::TooLarge { most: most_bytes(self.limits) });
        }
        Ok(())
    }

    fn limit(&self, limit: Limit) -> usize {
        match limit {
            Limit::Texts => self.limits.max_texts,
            Limit::Documents => self.limits.max_documents_per_message,
        }
    }
}

/// Items that one occurrence of a repeated field brings: numbers may come packed.
fn items(kind: Kind, wire: u64, payload: &[u8]) -> usize {
    match kind {
        Kind::Fixed(bytes) if wire == LENGTH_DELIMITED => payload.len() / bytes,
        Kind::Varint(_) if wire == LENGTH_DELIMITED => payload.iter().filter(|byte| **byte < 0x80).count(),
        _ => 1,
    }
}

const LENGTH_DELIMITED: u64 = 2;

/// What belongs to a key; `None` for the begin of a group, which is skipped in another way.
fn payload<'m>(wire: u64, rest: &mut &'m [u8]) -> Result<Option<&'m [u8]>, Refused> {
    let bytes = match wire {
        0 => {
            varint(rest)?;
            0
        }
        1 => 8,
        LENGTH_DELIMITED => usize::try_from(varint(rest)?).map_err(|_| ENDS_EARLY)?,
        3 => return Ok(None),
        5 => 4,
        _ => return Err(Refused::Malformed("a field has an unknown wire type")),
    };
    let (payload, after) = rest.split_at_checked(bytes).ok_or(ENDS_EARLY)?;
    *rest = after;
    Ok(Some(payload))
}

const ENDS_EARLY: Refused = Refused::Malformed("it ends within a field");

/// Skips a group, an old form of nesting that no field of ours has.
fn group(number: u64, rest: &mut &[u8]) -> Result<(), Refused> {
    let mut open = vec![number];
    while let Some(innermost) = open.last() {
        let key = varint(rest)?;
        match key & 7 {
            3 if open.len() > MAX_DEPTH => return Err(Refused::Malformed("groups are nested more than 100 deep")),
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

fn varint(rest: &mut &[u8]) -> Result<u64, Refused> {
    let mut value = 0;
    for (n, &byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * n).min(63);
        if byte < 0x80 {
            *rest = &rest[n + 1..];
            return Ok(value);
        }
    }
    Err(if rest.len() < 10 { ENDS_EARLY } else { Refused::Malformed("invalid varint") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::proto::{self, filter::Condition};

    fn of(method: &str, message: &[u8], limits: &Limits) -> Result<usize, Refused> {
        let request = SCHEMA.request(&format!("/cognate.v1.Cognate/{method}")).expect("a method");
        measure(request, message, limits)
    }

    fn too_many(field: &'static str, count: usize, at_least: bool, limit: usize) -> Result<usize, Refused> {
        Err(Refused::TooMany(TooMany { field, count, at_least, limit }))
    }

    #[test]
    fn items_are_counted_before_anything_is_allocated_for_them() {
        let limits = Limits { max_texts: 10, max_documents_per_message: 5, ..Limits::default() };
        let texts = |n| proto::EmbedRequest { texts: vec![String::new(); n], ..Default::default() }.encode_to_vec();
        assert!(of("Embed", &texts(10), &limits).is_ok());
        assert_eq!(of("Embed", &texts(11), &limits), too_many("texts", 11, false, 10));
        assert_eq!(of("EmbedStream", &texts(8_000_000), &limits), too_many("texts", 80, true, 10));
        let documents = proto::UploadRequest { documents: vec![proto::Document::default(); 6], ..Default::default() };
        assert_eq!(of("Upload", &documents.encode_to_vec(), &limits), too_many("documents", 6, false, 5));
        let b = proto::SimilarityRequest { a: vec!["a".into()], b: vec!["b".into(); 11], ..Default::default() };
        assert_eq!(of("Similarity", &b.encode_to_vec(), &limits), too_many("b", 11, false, 10));
        let queries = proto::TopKRequest { queries: vec![proto::Query::default(); 11], ..Default::default() };
        assert_eq!(of("TopK", &queries.encode_to_vec(), &limits), too_many("queries", 11, false, 10));
    }

    #[test]
    fn the_error_names_field_count_and_limit() {
        let refused = TooMany { field: "texts", count: 11, at_least: false, limit: 10 };
        let failure = Failure::from(Refused::TooMany(refused));
        assert_eq!(tonic::Status::from(failure).message(), "texts: 11 items exceed the limit of 10");
    }

    /// A list of `n` empty values, 2 bytes each on the wire, in the metadata of a document.
    fn list_in_metadata(n: usize) -> Vec<u8> {
        let values = vec![prost_types::Value { kind: None }; n];
        let list = prost_types::value::Kind::ListValue(prost_types::ListValue { values });
        let fields = [("k".to_owned(), prost_types::Value { kind: Some(list) })].into();
        let document = proto::Document { metadata: Some(prost_types::Struct { fields }), ..Default::default() };
        proto::UploadRequest { documents: vec![document], ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn small_items_without_a_limit_of_their_own_are_bounded_by_what_they_take() {
        let limits = Limits { max_message_bytes: 1 << 20, ..Limits::default() };
        let most = 4 << 20;
        assert!(list_in_metadata(400_000).len() < 1 << 20);
        assert_eq!(of("Upload", &list_in_metadata(400_000), &limits), Err(Refused::TooLarge { most }));
        assert!(of("Upload", &list_in_metadata(10_000), &limits).is_ok());
        let filters = proto::filter::List { filters: vec![proto::Filter::default(); 400_000] };
        let filter = Some(proto::Filter { condition: Some(Condition::And(filters)) });
        let listed = proto::ListDocumentsRequest { filter, ..Default::default() }.encode_to_vec();
        assert_eq!(of("ListDocuments", &listed, &limits), Err(Refused::TooLarge { most }));
        // Objects of one entry, within each other's list: 640 bytes for a dozen.
        let entry = prost_types::Struct { fields: [(String::new(), prost_types::Value { kind: None })].into() };
        let kind = prost_types::value::Kind::StructValue(entry);
        let values = vec![prost_types::Value { kind: Some(kind) }; 50_000];
        let equals = proto::filter::In { path: Some("p".into()), values };
        let filter = Some(proto::Filter { condition: Some(Condition::In(equals)) });
        let listed = proto::ListDocumentsRequest { filter, ..Default::default() }.encode_to_vec();
        assert!(listed.len() < 1 << 20);
        assert_eq!(of("ListDocuments", &listed, &limits), Err(Refused::TooLarge { most }));
    }

    #[test]
    fn what_clients_send_is_far_from_the_bound() {
        let limits = Limits::default();
        // As many texts as fit, and documents with vectors and metadata.
        let texts = proto::EmbedRequest { texts: vec!["t".repeat(16_000); 1024], ..Default::default() };
        let bytes = texts.encode_to_vec();
        assert!(of("Embed", &bytes, &limits).is_ok(), "{}", bytes.len());
        let fields = (0..10).map(|n| {
            let kind = prost_types::value::Kind::StringValue("a value".into());
            (format!("key {n}"), prost_types::Value { kind: Some(kind) })
        });
        let document = proto::Document {
            id: "an id".into(),
            text: "a text".into(),
            metadata: Some(prost_types::Struct { fields: fields.collect() }),
            vector: Some(proto::Vector { values: vec![0.5; 384], ..Default::default() }),
        };
        let upload = proto::UploadRequest { documents: vec![document; 8_500], ..Default::default() }.encode_to_vec();
        assert!(upload.len() > 14 << 20);
        let measured = of("Upload", &upload, &limits);
        assert!(measured.as_ref().is_ok_and(|bytes| *bytes < 48 << 20), "{measured:?}");
    }

    #[test]
    fn groups_and_unknown_fields_are_skipped_and_broken_ones_refused() {
        let limits = Limits::default();
        let known = [0x0a, 1, b'a'];
        let group = [0xfb, 0x06, 0x08, 5, 0x13, 0x14, 0xfc, 0x06]; // field 111, with a varint and field 2 within it
        let unknown = [0xfa, 0x06, 3, 1, 2, 3];
        assert!(of("Embed", &[&known[..], &group, &unknown, &known].concat(), &limits).is_ok());
        for broken in [&[0x0a, 9, b'a'][..], &[0xff; 12], &[0x0a], &[0x0e, 1], &[0x0c], &[0xfb, 0x06], &[0x0d, 1]] {
            let refused = of("Embed", broken, &limits);
            assert!(matches!(refused, Err(Refused::Malformed(_))), "{broken:?}: {refused:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_through(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for request in ["Embed", "TopK", "Upload", "ListDocuments"] {
                // A refusal or not, but no panic; what prost takes is never malformed.
                let walked = of(request, &bytes, &Limits::default());
                if request == "TopK" && proto::TopKRequest::decode(&*bytes).is_ok() {
                    prop_assert!(walked.is_ok(), "{:?}", walked);
                }
            }
        }
    }
}
