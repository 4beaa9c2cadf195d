//! Whether a graph takes every text that its tokenizer and its settings allow, tried before it serves.
//!
//! A graph keeps its vocabulary and its positions to itself. A tokenizer with one token more, or a length that counts
//! two rows too many, would go unnoticed until a text has that token or that length, and then fail in the middle.

use super::graph::{Graph, RunError};

/// Longer texts are not tried: attention over them takes too long for a start.
const LONGEST: usize = 1024;

/// Why a graph does not fit what would be put into it.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A token that the tokenizer gives and the graph does not have.
    #[error(
        "tokenizer.json has {tokens} tokens, and the graph fails on the last of them, number {last}: {reason}; \
         use the tokenizer that the graph was exported with"
    )]
    Token {
        /// The tokens of the vocabulary, added ones included, as numbered.
        tokens: u32,
        /// The greatest number of a token.
        last: u32,
        /// What the graph says.
        reason: RunError,
    },
    /// A length that the settings allow and the graph does not.
    #[error(
        "config.json allows {tokens} tokens, and the graph fails on a text of that length: {reason}; write the length \
         that the graph takes into tokenizer_config.json (model_max_length) or sentence_bert_config.json (max_seq_length)"
    )]
    Length {
        /// Tokens of a text.
        tokens: usize,
        /// What the graph says.
        reason: RunError,
    },
}

impl Graph {
    /// Runs the greatest token that there is, `last`, and a text of `tokens` tokens.
    pub fn probe(&mut self, last: u32, tokens: usize, pad: u32) -> Result<(), ProbeError> {
        self.run(&[&[last]], pad).map_err(|reason| ProbeError::Token {
            tokens: last.saturating_add(1),
            last,
            reason,
        })?;
        if tokens > LONGEST {
            return Ok(());
        }
        // A text of padding would have no positions in graphs that count them over other tokens.
        let usual = if pad == 0 { 1.min(last) } else { 0 };
        self.run(&[&vec![usual; tokens]], pad).map(drop).map_err(|reason| ProbeError::Length { tokens, reason })
    }
}
