//! The parts of an attention: its heads, the tokens that attend and are attended to, and what is done to scores.

use super::bias::Bias;
use super::rope::Rope;
use crate::kernel::norm::RmsNorm;

/// The heads of a layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heads {
    /// Groups of heads. A group has one key and one value.
    pub groups: usize,
    /// Queries of a group, each a head.
    pub queries: usize,
    /// Columns of a head.
    pub dim: usize,
    /// The divisor of the scores.
    pub divisor: f32,
}

impl Heads {
    /// Number of heads.
    pub fn count(self) -> usize {
        self.groups * self.queries
    }

    /// Columns of the queries, the key and the value of a group.
    pub(super) fn group_columns(self) -> usize {
        (self.queries + 2) * self.dim
    }
}

/// The tokens that a token attends to: itself, at most `before` tokens before it and at most `after` behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The farthest token before it; `usize::MAX` without a limit.
    pub before: usize,
    /// The farthest token behind it; `usize::MAX` without a limit.
    pub after: usize,
}

impl Span {
    /// All tokens of the sequence.
    pub const ALL: Self = Self { before: usize::MAX, after: usize::MAX };

    /// The tokens of a sequence of `tokens` that some neighbouring tokens attend to.
    #[inline(always)]
    pub(super) fn keys(self, queries: std::ops::Range<usize>, tokens: usize) -> std::ops::Range<usize> {
        queries.start.saturating_sub(self.before)..queries.end.saturating_add(self.after).min(tokens)
    }
}

/// The tokens of a sequence for which a result is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queries {
    /// All tokens.
    All,
    /// The first token only.
    First,
    /// The last token only.
    Last,
}

/// The attention of a packed block.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// Row offsets: sequence i has the rows `cu_seqlens[i] .. cu_seqlens[i + 1]`.
    pub cu_seqlens: &'a [usize],
    /// The heads.
    pub heads: Heads,
    /// The tokens with a result, which has one row for each of them.
    pub queries: Queries,
    /// The tokens that a token attends to.
    pub span: Span,
    /// The numbers that are added to the scores.
    pub bias: Option<&'a Bias>,
    /// The normalisations of each head's queries and keys.
    pub norms: Option<[&'a RmsNorm; 2]>,
    /// The rotation of queries and keys.
    pub rope: Option<&'a Rope>,
}
