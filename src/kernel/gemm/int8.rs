//! The linear layer on bytes: `y = x · Wᵀ + b`. x is quantised by [`super::quantise`]; W is quantised here, per
//! output and group of inputs, to -127..=127.
//!
//! ```text
//! y[i, j] = b[j] + Σ_g ( scale_x[i, g] · scale_w[j, g] · Σ_k q[i, k] · w[j, k]  +  min_x[i, g] · total[j, g] )
//! total[j, g] = scale_w[j, g] · Σ_k w[j, k]
//! ```
//! The inner sum is exact, in 32-bit integers, and the same at every level. (That of a group is below 2²³, so its
//! conversion to f32 is exact too.) Panels are as in [`super::f32`], with a word of several inputs per lane instead
//! of one f32. `tile` computes the inner sums by vectors, `blocks` by tiles of AMX; `dequantise` does the rest.

mod blocks;
mod dequantise;
mod tile;

use std::mem::MaybeUninit;
use std::ops::Range;

use super::epilogue::ColumnEpilogue;
use super::panels::{NEAR, check_columns};
use super::quantise::{GROUP, Quantised};
use super::tile::row_tiles;
use crate::kernel::matrix::{Aligned, Matrix, SharedMatrix};
use crate::kernel::simd::{Kernel, Simd, run_words, word};
use crate::kernel::tiles::{self, Tiles};
use crate::machine::cpu::Level;
use blocks::Blocks;
use dequantise::{Dequantise, PENDING, PendingSums};
use tile::Tile;

/// A linear layer quantised and packed for one instruction set.
pub struct LinearInt8 {
    level: Level,
    /// The tiles of the level, if it has them.
    tiles: Option<Tiles>,
    inputs: usize,
    outputs: usize,
    /// Columns of a panel.
    width: usize,
    /// Numbers per word.
    word: usize,
    /// [panels, words of the inputs, width]. With tiles, the words are filled with zeros to whole steps.
    panels: Aligned<i32>,
    /// [panels, groups, width]
    scales: Aligned,
    /// [panels, groups, width]
    totals: Aligned,
    /// [panels, width]
    bias: Aligned,
}

impl LinearInt8 {
    /// Quantises and packs `weight`, [outputs, inputs] row-major as PyTorch stores it, and `bias`, `[outputs]`. All
    /// numbers are finite. Panics if the lengths disagree.
    pub fn pack(level: Level, weight: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        let inputs = weight.len().checked_div(outputs).unwrap_or(0);
        assert_eq!(weight.len(), outputs * inputs, "a weight is [outputs, inputs]");
        let (width, word_len) = run_words(level, Shape);
        let (count, groups) = (outputs.div_ceil(width), inputs.div_ceil(GROUP));
        let mut layer = Self {
            level,
            tiles: tiles::of(level),
            inputs,
            outputs,
            width,
            word: word_len,
            panels: Aligned::default(),
            scales: Aligned::zeros(count * groups * width),
            totals: Aligned::zeros(count * groups * width),
            bias: Aligned::zeros(count * width),
        };
        layer.panels.reserve(count * layer.panel_words());
        layer.bias[..outputs].copy_from_slice(bias);
        for (output, row) in weight.chunks_exact(inputs.max(1)).enumerate() {
            layer.pack_output(output, row);
        }
        layer
    }

    /// Number of i32 in a panel.
    fn panel_words(&self) -> usize {
        let words = self.inputs.div_ceil(self.word);
        let whole = if self.tiles.is_some() { words.next_multiple_of(tiles::TILE_ROWS) } else { words };
        whole * self.width
    }

    fn pack_output(&mut self, output: usize, weights: &[f32]) {
        let (panel, column) = (output / self.width, output % self.width);
        let (panel_words, groups) = (self.panel_words(), self.inputs.div_ceil(GROUP));
        for (g, group) in weights.chunks(GROUP).enumerate() {
            let greatest = group.iter().fold(0.0f32, |greatest, w| greatest.max(w.abs()));
            let scale = greatest / 127.0;
            let numbers: Vec<i16> = group.iter().map(|&w| quantised_weight(w, scale)).collect();
            let at = (panel * groups + g) * self.width + column;
            self.scales[at] = scale;
            self.totals[at] = scale * numbers.iter().map(|&w| f32::from(w)).sum::<f32>();
            let first = g * (GROUP / self.word);
            for (i, chunk) in numbers.chunks(self.word).enumerate() {
                let mut whole = [0i16; 4];
                whole[..chunk.len()].copy_from_slice(chunk);
                self.panels[panel * panel_words + (first + i) * self.width + column] = word(&whole[..self.word]);
            }
        }
    }

    /// Columns of the result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of a panel.
    pub(in crate::kernel) fn panel(&self) -> usize {
        self.width
    }

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

/// The nearest number in -127..=127. A group of zeros has scale 0.
fn quantised_weight(w: f32, scale: f32) -> i16 {
    if scale > 0.0 { (w / scale).round_ties_even().clamp(-127.0, 127.0) as i16 } else { 0 }
}

/// Columns of a panel, and numbers per word.
struct Shape;

impl Kernel for Shape {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> (usize, usize) {
        (2 * S::LANES, S::WORD)
    }
}

struct Product<'a> {
    layer: &'a LinearInt8,
    panels: Range<usize>,
    x: &'a Quantised,
    residual: Option<&'a Matrix>,
    y: SharedMatrix<'a>,
    then: Option<&'a ColumnEpilogue<'a>>,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { layer, panels, x, then, .. } = &self;
        let (width, words, groups) = (layer.width, layer.inputs.div_ceil(S::WORD), x.groups());
        let group_words = GROUP / S::WORD;
        // As in `f32`: the tiles of these panels prefetch the next panels, in equal shares.
        let tiles = x.rows().div_ceil(S::TILE_ROWS).max(1);
        let ahead_step = width.div_ceil(tiles);
        let next = if tiles == 1 { NEAR } else { panels.len() * words * width };
        let mut sums: PendingSums = [const { MaybeUninit::uninit() }; PENDING];
        for (turn, (first, rows)) in row_tiles::<S>(x.rows()).enumerate() {
            for panel in panels.clone() {
                let weights = &layer.panels[panel * words * width..][..words * width];
                let ahead = weights.as_ptr().wrapping_add(next + turn * ahead_step * words);
                for group in (0..groups).step_by(PENDING) {
                    let count = PENDING.min(groups - group);
                    for (g, sums) in (group..group + count).zip(&mut sums) {
                        let from = g * group_words;
                        let tile = Tile {
                            x: x.words_from(first).as_ptr().wrapping_add(from),
                            x_stride: x.stride(),
                            w: weights.as_ptr().wrapping_add(from * width),
                            words: group_words.min(words - from),
                            ahead: ahead.wrapping_add(from * ahead_step),
                            ahead_step,
                            sums: sums.as_mut_ptr().cast(),
                            rows,
                        };
                        // SAFETY: x has rows of `inputs` columns (asserted), filled to whole words; the panel was
                        // sliced; a tile is no larger than a block's sums.
                        unsafe { tile.compute(s) };
                    }
                    // SAFETY: these groups of these rows and this panel are summed.
                    unsafe { self.dequantise(panel, group..group + count, first..first + rows, &sums).run(s) };
                }
            }
            if let Some(then) = then {
                then.apply(first..first + rows, panels.start * width..layer.outputs.min(panels.end * width));
            }
        }
    }
}

impl<'a> Product<'a> {
    /// Makes the dequantisation of some groups, at most as many as `sums` holds.
    #[inline(always)]
    fn dequantise(
        &self,
        panel: usize,
        groups: Range<usize>,
        rows: Range<usize>,
        sums: &'a PendingSums,
    ) -> Dequantise<'a> {
        let Self { layer, x, residual, y, .. } = *self;
        let (width, all) = (layer.width, x.groups());
        let those = (panel * all + groups.start) * width..(panel * all + groups.end) * width;
        // The rows of y and of the residual have space for the panel of their last column.
        let residual = residual.filter(|_| groups.end == all);
        Dequantise {
            sums,
            width,
            scales: &layer.scales[those.clone()],
            totals: &layer.totals[those],
            params: &x.params_from(rows.start)[groups.start..],
            groups: all,
            start: (groups.start == 0).then(|| &layer.bias[panel * width..][..width]),
            add: residual.map(|add| (add.rows_from(rows.start)[panel * width..].as_ptr(), add.stride())),
            out: y.at(rows.start, panel * width),
            out_stride: y.stride(),
            rows: rows.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemm::epilogue::{Conversion, Epilogue, InPlace};
    use crate::kernel::gemm::quantise::tests::restored;
    use crate::kernel::matrix::filled;
    use crate::machine::cpu;
    use crate::machine::team::Team;

    fn quantised(level: Level, x: &mut Matrix) -> Quantised {
        let mut q = Quantised::default();
        Epilogue { before: InPlace::Nothing, x, to: Conversion::Int8(&mut q) }.apply(level, &Team::default());
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
