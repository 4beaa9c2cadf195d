//! The epilogue of a product: the steps on each row of activations before the next product, in one pass while the
//! row is in the first-level cache.

use std::ops::Range;

use super::quantise::{self, Quantised};
use super::split_bf16::{self, SplitBf16};
use crate::kernel::activation::Activation;
use crate::kernel::matrix::{Matrix, SharedMatrix};
use crate::kernel::norm::LayerNorm;
use crate::kernel::simd::{Kernel, Simd, VectorSize, run_words};
use crate::machine::cpu::Level;
use crate::machine::team::Leader;

/// Rows per part of a shared epilogue: a few microseconds.
const ROWS_A_PART: usize = 4;

/// An epilogue over the rows of a matrix.
pub struct Epilogue<'a> {
    /// The step on the rows in place.
    pub before: InPlace<'a>,
    /// The rows, in which the result of `before` is stored.
    pub x: &'a mut Matrix,
    /// The conversion for the next product.
    pub to: Conversion<'a>,
}

/// A step on a row in place.
#[derive(Clone, Copy)]
pub enum InPlace<'a> {
    /// No step.
    Nothing,
    /// The activation function of each element.
    Activate(Activation),
    /// Layer normalisation.
    Normalise(&'a LayerNorm),
}

/// The conversion of rows for a product.
pub enum Conversion<'a> {
    /// No conversion.
    Nothing,
    /// For [`LinearInt8`](super::int8::LinearInt8).
    Int8(&'a mut Quantised),
    /// For [`LinearBf16x3`](super::bf16x3::LinearBf16x3).
    SplitBf16(&'a mut SplitBf16),
}

impl Epilogue<'_> {
    /// Runs the epilogue. The team of `leader` shares the work.
    pub fn apply(self, level: Level, leader: &mut Leader) {
        let (rows, cols) = (self.x.rows(), self.x.cols());
        let pass = ColumnEpilogue::new(level, self.before, self.x, self.to);
        leader.share(rows.div_ceil(ROWS_A_PART), &|part| {
            pass.apply(part * ROWS_A_PART..rows.min((part + 1) * ROWS_A_PART), 0..cols);
        });
    }
}

/// An epilogue that several threads run, each on its own rows and columns.
pub(in crate::kernel) struct ColumnEpilogue<'a> {
    level: Level,
    before: InPlace<'a>,
    x: SharedMatrix<'a>,
    to: Target<'a>,
}

impl<'a> ColumnEpilogue<'a> {
    /// Makes an epilogue over the rows of `x`. `to` gets their shape.
    pub(in crate::kernel) fn new(level: Level, before: InPlace<'a>, x: &'a mut Matrix, to: Conversion<'a>) -> Self {
        let (rows, cols) = (x.rows(), x.cols());
        let to = match to {
            Conversion::Nothing => Target::Nothing,
            Conversion::Int8(q) => Target::Int8(q.target(rows, cols, VectorSize::of(level).word)),
            Conversion::SplitBf16(p) => Target::SplitBf16(p.target(rows, cols)),
        };
        Self { level, before, x: x.shared(), to }
    }

    /// The rows.
    pub(in crate::kernel) fn x(&self) -> SharedMatrix<'a> {
        self.x
    }

    /// Runs on some rows and columns. Columns begin at a multiple of a group and end at one or the last; layer
    /// normalisation needs all of them. No two calls share elements.
    pub(in crate::kernel) fn apply(&self, rows: Range<usize>, columns: Range<usize>) {
        run_words(self.level, Part { rows, columns, before: self.before, x: self.x, to: self.to });
    }
}

#[derive(Clone, Copy)]
enum Target<'a> {
    Nothing,
    Int8(quantise::Target<'a>),
    SplitBf16(split_bf16::Target<'a>),
}

/// Some rows and columns of an epilogue.
struct Part<'a> {
    rows: Range<usize>,
    columns: Range<usize>,
    before: InPlace<'a>,
    x: SharedMatrix<'a>,
    to: Target<'a>,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rows, columns, before, x, to } = self;
        let (first, len) = (columns.start, columns.len());
        // Row by row in each step: the arithmetic of the next row fills the latencies of this one's.
        for row in rows.clone() {
            // SAFETY: each element belongs to one part.
            let x = unsafe { x.row_mut(row, first, len) };
            match before {
                InPlace::Nothing => {}
                InPlace::Activate(activation) => activation.each(s, x),
                InPlace::Normalise(norm) => norm.row(s, x),
            }
        }
        for row in rows {
            // SAFETY: as above.
            unsafe {
                let x = x.row_mut(row, first, len);
                match to {
                    Target::Nothing => {}
                    Target::Int8(to) => to.fill(s, row, first, x),
                    Target::SplitBf16(to) => to.fill(s, row, first, x),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::matrix::filled;
    use crate::machine::cpu;

    #[test]
    fn the_step_before_a_conversion_changes_the_matrix_and_the_converted_copy() {
        for level in cpu::Level::supported() {
            let mut leader = Leader::default();
            let norm = LayerNorm::new(vec![2.0; 150], vec![0.5; 150], 1e-12);
            let (mut x, mut expected) = (filled(9, 150, 1), filled(9, 150, 1));
            Epilogue { before: InPlace::Normalise(&norm), x: &mut expected, to: Conversion::Nothing }
                .apply(level, &mut leader);
            let (mut q, mut p) = (Quantised::default(), SplitBf16::default());
            Epilogue { before: InPlace::Normalise(&norm), x: &mut x, to: Conversion::Int8(&mut q) }
                .apply(level, &mut leader);
            (0..9).for_each(|row| assert_eq!(x.row(row), expected.row(row)));
            let (_, got) = quantise::tests::restored(level, &q, 8, 149);
            assert!((got - expected.row(8)[149]).abs() < 0.02);
            let mut x = filled(9, 150, 1);
            Epilogue { before: InPlace::Normalise(&norm), x: &mut x, to: Conversion::SplitBf16(&mut p) }
                .apply(level, &mut leader);
            let (high, low) = split_bf16::tests::restored(&p, 8, 149);
            assert!((high + low - expected.row(8)[149]).abs() < 1e-4);
            Epilogue { before: InPlace::Activate(Activation::Relu), x: &mut x, to: Conversion::Nothing }
                .apply(level, &mut leader);
            assert!((0..9).all(|row| x.row(row).iter().all(|&x| x >= 0.0)));
        }
    }
}
