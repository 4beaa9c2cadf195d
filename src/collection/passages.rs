//! The passages of a document: parts of its text, each with a vector of its own.
//!
//! A long text is cut into passages before it comes here. The ordinary document is one passage, its whole text, and
//! nothing is stored for that beyond its vector.
//!
//! Invariant: of several passages each is a part of the text that begins and ends between two characters, and a later
//! one begins behind the beginning of the one before. Passages may overlap.

use serde::{Deserialize, Serialize};

use crate::index::{Slot, Vector};
use crate::kernel::embedding::Embedding;
use crate::machine::allocator;

/// The sizes of a collection's passages, in tokens of its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassageSizes {
    /// The most tokens of a passage, special tokens and prompt included.
    pub max_tokens: u32,
    /// Tokens that a passage repeats from the end of the one before it, at most.
    pub overlap_tokens: u32,
}

/// The bytes of a text that a passage takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

impl Span {
    /// The span of a range of bytes; `None` if a text cannot be that long.
    pub fn new(range: &std::ops::Range<usize>) -> Option<Self> {
        Some(Self { start: u32::try_from(range.start).ok()?, end: u32::try_from(range.end).ok()? })
    }

    /// The span of a whole text.
    pub fn whole(text: &str) -> Self {
        Self { start: 0, end: u32::try_from(text.len()).unwrap_or(u32::MAX) }
    }

    /// The part of the text; `None` if the span is empty, or does not lie between two characters of the text.
    pub fn of(self, text: &str) -> Option<&str> {
        text.get(self.start as usize..self.end as usize).filter(|part| !part.is_empty())
    }
}

/// The vectors of a document.
#[derive(Debug, Clone)]
pub enum Vectors {
    /// One vector for the whole text.
    Whole(Embedding),
    /// A vector for each of several passages: made by [`Vectors::of_passages`].
    Passages(Box<[(Span, Embedding)]>),
}

/// A passage that is not one of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPassages {
    /// There are fewer than two.
    #[error("a document has two passages or more, or a single vector for its whole text")]
    TooFew,
    /// One lies outside of the text, is empty, or begins or ends within a character.
    #[error("bytes {} to {} are not a part of the text", .0.start, .0.end)]
    Outside(Span),
    /// One does not begin behind the one before.
    #[error("passage {0} does not begin behind the one before it")]
    Order(usize),
}

impl Vectors {
    /// Checks the passages of a text.
    pub fn of_passages(text: &str, passages: Vec<(Span, Embedding)>) -> Result<Self, NotPassages> {
        if passages.len() < 2 {
            return Err(NotPassages::TooFew);
        }
        if let Some((span, _)) = passages.iter().find(|(span, _)| span.of(text).is_none()) {
            return Err(NotPassages::Outside(*span));
        }
        match passages.windows(2).position(|two| two[1].0.start <= two[0].0.start) {
            Some(before) => Err(NotPassages::Order(before + 1)),
            None => Ok(Self::Passages(passages.into())),
        }
    }

    /// The number of vectors.
    pub fn count(&self) -> usize {
        match self {
            Self::Whole(_) => 1,
            Self::Passages(passages) => passages.len(),
        }
    }

    /// Each vector, with its passage if there are several.
    pub fn iter(&self) -> impl Iterator<Item = (Option<Span>, &Embedding)> {
        let (whole, passages) = match self {
            Self::Whole(embedding) => (Some((None, embedding)), &[][..]),
            Self::Passages(passages) => (None, &**passages),
        };
        whole.into_iter().chain(passages.iter().map(|(span, embedding)| (Some(*span), embedding)))
    }
}

impl From<Embedding> for Vectors {
    fn from(embedding: Embedding) -> Self {
        Self::Whole(embedding)
    }
}

/// The vectors of a stored document. Shared with the collection, and not copied.
#[derive(Debug, Clone)]
pub enum StoredVectors {
    /// One vector for the whole text.
    Whole(Vector),
    /// A vector for each of several passages.
    Passages(Box<[(Span, Vector)]>),
}

impl StoredVectors {
    /// Each vector, in the order of the passages.
    pub fn iter(&self) -> impl Iterator<Item = &Vector> {
        let (whole, passages) = match self {
            Self::Whole(vector) => (Some(vector), &[][..]),
            Self::Passages(passages) => (None, &**passages),
        };
        whole.into_iter().chain(passages.iter().map(|(_, vector)| vector))
    }

    /// Each vector, with its passage if there are several.
    pub fn rows(&self) -> impl Iterator<Item = (Option<Span>, &[f32])> {
        let spans = match self {
            Self::Whole(_) => &[][..],
            Self::Passages(passages) => passages,
        };
        let spans = spans.iter().map(|(span, _)| Some(*span)).chain(std::iter::repeat(None));
        self.iter().zip(spans).map(|(row, span)| (span, &**row))
    }

    /// Bytes of memory behind this value, beside the vectors.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Whole(_) => 0,
            Self::Passages(passages) => allocator::allocated(size_of_val(&**passages)),
        }
    }
}

/// One of several passages in the index.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocatedPassage {
    pub slot: Slot,
    pub span: Span,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_are_parts_of_their_text_in_order() {
        let of = |spans: &[(u32, u32)]| {
            let unit = || Embedding::normalized(vec![1.0, 0.0]).unwrap();
            let passages = spans.iter().map(|&(start, end)| (Span { start, end }, unit())).collect();
            Vectors::of_passages("äbc def", passages).map(|vectors| vectors.count())
        };
        let outside = |start, end| Err(NotPassages::Outside(Span { start, end }));
        assert_eq!(of(&[(0, 4), (2, 8)]), Ok(2));
        assert_eq!(of(&[(0, 8)]), Err(NotPassages::TooFew));
        assert_eq!(of(&[(0, 4), (4, 9)]), outside(4, 9));
        assert_eq!(of(&[(1, 4), (4, 8)]), outside(1, 4));
        assert_eq!(of(&[(0, 4), (4, 4)]), outside(4, 4));
        assert_eq!(of(&[(2, 4), (2, 8)]), Err(NotPassages::Order(1)));
    }
}
