//! Self-attention of packed sequences: softmax(Q Kᵀ / √d) V for each head (Vaswani et al., 2017).
//!
//! ```text
//! each group of heads that share keys and values (Ainslie et al., 2023):
//!     normalise and rotate its queries and keys, if the model does            [`preparation`]
//!     each block of queries, each block of keys in its span:                  [`sequence`]
//!         scores, exponentials, and the weighted sum of values (Milakov and Gimelshein, 2018)
//! ```
//! It reads the packed rows as the QKV layer writes them: the queries of a group, then its key and its value, side by
//! side. So the columns of a group are one part of that product, and its attention follows in the same thread, which
//! keeps no other columns. The keys (transposed, so that scores are an ordinary tile product) and values of the group
//! are copied. This scratch memory grows with the length of a sequence, not with its square and not with its heads.
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
use crate::machine::leader::Leader;
use sequence::{Group, Scratch};

thread_local! {
    static SCRATCH: RefCell<(Matrix, Scratch)> = RefCell::default();
}

impl Attention<'_> {
    /// Computes queries, key and value of each group, which are `layer` of `x`, [tokens, groups · (queries + 2) · dim],
    /// and their attention `out`, [results, heads · dim], with the heads' results side by side. The team of `leader`
    /// shares the work, one group per part. `qkv` is memory for groups that are not whole panels, or for a single one.
    /// Panics if a shape is wrong.
    pub fn of(
        self,
        level: Level,
        leader: &mut Leader,
        layer: &Linear,
        x: &LayerInput,
        qkv: &mut Matrix,
        out: &mut Matrix,
    ) {
        let (columns, rows) = (self.heads.group_columns(), x.f32.rows());
        // A team shares the panels of a single group.
        if !columns.is_multiple_of(layer.panel()) || self.heads.groups == 1 {
            layer.apply(leader, x, None, qkv);
            return self.apply(level, leader, qkv, out);
        }
        let out = self.shapes((rows, layer.outputs()), out);
        // A thread has the columns of one group at a time: those of all groups of a long text fit into no cache.
        leader.share(self.heads.groups, &|group| {
            SCRATCH.with_borrow_mut(|(qkv, scratch)| {
                let columns = group * columns..(group + 1) * columns;
                let qkv = qkv.part(rows, layer.outputs(), columns.clone());
                layer.columns(columns, x, None, qkv, None);
                run(level, Group { attention: self, group, qkv, scratch, out });
            });
        });
    }

    /// Computes the attention of an existing `qkv`, whose queries and keys become the normalised and rotated ones.
    fn apply(self, level: Level, leader: &mut Leader, qkv: &mut Matrix, out: &mut Matrix) {
        let out = self.shapes((qkv.rows(), qkv.cols()), out);
        let qkv = qkv.shared();
        leader.share(self.heads.groups, &|group| {
            // Reads and changes the group's columns of `qkv`, and writes those of `out`: no other thread uses them.
            SCRATCH.with_borrow_mut(|(_, scratch)| run(level, Group { attention: self, group, qkv, scratch, out }));
        });
    }

    /// Checks the shapes, and sets that of `out`.
    fn shapes<'m>(&self, (rows, cols): (usize, usize), out: &'m mut Matrix) -> SharedMatrix<'m> {
        let Heads { groups, dim, .. } = self.heads;
        let sequences = self.cu_seqlens.len().saturating_sub(1);
        let tokens = self.cu_seqlens.last().copied().unwrap_or(0);
        let longest = self.cu_seqlens.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
        assert!(self.cu_seqlens.is_sorted(), "sequences lie one after the other");
        let columns = groups * self.heads.group_columns();
        assert!(tokens <= rows && columns <= cols, "queries, keys and values of all tokens");
        assert!(self.bias.is_none_or(|bias| bias.covers(self.heads.count(), longest)), "a bias for heads and length");
        assert!(self.rope.is_none_or(|rope| rope.covers(dim, longest)), "a rotation for these heads and this length");
        let is_for_head = |norms: [&RmsNorm; 2]| norms.iter().all(|norm| norm.cols() == dim);
        assert!(self.norms.is_none_or(is_for_head), "a gain for each column of a head");
        out.reshape(if self.queries == Queries::All { tokens } else { sequences }, self.heads.count() * dim);
        out.shared()
    }
}
