//! The tokens of a text, as a model reads them.

use super::super::model::Sequence;

/// The tokens of one input of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The token ids, at most `max_tokens`, special tokens included.
    pub ids: Vec<u32>,
    /// The number of ids of type 0; see [`Sequence::first`].
    pub first: usize,
    /// The number of ids of a prompt that takes no part in the result; see [`Sequence::left_out`].
    pub left_out: usize,
    /// The number of tokens of the whole text, special tokens included. If the end of the text was not read, it is a
    /// lower bound above `max_tokens`.
    pub total: usize,
}

impl Tokens {
    /// The tokens of a single text.
    pub fn of_text(ids: Vec<u32>, total: usize) -> Self {
        Self { first: ids.len(), ids, left_out: 0, total }
    }

    /// The ids as the model reads them.
    pub fn sequence(&self) -> Sequence<'_> {
        Sequence { ids: &self.ids, first: self.first, left_out: self.left_out }
    }

    /// Tokens that the model reads, and tokens that the text has.
    pub fn lengths(&self) -> (usize, usize) {
        (self.ids.len(), self.total)
    }
}
