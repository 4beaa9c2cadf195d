//! The part of a model that makes vectors of tokens, with its sizes.

use super::architecture::Architecture;
use super::static_table::StaticTable;

/// The part of a model that makes vectors of tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Encoder {
    /// A transformer, whose vectors depend on all tokens of a text.
    Transformer(Architecture),
    /// A table of static vectors.
    Static(StaticTable),
}

impl Encoder {
    /// Returns the length of a token's vector.
    pub fn dimensions(&self) -> usize {
        match self {
            Self::Transformer(architecture) => architecture.hidden_size,
            Self::Static(table) => table.dimensions,
        }
    }

    /// Returns the number of tokens that have a vector.
    pub fn tokens(&self) -> usize {
        match self {
            Self::Transformer(architecture) => architecture.vocab_size,
            Self::Static(table) => table.tokens(),
        }
    }

    /// Estimates the arithmetic operations for a text, two for each multiply-add; see [`Architecture::operations`].
    pub fn operations(&self, tokens: usize) -> f64 {
        match self {
            Self::Transformer(architecture) => architecture.operations(tokens),
            Self::Static(table) => (tokens * table.dimensions) as f64,
        }
    }
}
