//! What is done to each row of activations between two products, in one pass while the row is in the first cache.

use std::ops::Range;

use super::quantise::{self, Quantised};
use super::split_bf16::{self, Pairs};
use crate::kernel::activation::Activation;
use crate::kernel::matrix::{Matrix, Shared};
use crate::kernel::norm::LayerNorm;
use crate::kernel::simd::{Kernel, Simd, run_words};
use crate::machine::cpu::Level;
use crate::machine::team::Team;

/// Rows of one part of a shared pass: a few microseconds.
const ROWS_A_PART: usize = 4;

/// One pass over the rows of a matrix.
pub struct Pass<'a> {
    /// What happens to the rows in place.
    pub before: Before<'a>,
    /// The rows, as they are after `before`.
    pub x: &'a mut Matrix,
    /// The form in which the next product wants them too.
    pub to: To<'a>,
}

/// What happens to a row in place.
#[derive(Clone, Copy)]
pub enum Before<'a> {
    /// Nothing.
    Nothing,
    /// The activation function of each element.
    Activate(Activation),
    /// Layer normalisation.
    Normalise(&'a LayerNorm),
}

/// The form in which a product wants its rows.
pub enum To<'a> {
    /// As they are.
    Nothing,
    /// For [`LinearInt8`](super::int8::LinearInt8).
    Bytes(&'a mut Quantised),
    /// For [`LinearPairs`](super::bf16x3::LinearPairs).
    Pairs(&'a mut Pairs),
}

impl Pass<'_> {
    /// Does it, shared out among `team`.
    pub fn apply(self, level: Level, team: &Team) {
        let (rows, cols) = (self.x.rows(), self.x.cols());
        let pass = ColumnPass::new(level, self.before, self.x, self.to);
        team.share(rows.div_ceil(ROWS_A_PART), &|part| {
            pass.apply(part * ROWS_A_PART..rows.min((part + 1) * ROWS_A_PART), 0..cols);
        });
    }
}

/// A pass that several threads do, each some rows and columns of its own.
pub(in crate::kernel) struct ColumnPass<'a> {
    level: Level,
    before: Before<'a>,
    x: Shared<'a>,
    to: Target<'a>,
}

impl<'a> ColumnPass<'a> {
    /// Over the rows of `x`; `to` gets their shape.
    pub(in crate::kernel) fn new(level: Level, before: Before<'a>, x: &'a mut Matrix, to: To<'a>) -> Self {
        let (rows, cols) = (x.rows(), x.cols());
        let to = match to {
            To::Nothing => Target::Nothing,
            To::Bytes(q) => Target::Bytes(q.target(rows, cols, run_words(level, WordSize))),
            To::Pairs(p) => Target::Pairs(p.target(rows, cols)),
        };
        Self { level, before, x: x.shared(), to }
    }

    /// The rows.
    pub(in crate::kernel) fn x(&self) -> Shared<'a> {
        self.x
    }

    /// Some rows and columns. Columns begin at a multiple of a group and end at one or the last; layer normalisation
    /// wants all of them. No two calls have elements in common.
    pub(in crate::kernel) fn apply(&self, rows: Range<usize>, columns: Range<usize>) {
        run_words(self.level, Part { rows, columns, before: self.before, x: self.x, to: self.to });
    }
}

/// Numbers of a word.
pub(in crate::kernel) struct WordSize;

impl Kernel for WordSize {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        S::WORD
    }
}

#[derive(Clone, Copy)]
enum Target<'a> {
    Nothing,
    Bytes(quantise::Target<'a>),
    Pairs(split_bf16::Target<'a>),
}

/// Some rows and columns of a pass.
struct Part<'a> {
    rows: Range<usize>,
    columns: Range<usize>,
    before: Before<'a>,
    x: Shared<'a>,
    to: Target<'a>,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { rows, columns, before, x, to } = self;
        let (first, len) = (columns.start, columns.len());
        // Row after row in each step: the next row's arithmetic fills the waits of this one's.
        for row in rows.clone() {
            // SAFETY: each element belongs to one part.
            let x = unsafe { x.row_mut(row, first, len) };
            match before {
                Before::Nothing => {}
                Before::Activate(activation) => activation.each(s, x),
                Before::Normalise(norm) => norm.row(s, x),
            }
        }
        for row in rows {
            // SAFETY: as above.
            unsafe {
                let x = x.row_mut(row, first, len);
                match to {
                    Target::Nothing => {}
                    Target::Bytes(to) => to.fill(s, row, first, x),
                    Target::Pairs(to) => to.fill(s, row, first, x),
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
    fn what_comes_before_is_done_in_place_and_to_what_is_made_of_it() {
        for level in cpu::Level::supported() {
            let team = Team::default();
            let norm = LayerNorm::new(vec![2.0; 150], vec![0.5; 150], 1e-12);
            let (mut x, mut expected) = (filled(9, 150, 1), filled(9, 150, 1));
            Pass { before: Before::Normalise(&norm), x: &mut expected, to: To::Nothing }.apply(level, &team);
            let (mut q, mut p) = (Quantised::default(), Pairs::default());
            Pass { before: Before::Normalise(&norm), x: &mut x, to: To::Bytes(&mut q) }.apply(level, &team);
            (0..9).for_each(|row| assert_eq!(x.row(row), expected.row(row)));
            let (_, got) = quantise::tests::restored(level, &q, 8, 149);
            assert!((got - expected.row(8)[149]).abs() < 0.02);
            let mut x = filled(9, 150, 1);
            Pass { before: Before::Normalise(&norm), x: &mut x, to: To::Pairs(&mut p) }.apply(level, &team);
            let (high, low) = split_bf16::tests::restored(&p, 8, 149);
            assert!((high + low - expected.row(8)[149]).abs() < 1e-4);
            Pass { before: Before::Activate(Activation::Relu), x: &mut x, to: To::Nothing }.apply(level, &team);
            assert!((0..9).all(|row| x.row(row).iter().all(|&x| x >= 0.0)));
        }
    }
}
