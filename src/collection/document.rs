//! A document, and the names it goes by.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::metadata::Metadata;
use crate::embedder::Embedding;
use crate::machine::allocator;

/// A document's id: not empty, unique in its collection, ordered by bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocId(Arc<str>);

impl DocId {
    /// `None` if `id` is empty.
    pub fn new(id: &str) -> Option<Self> {
        (!id.is_empty()).then(|| Self(id.into()))
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        allocator::shared(self.0.len())
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Its text; may be empty.
    pub text: Box<str>,
    /// Its metadata; `None` if it came without.
    pub metadata: Option<Metadata>,
}

impl Content {
    /// With these fields as metadata, if any are given.
    pub fn new(text: impl Into<Box<str>>, fields: Option<&Map<String, Value>>) -> Self {
        Self { text: text.into(), metadata: fields.map(Metadata::new) }
    }

    /// The fields of its metadata, made anew by each call; `None` if it came without.
    pub fn fields(&self) -> Option<Map<String, Value>> {
        self.metadata.as_ref().map(Metadata::fields)
    }

    /// Bytes in memory, where it is shared.
    pub fn bytes(&self) -> usize {
        allocator::shared(size_of::<Self>())
            + allocator::allocated(self.text.len())
            + self.metadata.as_ref().map_or(0, Metadata::bytes)
    }
}
