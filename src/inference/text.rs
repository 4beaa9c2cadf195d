//! The types that a caller passes for a text, and gets for it.

use super::tokenizer::{TokenizerError, Tokens};

/// The part of an input that stands before each text of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before<'a> {
    /// A prompt, which the model reads as the beginning of the text. It may be empty.
    Prompt(&'a str),
    /// The first text of a pair, of which the text is the second. For models that read pairs.
    First(&'a str),
}

impl Before<'_> {
    /// Its bytes.
    pub(super) fn len(self) -> usize {
        let (Self::Prompt(text) | Self::First(text)) = self;
        text.len()
    }
}

/// The treatment of a text of more than `max_tokens` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Truncation {
    /// The end of the text is cut off.
    #[default]
    End,
    /// The text is an error.
    Reject,
    /// The text is an error if it has more tokens than this, even if the model reads them.
    RejectAbove(usize),
}

/// The result of the model for one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The row that the model computed: `[width]`, finite.
    pub values: Vec<f32>,
    /// Tokens that the model read.
    pub tokens: usize,
    /// Tokens that the text has (see `Tokens::total`).
    pub tokens_total: usize,
}

impl Output {
    /// Wraps the `values` that the model computed for `tokens`.
    pub(super) fn new(values: Vec<f32>, tokens: &Tokens) -> Self {
        let (tokens, tokens_total) = tokens.lengths();
        Self { values, tokens, tokens_total }
    }
}

/// The failure of the model on a batch. The log has the cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the model failed")]
pub struct ModelFailed;

/// The reasons why a text has no output.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TextError {
    /// The text is longer than the model reads, and the caller wanted no truncation.
    #[error("{tokens_total} tokens exceed the model's limit of {max_tokens}")]
    TooLong {
        /// Tokens of the text, or a lower bound above the limit.
        tokens_total: usize,
        /// The model's limit.
        max_tokens: usize,
    },
    /// The text is longer than all passages that it may have.
    #[error(
        "the text has more than {max_passages} passages, which is the limit (max_passages): divide it, or let passages \
         have more tokens"
    )]
    TooManyPassages {
        /// The limit.
        max_passages: usize,
    },
    /// The text has no tokens: the tokenizer adds no special tokens, and finds none in the text.
    #[error("the text has no tokens")]
    NoTokens,
    /// The tokenizer failed on the text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model failed; the log has the cause.
    #[error(transparent)]
    Model(#[from] ModelFailed),
}
