//! A trial run before a graph serves: it must take every text that its tokenizer and its settings allow.
//!
//! A graph does not state its vocabulary or its positions. A tokenizer with one token more, or a length that is two
//! rows too long, would go unnoticed until a text has that token or that length.

use super::error::RunError;
use super::graph::Graph;

/// The longest text that is tried. Attention over a longer one takes too long for a start.
const LONGEST: usize = 1024;

/// The reason why a graph does not fit its tokenizer or its settings.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The tokenizer has a token that the graph does not have.
    #[error(
        "tokenizer.json has {tokens} tokens, and the graph fails on token {last}, the last one: {reason}; \
         use the tokenizer with which the graph was exported"
    )]
    Token {
        /// Tokens in the vocabulary, with added ones: the greatest id and one.
        tokens: u32,
        /// The greatest token id.
        last: u32,
        /// The error of the graph.
        reason: RunError,
    },
    /// The settings allow a length that the graph does not take.
    #[error(
        "config.json allows {tokens} tokens, and the graph fails on a text of that length: {reason}; \
         write the length that the graph takes into tokenizer_config.json (model_max_length) or \
         sentence_bert_config.json (max_seq_length)"
    )]
    Length {
        /// Tokens of a text.
        tokens: usize,
        /// The error of the graph.
        reason: RunError,
    },
}

impl Graph {
    /// Runs the greatest token id, `last`, and then a text of `tokens` tokens.
    pub fn probe(&mut self, last: u32, tokens: usize, pad: u32) -> Result<(), ProbeError> {
        self.run(&[&[last]], pad).map_err(|reason| ProbeError::Token {
            tokens: last.saturating_add(1),
            last,
            reason,
        })?;
        if tokens > LONGEST {
            return Ok(());
        }
        // Some graphs count positions over tokens that are not padding, so a text of padding would have none.
        let usual = if pad == 0 { 1.min(last) } else { 0 };
        self.run(&[&vec![usual; tokens]], pad).map(drop).map_err(|reason| ProbeError::Length { tokens, reason })
    }
}
