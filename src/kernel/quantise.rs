//! Activations as bytes: each row in groups of [`GROUP`] columns, each group with a grid of its own.
//!
//! ```text
//! x ≈ least + step · q      q in 0..=255, least and greatest of the group on the grid
//! ```
//! The grid is asymmetric, because activations are (after GELU all but a few are near the lower end), and belongs to a
//! group, because a few columns of a BERT are tens of times larger than all others and would coarsen the whole row
//! (Dettmers et al., 2022, "LLM.int8()"; figures for this model in docs/performance.md).
//!
//! A row's bytes depend on that row alone, and are the same at every level for the same row.

use super::activation::Activation;
use super::cpu::Level;
use super::matrix::{Aligned, Matrix, Shared, row_stride};
use super::norm::LayerNorm;
use super::simd::{Kernel, Simd, run_words};
use super::team::Team;

/// Columns that share a grid: of activations and, as many inputs of an output, of weights. 128: beside one grid for a
/// row, the least cosine to exact arithmetic rises from 0.992 to 0.997 on all-MiniLM-L6-v2 (docs/performance.md).
pub const GROUP: usize = 128;

/// Rows of one part of a shared pass: a few microseconds.
const ROWS_A_PART: usize = 4;

/// [rows, cols] of bytes with their grids; `reshape`d and filled by [`Pass::apply`].
#[derive(Default)]
pub struct Quantised {
    /// [rows, stride] words (see `Simd::WORD`). Columns after the last one hold anything: their weights are zero.
    words: Aligned<i32>,
    /// [rows, groups]
    grids: Vec<Grid>,
    rows: usize,
    cols: usize,
    /// Words from row to row.
    stride: usize,
}

/// One group's grid.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub(super) struct Grid {
    pub least: f32,
    pub step: f32,
}

impl Quantised {
    /// Changes the shape; the memory is kept and grows if it must. The contents are unspecified.
    fn reshape(&mut self, rows: usize, cols: usize) {
        (self.rows, self.cols) = (rows, cols);
        // Room for words of two numbers, whole vectors of them; words of four leave half of it unused.
        self.stride = row_stride(cols.next_multiple_of(16) / 2);
        self.words.reserve(rows * self.stride);
        let grids = rows * self.groups();
        if self.grids.len() < grids {
            self.grids.resize(grids, Grid::default());
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Groups in a row.
    pub(super) fn groups(&self) -> usize {
        self.cols.div_ceil(GROUP)
    }

    /// Words from one row to the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// All words from `row` on.
    pub(super) fn words_from(&self, row: usize) -> &[i32] {
        &self.words[row * self.stride..self.rows * self.stride]
    }

    /// The grids of all rows from `row` on, [rows, groups].
    pub(super) fn grids_from(&self, row: usize) -> &[Grid] {
        &self.grids[row * self.groups()..self.rows * self.groups()]
    }
}

/// What happens to a row before it is quantised, in place.
#[derive(Clone, Copy)]
pub enum Before<'a> {
    /// Nothing.
    Nothing,
    /// The activation function of each element.
    Activate(Activation),
    /// Layer normalisation.
    Normalise(&'a LayerNorm),
}

/// One pass over the rows of a matrix, while each is in the first cache.
pub struct Pass<'a> {
    /// What happens to the rows in place.
    pub before: Before<'a>,
    /// The rows, as they are after `before`.
    pub x: &'a mut Matrix,
    /// Where they are quantised to, if they are.
    pub to: Option<&'a mut Quantised>,
}

impl Pass<'_> {
    /// Does it, shared out among `team`.
    pub fn apply(self, level: Level, team: &Team) {
        let Self { before, x, to } = self;
        let (rows, cols) = (x.rows(), x.cols());
        let to = to.map(|to| {
            to.reshape(rows, cols);
            Target {
                words: to.words.as_mut_ptr(),
                stride: to.stride,
                grids: to.grids.as_mut_ptr(),
                groups: to.groups(),
            }
        });
        let x = x.shared();
        team.share(rows.div_ceil(ROWS_A_PART), &|part| {
            let rows = part * ROWS_A_PART..rows.min((part + 1) * ROWS_A_PART);
            run_words(level, Part { rows, cols, before, x, to });
        });
    }
}

/// A `Quantised` whose rows several threads fill, each its own.
#[derive(Clone, Copy)]
struct Target {
    words: *mut i32,
    stride: usize,
    grids: *mut Grid,
    groups: usize,
}

// SAFETY: it stands for an exclusive borrow, and each part writes rows of its own.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// Some rows of a pass.
struct Part<'a> {
    rows: std::ops::Range<usize>,
    cols: usize,
    before: Before<'a>,
    x: Shared<'a>,
    to: Option<Target>,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in self.rows {
            // SAFETY: each row belongs to one part.
            let x = unsafe { self.x.row_mut(row, 0, self.cols) };
            match self.before {
                Before::Nothing => {}
                Before::Activate(activation) => activation.each(s, x),
                Before::Normalise(norm) => norm.row(s, x),
            }
            if let Some(to) = self.to {
                // SAFETY: `reshape` made room for all rows, and each belongs to one part.
                unsafe {
                    let grids = std::slice::from_raw_parts_mut(to.grids.add(row * to.groups), to.groups);
                    quantise(s, x, to.words.add(row * to.stride), grids);
                }
            }
        }
    }
}

/// One row.
///
/// # Safety
/// `words` has room for the row rounded up to whole vectors.
#[inline(always)]
unsafe fn quantise<S: Simd>(s: S, row: &[f32], mut words: *mut i32, grids: &mut [Grid]) {
    for (group, grid) in row.chunks(GROUP).zip(grids) {
        let (least, greatest) = range(s, group);
        let width = greatest - least;
        // A group without width is its least value; so is one whose steps would not be normal numbers.
        let inverse = if width > 1e-30 { 255.0 / width } else { 0.0 };
        *grid = Grid { least, step: if inverse == 0.0 { 0.0 } else { width / 255.0 } };
        let (least_value, least, inverse) = (least, s.splat(least), s.splat(inverse));
        let mut whole = group.chunks_exact(S::LANES);
        for chunk in &mut whole {
            // SAFETY: the caller vouches for the room.
            unsafe { s.store_rounded_at(s.mul(s.sub(s.load(chunk), least), inverse), words) };
            words = words.wrapping_add(S::LANES / S::WORD);
        }
        let rest = whole.remainder();
        if !rest.is_empty() {
            let x = s.load_or(rest, least_value);
            // SAFETY: as above.
            unsafe { s.store_rounded_at(s.mul(s.sub(x, least), inverse), words) };
        }
    }
}

/// The least and the greatest value of some, at least one.
#[inline(always)]
fn range<S: Simd>(s: S, values: &[f32]) -> (f32, f32) {
    let (mut least, mut greatest) = (s.splat(values[0]), s.splat(values[0]));
    let mut whole = values.chunks_exact(S::LANES);
    for chunk in &mut whole {
        let x = s.load(chunk);
        (least, greatest) = (s.min(least, x), s.max(greatest, x));
    }
    let x = s.load_or(whole.remainder(), values[0]);
    (least, greatest) = (s.min(least, x), s.max(greatest, x));
    (-s.greatest(s.sub(s.splat(0.0), least)), s.greatest(greatest))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::kernel::cpu;
    use crate::kernel::matrix::filled;

    /// What the words say, in the numbers of the grid.
    pub(in crate::kernel) fn restored(level: Level, q: &Quantised, row: usize, col: usize) -> (u8, f32) {
        struct WordSize;
        impl Kernel for WordSize {
            type Output = usize;
            #[inline(always)]
            fn run<S: Simd>(self, _: S) -> usize {
                S::WORD
            }
        }
        let word = run_words(level, WordSize);
        // Groups are whole words, so columns lie side by side through all of them.
        let bits = q.words_from(row)[col / word] as u32 >> (32 / word * (col % word));
        let number = (bits & (u32::MAX >> (32 - 32 / word))) as u8;
        let grid = q.grids_from(row)[col / GROUP];
        (number, grid.least + grid.step * f32::from(number))
    }

    #[test]
    fn every_value_is_half_a_step_from_its_grid_and_the_bytes_are_those_of_plain_arithmetic_at_every_level() {
        for level in cpu::Level::supported() {
            for cols in [1, 2, 15, 16, 31, 127, 128, 129, 200, 384, 1000, 1536] {
                let seed = cols as u64;
                let mut x = filled(7, cols, seed);
                // Columns that outweigh the others, and a row without width.
                (0..7).for_each(|row| x.row_mut(row)[cols / 2] *= 40.0);
                x.row_mut(3).fill(0.25);
                let mut q = Quantised::default();
                Pass { before: Before::Nothing, x: &mut x, to: Some(&mut q) }.apply(level, &Team::default());
                for row in 0..7 {
                    for (g, group) in x.row(row).chunks(GROUP).enumerate() {
                        let least = group.iter().copied().fold(f32::INFINITY, f32::min);
                        let greatest = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                        let width = greatest - least;
                        let step = width / 255.0;
                        assert_eq!(q.grids_from(row)[g], Grid { least, step }, "{level}, seed {seed}");
                        for (i, &value) in group.iter().enumerate() {
                            let (number, got) = restored(level, &q, row, g * GROUP + i);
                            let at = format!("{level}, {cols} columns, seed {seed}, [{row}, {}]", g * GROUP + i);
                            let plain =
                                if width > 0.0 { ((value - least) * (255.0 / width)).round_ties_even() } else { 0.0 };
                            assert_eq!(f32::from(number), plain, "{at}");
                            assert!((got - value).abs() <= 0.501 * step + 1e-7, "{at}: {got} for {value}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_comes_before_is_done_in_place() {
        for level in cpu::Level::supported() {
            let norm = LayerNorm::new(vec![2.0; 150], vec![0.5; 150], 1e-12);
            let (mut x, mut expected) = (filled(9, 150, 1), filled(9, 150, 1));
            Pass { before: Before::Normalise(&norm), x: &mut expected, to: None }.apply(level, &Team::default());
            let mut q = Quantised::default();
            Pass { before: Before::Normalise(&norm), x: &mut x, to: Some(&mut q) }.apply(level, &Team::default());
            (0..9).for_each(|row| assert_eq!(x.row(row), expected.row(row)));
            Pass { before: Before::Activate(Activation::Relu), x: &mut x, to: None }.apply(level, &Team::default());
            assert!((0..9).all(|row| x.row(row).iter().all(|&x| x >= 0.0)));
            let (_, got) = restored(level, &q, 8, 149);
            assert!((got - expected.row(8)[149]).abs() < 0.02);
        }
    }
}
