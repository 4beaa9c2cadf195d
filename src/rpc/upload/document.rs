//! The checks of one document of an upload. A document that passes them cannot be wrong below `rpc`.

use super::super::limits::MAX_PASSAGES;
use super::super::status::Failure;
use super::super::{Limits, parse, vector};
use crate::collection::{Content, DocId, Metadata, Span, Vectors};
use crate::wire;
use crate::wire::metadata;

/// A document whose fields are valid.
pub struct Checked {
    /// Its id.
    pub id: DocId,
    /// Its text and metadata.
    pub content: Content,
    /// The client's vectors; `None` if they must be computed.
    pub vectors: Option<Vectors>,
}

/// Checks document `n` of a message.
pub fn check(limits: &Limits, dimensions: usize, n: usize, document: wire::Document) -> Result<Checked, Failure> {
    let field = |name: &str| format!("documents[{n}].{name}");
    let id = parse::id(&field("id"), &document.id, limits)?;
    parse::text(&field("text"), &document.text, limits)?;
    let metadata = match &document.metadata {
        Some(given) => Some(check_metadata(&field("metadata"), given, limits.max_metadata_bytes)?),
        None => None,
    };
    let vectors = match &document.vector {
        Some(_) if !document.passages.is_empty() => {
            return Err(Failure::invalid(field("vector"), "is set together with passages: set only one of them"));
        }
        Some(given) => Some(Vectors::Whole(vector::read(&field("vector"), given, dimensions)?)),
        None if !document.passages.is_empty() => Some(check_passages(&field("passages"), &document, dimensions)?),
        None if document.text.is_empty() => {
            return Err(Failure::invalid(field("text"), "is empty: set text or vector"));
        }
        None => None,
    };
    Ok(Checked { id, content: Content { text: document.text.into(), metadata }, vectors })
}

/// Checks the passages of a client.
fn check_passages(field: &str, document: &wire::Document, dimensions: usize) -> Result<Vectors, Failure> {
    let count = document.passages.len();
    if count > MAX_PASSAGES {
        return Err(Failure::invalid(field, format!("{count} items exceed the limit of {MAX_PASSAGES}")));
    }
    let passage = |(n, given): (usize, &wire::Passage)| {
        let field = |name: &str| format!("{field}[{n}].{name}");
        let vector = given.vector.as_ref().ok_or_else(|| Failure::invalid(field("vector"), "is missing"))?;
        let only_in_hits = [("score", given.score != 0.0), ("text", !given.text.is_empty())];
        if let Some((name, _)) = only_in_hits.into_iter().find(|(_, is_set)| *is_set) {
            return Err(Failure::invalid(field(name), "is set, but it is only in hits: leave it out"));
        }
        let span = Span { start: given.start, end: given.end };
        Ok((span, vector::read(&field("vector"), vector, dimensions)?))
    };
    let passages = document.passages.iter().enumerate().map(passage).collect::<Result<_, Failure>>()?;
    Vectors::of_passages(&document.text, passages).map_err(|error| Failure::invalid(field, error.to_string()))
}

fn check_metadata(field: &str, given: &prost_types::Struct, limit: usize) -> Result<Metadata, Failure> {
    let metadata = metadata::to_json(given).map_err(|error| Failure::invalid(field, error.to_string()))?;
    let metadata = Metadata::new(&metadata);
    let bytes = metadata.as_json().len();
    if bytes > limit {
        return Err(Failure::invalid(field, format!("{bytes} bytes as JSON exceed the limit of {limit}")));
    }
    Ok(metadata)
}
