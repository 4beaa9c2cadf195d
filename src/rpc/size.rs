//! Sizes of parts of an answer when encoded, computed before they are copied out of a collection.
//!
//! Invariant: each function returns exactly prost's `encoded_len` of the message that it measures.

use prost::encoding::encoded_len_varint;
use serde_json::{Map, Value};

use super::limits::Limits;
use crate::collection::filter::Scalar;
use crate::collection::{Facet, Listed, Span, StoredVectors};
use crate::index::Vector;
use crate::wire::VectorFormat;

/// Bytes of a page: clients read messages of 4 MiB by default, and the token needs some of them.
const PAGE_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;

/// A message that is filled with as many items as fit.
pub struct Page {
    bytes: usize,
    limit: usize,
}

impl Page {
    /// An empty page: up to 4 MiB, and at most half of the message limit.
    pub fn new(limits: &Limits) -> Self {
        Self { bytes: 0, limit: PAGE_BYTES.min(limits.max_message_bytes / 2) }
    }

    /// Bytes of the items on the page.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an item of `bytes` to the page's one repeated field if it fits. Returns true if it was added; the first
    /// item always is.
    pub fn takes(&mut self, bytes: usize) -> bool {
        let (before, after) = (self.bytes, self.bytes + field(bytes));
        let takes = before == 0 || after <= self.limit;
        self.bytes = if takes { after } else { before };
        takes
    }
}

/// Bytes of a string, bytes, message or packed field with `bytes` of content. Its tag is one byte for fields 1 to 15.
pub fn field(bytes: usize) -> usize {
    1 + encoded_len_varint(bytes as u64) + bytes
}

/// Bytes of a field that is omitted when empty.
fn non_empty(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { field(bytes) }
}

/// Bytes of a whole number that is omitted when 0.
pub fn varint(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + encoded_len_varint(value) }
}

/// Bytes of a `Vector` with `dimensions` in a format; a VECTOR_FORMAT_INT8 of zeros alone has 5 less.
pub fn vector(dimensions: usize, format: VectorFormat) -> usize {
    let bytes = match format {
        VectorFormat::Unspecified | VectorFormat::F32 | VectorFormat::F32Bytes => 4 * dimensions,
        VectorFormat::F16Bytes => 2 * dimensions,
        VectorFormat::Int8 => dimensions,
        VectorFormat::Binary => dimensions.div_ceil(8),
    };
    let scale = if format == VectorFormat::Int8 { SCALE } else { 0 };
    non_empty(bytes) + varint(1) + varint(dimensions as u64) + scale
}

/// Bytes of the scale of a vector.
const SCALE: usize = 5;

/// Bytes of a `Document`, with its vectors in a format or without.
pub fn document(listed: &Listed, vectors_as: Option<VectorFormat>) -> usize {
    let Listed { id, text, kept, vectors } = listed;
    let vectors = vectors_as.map_or(0, |format| match vectors {
        StoredVectors::Whole(row) => field(vector(row.len(), format)),
        StoredVectors::Passages(passages) => {
            let passage = |(span, row): &(Span, Vector)| span_bytes(*span) + field(vector(row.len(), format));
            passages.iter().map(|one| field(passage(one))).sum()
        }
    });
    non_empty(id.as_str().len())
        + non_empty(text.len())
        + kept.fields().map_or(0, |metadata| field(object(&metadata)))
        + vectors
}

/// Bytes of the place of a `Passage`.
pub fn span_bytes(span: Span) -> usize {
    varint(span.start.into()) + varint(span.end.into())
}

/// Bytes of a `Passage` of a hit whose score is not 0.
pub fn passage(span: Span, text_bytes: usize) -> usize {
    span_bytes(span) + SCORE + non_empty(text_bytes)
}

/// Bytes of a score that is not 0.
const SCORE: usize = 5;

/// The parts of a `Hit` that decide its size.
pub struct Hit<'a> {
    /// The document's id; empty for a candidate.
    pub id: &'a str,
    /// The text; empty if it was not asked for.
    pub text: &'a str,
    /// The metadata, if there is some and it was asked for.
    pub metadata: Option<&'a Map<String, Value>>,
    /// Dimensions and format of the vector, if it was asked for.
    pub vector: Option<(usize, VectorFormat)>,
    /// The value of the group, if the hit has one.
    pub group: Option<&'a Value>,
    /// True if it has the parts of its score.
    pub has_scores: bool,
    /// Bytes of the passages that it tells of, as fields.
    pub passages: usize,
}

impl Hit<'_> {
    /// Bytes of a message whose score is not 0, with both parts of it if it has some, and that is not a candidate;
    /// other messages have up to 11 bytes less, or 6 more.
    pub fn bytes(&self) -> usize {
        non_empty(self.id.len())
            + SCORE
            + non_empty(self.text.len())
            + self.metadata.map_or(0, |metadata| field(object(metadata)))
            + self.vector.map_or(0, |(dimensions, format)| field(vector(dimensions, format)))
            + self.group.map_or(0, |group| field(value(group)))
            + if self.has_scores { field(2 * SCORE) } else { 0 }
            + self.passages
    }
}

/// Bytes of a `google.protobuf.Struct`.
fn object(fields: &Map<String, Value>) -> usize {
    fields.iter().map(|(key, of_key)| field(non_empty(key.len()) + entry_value(of_key))).sum()
}

/// Bytes of a `Facet`, or up to 40 more.
pub fn facet(path: &str, facet: &Facet) -> usize {
    const NUMBERS: usize = 3 * 9 + 11;
    let value = |(scalar, documents): &(Scalar, u64)| field(field(self::scalar(scalar)) + varint(*documents));
    non_empty(path.len())
        + varint(facet.documents)
        + facet.values.iter().map(value).sum::<usize>()
        + varint(facet.distinct)
        + facet.numbers.map_or(0, |_| field(NUMBERS))
}

/// Bytes of a `google.protobuf.Value` that is a scalar.
fn scalar(of: &Scalar) -> usize {
    match of {
        Scalar::Null | Scalar::Bool(_) => 2,
        Scalar::Number(_) => 9,
        Scalar::Text(text) => field(text.len()),
    }
}

/// Bytes of the value of a map entry. prost omits default values, but a value here always has a kind.
fn entry_value(of_key: &Value) -> usize {
    field(value(of_key))
}

/// Bytes of a `google.protobuf.Value`.
fn value(of: &Value) -> usize {
    match of {
        Value::Null | Value::Bool(_) => 2,
        Value::Number(_) => 9,
        Value::String(text) => field(text.len()),
        Value::Array(items) => field(items.iter().map(|item| field(value(item))).sum()),
        Value::Object(map) => field(object(map)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message;
    use serde_json::json;

    use super::super::documents;
    use super::*;
    use crate::collection::{Content, DocId, Kept, Metadata};
    use crate::wire;
    use crate::wire::{metadata, vector};

    const FORMATS: [VectorFormat; 5] =
        [VectorFormat::F32, VectorFormat::F32Bytes, VectorFormat::F16Bytes, VectorFormat::Int8, VectorFormat::Binary];

    fn contents() -> Vec<Content> {
        let metadata = [
            None,
            Some(json!({})),
            Some(json!({ "": null, "a": false, "b": 0, "c": 1.5, "d": "", "e": [], "f": {}, "g": [1, [true, {}]] })),
            Some(json!({ "long": "x".repeat(300), "deep": { "er": { "k".repeat(200): ["y".repeat(20_000), -3] } } })),
        ];
        let texts = ["", "a", &"é".repeat(100), &"t".repeat(70_000)].map(str::to_owned);
        let content = |metadata: &Option<Value>, text: &String| {
            Content::new(text.as_str(), metadata.as_ref().and_then(Value::as_object))
        };
        metadata
            .iter()
            .flat_map(|metadata| texts.iter().map(|text| content(metadata, text)).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn the_size_of_a_document_is_its_encoded_length() {
        let vector = |n: usize| Vector::from(Arc::<[f32]>::from(vec![0.5; n]));
        let span = |start, end| Span { start, end };
        for content in contents() {
            for dimensions in [1, 31, 384, 5000] {
                let passages = Box::new([(span(0, 70), vector(dimensions)), (span(60, 70_000), vector(dimensions))]);
                for vectors in [StoredVectors::Whole(vector(dimensions)), StoredVectors::Passages(passages)] {
                    let id = DocId::new("an id").unwrap();
                    let kept = Arc::new(Kept::without_text(content.metadata.clone(), &content.text));
                    let listed = Listed { id, text: Arc::clone(&content.text), kept, vectors };
                    for format in FORMATS.map(Some).into_iter().chain([None]) {
                        let written = documents::document(&listed, format).encoded_len();
                        assert_eq!(document(&listed, format), written, "{dimensions} {format:?} {listed:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_size_of_a_vector_in_any_format_is_its_encoded_length() {
        for format in FORMATS {
            for n in [1, 9, 384, 4096] {
                let written = vector::write(vec![0.5; n], format).encoded_len();
                assert_eq!(super::vector(n, format), written, "{n} {format:?}");
            }
        }
        let zeros = vector::write(vec![0.0; 9], VectorFormat::Int8).encoded_len();
        assert_eq!(super::vector(9, VectorFormat::Int8), zeros + SCALE);
    }

    fn told(start: u32, end: u32, text: &str) -> wire::Passage {
        wire::Passage { start, end, score: 0.25, text: text.to_owned(), vector: None }
    }

    #[test]
    fn the_size_of_a_hit_is_its_encoded_length() {
        for content in contents() {
            let (group, fields) = (json!("g".repeat(200)), content.metadata.as_ref().map(Metadata::fields));
            for format in FORMATS.map(Some).into_iter().chain([None]) {
                let written = wire::Hit {
                    id: "i".repeat(200),
                    score: 0.5,
                    text: content.text.to_string(),
                    metadata: fields.as_ref().map(metadata::from_json),
                    vector: format.map(|format| vector::write(vec![0.5; 384], format)),
                    candidate: None,
                    group: Some(metadata::value_from_json(&group)),
                    passage: Some(told(0, 300, "a text")),
                    passages: vec![told(300, 70_000, "")],
                    scores: format.map(|_| wire::Scores { vector: Some(0.5), lexical: Some(2.0), rerank: None }),
                };
                let size = |passage: &wire::Passage| {
                    let span = Span { start: passage.start, end: passage.end };
                    field(super::passage(span, passage.text.len()))
                };
                let measured = Hit {
                    id: &written.id,
                    text: &content.text,
                    metadata: fields.as_ref(),
                    vector: format.map(|format| (384, format)),
                    group: Some(&group),
                    has_scores: format.is_some(),
                    passages: written.passage.iter().chain(&written.passages).map(size).sum(),
                };
                assert_eq!(measured.bytes(), written.encoded_len());
            }
        }
    }

    #[test]
    fn a_page_ends_before_the_item_that_does_not_fit_and_is_never_empty() {
        let limits = Limits { max_message_bytes: 2_000, ..Limits::default() };
        let fits = |sizes: &[usize]| {
            let mut page = Page::new(&limits);
            sizes.iter().take_while(|&&bytes| page.takes(bytes)).count()
        };
        assert_eq!(fits(&[5_000, 1]), 1);
        assert_eq!(fits(&[497, 497, 1]), 2);
        assert_eq!(fits(&[498, 497]), 1);
    }
}
