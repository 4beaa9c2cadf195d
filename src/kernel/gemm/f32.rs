//! The linear layer in f32: `y = x · Wᵀ + b`, with W packed once.
//!
//! W is cut into panels as wide as the register tile. A panel stores its columns side by side for each k, so the
//! innermost loop reads one stream. Columns are filled with zeros to whole panels, and so is the bias. [`Matrix`]
//! has space for them in every row, so no tile has a ragged edge.
//!
//! A row of the result has the same bits whatever rows are computed with it (see `gemm/tile.rs`).

use std::ops::Range;

use super::epilogue::ColumnEpilogue;
use super::panels::{NEAR, check_columns};
use super::tile::{Tile, row_tiles};
use crate::kernel::matrix::{Aligned, Matrix, SharedMatrix};
use crate::kernel::simd::{Kernel, Simd, run};
use crate::machine::cpu::Level;

/// A linear layer packed for one instruction set.
pub struct Linear {
    level: Level,
    inputs: usize,
    outputs: usize,
    /// Columns of a panel.
    width: usize,
    /// [panels, inputs, width]
    panels: Aligned,
    /// [panels, width]
    bias: Aligned,
}

impl Linear {
    /// Packs `weight`, [outputs, inputs] row-major as PyTorch stores it, and `bias`, `[outputs]`. Panics if the
    /// lengths disagree.
    pub fn pack(level: Level, weight: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        let inputs = weight.len().checked_div(outputs).unwrap_or(0);
        assert_eq!(weight.len(), outputs * inputs, "a weight is [outputs, inputs]");
        let width = run(level, PanelWidth);
        let count = outputs.div_ceil(width);
        let mut panels = Aligned::zeros(count * inputs * width);
        for (output, row) in weight.chunks_exact(inputs.max(1)).enumerate() {
            let panel = &mut panels[output / width * inputs * width..];
            for (k, &w) in row.iter().enumerate() {
                panel[k * width + output % width] = w;
            }
        }
        let mut padded_bias = Aligned::zeros(count * width);
        padded_bias[..outputs].copy_from_slice(bias);
        Self { level, inputs, outputs, width, panels, bias: padded_bias }
    }

    /// Columns of the result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of a panel.
    pub(in crate::kernel) fn panel(&self) -> usize {
        self.width
    }

    /// Computes some columns of `y = x · Wᵀ + b`, plus `residual` if given; x: [rows, inputs], y: [rows, outputs].
    /// Columns begin at a multiple of a panel and end at one or the last. No other thread uses them. The rows of
    /// each tile go through `then` while they are in cache.
    pub(in crate::kernel) fn columns(
        &self,
        columns: Range<usize>,
        x: &Matrix,
        residual: Option<&Matrix>,
        y: SharedMatrix<'_>,
        then: Option<&ColumnEpilogue<'_>>,
    ) {
        assert_eq!(x.cols(), self.inputs, "the input has a column for each column of the weight");
        check_columns(&columns, self.width, (x.rows(), self.outputs), residual, y);
        let panels = columns.start / self.width..columns.end.div_ceil(self.width);
        run(self.level, Product { layer: self, panels, x, residual, y, then });
    }
}

struct PanelWidth;

impl Kernel for PanelWidth {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        2 * S::LANES
    }
}

struct Product<'a> {
    layer: &'a Linear,
    panels: Range<usize>,
    x: &'a Matrix,
    residual: Option<&'a Matrix>,
    y: SharedMatrix<'a>,
    then: Option<&'a ColumnEpilogue<'a>>,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { layer, panels, x, residual, y, then } = self;
        let width = layer.width;
        let out_stride = y.stride();
        // A model's weights do not fit into the second-level cache. The tiles of these panels prefetch the next
        // panels, in equal shares. Without that, 128 rows take a third more time (benches/encoder.rs).
        let tiles = x.rows().div_ceil(S::TILE_ROWS).max(1);
        let ahead_step = width.div_ceil(tiles);
        let count = panels.len();
        for (turn, (first, rows)) in row_tiles::<S>(x.rows()).enumerate() {
            for panel in panels.clone() {
                let weights = &layer.panels[panel * layer.inputs * width..][..layer.inputs * width];
                let bias = &layer.bias[panel * width..][..width];
                let ahead = weights.as_ptr().wrapping_add(if tiles == 1 { NEAR } else { count * weights.len() });
                let (add, add_stride) = match residual {
                    Some(residual) => (residual.rows_from(first)[panel * width..].as_ptr(), residual.stride() as isize),
                    None => (std::ptr::null(), 0),
                };
                let tile = Tile {
                    a: x.rows_from(first).as_ptr(),
                    a_stride: x.stride(),
                    b: weights.as_ptr(),
                    b_stride: width,
                    depth: layer.inputs,
                    start: bias.as_ptr(),
                    add,
                    add_stride,
                    ahead: ahead.wrapping_add(turn * ahead_step * layer.inputs),
                    ahead_step,
                    out: y.at(first, panel * width),
                    out_stride,
                    rows,
                    vectors: 2,
                };
                // SAFETY: x has rows of `inputs` columns (asserted), and the panel [inputs, width] and the bias
                // [width] were sliced. y and the residual have `outputs` columns and, being matrices, space in each
                // row for the panel of the last one. y is borrowed exclusively, and each panel belongs to one part,
                // so nothing overlaps.
                unsafe { tile.compute(s) };
            }
            if let Some(then) = then {
                then.apply(first..first + rows, panels.start * width..layer.outputs.min(panels.end * width));
            }
        }
    }
}
