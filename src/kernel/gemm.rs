//! The linear layer: `y = x · Wᵀ + b` on f32, with W packed once, and what follows done while the tile is hot.
//!
//! W is cut into panels as wide as the register tile; a panel holds its columns side by side for each k, so
//! that the innermost loop reads one stream. Columns are filled up with zeros to whole panels, and so is the
//! bias: [`Matrix`] has room for them in every row, hence no tile has a ragged edge.
//!
//! A row of the result has the same bits whatever rows are computed with it (see `tile`).

pub(super) mod tile;

use std::ops::Range;

use super::activation::Activation;
use super::cpu::Level;
use super::matrix::{Aligned, Matrix, Shared};
use super::simd::{Kernel, Simd, run};
use super::team::Team;
use tile::{Tile, row_tiles};

/// A linear layer packed for one instruction set.
pub struct Linear {
    level: Level,
    inputs: usize,
    outputs: usize,
    /// f32 across a panel.
    width: usize,
    /// [panels, inputs, width]
    panels: Aligned,
    /// [panels, width]
    bias: Aligned,
}

/// What follows the product and the bias.
#[derive(Clone, Copy)]
pub enum Then<'a> {
    /// Nothing.
    Nothing,
    /// The activation function of each element.
    Activate(Activation),
    /// The sum with a matrix of the result's shape: the residual connection.
    Add(&'a Matrix),
}

impl Linear {
    /// Packs `weight`: [outputs, inputs], row-major as PyTorch stores it, and `bias`: `[outputs]`.
    /// Panics if the lengths disagree.
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

    /// `y = then(x · Wᵀ + b)`; x: [rows, inputs]; y becomes [rows, outputs]. Shared out among `team`.
    pub fn apply(&self, team: &Team, x: &Matrix, then: Then<'_>, y: &mut Matrix) {
        assert_eq!(x.cols(), self.inputs, "the input has a column for each column of the weight");
        if let Then::Add(residual) = then {
            assert_eq!((residual.rows(), residual.cols()), (x.rows(), self.outputs), "the residual's shape");
        }
        y.reshape(x.rows(), self.outputs);
        let y = y.shared();
        share_panels(team, self.outputs.div_ceil(self.width), &|panels| {
            run(self.level, Product { layer: self, panels, x, then, y })
        });
    }
}

/// Shares out `panels` among `team`, some neighbours at a time: enough parts that none waits long for the last one,
/// and few enough that the fetching ahead from panel to panel is seldom in vain.
pub(super) fn share_panels(team: &Team, panels: usize, product: &(dyn Fn(Range<usize>) + Sync)) {
    const MOST_PARTS: usize = 12;
    let size = panels.div_ceil(MOST_PARTS).max(1);
    team.share(panels.div_ceil(size), &|part| product(part * size..panels.min((part + 1) * size)));
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
    then: Then<'a>,
    y: Shared<'a>,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { layer, panels, x, then, y } = self;
        let width = layer.width;
        let out_stride = y.stride();
        // A model's weights do not fit into the second cache. While a panel is in use, its tiles fetch the next
        // one, an even share each; without that 16 rows take two to three times as long and 128 rows a third
        // more (benches/encoder.rs).
        let tiles = x.rows().div_ceil(S::TILE_ROWS).max(1);
        let ahead_step = width.div_ceil(tiles);
        for panel in panels {
            let weights = &layer.panels[panel * layer.inputs * width..][..layer.inputs * width];
            let bias = &layer.bias[panel * width..][..width];
            let ahead = weights.as_ptr().wrapping_add(weights.len());
            for (turn, (first, rows)) in row_tiles::<S>(x.rows()).enumerate() {
                let (add, add_stride) = match then {
                    Then::Add(residual) => {
                        (residual.rows_from(first)[panel * width..].as_ptr(), residual.stride() as isize)
                    }
                    _ => (std::ptr::null(), 0),
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
                // SAFETY: x has rows of `inputs` columns (asserted), the panel [inputs, width] and the bias
                // [width] were sliced; y and the residual have `outputs` columns and, being matrices, room in
                // each row for the panel that holds the last of them. y is borrowed alone, and each panel belongs to
                // one part, so nothing overlaps.
                unsafe { tile.compute(s) };
                if let Then::Activate(activation) = then {
                    s.call(ActivateTile { activation, out: y, first, rows, column: panel * width, width });
                }
            }
        }
    }
}

struct ActivateTile<'a> {
    activation: Activation,
    out: Shared<'a>,
    first: usize,
    rows: usize,
    column: usize,
    width: usize,
}

impl Kernel for ActivateTile<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in self.first..self.first + self.rows {
            // SAFETY: the panel belongs to one part.
            let row = unsafe { self.out.row_mut(row, self.column, self.width) };
            self.activation.each(s, row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::cpu;
    use crate::kernel::matrix::filled;

    fn flat(matrix: &Matrix) -> Vec<f32> {
        (0..matrix.rows()).flat_map(|row| matrix.row(row).to_vec()).collect()
    }

    fn layer(level: Level, outputs: usize, inputs: usize, seed: u64) -> (Linear, Matrix, Matrix) {
        let (weight, bias) = (filled(outputs, inputs, seed), filled(1, outputs, seed + 1));
        (Linear::pack(level, &flat(&weight), bias.row(0)), weight, bias)
    }

    #[test]
    fn the_product_is_that_of_exact_arithmetic_for_odd_shapes_at_every_level() {
        let shapes = [
            (1, 1, 1),
            (1, 33, 7),
            (2, 384, 100),
            (3, 31, 65),
            (13, 32, 128),
            (14, 96, 96),
            (15, 97, 33),
            (29, 200, 333),
            (57, 130, 1031),
        ];
        for level in cpu::Level::supported() {
            for (seed, (rows, outputs, inputs)) in shapes.into_iter().enumerate() {
                let seed = 100 * seed as u64;
                let (linear, weight, bias) = layer(level, outputs, inputs, seed);
                let (x, residual) = (filled(rows, inputs, seed + 2), filled(rows, outputs, seed + 3));
                let (mut plain, mut relu, mut sum) = (Matrix::default(), Matrix::default(), Matrix::default());
                linear.apply(&Team::default(), &x, Then::Nothing, &mut plain);
                linear.apply(&Team::default(), &x, Then::Activate(Activation::Relu), &mut relu);
                linear.apply(&Team::default(), &x, Then::Add(&residual), &mut sum);
                for i in 0..rows {
                    for j in 0..outputs {
                        let exact: f64 = f64::from(bias.row(0)[j])
                            + x.row(i)
                                .iter()
                                .zip(weight.row(j))
                                .map(|(&x, &w)| f64::from(x) * f64::from(w))
                                .sum::<f64>();
                        let at = format!("{level:?} {rows}×{outputs}×{inputs}, seed {seed}, [{i}, {j}]");
                        // A partial sum of n terms below 1 grows like √n, and so does the walk of its roundings.
                        let tolerance = 4e-8 * inputs as f64 + 1e-6;
                        let off = |y: f32, exact: f64| (f64::from(y) - exact).abs() > tolerance;
                        assert!(!off(plain.row(i)[j], exact), "{at}: {} for {exact}", plain.row(i)[j]);
                        assert!(!off(relu.row(i)[j], exact.max(0.0)), "{at} relu");
                        assert!(!off(sum.row(i)[j], exact + f64::from(residual.row(i)[j])), "{at} residual");
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_any_number_of_others() {
        for level in cpu::Level::supported() {
            let (linear, _, _) = layer(level, 70, 129, 7);
            let x = filled(60, 129, 8);
            let mut all = Matrix::default();
            linear.apply(&Team::default(), &x, Then::Activate(Activation::Gelu), &mut all);
            for rows in 1..60 {
                let mut some = Matrix::default();
                some.reshape(rows, 129);
                (0..rows).for_each(|i| some.row_mut(i).copy_from_slice(x.row(60 - rows + i)));
                let mut y = Matrix::default();
                linear.apply(&Team::default(), &some, Then::Activate(Activation::Gelu), &mut y);
                for i in 0..rows {
                    assert_eq!(y.row(i), all.row(60 - rows + i), "{level:?}, row {i} of {rows}");
                }
            }
        }
    }
}
