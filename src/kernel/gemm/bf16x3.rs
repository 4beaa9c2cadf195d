//! The linear layer on split bf16, for processors with tiles: `y = x · Wᵀ + b`. x is split by
//! [`super::split_bf16`], and W here.
//!
//! ```text
//! y[i, j] = b[j] + Σ_k  high(x)·low(w) + high(x)·high(w) + low(x)·high(w)
//! ```
//! Three products of bf16 replace one of f32, and are still several times as fast. Sums are f32. The error is that
//! of the splitting, about 2⁻¹⁶ of each product; over a row's hundreds of products the errors cancel like
//! roundings.
//!
//! `Panels` have steps of 32 inputs: the high parts of a step, then its low parts, in words of two
//! inputs.

use std::mem::MaybeUninit;

use super::panels::{Form, Layer, Packed, PanelTile, Product};
use super::split_bf16::{STEP, SplitBf16};
use crate::kernel::simd::{Simd, bf16};
use crate::kernel::tiles::{BLOCK, Block, Shaped, Sums, TILE_ROWS, Tiles};
use crate::machine::cpu::Level;

/// Words of the weights of a step, high or low.
const STEP_WORDS: usize = TILE_ROWS * BLOCK;

/// A linear layer, split and packed.
pub struct LinearBf16x3 {
    tiles: Tiles,
    /// A step has the words of the highs, [16, 32], and then those of the lows.
    packed: Packed<i32>,
}

impl LinearBf16x3 {
    /// True if the level has tiles: then its linear layers should be of this type.
    pub fn is_for(level: Level) -> bool {
        Tiles::of(level).is_some()
    }

    /// Splits and packs `weight`, [outputs, inputs] row-major as PyTorch stores it, and `bias`, `[outputs]`. All
    /// numbers are finite. `None` if the level has no tiles. Panics if the lengths disagree.
    pub fn pack(level: Level, weight: &[f32], bias: &[f32]) -> Option<Self> {
        let tiles = Tiles::of(level)?;
        let mut packed = Packed::zeros(Form { width: BLOCK, inputs: STEP, words: 2 * STEP_WORDS }, weight, bias);
        for (output, row) in weight.chunks_exact(packed.inputs.max(1)).enumerate() {
            let (panel, column) = (output / BLOCK, output % BLOCK);
            for (k, &w) in row.iter().enumerate() {
                let (step, word, shift) = (k / STEP, k % STEP / 2, 16 * (k % 2));
                let high = bf16(w);
                for (part, number) in [high, bf16(w - high)].into_iter().enumerate() {
                    let at = ((panel * packed.steps + step) * 2 + part) * STEP_WORDS + word * BLOCK + column;
                    packed.words[at] |= ((number.to_bits() >> 16) << shift) as i32;
                }
            }
        }
        Some(Self { tiles, packed })
    }
}

impl Layer for LinearBf16x3 {
    type Word = i32;
    type Input = SplitBf16;
    type Scratch = (Shaped, MaybeUninit<Sums<f32>>);

    fn packed(&self) -> &Packed<i32> {
        &self.packed
    }

    fn shape(x: &SplitBf16) -> (usize, usize) {
        (x.rows(), x.cols())
    }

    #[inline(always)]
    fn scratch(&self) -> Self::Scratch {
        (self.tiles.shape(), MaybeUninit::uninit())
    }

    #[inline(always)]
    unsafe fn tile<S: Simd>(
        &self,
        s: S,
        product: &Product<'_, Self>,
        at: PanelTile<'_, i32>,
        (shaped, sums): &mut Self::Scratch,
    ) {
        let Product { x, residual, y, .. } = product;
        let (first, column) = (at.rows.start, at.panel * BLOCK);
        let (highs, lows) = x.words_from(first);
        let bias = self.packed.bias[column..][..BLOCK].as_ptr();
        let block = Block {
            x: highs.as_ptr(),
            x_stride: 4 * x.stride(),
            tall: at.rows.len() > TILE_ROWS,
            w: at.weights.as_ptr(),
            steps: self.packed.steps,
            ahead: at.ahead,
            ahead_lines: at.ahead_step / 16,
        };
        // SAFETY: x has memory for whole tiles of rows and columns, and the panel for whole steps.
        let sums = unsafe { shaped.dot_split(block, lows.as_ptr(), sums) };
        for (row, sums) in at.rows.zip(&sums.0) {
            for at in (0..BLOCK).step_by(S::LANES) {
                // SAFETY: y and the residual have `outputs` columns and, being matrices, space in each row for the
                // panel of the last one. The caller guarantees that no other thread uses these elements of y.
                unsafe {
                    let mut sum = s.add(s.load(&sums[at..]), s.load_at(bias.add(at)));
                    if let Some(residual) = residual {
                        sum = s.add(sum, s.load_at(residual.rows_from(row)[column + at..].as_ptr()));
                    }
                    s.store_at(sum, y.at(row, column + at));
                }
            }
        }
    }
}
