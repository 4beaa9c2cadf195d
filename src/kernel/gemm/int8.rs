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

#[cfg(test)]
mod tests {
    use super::layer::quantised_weight;
    use super::*;
    use crate::kernel::gemm::epilogue::{Conversion, Epilogue, InPlace};
    use crate::kernel::gemm::quantise::GROUP;
    use crate::kernel::gemm::quantise::tests::restored;
    use crate::kernel::matrix::filled;
    use crate::machine::cpu::{self, Level};
    use crate::machine::team::Leader;

    fn quantised(level: Level, x: &mut Matrix) -> Quantised {
        let mut q = Quantised::default();
        Epilogue { before: InPlace::Nothing, x, to: Conversion::Int8(&mut q) }.apply(level, &mut Leader::default());
        q
    }

    fn layer(level: Level, outputs: usize, inputs: usize, seed: u64) -> (LinearInt8, Matrix, Matrix) {
        let (weight, bias) = (filled(outputs, inputs, seed), filled(1, outputs, seed + 1));
        let flat: Vec<f32> = (0..outputs).flat_map(|row| weight.row(row).to_vec()).collect();
        (LinearInt8::pack(level, &flat, bias.row(0)), weight, bias)
    }

    /// Computes panel by panel, as separate threads would.
    fn apply(linear: &LinearInt8, x: &Quantised, residual: Option<&Matrix>) -> Matrix {
        let mut y = Matrix::default();
        y.reshape(x.rows(), linear.outputs());
        for first in (0..linear.outputs()).step_by(linear.panel()) {
            linear.columns(first..linear.outputs().min(first + linear.panel()), x, residual, y.shared(), None);
        }
        y
    }

    /// The quantised weight, in exact arithmetic.
    fn restored_weight(row: &[f32], k: usize) -> f64 {
        let group = &row[k / GROUP * GROUP..row.len().min((k / GROUP + 1) * GROUP)];
        let scale = group.iter().fold(0.0f32, |greatest, w| greatest.max(w.abs())) / 127.0;
        f64::from(scale) * f64::from(quantised_weight(row[k], scale))
    }

    #[test]
    fn the_product_is_that_of_the_quantised_numbers_in_exact_arithmetic_at_every_level() {
        let shapes = [(1, 1, 1), (1, 33, 7), (3, 31, 65), (14, 96, 128), (15, 97, 129), (29, 50, 333), (57, 34, 1031)];
        for level in cpu::Level::supported() {
            for (seed, (rows, outputs, inputs)) in shapes.into_iter().enumerate() {
                let seed = 100 * seed as u64;
                let (linear, weight, bias) = layer(level, outputs, inputs, seed);
                let (mut x, residual) = (filled(rows, inputs, seed + 2), filled(rows, outputs, seed + 3));
                let q = quantised(level, &mut x);
                let (plain, sum) = (apply(&linear, &q, None), apply(&linear, &q, Some(&residual)));
                for i in 0..rows {
                    for j in 0..outputs {
                        let exact: f64 = f64::from(bias.row(0)[j])
                            + (0..inputs)
                                .map(|k| f64::from(restored(level, &q, i, k).1) * restored_weight(weight.row(j), k))
                                .sum::<f64>();
                        let at = format!("{level} {rows}×{outputs}×{inputs}, seed {seed}, [{i}, {j}]");
                        // Each group adds two roundings of numbers up to its size, and each scale one.
                        let tolerance = 3e-7 * inputs as f64 + 1e-6;
                        let off = |y: f32, exact: f64| (f64::from(y) - exact).abs() > tolerance;
                        assert!(!off(plain.row(i)[j], exact), "{at}: {} for {exact}", plain.row(i)[j]);
                        assert!(!off(sum.row(i)[j], exact + f64::from(residual.row(i)[j])), "{at} residual");
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_any_number_of_others() {
        for level in cpu::Level::supported() {
            let (linear, _, _) = layer(level, 70, 259, 7);
            let mut x = filled(40, 259, 8);
            let all = apply(&linear, &quantised(level, &mut x), None);
            for rows in 1..40 {
                let mut some = Matrix::default();
                some.reshape(rows, 259);
                (0..rows).for_each(|i| some.row_mut(i).copy_from_slice(x.row(40 - rows + i)));
                let y = apply(&linear, &quantised(level, &mut some), None);
                (0..rows).for_each(|i| assert_eq!(y.row(i), all.row(40 - rows + i), "{level}, row {i} of {rows}"));
            }
        }
    }

    #[test]
    fn weights_and_activations_at_the_edges_of_their_range_do_not_overflow() {
        for level in cpu::Level::supported() {
            let inputs = 300;
            let weight: Vec<f32> = [1.0, -1.0, 0.0].iter().flat_map(|&w| vec![w; inputs]).collect();
            let linear = LinearInt8::pack(level, &weight, &[0.0; 3]);
            let mut x = Matrix::default();
            x.reshape(1, inputs);
            // One value at the lower end, so that all others are 255.
            x.row_mut(0).fill(1.0);
            x.row_mut(0).iter_mut().step_by(GROUP).for_each(|x| *x = 0.0);
            let q = quantised(level, &mut x);
            let y = apply(&linear, &q, None);
            for (got, exact) in y.row(0).iter().zip([297.0, -297.0, 0.0]) {
                assert!((got - exact).abs() < 1e-3, "{level}: {got} for {exact}");
            }
            assert_eq!(y.cols(), 3);
        }
    }
}
