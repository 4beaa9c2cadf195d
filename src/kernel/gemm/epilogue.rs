//! The epilogue of a product: the steps on each row of activations before the next product, in one pass while the
//! row is in the first-level cache.

use std::ops::Range;

use super::quantise::{self, GROUP, Quantised};
use super::split_bf16::{self, SplitBf16};
use crate::kernel::activation::Activation;
use crate::kernel::matrix::{Matrix, SharedMatrix};
use crate::kernel::norm::Norm;
use crate::kernel::simd::{Kernel, Simd, VectorSize, run_words};
use crate::machine::cpu::Level;
use crate::machine::leader::Leader;

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

/// A step on a row in place. A second matrix has the shape of the first; one of which rows are copied may have more
/// rows.
#[derive(Clone, Copy)]
pub enum InPlace<'a> {
    /// No step.
    Nothing,
    /// The activation function of each element.
    Activate(Activation),
    /// The normalisation of the row.
    Normalise(&'a Norm),
    /// The normalisation of the row, to which the row of the matrix is added.
    NormaliseAdd(&'a Norm, &'a Matrix),
    /// The row of the matrix, that many rows further, replaces the row.
    Copy(&'a Matrix, usize),
    /// The normalisation of the matrix's row replaces the row.
    CopyNormalise(&'a Norm, &'a Matrix),
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
    /// Runs the epilogue. The team of `leader` shares the work. Panics if a second matrix has another shape.
    pub fn apply(self, level: Level, leader: &mut Leader) {
        let (rows, cols) = (self.x.rows(), self.x.cols());
        match self.before {
            InPlace::NormaliseAdd(_, other) | InPlace::CopyNormalise(_, other) => {
                assert_eq!((other.rows(), other.cols()), (rows, cols), "the second matrix has the shape of the first");
            }
            InPlace::Copy(other, first) => {
                assert!(first + rows <= other.rows() && other.cols() == cols, "the second matrix has the rows");
            }
            InPlace::Nothing | InPlace::Activate(_) | InPlace::Normalise(_) => {}
        }
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
    /// The products of a gated block, from which the rows of `x` are made first.
    gated: Option<(Activation, SharedMatrix<'a>)>,
    x: SharedMatrix<'a>,
    to: Target<'a>,
}

impl<'a> ColumnEpilogue<'a> {
    /// Makes an epilogue that begins with a gate: `x = activation(a) · b`. `products` has a and b side by side, in
    /// blocks of [`GROUP`] columns of each, and `x` half of its columns.
    pub(in crate::kernel) fn gated(
        level: Level,
        activation: Activation,
        products: &'a mut Matrix,
        x: &'a mut Matrix,
        to: Conversion<'a>,
    ) -> Self {
        assert_eq!((products.rows(), products.cols()), (x.rows(), 2 * x.cols()), "both products of each element");
        Self { gated: Some((activation, products.shared())), ..Self::new(level, InPlace::Nothing, x, to) }
    }

    /// Makes an epilogue over the rows of `x`. `to` gets their shape.
    pub(in crate::kernel) fn new(level: Level, before: InPlace<'a>, x: &'a mut Matrix, to: Conversion<'a>) -> Self {
        let (rows, cols) = (x.rows(), x.cols());
        let to = match to {
            Conversion::Nothing => Target::Nothing,
            Conversion::Int8(q) => Target::Int8(q.target(rows, cols, VectorSize::of(level).word)),
            Conversion::SplitBf16(p) => Target::SplitBf16(p.target(rows, cols)),
        };
        Self { level, before, gated: None, x: x.shared(), to }
    }

    /// The matrix that a product fills for this epilogue.
    pub(in crate::kernel) fn product(&self) -> SharedMatrix<'a> {
        self.gated.map_or(self.x, |(_, products)| products)
    }

    /// Runs on some rows and columns of the product. Columns begin at a multiple of a group (with a gate, of two) and
    /// end at one or the last; a normalisation needs all of them. No two calls share elements.
    pub(in crate::kernel) fn apply(&self, rows: Range<usize>, columns: Range<usize>) {
        let columns = if self.gated.is_some() { columns.start / 2..columns.end / 2 } else { columns };
        let Self { before, gated, x, to, .. } = *self;
        run_words(self.level, Part { rows, columns, before, gated, x, to });
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
    gated: Option<(Activation, SharedMatrix<'a>)>,
    x: SharedMatrix<'a>,
    to: Target<'a>,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rows, columns, before, gated, x, to } = self;
        let (first, len) = (columns.start, columns.len());
        // Row by row in each step: the arithmetic of the next row fills the latencies of this one's.
        for row in rows.clone() {
            // SAFETY: each element belongs to one part.
            let x = unsafe { x.row_mut(row, first, len) };
            if let Some((activation, products)) = gated {
                for (block, x) in x.chunks_mut(GROUP).enumerate() {
                    let at = 2 * (first + block * GROUP);
                    // SAFETY: as above; the products of these elements belong to this part too.
                    let (a, b) = unsafe { products.row_part(row, at, 2 * x.len()) }.split_at(x.len());
                    activation.gate(s, a, b, x);
                }
            }
            match before {
                InPlace::Nothing => {}
                InPlace::Activate(activation) => activation.each(s, x),
                InPlace::Normalise(norm) => norm.row(s, x),
                InPlace::NormaliseAdd(norm, other) => {
                    norm.row(s, x);
                    add(s, x, other.row(row));
                }
                InPlace::Copy(other, first) => x.copy_from_slice(other.row(first + row)),
                InPlace::CopyNormalise(norm, other) => {
                    x.copy_from_slice(other.row(row));
                    norm.row(s, x);
                }
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

/// Adds `other` to `x`.
#[inline(always)]
fn add<S: Simd>(s: S, x: &mut [f32], other: &[f32]) {
    let (mut chunks, mut others) = (x.chunks_exact_mut(S::LANES), other.chunks_exact(S::LANES));
    for (chunk, other) in (&mut chunks).zip(&mut others) {
        s.store(s.add(s.load(chunk), s.load(other)), chunk);
    }
    let rest = chunks.into_remainder();
    s.store_first(s.add(s.load_or(rest, 0.0), s.load_or(others.remainder(), 0.0)), rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::matrix::filled;
    use crate::kernel::norm::LayerNorm;
    use crate::machine::cpu;

    #[test]
    fn the_step_before_a_conversion_changes_the_matrix_and_the_converted_copy() {
        for level in cpu::Level::supported() {
            let mut leader = Leader::default();
            let norm = Norm::Layer(LayerNorm::new(vec![2.0; 150], vec![0.5; 150], 1e-12));
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
            let (mut some, others) = (filled(4, 150, 1), filled(9, 150, 2));
            Epilogue { before: InPlace::Copy(&others, 5), x: &mut some, to: Conversion::Nothing }
                .apply(level, &mut leader);
            (0..4).for_each(|row| assert_eq!(some.row(row), others.row(5 + row)));
            Epilogue { before: InPlace::Activate(Activation::Relu), x: &mut x, to: Conversion::Nothing }
                .apply(level, &mut leader);
            assert!((0..9).all(|row| x.row(row).iter().all(|&x| x >= 0.0)));
        }
    }
}
