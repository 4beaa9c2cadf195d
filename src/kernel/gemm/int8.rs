//! The linear layer on bytes: `y = x · Wᵀ + b`. x is quantised by [`super::quantise`]; W is quantised here, per
//! output and group of inputs, to -127..=127.
//!
//! ```text
//! y[i, j] = b[j] + Σ_g ( scale_x[i, g] · scale_w[j, g] · Σ_k q[i, k] · w[j, k]  +  min_x[i, g] · total[j, g] )
//! total[j, g] = scale_w[j, g] · Σ_k w[j, k]
//! ```
//! The inner sum is exact, in 32-bit integers, and the same at every level. (That of a group is below 2²³, so its
//! conversion to f32 is exact too.) Panels are as in [`super::f32`], with a word of several inputs per lane instead
//! of one f32. `layer` packs W. `product` computes the inner sums by vectors, `blocks` by tiles of AMX; `dequantise`
//! does the rest.

mod blocks;
mod dequantise;
mod layer;
mod product;
mod tile;

use std::ops::Range;

use super::epilogue::ColumnEpilogue;
use super::panels::check_columns;
use super::quantise::Quantised;
use crate::kernel::matrix::{Matrix, SharedMatrix};
use crate::kernel::simd::run_words;
use blocks::Blocks;
pub use layer::LinearInt8;
#[cfg(test)]
pub(super) use layer::quantised_weight;
use product::Product;

impl LinearInt8 {
    /// Computes some columns of `y = x · Wᵀ + b`, plus `residual` if given; x: [rows, inputs], quantised; y: [rows,
    /// outputs]. Columns begin at a multiple of a panel and end at one or the last. No other thread uses them. The
    /// rows of each tile go through `then` while they are in cache.
    pub(in crate::kernel) fn columns(
        &self,
        columns: Range<usize>,
        x: &Quantised,
        residual: Option<&Matrix>,
        y: SharedMatrix<'_>,
        then: Option<&ColumnEpilogue<'_>>,
    ) {
        assert_eq!(x.cols(), self.inputs, "the input has a column for each column of the weight");
        check_columns(&columns, self.width, (x.rows(), self.outputs), residual, y);
        let panels = columns.start / self.width..columns.end.div_ceil(self.width);
        let product = Product { layer: self, panels, x, residual, y, then };
        match self.tiles {
            Some(tiles) => run_words(self.level, Blocks { tiles, product }),
            None => run_words(self.level, product),
        }
    }
}
