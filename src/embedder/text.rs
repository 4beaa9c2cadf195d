//! What a caller says of a text, and what it gets for it.

use super::tokenizer::{TokenizerError, Tokens};

/// What a text is; picks the model's prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputType {
    /// No prompt but the card's default, if it names one.
    #[default]
    Plain,
    /// A question.
    Query,
    /// A passage to be found.
    Document,
}

/// What happens to a text of more than `max_tokens` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Truncation {
    /// Its end is cut off.
    #[default]
    End,
    /// It is an error.
    Reject,
}

/// One text through the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Pooled {
    /// The pooled vector, `[dimensions]`, finite, not normalised.
    pub values: Vec<f32>,
    /// Tokens that the model read.
    pub tokens: usize,
    /// Tokens that the text has (see `Tokens::total`).
    pub tokens_total: usize,
}

impl Pooled {
    /// `values` are what the model made of `tokens`.
    pub(super) fn new(values: Vec<f32>, tokens: &Tokens) -> Self {
        let (tokens, tokens_total) = tokens.lengths();
        Self { values, tokens, tokens_total }
    }
}

/// The model failed on a batch; the cause is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the model failed")]
pub struct EncodeFailed;

/// Why one text has no vector.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TextError {
    /// It is longer than the model reads, and the caller wanted no cut.
    #[error("{tokens_total} tokens exceed the model's limit of {max_tokens}")]
    TooLong {
        /// Tokens of the text, or a lower bound above the limit.
        tokens_total: usize,
        /// The model's limit.
        max_tokens: usize,
    },
    /// The tokenizer failed on it.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model failed; the cause is in the log.
    #[error(transparent)]
    Encode(#[from] EncodeFailed),
}
