//! Documents as the engine stores them.
//!
//! ```text
//! {"id", "text", "metadata": JSON text, "vectors": base64, "spans": [start, end, …]}   what is read back
//! {"tokens", "single", "words", "length", "passages": [{"vector": […]}]}              what is searched by
//! ```
//! The vectors are there twice: as numbers for the graph, which the engine does not give back, and as little-endian
//! f32 in base64, so that Get and Export return every bit.
//!
//! Invariant: what is read equals what was written: id, text, the text of the metadata, spans, and the bits of vectors.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::Error;
use super::tokens::Tokens;
use crate::collection::{Content, DocId, Kept, Listed, Metadata, Span, StoredVectors};
use crate::index::Vector;
use crate::kernel::embedding::Embedding;
use crate::lexical::TermReader;

/// A document in a request.
#[derive(Serialize)]
struct Written<'d> {
    id: &'d str,
    text: &'d str,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'d str>,
    vectors: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    spans: Vec<u32>,
    passages: Vec<WrittenPassage<'d>>,
    #[serde(flatten)]
    words: Option<WrittenWords>,
    tokens: Vec<String>,
    single: Vec<String>,
}

#[derive(Serialize)]
struct WrittenPassage<'d> {
    vector: &'d [f32],
}

#[derive(Serialize)]
struct WrittenWords {
    words: String,
    length: usize,
}

/// A document in an answer.
#[derive(Debug, Deserialize)]
pub(super) struct Source {
    id: String,
    text: String,
    #[serde(default)]
    metadata: Option<String>,
    vectors: String,
    #[serde(default)]
    spans: Vec<u32>,
}

/// The state of a document on which a change depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub sequence: u64,
    pub term: u64,
}

/// A change of one document, as two lines of a request, or as one.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub id: DocId,
    pub lines: Vec<u8>,
}

impl Change {
    /// Stores a document, or only if it still has this version.
    pub fn store<'d>(
        id: &DocId,
        content: &Content,
        rows: impl Iterator<Item = (Option<Span>, &'d [f32])>,
        words: Option<&mut TermReader>,
        only: Option<Version>,
    ) -> Self {
        let (mut spans, mut passages, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for (span, vector) in rows {
            spans.extend(span.iter().flat_map(|span| [span.start, span.end]));
            bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
            passages.push(WrittenPassage { vector });
        }
        let Tokens { all, single } = Tokens::of(&content.metadata.as_ref().map(Metadata::fields).unwrap_or_default());
        let terms = words.map(|reader| reader.terms(&content.text)).filter(|terms| !terms.is_empty());
        let words = terms.map(|terms| WrittenWords { length: terms.len(), words: terms.join(" ") });
        let written = Written {
            id: id.as_str(),
            text: &content.text,
            metadata: content.metadata.as_ref().map(Metadata::as_json),
            vectors: BASE64.encode(bytes),
            spans,
            passages,
            words,
            tokens: all,
            single,
        };
        let mut lines = action("index", id, only);
        serde_json::to_writer(&mut lines, &written).expect("writing to memory does not fail");
        lines.push(b'\n');
        Self { id: id.clone(), lines }
    }

    /// Removes a document, or only if it still has this version.
    pub fn remove(id: &DocId, only: Option<Version>) -> Self {
        Self { id: id.clone(), lines: action("delete", id, only) }
    }
}

fn action(kind: &str, id: &DocId, only: Option<Version>) -> Vec<u8> {
    let mut target = json!({ "_id": id.as_str() });
    if let Some(Version { sequence, term }) = only {
        target["if_seq_no"] = sequence.into();
        target["if_primary_term"] = term.into();
    }
    let mut line = json!({ kind: target }).to_string().into_bytes();
    line.push(b'\n');
    line
}

impl Source {
    /// The bytes of memory that the document takes, about.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.metadata.as_ref().map_or(0, String::len) + self.vectors.len()
    }

    /// The document, with vectors of this length.
    pub fn into_listed(self, dimensions: usize) -> Result<Listed, Error> {
        let wrong = |what: &str| Error::unexpected(format!("the document {} has wrong {what}", self.id));
        let bytes = BASE64.decode(&self.vectors).map_err(|_| wrong("vectors"))?;
        let row_bytes = dimensions * size_of::<f32>();
        if bytes.is_empty() || bytes.len() % row_bytes != 0 {
            return Err(wrong("vectors"));
        }
        let number = |four: &[u8]| f32::from_le_bytes(four.try_into().expect("chunks of four"));
        let row = |bytes: &[u8]| {
            let row =
                Embedding::restored(bytes.chunks_exact(4).map(number).collect()).ok_or_else(|| wrong("vectors"))?;
            Ok::<_, Error>(Vector::from(Arc::<[f32]>::from(row.into_values())))
        };
        let mut rows = bytes.chunks_exact(row_bytes).map(row);
        let vectors = match (self.spans.len(), rows.len()) {
            (0, 1) => StoredVectors::Whole(rows.next().ok_or_else(|| wrong("vectors"))??),
            (n, n_rows) if n == 2 * n_rows => {
                let spans = self.spans.chunks_exact(2).map(|two| Span { start: two[0], end: two[1] });
                let is_sound = |span: &Span| span.of(&self.text).is_some();
                let passages = spans.zip(rows).map(|(span, row)| {
                    Some(span).filter(is_sound).ok_or_else(|| wrong("passages")).and_then(|span| Ok((span, row?)))
                });
                StoredVectors::Passages(passages.collect::<Result<_, Error>>()?)
            }
            _ => return Err(wrong("passages")),
        };
        let metadata = match &self.metadata {
            Some(json) => Some(Metadata::from_json(json).ok_or_else(|| wrong("metadata"))?),
            None => None,
        };
        let id = DocId::new(&self.id).ok_or_else(|| wrong("id"))?;
        let kept = Arc::new(Kept::without_text(metadata, &self.text));
        Ok(Listed { id, text: self.text.into(), kept, vectors })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::collection::any_metadata;

    proptest! {
        #[test]
        fn a_document_is_read_as_it_was_written(
            text in ".{1,40}", metadata in any_metadata(),
            rows in prop::collection::vec(prop::array::uniform3(-1.0f32..1.0), 1..4),
        ) {
            let unit = |row: [f32; 3]| Embedding::normalized(row.to_vec()).ok();
            let rows: Vec<Embedding> = rows.into_iter().filter_map(unit).collect();
            prop_assume!(!rows.is_empty());
            let content = Content::new(text.as_str(), metadata.as_ref());
            // Any spans that are not empty and end between characters.
            let ends: Vec<u32> = text.char_indices().map(|(at, char)| (at + char.len_utf8()) as u32).collect();
            let span = |n: usize| (rows.len() > 1).then_some(Span { start: 0, end: ends[n % ends.len()] });
            let with_spans = rows.iter().enumerate().map(|(n, row)| (span(n), row.values()));
            let id = DocId::new(&text).unwrap();
            let change = Change::store(&id, &content, with_spans.clone(), None, None);
            let lines = String::from_utf8(change.lines).unwrap();
            let (action, document) = lines.split_once('\n').unwrap();
            let action: serde_json::Value = serde_json::from_str(action).unwrap();
            prop_assert_eq!(&action, &json!({"index": {"_id": text}}));
            let read = serde_json::from_str::<Source>(document).unwrap().into_listed(3).unwrap();
            prop_assert_eq!((&read.id, &read.text), (&id, &content.text));
            prop_assert_eq!(&read.kept.metadata, &content.metadata);
            let read: Vec<(Option<Span>, Vec<f32>)> = match &read.vectors {
                StoredVectors::Whole(row) => vec![(None, row.to_vec())],
                StoredVectors::Passages(rows) => rows.iter().map(|(span, row)| (Some(*span), row.to_vec())).collect(),
            };
            let written: Vec<_> = with_spans.map(|(span, row)| (span, row.to_vec())).collect();
            prop_assert_eq!(read, written);
        }
    }

    #[test]
    fn a_document_of_another_shape_is_not_understood() {
        let of = |json: serde_json::Value| serde_json::from_value::<Source>(json).unwrap().into_listed(1).is_ok();
        let one = BASE64.encode(1.0f32.to_le_bytes());
        let [two, half, no_number] = [[1.0, -1.0].as_slice(), &[0.5], &[f32::NAN]]
            .map(|row| BASE64.encode(row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()));
        assert!(of(json!({"id": "a", "text": "ab", "vectors": two, "spans": [0, 1, 1, 2]})));
        for spans in [[0, 1, 1, 3], [0, 1, 2, 1], [0, 1, 1, 1]] {
            assert!(!of(json!({"id": "a", "text": "ab", "vectors": two, "spans": spans})), "{spans:?}");
        }
        assert!(!of(json!({"id": "a", "text": "", "vectors": half})));
        assert!(!of(json!({"id": "a", "text": "", "vectors": no_number})));
        assert!(of(json!({"id": "a", "text": "", "vectors": one})));
        assert!(!of(json!({"id": "", "text": "", "vectors": one})));
        assert!(!of(json!({"id": "a", "text": "", "vectors": ""})));
        assert!(!of(json!({"id": "a", "text": "", "vectors": "AAA="})));
        assert!(!of(json!({"id": "a", "text": "", "vectors": one, "spans": [0]})));
        assert!(!of(json!({"id": "a", "text": "", "vectors": one, "metadata": "[]"})));
    }
}
