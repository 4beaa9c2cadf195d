//! Self-attention of packed sequences: softmax(Q Kᵀ / √d) V for each head (Vaswani et al., 2017).
//!
//! ```text
//! each group of heads that share keys and values (Ainslie et al., 2023):
//!     normalise and rotate its queries and keys, if the model does            [`preparation`]
//!     each block of queries, each block of keys in its span:                  [`sequence`]
//!         scores, exponentials, and the weighted sum of values (Milakov and Gimelshein, 2018)
//! ```
//! It reads the packed rows as the QKV layer writes them: the queries of a group, then its key and its value, side by
//! side. So the columns of a group are one part of that product, and its attention follows in the same thread. Only the
//! keys (transposed, so that scores are an ordinary tile product) and values of one group are copied, into the thread's
//! scratch memory, which so grows with the length of a sequence and not with its square.
//!
//! A token's result has the same bits whichever other tokens are queries: blocks of keys begin at fixed positions, and
//! a score outside the token's span is an exact 0 after the exponential.

mod bias;
mod preparation;
mod sequence;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

pub use bias::Bias;
pub use preparation::Rope;

use super::gemm::linear::{LayerInput, Linear};
use super::matrix::{Matrix, SharedMatrix};
use super::norm::RmsNorm;
use super::simd::run;
use crate::machine::cpu::Level;
use crate::machine::team::Leader;
use sequence::{Group, Scratch};

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

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
    fn group_columns(self) -> usize {
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
    fn keys(self, queries: std::ops::Range<usize>, tokens: usize) -> std::ops::Range<usize> {
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

impl Attention<'_> {
    /// Computes `qkv`, which is `layer` of `x`, [tokens, groups · (queries + 2) · dim]: queries, key and value of each
    /// group. Then computes the attention `out`, [results, heads · dim], with the heads' results side by side. The team
    /// of `leader` shares the work, one group per part. Panics if a shape is wrong.
    pub fn of(
        self,
        level: Level,
        leader: &mut Leader,
        layer: &Linear,
        x: &LayerInput,
        qkv: &mut Matrix,
        out: &mut Matrix,
    ) {
        let columns = self.heads.group_columns();
        // A team shares the panels of a single group.
        if !columns.is_multiple_of(layer.panel()) || self.heads.groups == 1 {
            layer.apply(leader, x, None, qkv);
            return self.apply(level, leader, qkv, out);
        }
        qkv.reshape(x.f32.rows(), layer.outputs());
        let (qkv, out) = self.shapes(qkv, out);
        leader.share(self.heads.groups, &|group| {
            layer.columns(group * columns..(group + 1) * columns, x, None, qkv, None);
            self.group(level, group, qkv, out);
        });
    }

    /// Computes the attention of an existing `qkv`, whose queries and keys become the normalised and rotated ones.
    fn apply(self, level: Level, leader: &mut Leader, qkv: &mut Matrix, out: &mut Matrix) {
        let (qkv, out) = self.shapes(qkv, out);
        leader.share(self.heads.groups, &|group| self.group(level, group, qkv, out));
    }

    /// Checks the shapes, and sets that of `out`.
    fn shapes<'m>(&self, qkv: &'m mut Matrix, out: &'m mut Matrix) -> (SharedMatrix<'m>, SharedMatrix<'m>) {
        let Heads { groups, dim, .. } = self.heads;
        let sequences = self.cu_seqlens.len().saturating_sub(1);
        let tokens = self.cu_seqlens.last().copied().unwrap_or(0);
        let longest = self.cu_seqlens.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
        assert!(self.cu_seqlens.is_sorted(), "sequences lie one after the other");
        let columns = groups * self.heads.group_columns();
        assert!(tokens <= qkv.rows() && columns <= qkv.cols(), "queries, keys and values of all tokens");
        assert!(self.bias.is_none_or(|bias| bias.covers(self.heads.count(), longest)), "a bias for heads and length");
        assert!(self.rope.is_none_or(|rope| rope.covers(dim, longest)), "a rotation for these heads and this length");
        let is_for_head = |norms: [&RmsNorm; 2]| norms.iter().all(|norm| norm.cols() == dim);
        assert!(self.norms.is_none_or(is_for_head), "a gain for each column of a head");
        out.reshape(if self.queries == Queries::All { tokens } else { sequences }, self.heads.count() * dim);
        (qkv.shared(), out.shared())
    }

    /// Computes one group: reads and changes its columns of `qkv`, which no other thread may use meanwhile, and writes
    /// its columns of `out`.
    fn group(self, level: Level, group: usize, qkv: SharedMatrix<'_>, out: SharedMatrix<'_>) {
        SCRATCH.with_borrow_mut(|scratch| run(level, Group { attention: self, group, qkv, scratch, out }));
    }
}
