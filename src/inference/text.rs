//! What a caller says of a text, and what it gets for it.

use super::tokenizer::{TokenizerError, Tokens};

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
pub struct Output {
    /// What the model made of it, `[width]`, finite.
    pub values: Vec<f32>,
    /// Tokens that the model read.
    pub tokens: usize,
    /// Tokens that the text has (see `Tokens::total`).
    pub tokens_total: usize,
}

impl Output {
    /// `values` are what the model made of `tokens`.
    pub(super) fn new(values: Vec<f32>, tokens: &Tokens) -> Self {
        let (tokens, tokens_total) = tokens.lengths();
        Self { values, tokens, tokens_total }
    }
}

/// The model failed on a batch; the cause is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the model failed")]
pub struct ModelFailed;

/// Why one text has no output.
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
    /// There is nothing for the model to read: its tokenizer adds no special tokens, and finds none in the text.
    #[error("the text has no tokens")]
    NoTokens,
    /// The tokenizer failed on it.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model failed; the cause is in the log.
    #[error(transparent)]
    Model(#[from] ModelFailed),
}
