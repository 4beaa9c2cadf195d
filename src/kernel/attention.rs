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
mod parts;
mod preparation;
mod rope;
mod sequence;
#[cfg(test)]
mod tests;

use std::cell::RefCell;

pub use bias::Bias;
pub use parts::{Attention, Heads, Queries, Span};
pub use rope::Rope;

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
