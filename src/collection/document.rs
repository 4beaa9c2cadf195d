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
    /// The origin of the vectors.
    pub origin: Origin,
}

/// The origin of a document's vectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    /// The collection's model made them from the document's text.
    #[default]
    Model,
    /// They came with the document: another model or other data than its text may have made them.
    Client,
}

/// Text and metadata of a document that is to be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// Text; may be empty.
    pub text: Arc<str>,
    /// Metadata; `None` if the document came without.
    pub metadata: Option<Metadata>,
}

impl Content {
    /// Makes a content with these fields as metadata, if any are given.
    pub fn new(text: impl Into<Arc<str>>, fields: Option<&Map<String, Value>>) -> Self {
        Self { text: text.into(), metadata: fields.map(Metadata::new) }
    }

    /// Bytes of the text.
    pub fn text_bytes(&self) -> u32 {
        bytes_of(&self.text)
    }
}

/// The part of a document's content that stays in memory. Readers share it, so a search copies nothing while it holds
/// the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Metadata; `None` if the document came without.
    pub metadata: Option<Metadata>,
    /// The text, or its length.
    pub(super) text: KeptText,
}

/// A text in memory, or the length of one that is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum KeptText {
    Here(Arc<str>),
    Elsewhere { bytes: u32 },
}

impl Kept {
    /// Keeps all of a content.
    pub(super) fn whole(Content { text, metadata }: Content) -> Self {
        Self { metadata, text: KeptText::Here(text) }
    }

    /// Keeps the metadata of a document whose text is elsewhere.
    pub fn without_text(metadata: Option<Metadata>, text: &str) -> Self {
        Self { metadata, text: KeptText::Elsewhere { bytes: bytes_of(text) } }
    }

    /// The fields of the metadata, parsed anew by each call; `None` if the document came without.
    pub fn fields(&self) -> Option<Map<String, Value>> {
        self.metadata.as_ref().map(Metadata::fields)
    }

    /// Bytes of the text.
    pub(super) fn text_bytes(&self) -> u32 {
        match &self.text {
            KeptText::Here(text) => bytes_of(text),
            KeptText::Elsewhere { bytes } => *bytes,
        }
    }

    /// Bytes of a text that has to be read; 0: it is in memory.
    pub fn text_bytes_elsewhere(&self) -> usize {
        if let KeptText::Elsewhere { bytes } = self.text { bytes as usize } else { 0 }
    }

    /// Bytes of memory behind the `Arc`. `text`: the length of a text that is kept.
    pub(super) fn bytes_with(text: Option<usize>, metadata: Option<&Metadata>) -> usize {
        allocator::shared(size_of::<Self>()) + text.map_or(0, allocator::shared) + metadata.map_or(0, Metadata::bytes)
    }
}

fn bytes_of(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}
