//! Self-attention of packed sequences: softmax(Q Kᵀ / √d) V for each head (Vaswani et al., 2017), with a [`Bias`]
//! by distance added inside the softmax if the model has one.
//!
//! It reads the packed rows as the QKV layer writes them, [tokens, 3 · hidden], with the queries, keys and values
//! of a head side by side. So the columns of a head are one part of that product, and its attention follows in the
//! same thread. Only the keys (transposed, so that scores are an ordinary tile product) and values of one head are
//! copied, into the thread's scratch memory. Queries pass in blocks, so that their scores stay in the first caches
//! for any length.

mod bias;

use std::cell::RefCell;
use std::ops::Range;

pub use bias::Bias;

use super::gemm::linear::{LayerInput, Linear};
use super::gemm::tile::{Tile, row_tiles};
use super::matrix::{Aligned, Matrix, SharedMatrix};
use super::simd::{Kernel, Simd, run};
use super::softmax::exponentials;
use crate::machine::cpu::Level;
use crate::machine::team::Leader;

/// Most queries that pass together: four tiles of the greatest height. Their scores for 512 tokens take 115 KB.
const MOST_QUERIES: usize = 56;

/// Scratch memory for one head of one sequence. Each thread reuses its own.
#[derive(Default)]
struct Scratch {
    /// [panels, head_dim, panel width]; a panel holds as many tokens as it is wide.
    keys: Aligned,
    /// [tokens, head_dim in whole vectors]
    values: Aligned,
    /// [query block, tokens]
    scores: Matrix,
    /// [query block, head_dim]
    mixed: Matrix,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// The attention of a packed block.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// Row offsets: sequence i has the rows `cu_seqlens[i] .. cu_seqlens[i + 1]`.
    pub cu_seqlens: &'a [usize],
    /// Number of attention heads.
    pub heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// If true, only the first token of each sequence is a query: the result has one row per sequence, otherwise
    /// one per token.
    pub first_only: bool,
    /// The numbers that are added to the scores.
    pub bias: Option<&'a Bias>,
}

impl Attention<'_> {
    /// Computes `qkv`, which is `layer` of `x`, [tokens, heads · 3 · head_dim]: queries, keys and values of each
    /// head. Then computes the attention `out`, [queries, heads · head_dim], with the heads' results side by side.
    /// The team of `leader` shares the work, one head per part. Panics if a shape is wrong.
    pub fn of(
        self,
        level: Level,
        leader: &mut Leader,
        layer: &Linear,
        x: &LayerInput,
        qkv: &mut Matrix,
        out: &mut Matrix,
    ) {
        let head_columns = 3 * self.head_dim;
        if !head_columns.is_multiple_of(layer.panel()) {
            layer.apply(leader, x, None, qkv);
            return self.apply(level, leader, qkv, out);
        }
        qkv.reshape(x.f32.rows(), layer.outputs());
        let (qkv, out) = self.shapes(qkv, out);
        leader.share(self.heads, &|head| {
            layer.columns(head * head_columns..(head + 1) * head_columns, x, None, qkv, None);
            self.head(level, head, qkv, out);
        });
    }

    /// Computes the attention of an existing `qkv`.
    fn apply(self, level: Level, leader: &mut Leader, qkv: &mut Matrix, out: &mut Matrix) {
        let (qkv, out) = self.shapes(qkv, out);
        leader.share(self.heads, &|head| self.head(level, head, qkv, out));
    }

    /// Checks the shape of `qkv`, and sets that of `out`.
    fn shapes<'m>(&self, qkv: &'m mut Matrix, out: &'m mut Matrix) -> (SharedMatrix<'m>, SharedMatrix<'m>) {
        let hidden = self.heads * self.head_dim;
        let sequences = self.cu_seqlens.len().saturating_sub(1);
        let tokens = self.cu_seqlens.last().copied().unwrap_or(0);
        assert!(self.cu_seqlens.is_sorted(), "sequences lie one after the other");
        assert!(tokens <= qkv.rows() && 3 * hidden <= qkv.cols(), "queries, keys and values of all tokens");
        if let Some(bias) = self.bias {
            let longest = self.cu_seqlens.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
            assert!(bias.covers(self.heads, longest), "a bias for these heads and this length");
        }
        out.reshape(if self.first_only { sequences } else { tokens }, hidden);
        (qkv.shared(), out.shared())
    }

    /// Computes one head: reads its columns of `qkv`, which no thread may write meanwhile, and writes its columns
    /// of `out`.
    fn head(self, level: Level, head: usize, qkv: SharedMatrix<'_>, out: SharedMatrix<'_>) {
        SCRATCH.with_borrow_mut(|scratch| run(level, Head { attention: self, head, qkv, scratch, out }));
    }
}

/// One head of all sequences.
struct Head<'a> {
    attention: Attention<'a>,
    head: usize,
    qkv: SharedMatrix<'a>,
    scratch: &'a mut Scratch,
    out: SharedMatrix<'a>,
}

impl Kernel for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { attention, head, qkv, scratch, out } = self;
        let width = 2 * S::LANES;
        let dim = attention.head_dim;
        let padded_dim = dim.next_multiple_of(S::LANES);
        for (i, ends) in attention.cu_seqlens.windows(2).enumerate() {
            let rows = ends[0]..ends[1];
            scratch.keys.reserve(rows.len().next_multiple_of(width) * dim);
            scratch.values.reserve(rows.len() * padded_dim);
            let sequence = Sequence { attention, head, qkv, rows };
            sequence.pack_keys(width, &mut scratch.keys);
            sequence.pack_values(padded_dim, &mut scratch.values);
            let asking = if attention.first_only { sequence.rows.len().min(1) } else { sequence.rows.len() };
            let to = if attention.first_only { i } else { sequence.rows.start };
            for first in (0..asking).step_by(MOST_QUERIES) {
                sequence.block(s, first..asking.min(first + MOST_QUERIES), scratch, out, to + first);
            }
        }
    }
}

/// One head of one sequence.
struct Sequence<'a> {
    attention: Attention<'a>,
    head: usize,
    /// [tokens, heads · 3 · head_dim]
    qkv: SharedMatrix<'a>,
    /// Rows of its tokens.
    rows: Range<usize>,
}

impl Sequence<'_> {
    /// Packs the keys of one head, transposed in panels of `width` tokens. Elements after the last token are stale:
    /// their scores are never read.
    #[inline(always)]
    fn pack_keys(&self, width: usize, to: &mut [f32]) {
        let dim = self.attention.head_dim;
        for (i, row) in self.rows.clone().enumerate() {
            // SAFETY: the columns of a head are only read meanwhile.
            let key = unsafe { self.qkv.row_part(row, (3 * self.head + 1) * dim, dim) };
            let panel = &mut to[i / width * dim * width + i % width..];
            for (k, &x) in key.iter().enumerate() {
                panel[k * width] = x;
            }
        }
    }

    /// Packs the values of one head, each padded to whole vectors with stale numbers that are never read.
    #[inline(always)]
    fn pack_values(&self, padded_dim: usize, to: &mut [f32]) {
        let dim = self.attention.head_dim;
        for (row, to) in self.rows.clone().zip(to.chunks_exact_mut(padded_dim)) {
            // SAFETY: as above.
            to[..dim].copy_from_slice(unsafe { self.qkv.row_part(row, (3 * self.head + 2) * dim, dim) });
        }
    }

    /// Computes some queries, by their position. Their results are the rows of `out` from `to` on.
    #[inline(always)]
    fn block<S: Simd>(&self, s: S, queries: Range<usize>, scratch: &mut Scratch, out: SharedMatrix<'_>, to: usize) {
        let Attention { head_dim: dim, bias, .. } = self.attention;
        let (tokens, head, qkv) = (self.rows.len(), self.head, self.qkv);
        let width = 2 * S::LANES;
        let padded_dim = dim.next_multiple_of(S::LANES);
        let Scratch { keys, values, scores, mixed } = scratch;
        scores.reshape(queries.len(), tokens);
        mixed.reshape(queries.len(), dim);
        let (scores_stride, mixed_stride) = (scores.stride(), mixed.stride());
        let mut sums = [0.0f32; MOST_QUERIES];
        for (first, rows) in row_tiles::<S>(queries.len()) {
            for token in (0..tokens).step_by(width) {
                let tile = Tile {
                    a: qkv.at(self.rows.start + queries.start + first, 3 * head * dim),
                    a_stride: qkv.stride(),
                    b: keys[token * dim..].as_ptr(),
                    b_stride: width,
                    depth: dim,
                    start: std::ptr::null(),
                    add: bias.map_or(std::ptr::null(), |bias| bias.at(head, queries.start + first, token)),
                    add_stride: -1,
                    ahead: std::ptr::null(),
                    ahead_step: 0,
                    out: scores.rows_from_mut(first)[token..].as_mut_ptr(),
                    out_stride: scores_stride,
                    rows,
                    vectors: (tokens - token).div_ceil(S::LANES).min(2),
                };
                // SAFETY: the head's columns are inside the queries (asserted in `shapes`), the keys have whole
                // panels, and a row of scores has space for them. The bias, if given, covers the sequence (asserted
                // too) and continues for a panel. The matrices are distinct.
                unsafe { tile.compute(s) };
            }
            s.call(Exponentials {
                scores: scores.rows_from_mut(first),
                stride: scores_stride,
                tokens,
                scale: 1.0 / (dim as f32).sqrt(),
                sums: &mut sums[first..first + rows],
            });
            for column in (0..padded_dim).step_by(width) {
                let tile = Tile {
                    a: scores.rows_from(first).as_ptr(),
                    a_stride: scores_stride,
                    b: values[column..].as_ptr(),
                    b_stride: padded_dim,
                    depth: tokens,
                    start: std::ptr::null(),
                    add: std::ptr::null(),
                    add_stride: 0,
                    ahead: std::ptr::null(),
                    ahead_step: 0,
                    out: mixed.rows_from_mut(first)[column..].as_mut_ptr(),
                    out_stride: mixed_stride,
                    rows,
                    vectors: ((padded_dim - column) / S::LANES).min(2),
                };
                // SAFETY: scores has a column and values a row for each token; values and mixed have
                // `padded_dim` columns. The matrices are distinct.
                unsafe { tile.compute(s) };
            }
        }
        for (i, &sum) in sums[..queries.len()].iter().enumerate() {
            let scale = s.splat(1.0 / sum);
            // SAFETY: a head's columns belong to one part.
            let to = unsafe { out.row_mut(to + i, head * dim, dim) };
            let mut from = mixed.row(i).chunks_exact(S::LANES);
            let mut to = to.chunks_exact_mut(S::LANES);
            for (from, to) in (&mut from).zip(&mut to) {
                s.store(s.mul(s.load(from), scale), to);
            }
            s.store_first(s.mul(s.load_or(from.remainder(), 0.0), scale), to.into_remainder());
        }
    }
}

/// Turns a tile of scores into exponentials, and sums them.
struct Exponentials<'a> {
    scores: &'a mut [f32],
    stride: usize,
    tokens: usize,
    scale: f32,
    sums: &'a mut [f32],
}

impl Kernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (i, sum) in self.sums.iter_mut().enumerate() {
            *sum = exponentials(s, &mut self.scores[i * self.stride..][..self.tokens], self.scale);
        }
    }
}

#[cfg(test)]
mod tests;
