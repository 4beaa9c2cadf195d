//! One group of heads in one sequence: blocks of queries against blocks of keys.
//!
//! ```text
//! each block of keys:
//!     s = q · kᵀ                                 a tile of scores
//!     m' = max(m, s), c = e^(m − m')             the greatest score so far, and the correction of what is summed
//!     p = e^(s − m'), sum = c · sum + Σ p, mixed = c · mixed + p · v
//! result = mixed / sum
//! ```

use std::ops::Range;

use super::parts::{Attention, Queries, Span};
use crate::kernel::gemm::tile::{Tile, row_tiles};
use crate::kernel::matrix::{Aligned, Matrix, SharedMatrix};
use crate::kernel::simd::{Kernel, Simd};
use crate::kernel::softmax::{exponentials, greatest, power};

/// Most queries that pass together: four tiles of the greatest height. Their scores for a block of keys take 115 KB.
const MOST_QUERIES: usize = 56;

/// Keys of a block: whole panels of any width. Keys and values of a block stay in the second-level cache while the
/// tiles of queries pass, and texts of the usual length have one block.
pub(super) const BLOCK_KEYS: usize = 512;

/// Tokens whose keys and values are packed together, before the first query that attends to one of them. With a sliding
/// window they, and the queries, are in the second-level cache from their preparation to their last use: a row of a
/// long text lies in a page of its own, and each pass over all of them would wait for memory.
const READY_TOGETHER: usize = 64;

/// Scratch memory for one group of one sequence. Each thread reuses its own.
#[derive(Default)]
pub(super) struct Scratch {
    /// [panels, dim, panel width]; a panel holds as many tokens as it is wide.
    keys: Aligned,
    /// [tokens, dim in whole vectors]
    values: Aligned,
    /// [query block, keys of a block]
    scores: Matrix,
    /// [query block, dim]
    mixed: Matrix,
}

/// One group of all sequences.
pub(super) struct Group<'a> {
    pub attention: Attention<'a>,
    pub group: usize,
    pub qkv: SharedMatrix<'a>,
    pub scratch: &'a mut Scratch,
    pub out: SharedMatrix<'a>,
}

impl Kernel for Group<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { attention, group, qkv, scratch, out } = self;
        let width = 2 * S::LANES;
        let dim = attention.heads.dim;
        let padded_dim = dim.next_multiple_of(S::LANES);
        for (i, ends) in attention.cu_seqlens.windows(2).enumerate() {
            let sequence = Sequence { attention, group, qkv, rows: ends[0]..ends[1] };
            let tokens = sequence.rows.len();
            scratch.keys.reserve(tokens.next_multiple_of(width) * dim);
            scratch.values.reserve(tokens * padded_dim);
            let (asking, to) = match attention.queries {
                Queries::All => (0..tokens, sequence.rows.start),
                Queries::First => (0..tokens.min(1), i),
                Queries::Last => (tokens.saturating_sub(1)..tokens, i),
            };
            let mut ready = 0;
            for first in asking.clone().step_by(MOST_QUERIES) {
                let queries = first..asking.end.min(first + MOST_QUERIES);
                let needed = attention.span.keys(queries.clone(), tokens).end;
                while ready < needed {
                    let next = ready..tokens.min(ready + READY_TOGETHER);
                    // SAFETY: the columns of a group belong to one part.
                    unsafe { sequence.make_ready(s, next.clone(), scratch) };
                    ready = next.end;
                }
                for head in 0..attention.heads.queries {
                    let (queries, to) = (queries.clone(), to + first - asking.start);
                    Block { sequence: &sequence, head, queries, out, to }.run(s, scratch);
                }
            }
        }
    }
}

/// One group of one sequence.
struct Sequence<'a> {
    attention: Attention<'a>,
    group: usize,
    /// [tokens, groups · (queries + 2) · dim]
    qkv: SharedMatrix<'a>,
    /// Rows of its tokens.
    rows: Range<usize>,
}

impl Sequence<'_> {
    /// The first column of a head of the group. The key and the value follow the queries.
    #[inline(always)]
    fn column(&self, head: usize) -> usize {
        self.group * self.attention.heads.group_columns() + head * self.attention.heads.dim
    }

    /// Prepares the queries and keys of some tokens, and packs their keys and values.
    ///
    /// # Safety
    /// No other thread uses the group's columns meanwhile.
    #[inline(always)]
    unsafe fn make_ready<S: Simd>(&self, s: S, tokens: Range<usize>, scratch: &mut Scratch) {
        // SAFETY: the caller's contract.
        unsafe { self.attention.prepare(s, self.group, self.qkv, self.rows.start, tokens.clone()) };
        self.pack_keys(2 * S::LANES, tokens.clone(), &mut scratch.keys);
        self.pack_values(self.attention.heads.dim.next_multiple_of(S::LANES), tokens, &mut scratch.values);
    }

    /// Packs the keys of some tokens, transposed in panels of `width` tokens. Elements after the last token are stale:
    /// their scores are never read.
    #[inline(always)]
    fn pack_keys(&self, width: usize, tokens: Range<usize>, to: &mut [f32]) {
        let heads = self.attention.heads;
        for i in tokens {
            // SAFETY: the columns of a group are only read meanwhile.
            let key = unsafe { self.qkv.row_part(self.rows.start + i, self.column(heads.queries), heads.dim) };
            let panel = &mut to[i / width * heads.dim * width + i % width..];
            for (k, &x) in key.iter().enumerate() {
                panel[k * width] = x;
            }
        }
    }

    /// Packs the values of some tokens, each padded to whole vectors with stale numbers that are never read.
    #[inline(always)]
    fn pack_values(&self, padded_dim: usize, tokens: Range<usize>, to: &mut [f32]) {
        let heads = self.attention.heads;
        for (i, to) in tokens.clone().zip(to[tokens.start * padded_dim..].chunks_exact_mut(padded_dim)) {
            // SAFETY: as above.
            let value = unsafe { self.qkv.row_part(self.rows.start + i, self.column(heads.queries + 1), heads.dim) };
            to[..heads.dim].copy_from_slice(value);
        }
    }
}

/// Some queries of one head, by their position. Their results are the rows of `out` from `to` on.
struct Block<'a> {
    sequence: &'a Sequence<'a>,
    /// The head in its group.
    head: usize,
    queries: Range<usize>,
    out: SharedMatrix<'a>,
    to: usize,
}

impl Block<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S, scratch: &mut Scratch) {
        let Self { sequence, head, queries, out, to } = self;
        let Attention { heads, bias, span, .. } = sequence.attention;
        let (tokens, qkv, dim) = (sequence.rows.len(), sequence.qkv, heads.dim);
        let (width, padded_dim) = (2 * S::LANES, dim.next_multiple_of(S::LANES));
        let (of_all, column) = (sequence.group * heads.queries + head, sequence.column(head));
        let Scratch { keys, values, scores, mixed } = scratch;
        scores.reshape(queries.len(), tokens.min(BLOCK_KEYS));
        mixed.reshape(queries.len(), dim);
        let (scores_stride, mixed_stride) = (scores.stride(), mixed.stride());
        let mut sums = [Sum::default(); MOST_QUERIES];
        let all = span.keys(queries.clone(), tokens);
        for block in (all.start / BLOCK_KEYS * BLOCK_KEYS..all.end).step_by(BLOCK_KEYS) {
            for (first, rows) in row_tiles::<S>(queries.len()) {
                let asking = queries.start + first..queries.start + first + rows;
                let of_tile = span.keys(asking.clone(), tokens);
                let keys_from = block.max(of_tile.start / width * width);
                let keys_to = of_tile.end.min(block + BLOCK_KEYS);
                if keys_from >= keys_to {
                    continue;
                }
                for key in (keys_from..keys_to).step_by(width) {
                    let tile = Tile {
                        a: qkv.at(sequence.rows.start + asking.start, column),
                        a_stride: qkv.stride(),
                        b: keys[key * dim..].as_ptr(),
                        b_stride: width,
                        depth: dim,
                        start: std::ptr::null(),
                        add: bias.map_or(std::ptr::null(), |bias| bias.at(of_all, asking.start, key)),
                        add_stride: -1,
                        ahead: std::ptr::null(),
                        ahead_step: 0,
                        out: scores.rows_from_mut(first)[key - keys_from..].as_mut_ptr(),
                        out_stride: scores_stride,
                        rows,
                        vectors: (keys_to - key).div_ceil(S::LANES).min(2),
                    };
                    // SAFETY: the head's columns are inside the queries (asserted in `shapes`), the keys have whole
                    // panels, and a row of scores has space for them. The bias, if given, covers the sequence (asserted
                    // too) and continues for a panel. The matrices are distinct.
                    unsafe { tile.compute(s) };
                }
                s.call(Exponentials {
                    scores: scores.rows_from_mut(first),
                    stride: scores_stride,
                    keys: keys_from..keys_to,
                    asking: asking.clone(),
                    attention: sequence.attention,
                    tokens,
                    mixed: mixed.rows_from_mut(first),
                    mixed_stride,
                    sums: &mut sums[first..first + rows],
                });
                let is_first = keys_from == of_tile.start / width * width;
                for column in (0..padded_dim).step_by(width) {
                    let to = mixed.rows_from_mut(first)[column..].as_mut_ptr();
                    let tile = Tile {
                        a: scores.rows_from(first).as_ptr(),
                        a_stride: scores_stride,
                        b: values[keys_from * padded_dim + column..].as_ptr(),
                        b_stride: padded_dim,
                        depth: keys_to - keys_from,
                        start: std::ptr::null(),
                        add: if is_first { std::ptr::null() } else { to },
                        add_stride: mixed_stride as isize,
                        ahead: std::ptr::null(),
                        ahead_step: 0,
                        out: to,
                        out_stride: mixed_stride,
                        rows,
                        vectors: ((padded_dim - column) / S::LANES).min(2),
                    };
                    // SAFETY: scores has a column and values a row for each key; values and mixed have `padded_dim`
                    // columns. The matrices are distinct, and what is added is `out` itself.
                    unsafe { tile.compute(s) };
                }
            }
        }
        for (i, Sum { sum, .. }) in sums[..queries.len()].iter().enumerate() {
            let scale = s.splat(1.0 / sum);
            // SAFETY: a head's columns belong to one part.
            let to = unsafe { out.row_mut(to + i, of_all * dim, dim) };
            let mut from = mixed.row(i).chunks_exact(S::LANES);
            let mut to = to.chunks_exact_mut(S::LANES);
            for (from, to) in (&mut from).zip(&mut to) {
                s.store(s.mul(s.load(from), scale), to);
            }
            s.store_first(s.mul(s.load_or(from.remainder(), 0.0), scale), to.into_remainder());
        }
    }
}

/// The exponentials of a query's scores so far.
#[derive(Clone, Copy)]
struct Sum {
    greatest: f32,
    sum: f32,
}

impl Default for Sum {
    fn default() -> Self {
        Self { greatest: f32::NEG_INFINITY, sum: 0.0 }
    }
}

/// Turns a tile of scores into exponentials, 0 outside a query's span, and corrects what is mixed already.
struct Exponentials<'a> {
    scores: &'a mut [f32],
    stride: usize,
    /// The keys of the columns.
    keys: Range<usize>,
    /// The queries of the rows.
    asking: Range<usize>,
    attention: Attention<'a>,
    tokens: usize,
    mixed: &'a mut [f32],
    mixed_stride: usize,
    sums: &'a mut [Sum],
}

impl Kernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { scores, stride, keys, asking, attention, tokens, mixed, mixed_stride, sums } = self;
        for ((i, query), sum) in asking.enumerate().zip(sums) {
            let row = &mut scores[i * stride..][..keys.len()];
            let (mut from, mut to) = (keys.start, keys.end);
            if attention.span != Span::ALL {
                let seen = attention.span.keys(query..query + 1, tokens);
                (from, to) = (seen.start.clamp(from, to), seen.end.clamp(from, to));
                row[..from - keys.start].fill(0.0);
                row[(to - keys.start).max(from - keys.start)..].fill(0.0);
                if from >= to {
                    continue;
                }
            }
            let row = &mut row[from - keys.start..to - keys.start];
            let scale = 1.0 / attention.heads.divisor;
            let top = greatest(s, row);
            let is_first = sum.greatest == f32::NEG_INFINITY;
            if is_first || top > sum.greatest {
                if !is_first {
                    let correction = power(s, (sum.greatest - top) * scale);
                    sum.sum *= correction;
                    for x in &mut mixed[i * mixed_stride..][..attention.heads.dim] {
                        *x *= correction;
                    }
                }
                sum.greatest = top;
            }
            sum.sum += exponentials(s, row, sum.greatest, scale);
        }
    }
}
