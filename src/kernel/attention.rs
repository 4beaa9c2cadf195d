//! Self-attention of one sequence: softmax(Q Kᵀ / √d) V for each head (Vaswani et al., 2017), with a [`Bias`] by
//! distance added inside the softmax if the model has one.
//!
//! It works on the packed rows as the QKV layer leaves them, [tokens, 3 · hidden], and moves nothing but one
//! head's keys (transposed, so that the scores are an ordinary tile product) and values into a small room of
//! the worker. Queries pass in blocks, so that their scores stay in the first caches for any length.

mod bias;

use std::ops::Range;

pub use bias::Bias;

use super::cpu::Level;
use super::gemm::tile::{Tile, row_tiles};
use super::matrix::{Aligned, Matrix};
use super::simd::{Kernel, Simd, run};
use super::softmax::exponentials;

/// The most queries that pass together: four tiles of the tallest kind. Their scores for 512 tokens are 115 KB.
const MOST_QUERIES: usize = 56;

/// Where the heads' tiles are packed; reused from call to call.
#[derive(Default)]
pub struct Room {
    /// [panels, head_dim, panel width]: a panel is a panel's width of tokens.
    keys: Aligned,
    /// [tokens, head_dim in whole vectors]
    values: Aligned,
    /// [query block, tokens]
    scores: Matrix,
    /// [query block, head_dim]
    mixed: Matrix,
}

/// One sequence of a packed batch.
pub struct Sequence<'a> {
    /// Queries in columns 0 .. heads · head_dim.
    pub queries: &'a Matrix,
    /// The sequence's rows of `queries`, and of the result: all its tokens, or as many of the first as are wanted.
    pub query_rows: Range<usize>,
    /// [.., 3 · heads · head_dim]: keys in the second third of the columns, values in the last.
    pub keys_values: &'a Matrix,
    /// The sequence's rows of `keys_values`: all its tokens.
    pub rows: Range<usize>,
    /// Attention heads.
    pub heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
    /// What is added to the scores.
    pub bias: Option<&'a Bias>,
}

impl Sequence<'_> {
    /// Writes the heads' results side by side into `out`, rows `query_rows`, columns 0 .. heads · head_dim.
    /// Panics if a row or column is outside of its matrix.
    pub fn attend(self, level: Level, room: &mut Room, out: &mut Matrix) {
        let hidden = self.heads * self.head_dim;
        assert!(self.query_rows.end <= self.queries.rows() && hidden <= self.queries.cols());
        assert!(self.rows.end <= self.keys_values.rows() && 3 * hidden <= self.keys_values.cols());
        assert!(self.query_rows.end <= out.rows() && hidden <= out.cols());
        assert!(self.query_rows.len() <= self.rows.len(), "queries are the sequence's own");
        if let Some(bias) = self.bias {
            assert!(bias.covers(self.heads, self.rows.len()), "a bias for these heads and this length");
        }
        if !self.rows.is_empty() {
            run(level, Attend { sequence: self, room, out });
        }
    }
}

struct Attend<'a> {
    sequence: Sequence<'a>,
    room: &'a mut Room,
    out: &'a mut Matrix,
}

impl Kernel for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { sequence, room, out } = self;
        let width = 2 * S::LANES;
        let (tokens, dim) = (sequence.rows.len(), sequence.head_dim);
        let padded_dim = dim.next_multiple_of(S::LANES);
        room.keys.reserve(tokens.next_multiple_of(width) * dim);
        room.values.reserve(tokens * padded_dim);
        for head in 0..sequence.heads {
            sequence.pack_keys(head, width, &mut room.keys);
            sequence.pack_values(head, padded_dim, &mut room.values);
            for first in sequence.query_rows.clone().step_by(MOST_QUERIES) {
                let queries = first..sequence.query_rows.end.min(first + MOST_QUERIES);
                sequence.block(s, head, queries, room, out);
            }
        }
    }
}

impl Sequence<'_> {
    /// One head's keys, transposed in panels of `width` tokens. What lies after the last token is stale: it
    /// makes scores that nobody reads.
    #[inline(always)]
    fn pack_keys(&self, head: usize, width: usize, to: &mut [f32]) {
        let (dim, first) = (self.head_dim, (self.heads + head) * self.head_dim);
        for (i, row) in self.rows.clone().enumerate() {
            let key = &self.keys_values.row(row)[first..][..dim];
            let panel = &mut to[i / width * dim * width + i % width..];
            for (k, &x) in key.iter().enumerate() {
                panel[k * width] = x;
            }
        }
    }

    /// One head's values, each filled up to whole vectors with what was there: columns that nobody reads.
    #[inline(always)]
    fn pack_values(&self, head: usize, padded_dim: usize, to: &mut [f32]) {
        let (dim, first) = (self.head_dim, (2 * self.heads + head) * self.head_dim);
        for (row, to) in self.rows.clone().zip(to.chunks_exact_mut(padded_dim)) {
            to[..dim].copy_from_slice(&self.keys_values.row(row)[first..][..dim]);
        }
    }

    /// One head of a block of queries.
    #[inline(always)]
    fn block<S: Simd>(&self, s: S, head: usize, queries: Range<usize>, room: &mut Room, out: &mut Matrix) {
        let (tokens, dim) = (self.rows.len(), self.head_dim);
        let width = 2 * S::LANES;
        let padded_dim = dim.next_multiple_of(S::LANES);
        let Room { keys, values, scores, mixed } = room;
        scores.reshape(queries.len(), tokens);
        mixed.reshape(queries.len(), dim);
        let (scores_stride, mixed_stride) = (scores.stride(), mixed.stride());
        let mut sums = [0.0f32; MOST_QUERIES];
        // Of the first query in the sequence.
        let position = queries.start - self.query_rows.start;
        for (first, rows) in row_tiles::<S>(queries.len()) {
            for token in (0..tokens).step_by(width) {
                let tile = Tile {
                    a: self.queries.rows_from(queries.start + first)[head * dim..].as_ptr(),
                    a_stride: self.queries.stride(),
                    b: keys[token * dim..].as_ptr(),
                    b_stride: width,
                    depth: dim,
                    start: std::ptr::null(),
                    add: self.bias.map_or(std::ptr::null(), |bias| bias.at(head, position + first, token)),
                    add_stride: -1,
                    ahead: std::ptr::null(),
                    ahead_step: 0,
                    out: scores.rows_from_mut(first)[token..].as_mut_ptr(),
                    out_stride: scores_stride,
                    rows,
                    vectors: (tokens - token).div_ceil(S::LANES).min(2),
                };
                // SAFETY: the head's columns are inside the queries (asserted in `attend`), the keys have
                // whole panels, and a row of scores has room for them. The bias, if there is one, covers the
                // sequence (asserted too) and goes on for a panel. The matrices are distinct.
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
        for (i, query) in queries.enumerate() {
            let scale = s.splat(1.0 / sums[i]);
            let to = &mut out.row_mut(query)[head * dim..][..dim];
            let mut from = mixed.row(i).chunks_exact(S::LANES);
            let mut to = to.chunks_exact_mut(S::LANES);
            for (from, to) in (&mut from).zip(&mut to) {
                s.store(s.mul(s.load(from), scale), to);
            }
            s.store_first(s.mul(s.load_or(from.remainder(), 0.0), scale), to.into_remainder());
        }
    }
}

/// The exponentials of a tile of scores, and their sums.
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
mod tests {
    use super::*;
    use crate::kernel::cpu;
    use crate::kernel::matrix::filled;

    /// A bias that tells all heads and distances apart.
    fn number(head: usize, distance: isize) -> f32 {
        ((head * 7919) as isize + distance * 31).rem_euclid(101) as f32 / 50.0 - 1.0
    }

    /// [tokens, hidden] in f64, straight from the definition.
    fn plain(qkv: &Matrix, rows: Range<usize>, heads: usize, dim: usize, biased: bool) -> Vec<Vec<f64>> {
        let hidden = heads * dim;
        let at = |row: usize, col: usize| f64::from(qkv.row(row)[col]);
        let head_of = |i: usize, head: usize| {
            let e: Vec<f64> = rows
                .clone()
                .map(|j| {
                    let score = (0..dim).map(|c| at(i, head * dim + c) * at(j, hidden + head * dim + c)).sum::<f64>();
                    let bias = if biased { f64::from(number(head, j as isize - i as isize)) } else { 0.0 };
                    (score / (dim as f64).sqrt() + bias).exp()
                })
                .collect();
            let sum: f64 = e.iter().sum();
            let mix = |c: usize| rows.clone().zip(&e).map(|(j, e)| e / sum * at(j, 2 * hidden + head * dim + c)).sum();
            (0..dim).map(mix).collect::<Vec<f64>>()
        };
        rows.clone().map(|i| (0..heads).flat_map(|head| head_of(i, head)).collect()).collect()
    }

    fn attend(
        level: Level,
        qkv: &Matrix,
        query_rows: Range<usize>,
        rows: Range<usize>,
        heads: usize,
        bias: Option<&Bias>,
    ) -> Matrix {
        let head_dim = qkv.cols() / 3 / heads;
        let mut out = Matrix::default();
        out.reshape(qkv.rows(), heads * head_dim);
        let sequence = Sequence { queries: qkv, query_rows, keys_values: qkv, rows, heads, head_dim, bias };
        sequence.attend(level, &mut Room::default(), &mut out);
        out
    }

    #[test]
    fn every_length_and_head_size_agrees_with_the_definition() {
        let cases =
            [(1, 2, 32), (2, 3, 5), (7, 1, 1), (16, 2, 32), (17, 1, 64), (33, 2, 48), (61, 3, 20), (130, 1, 33)];
        for level in cpu::Level::supported() {
            for (seed, (tokens, heads, dim)) in cases.into_iter().enumerate() {
                let qkv = filled(tokens + 4, 3 * heads * dim, seed as u64);
                let rows = 3..3 + tokens;
                // A bias of just this length, and one of more.
                let biases = [0, 100].map(|more| Bias::new(heads, dim, tokens + more, number));
                for bias in [None, Some(&biases[0]), Some(&biases[1])] {
                    let got = attend(level, &qkv, rows.clone(), rows.clone(), heads, bias);
                    for (i, exact) in plain(&qkv, rows.clone(), heads, dim, bias.is_some()).iter().enumerate() {
                        for (j, exact) in exact.iter().enumerate() {
                            let error = (f64::from(got.row(3 + i)[j]) - exact).abs();
                            assert!(
                                error <= 2e-6,
                                "{level:?} {tokens} tokens, {heads} heads of {dim}, bias {}, seed {seed}: \
                                 [{i}, {j}] off by {error:e}",
                                bias.is_some()
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_sequence_has_the_same_bits_at_any_place_and_for_any_part_of_its_queries() {
        for level in cpu::Level::supported() {
            let (tokens, heads) = (67, 2);
            let qkv = filled(tokens, 3 * heads * 24, 5);
            let bias = Bias::new(heads, 24, 80, number);
            for bias in [None, Some(&bias)] {
                let whole = attend(level, &qkv, 0..tokens, 0..tokens, heads, bias);
                let first = attend(level, &qkv, 0..1, 0..tokens, heads, bias);
                assert_eq!(first.row(0), whole.row(0), "{level:?}");
                let mut shifted = filled(tokens + 9, qkv.cols(), 6);
                (0..tokens).for_each(|i| shifted.row_mut(9 + i).copy_from_slice(qkv.row(i)));
                let moved = attend(level, &shifted, 9..9 + tokens, 9..9 + tokens, heads, bias);
                for i in 0..tokens {
                    assert_eq!(moved.row(9 + i), whole.row(i), "{level:?}");
                }
            }
        }
    }
}
