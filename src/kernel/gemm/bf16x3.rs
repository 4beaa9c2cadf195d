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
//! Panels are as in [`super::f32`], in steps of 32 inputs: the high parts of a step, then its low parts, in words
//! of two inputs.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::epilogue::ColumnEpilogue;
use super::panels::{NEAR, check_columns};
use super::split_bf16::{STEP, SplitBf16};
use crate::kernel::matrix::{Aligned, Matrix, SharedMatrix};
use crate::kernel::simd::{Kernel, Simd, bf16, run};
use crate::kernel::tiles::{BLOCK, Block, Sums, TILE_ROWS, Tiles, row_blocks};
use crate::machine::cpu::Level;

/// Words of the weights of a step, high or low.
const STEP_WORDS: usize = TILE_ROWS * BLOCK;

/// A linear layer, split and packed.
pub struct LinearBf16x3 {
    tiles: Tiles,
    inputs: usize,
    outputs: usize,
    /// [panels, steps, highs and lows, 16, 32] words
    panels: Aligned<i32>,
    /// [panels, 32]
    bias: Aligned,
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
        let outputs = bias.len();
        let inputs = weight.len().checked_div(outputs).unwrap_or(0);
        assert_eq!(weight.len(), outputs * inputs, "a weight is [outputs, inputs]");
        let (count, steps) = (outputs.div_ceil(BLOCK), inputs.div_ceil(STEP));
        let mut panels = Aligned::<i32>::zeros(count * steps * 2 * STEP_WORDS);
        for (output, row) in weight.chunks_exact(inputs.max(1)).enumerate() {
            let (panel, column) = (output / BLOCK, output % BLOCK);
            for (k, &w) in row.iter().enumerate() {
                let (step, word, shift) = (k / STEP, k % STEP / 2, 16 * (k % 2));
                let high = bf16(w);
                for (part, number) in [high, bf16(w - high)].into_iter().enumerate() {
                    let at = ((panel * steps + step) * 2 + part) * STEP_WORDS + word * BLOCK + column;
                    panels[at] |= ((number.to_bits() >> 16) << shift) as i32;
                }
            }
        }
        let mut padded_bias = Aligned::zeros(count * BLOCK);
        padded_bias[..outputs].copy_from_slice(bias);
        Some(Self { tiles, inputs, outputs, panels, bias: padded_bias })
    }

    /// Columns of the result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of a panel.
    pub(in crate::kernel) fn panel(&self) -> usize {
        BLOCK
    }

    /// Computes some columns of `y = x · Wᵀ + b`, plus `residual` if given; x: [rows, inputs], y: [rows, outputs].
    /// Columns begin at a multiple of a panel and end at one or the last. No other thread uses them. The rows of
    /// each block go through `then` while they are in cache.
    pub(in crate::kernel) fn columns(
        &self,
        columns: Range<usize>,
        x: &SplitBf16,
        residual: Option<&Matrix>,
        y: SharedMatrix<'_>,
        then: Option<&ColumnEpilogue<'_>>,
    ) {
        assert_eq!(x.cols(), self.inputs, "the input has a column for each column of the weight");
        check_columns(&columns, BLOCK, (x.rows(), self.outputs), residual, y);
        let panels = columns.start / BLOCK..columns.end.div_ceil(BLOCK);
        run(Level::Amx, Product { layer: self, panels, x, residual, y, then });
    }
}

struct Product<'a> {
    layer: &'a LinearBf16x3,
    panels: Range<usize>,
    x: &'a SplitBf16,
    residual: Option<&'a Matrix>,
    y: SharedMatrix<'a>,
    then: Option<&'a ColumnEpilogue<'a>>,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { layer, panels, x, residual, y, then } = self;
        let shaped = layer.tiles.shape();
        let steps = layer.inputs.div_ceil(STEP);
        let panel_words = steps * 2 * STEP_WORDS;
        // As in `f32`: the blocks of these panels prefetch the next panels, in equal shares.
        let blocks = row_blocks(x.rows()).count();
        let lines = (2 * STEP_WORDS / 16).div_ceil(blocks.max(1));
        let mut sums = MaybeUninit::<Sums<f32>>::uninit();
        let next = if blocks == 1 { NEAR } else { panels.len() * panel_words };
        for (turn, (first, rows)) in row_blocks(x.rows()).enumerate() {
            let (highs, lows) = x.words_from(first);
            for panel in panels.clone() {
                let w = layer.panels[panel * panel_words..][..panel_words].as_ptr();
                let bias = layer.bias[panel * BLOCK..][..BLOCK].as_ptr();
                let block = Block {
                    x: highs.as_ptr(),
                    x_stride: 4 * x.stride(),
                    tall: rows > TILE_ROWS,
                    w,
                    steps,
                    ahead: w.wrapping_add(next + turn * lines * 16 * steps),
                    ahead_lines: lines,
                };
                // SAFETY: x has memory for whole tiles of rows and columns, and the panel for whole steps.
                let sums = unsafe { shaped.dot_split(block, lows.as_ptr(), &mut sums) };
                for (i, sums) in sums.0.iter().enumerate().take(rows) {
                    for at in (0..BLOCK).step_by(S::LANES) {
                        // SAFETY: y and the residual have `outputs` columns and, being matrices, space in each row
                        // for the panel of the last one; the panel belongs to one part.
                        unsafe {
                            let mut sum = s.add(s.load(&sums[at..]), s.load_at(bias.add(at)));
                            if let Some(residual) = residual {
                                sum =
                                    s.add(sum, s.load_at(residual.rows_from(first + i)[panel * BLOCK + at..].as_ptr()));
                            }
                            s.store_at(sum, y.at(first + i, panel * BLOCK + at));
                        }
                    }
                }
            }
            if let Some(then) = then {
                then.apply(first..first + rows, panels.start * BLOCK..layer.outputs.min(panels.end * BLOCK));
            }
        }
    }
}
