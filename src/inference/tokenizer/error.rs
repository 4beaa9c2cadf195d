//! The reasons why a tokenizer cannot be used, or fails on a text.

/// A reason why a tokenizer cannot be used, or fails on a text.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TokenizerError {
    /// The file is not a tokenizer.
    #[error("not a tokenizer file: {0}")]
    Malformed(String),
    /// The special tokens leave no tokens for text.
    #[error("max_tokens is {max_tokens}, but the special tokens alone are {added}")]
    NoRoom {
        /// The length of the model.
        max_tokens: usize,
        /// The number of special tokens around an input.
        added: usize,
    },
    /// The first text of a pair leaves no token for the second.
    #[error(
        "{tokens} tokens, special tokens included, leave no room for a second text: the model reads {max_tokens} of \
         both together"
    )]
    FirstTooLong {
        /// Tokens of the first text and the special tokens, or a lower bound that is too many.
        tokens: usize,
        /// The length of the model.
        max_tokens: usize,
    },
    /// The types of a pair's tokens do not tell the second text from the first.
    #[error("expected the token types 0 for the first text of a pair and 1 for the second, found {types:?}")]
    Types {
        /// The types.
        types: Vec<u32>,
    },
    /// The end of a chat has other tokens behind a text than alone.
    #[error("the tokens of {after:?}, which ends each pair, must not depend on the text before it")]
    End {
        /// The fixed text at the end.
        after: String,
    },
    /// The tokenizer failed on a text.
    #[error("the text cannot be tokenised: {0}")]
    Text(String),
}
