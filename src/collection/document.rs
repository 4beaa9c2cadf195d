//! A document and its parts: id, content, vectors.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::metadata::Metadata;
use super::passages::Vectors;
use crate::machine::allocator;

/// A document's id: not empty, unique in its collection, ordered by bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocId(Arc<str>);

impl DocId {
    /// Checks an id; `None` if it is empty.
    pub fn new(id: &str) -> Option<Self> {
        (!id.is_empty()).then(|| Self(id.into()))
    }

    /// Bytes of memory that the id takes.
    pub fn bytes(&self) -> usize {
        allocator::shared(self.0.len())
    }

    /// The id as text.
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
    /// The vectors that searches compare with.
    pub vectors: Vectors,
}

/// Text and metadata of a document. Readers share it, so a search copies no text while it holds the lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Text; may be empty.
    pub text: Box<str>,
    /// Metadata; `None` if the document came without.
    pub metadata: Option<Metadata>,
}

impl Content {
    /// Makes a content with these fields as metadata, if any are given.
    pub fn new(text: impl Into<Box<str>>, fields: Option<&Map<String, Value>>) -> Self {
        Self { text: text.into(), metadata: fields.map(Metadata::new) }
    }

    /// The fields of the metadata, parsed anew by each call; `None` if the document came without.
    pub fn fields(&self) -> Option<Map<String, Value>> {
        self.metadata.as_ref().map(Metadata::fields)
    }

    /// Bytes of memory that the content takes, behind its `Arc`.
    pub fn bytes(&self) -> usize {
        allocator::shared(size_of::<Self>())
            + allocator::allocated(self.text.len())
            + self.metadata.as_ref().map_or(0, Metadata::bytes)
    }
}
