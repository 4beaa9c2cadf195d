//! The linear layer on bytes: `y = x · Wᵀ + b`. x is quantised by [`super::quantise`]; W is quantised here, per
//! output and group of inputs, to -127..=127.
//!
//! ```text
//! y[i, j] = b[j] + Σ_g ( scale_x[i, g] · scale_w[j, g] · Σ_k q[i, k] · w[j, k]  +  min_x[i, g] · total[j, g] )
//! total[j, g] = scale_w[j, g] · Σ_k w[j, k]
//! ```
//! The inner sum is exact, in 32-bit integers, and the same at every level. (That of a group is below 2²³, so its
//! conversion to f32 is exact too.) `Panels` have a word of several inputs per lane. `layer` packs W.
//! The inner sums are computed by vectors (`tile`), or by tiles of AMX: a block of 32 × 32 sums at a time, and while
//! vector units `dequantise` the sums, the tiles continue with the next block.

mod dequantise;
mod layer;
mod tile;

use std::mem::MaybeUninit;
use std::ops::Range;

use super::panels::{Layer, Packed, PanelTile, Product};
use super::quantise::{GROUP, Quantised};
use crate::kernel::simd::Simd;
use crate::kernel::tiles::{Block, STEP_BYTES, Shaped, TILE_ROWS, Tiles};
use dequantise::{Dequantise, PENDING, PendingSums};
pub use layer::LinearInt8;
#[cfg(test)]
pub(super) use layer::quantised_weight;
use tile::Tile;

impl Layer for LinearInt8 {
    type Word = i32;
    type Input = Quantised;
    /// The tiles of the level, if it has them, and the sums. Tiles keep their shape from block to block.
    type Scratch = (Option<Shaped>, PendingSums);

    fn packed(&self) -> &Packed<i32> {
        &self.packed
    }

    fn shape(x: &Quantised) -> (usize, usize) {
        (x.rows(), x.cols())
    }

    #[inline(always)]
    fn scratch(&self) -> Self::Scratch {
        (self.tiles.map(Tiles::shape), [const { MaybeUninit::uninit() }; PENDING])
    }

    #[inline(always)]
    unsafe fn tile<S: Simd>(
        &self,
        s: S,
        product: &Product<'_, Self>,
        at: PanelTile<'_, i32>,
        (shaped, sums): &mut Self::Scratch,
    ) {
        let (x, words) = (product.x, self.packed.form.words);
        // Steps of a group, and words of x in a step.
        let (group_steps, x_words) = match shaped {
            Some(_) => (GROUP / STEP_BYTES, STEP_BYTES / 4),
            None => (GROUP / S::WORD, 1),
        };
        let (rows, x_stride, ahead_step) = (at.rows.len(), x.stride(), at.ahead_step);
        for group in (0..x.groups()).step_by(PENDING) {
            let groups = group..x.groups().min(group + PENDING);
            for (g, sums) in groups.clone().zip(sums.iter_mut()) {
                let from = g * group_steps;
                let steps = group_steps.min(self.packed.steps - from);
                let w = at.weights.as_ptr().wrapping_add(from * words);
                let x = x.words_from(at.rows.start).as_ptr().wrapping_add(from * x_words);
                let ahead = at.ahead.wrapping_add(from * ahead_step);
                match shaped {
                    Some(shaped) => {
                        let (x_stride, ahead_lines) = (4 * x_stride, ahead_step / 16);
                        let block = Block { x, x_stride, tall: rows > TILE_ROWS, w, steps, ahead, ahead_lines };
                        // SAFETY: x has memory for whole tiles of rows and columns, and the panel for whole steps.
                        unsafe { shaped.dot_bytes(block, sums) };
                    }
                    None => {
                        let sums = sums.as_mut_ptr().cast();
                        let tile = Tile { x, x_stride, w, words: steps, ahead, ahead_step, sums, rows };
                        // SAFETY: x has rows of `inputs` columns, filled to whole words; the panel was sliced; a tile
                        // is no larger than a block's sums.
                        unsafe { tile.compute(s) };
                    }
                }
            }
            // SAFETY: these groups of these rows and this panel are summed. The caller guarantees that no other thread
            // uses these elements of y.
            unsafe { self.dequantise(product, &at, groups, sums).run(s) };
        }
    }
}

impl LinearInt8 {
    /// Makes the dequantisation of some groups, at most as many as `sums` holds.
    #[inline(always)]
    fn dequantise<'a>(
        &'a self,
        product: &Product<'a, Self>,
        at: &PanelTile<'_, i32>,
        groups: Range<usize>,
        sums: &'a PendingSums,
    ) -> Dequantise<'a> {
        let Product { x, residual, y, .. } = *product;
        let (width, all) = (self.packed.form.width, x.groups());
        let (first, column) = (at.rows.start, at.panel * width);
        let those = (at.panel * all + groups.start) * width..(at.panel * all + groups.end) * width;
        // The rows of y and of the residual have space for the panel of their last column.
        let residual = residual.filter(|_| groups.end == all);
        Dequantise {
            sums,
            width,
            scales: &self.scales[those.clone()],
            totals: &self.totals[those],
            params: &x.params_from(first)[groups.start..],
            groups: all,
            start: (groups.start == 0).then(|| &self.packed.bias[column..][..width]),
            add: residual.map(|add| (add.rows_from(first)[column..].as_ptr(), add.stride())),
            out: y.at(first, column),
            out_stride: y.stride(),
            rows: at.rows.len(),
        }
    }
}
