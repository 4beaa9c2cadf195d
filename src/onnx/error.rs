//! Errors of loading and running a graph.

use std::path::PathBuf;

use super::signature::Unfit;

/// The reason why a graph cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is missing or cannot be opened.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Unreadable {
        /// The graph's file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The runtime refuses the graph.
    #[error("{runtime} cannot load {graph}: {reason}")]
    Refused {
        /// The runtime's name.
        runtime: String,
        /// The graph's path, or its size in memory.
        graph: String,
        /// The runtime's own text.
        reason: String,
    },
    /// The runtime takes the graph, and its inputs or outputs are not those of a text model.
    #[error("{graph} cannot be used: {reason}")]
    Unfit {
        /// The graph's path, or its size in memory.
        graph: String,
        /// The fault of an input or output.
        reason: Unfit,
    },
}

/// The reason why a graph gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A text has no tokens.
    #[error("text {text} of the batch has no tokens")]
    Empty {
        /// The text's index in the batch.
        text: usize,
    },
    /// A text is longer than the fixed sequence.
    #[error("text {text} of the batch has {tokens} tokens, and the graph takes {limit}; truncate it to that")]
    TooLong {
        /// The text's index in the batch.
        text: usize,
        /// The text's length.
        tokens: usize,
        /// The graph's length.
        limit: usize,
    },
    /// A token id is beyond any vocabulary.
    #[error("token id {token} does not fit a signed 32-bit integer")]
    Token {
        /// The id.
        token: u32,
    },
    /// The runtime failed.
    #[error("the graph failed: {reason}")]
    Failed {
        /// The runtime's own text.
        reason: String,
    },
    /// The answer's shape does not fit the batch.
    #[error(
        "the graph returned {output} {shape:?} for {texts} texts of {sequence} tokens; expected one row for each text \
         or each token"
    )]
    Shape {
        /// The output's name.
        output: String,
        /// The shape of the answer.
        shape: Vec<usize>,
        /// Texts of the call, with those that fill up a fixed batch.
        texts: usize,
        /// Tokens of each text, with padding.
        sequence: usize,
    },
}
