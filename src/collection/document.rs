//! A document, and the names it goes by.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::embedder::Embedding;

/// A document's id: not empty, unique in its collection, ordered by bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocId(Arc<str>);

impl DocId {
    /// `None` if `id` is empty.
    pub fn new(id: &str) -> Option<Self> {
        (!id.is_empty()).then(|| Self(id.into()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A document that is ready to be stored.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its id.
    pub id: DocId,
    /// Its content.
    pub content: Arc<Content>,
    /// What it is found by.
    pub embedding: Embedding,
}

/// What a document says; shared with readers, so that a search copies no text under its lock.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    /// Its text; may be empty.
    pub text: String,
    /// Its metadata; `None` if it came without.
    pub metadata: Option<Map<String, Value>>,
}

impl Content {
    /// Estimated bytes in memory: text, and metadata with the overhead of its tree, which filters need a second time.
    pub fn bytes(&self) -> usize {
        self.text.len() + 2 * self.metadata.as_ref().map_or(0, map_bytes)
    }
}

/// A map node costs about 64 bytes beside its key.
const NODE_BYTES: usize = 64;

fn map_bytes(map: &Map<String, Value>) -> usize {
    map.iter().map(|(key, value)| NODE_BYTES + key.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(s) => s.len(),
        Value::Array(values) => values.iter().map(|v| size_of::<Value>() + value_bytes(v)).sum(),
        Value::Object(map) => map_bytes(map),
    }
}
