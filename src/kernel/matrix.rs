//! Rows of f32 in memory that the kernels like: each row starts on a cache line, is followed by room for a
//! whole panel of the matrix product, and lies an odd number of lines after the one before, so that no
//! number of columns puts all rows into the same few sets of the cache.

use std::ops::{Deref, DerefMut};

/// A cache line, for its alignment.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; Line::LEN]);

impl Line {
    const LEN: usize = 16;
}

/// f32 that start on a cache line; the length is a whole number of lines.
#[derive(Default)]
pub struct Aligned(Vec<Line>);

impl Aligned {
    /// At least `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self(vec![Line([0.0; Line::LEN]); len.div_ceil(Line::LEN)])
    }

    /// Makes room for at least `len` f32. It only ever grows; what is in it stays.
    pub fn reserve(&mut self, len: usize) {
        let lines = len.div_ceil(Line::LEN);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0.0; Line::LEN]));
        }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    #[inline]
    fn deref(&self) -> &[f32] {
        // SAFETY: a `Line` is sixteen f32 without padding (64 bytes, aligned to 64), so n lines are 16 n f32.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * Line::LEN) }
    }
}

impl DerefMut for Aligned {
    #[inline]
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * Line::LEN) }
    }
}

/// The widest panel of any instruction set: a row has room for its columns rounded up to this.
pub(super) const WIDEST_PANEL: usize = 32;

/// [rows, cols] f32, row-major, `stride` f32 from one row to the next. What lies between `cols` and `stride`
/// belongs to nobody.
#[derive(Default)]
pub struct Matrix {
    data: Aligned,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl Matrix {
    /// Changes the shape; the memory is kept and grows if it must. The contents are unspecified.
    pub fn reshape(&mut self, rows: usize, cols: usize) {
        let lines = cols.next_multiple_of(WIDEST_PANEL) / Line::LEN;
        self.stride = (lines | 1) * Line::LEN;
        (self.rows, self.cols) = (rows, cols);
        self.data.reserve(rows * self.stride);
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// f32 from the start of one row to the start of the next: at least the columns rounded up to a panel.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// One row, `cols` f32.
    #[inline]
    pub fn row(&self, row: usize) -> &[f32] {
        assert!(row < self.rows);
        &self.data[row * self.stride..][..self.cols]
    }

    /// One row, `cols` f32.
    #[inline]
    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows);
        &mut self.data[row * self.stride..][..self.cols]
    }

    /// All rows from `row` on with what lies between them: row `i` starts at `(i - row) * stride`.
    #[inline]
    pub(super) fn rows_from(&self, row: usize) -> &[f32] {
        &self.data[row * self.stride..self.rows * self.stride]
    }

    /// As [`Matrix::rows_from`].
    #[inline]
    pub(super) fn rows_from_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.stride..self.rows * self.stride]
    }
}

/// [rows, cols] of numbers in [-1, 1) that look random and are the same for the same seed (SplitMix64).
#[cfg(test)]
pub(crate) fn filled(rows: usize, cols: usize, seed: u64) -> Matrix {
    let mut matrix = Matrix::default();
    matrix.reshape(rows, cols);
    let mut state = seed;
    for row in 0..rows {
        for x in matrix.row_mut(row) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *x = ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_start_on_a_line_have_room_for_a_panel_and_lie_an_odd_number_of_lines_apart() {
        let mut matrix = Matrix::default();
        for cols in [1, 15, 16, 17, 31, 32, 33, 384, 512, 1024, 1536] {
            matrix.reshape(3, cols);
            assert!(matrix.stride() >= cols.next_multiple_of(WIDEST_PANEL));
            assert_eq!(matrix.stride() / 16 % 2, 1);
            assert_eq!(matrix.row(2).as_ptr().align_offset(64), 0);
            assert_eq!(matrix.row_mut(2).len(), cols);
        }
    }

    #[test]
    fn memory_is_reused_when_the_shape_shrinks() {
        let mut matrix = Matrix::default();
        matrix.reshape(100, 100);
        let before = matrix.row(0).as_ptr();
        matrix.reshape(7, 33);
        matrix.reshape(100, 100);
        assert_eq!(matrix.row(0).as_ptr(), before);
    }
}
