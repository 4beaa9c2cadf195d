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

use std::marker::PhantomData;

use crate::kernel::matrix::{Aligned, row_stride};
use crate::kernel::simd::Simd;
use crate::kernel::tiles;

/// Columns that share a grid: of activations and, as many inputs of an output, of weights. 128: beside one grid for a
/// row, the least cosine to exact arithmetic rises from 0.992 to 0.997 on all-MiniLM-L6-v2 (docs/performance.md).
pub const GROUP: usize = 128;

/// [rows, cols] of bytes with their grids; filled by a [`Pass`](super::epilogue::Pass).
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
pub(in crate::kernel) struct Grid {
    pub least: f32,
    pub step: f32,
}

impl Quantised {
    /// Changes the shape; the memory is kept and grows if it must. The contents are unspecified.
    fn reshape(&mut self, rows: usize, cols: usize, word: usize) {
        (self.rows, self.cols) = (rows, cols);
        self.stride = row_stride(cols.div_ceil(word));
        // Tiles read whole tiles.
        self.words.reserve(rows.next_multiple_of(tiles::TILE_ROWS) * self.stride);
        let grids = rows * self.groups();
        if self.grids.len() < grids {
            self.grids.resize(grids, Grid::default());
        }
    }

    /// Changes the shape for words of `word` numbers, and lets several threads fill the rows, each its own.
    pub(in crate::kernel) fn target(&mut self, rows: usize, cols: usize, word: usize) -> Target<'_> {
        self.reshape(rows, cols, word);
        Target {
            words: self.words.as_mut_ptr(),
            stride: self.stride,
            grids: self.grids.as_mut_ptr(),
            groups: self.groups(),
            rows,
            borrowed: PhantomData,
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
    pub(in crate::kernel) fn groups(&self) -> usize {
        self.cols.div_ceil(GROUP)
    }

    /// Words from one row to the next.
    pub(in crate::kernel) fn stride(&self) -> usize {
        self.stride
    }

    /// All words from `row` on.
    pub(in crate::kernel) fn words_from(&self, row: usize) -> &[i32] {
        &self.words[row * self.stride..self.rows * self.stride]
    }

    /// The grids of all rows from `row` on, [rows, groups].
    pub(in crate::kernel) fn grids_from(&self, row: usize) -> &[Grid] {
        &self.grids[row * self.groups()..self.rows * self.groups()]
    }
}

/// A `Quantised` whose rows several threads fill, each its own.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Target<'a> {
    words: *mut i32,
    stride: usize,
    grids: *mut Grid,
    groups: usize,
    rows: usize,
    borrowed: PhantomData<&'a mut Quantised>,
}

// SAFETY: it stands for an exclusive borrow, and that each thread writes rows of its own is the contract of `fill`.
unsafe impl Send for Target<'_> {}
// SAFETY: as above.
unsafe impl Sync for Target<'_> {}

impl Target<'_> {
    /// Quantises `x`, columns of one row from `first` on: whole groups, or to the row's end.
    ///
    /// # Safety
    /// No other thread fills these groups.
    #[inline(always)]
    pub(in crate::kernel) unsafe fn fill<S: Simd>(self, s: S, row: usize, first: usize, x: &[f32]) {
        let (group, count) = (first / GROUP, x.len().div_ceil(GROUP));
        assert!(row < self.rows && first.is_multiple_of(GROUP) && group + count <= self.groups);
        // SAFETY: the shape has room for the row, in whole lines and so in whole vectors.
        unsafe {
            let grids = std::slice::from_raw_parts_mut(self.grids.add(row * self.groups + group), count);
            quantise(s, x, self.words.add(row * self.stride + first / S::WORD), grids);
        }
    }
}

/// Some groups of a row.
///
/// # Safety
/// `words` has room for them, the last one rounded up to whole vectors.
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
pub(in crate::kernel) mod tests {
    use super::*;
    use crate::kernel::gemm::epilogue::{Before, Pass, To};
    use crate::kernel::matrix::filled;
    use crate::kernel::simd::{Kernel, run_words};
    use crate::machine::cpu::{self, Level};
    use crate::machine::team::Team;

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
                Pass { before: Before::Nothing, x: &mut x, to: To::Bytes(&mut q) }.apply(level, &Team::default());
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
}
