//! Rows of f32 in a memory layout for the kernels.
//!
//! Each row starts on a cache line and is followed by space for a whole panel of the matrix product. Rows are an
//! odd number of cache lines apart, so that no number of columns maps all rows to the same few cache sets.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

/// A four-byte number for which all bit patterns are valid, so that a line of sixteen has no padding.
pub trait Number: Copy + Default + sealed::FourBytes {}
impl Number for f32 {}
impl Number for i32 {}

mod sealed {
    pub trait FourBytes {}
    impl FourBytes for f32 {}
    impl FourBytes for i32 {}
}

/// A cache line, for its alignment.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line<T>([T; LINE]);

/// Numbers per cache line.
const LINE: usize = 16;

/// Numbers that start on a cache line. The length is a whole number of lines.
#[derive(Default)]
pub struct Aligned<T = f32>(Vec<Line<T>>);

impl<T: Number> Aligned<T> {
    /// Makes at least `len` zeros.
    pub fn zeros(len: usize) -> Self {
        Self(vec![Line([T::default(); LINE]); len.div_ceil(LINE)])
    }

    /// Ensures space for at least `len` numbers. Never shrinks; the contents stay.
    pub fn reserve(&mut self, len: usize) {
        let lines = len.div_ceil(LINE);
        if self.0.len() < lines {
            self.0.resize(lines, Line([T::default(); LINE]));
        }
    }
}

impl<T: Number> Deref for Aligned<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: a `Line` is sixteen numbers without padding (64 bytes, aligned to 64), so n lines are 16 n numbers.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * LINE) }
    }
}

impl<T: Number> DerefMut for Aligned<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LINE) }
    }
}

/// Numbers from one row of `numbers` to the next: an odd number of whole lines.
pub(super) fn row_stride(numbers: usize) -> usize {
    (numbers.div_ceil(LINE) | 1) * LINE
}

/// The widest panel of any instruction set. Rows have space for their columns rounded up to this.
pub(super) const WIDEST_PANEL: usize = 32;

/// [rows, cols] f32, row-major, `stride` f32 from one row to the next. The elements between `cols` and `stride` are
/// unused.
#[derive(Default)]
pub struct Matrix {
    data: Aligned,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl Matrix {
    /// Changes the shape. Memory is reused, and grows if necessary. The contents are unspecified.
    pub fn reshape(&mut self, rows: usize, cols: usize) {
        self.stride = row_stride(cols.next_multiple_of(WIDEST_PANEL));
        (self.rows, self.cols) = (rows, cols);
        self.data.reserve(rows * self.stride);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
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

    /// All rows from `row` on, including the gaps: row `i` starts at `(i - row) * stride`.
    #[inline]
    pub(super) fn rows_from(&self, row: usize) -> &[f32] {
        &self.data[row * self.stride..self.rows * self.stride]
    }

    /// Mutable version of [`Matrix::rows_from`].
    #[inline]
    pub(super) fn rows_from_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.stride..self.rows * self.stride]
    }

    /// Shares the matrix among several threads, each of which writes its own elements.
    pub(super) fn shared(&mut self) -> SharedMatrix<'_> {
        SharedMatrix {
            data: self.data.as_mut_ptr(),
            rows: self.rows,
            cols: self.cols,
            first: 0,
            stride: self.stride,
            borrowed: PhantomData,
        }
    }

    /// Gets the shape of some columns of a matrix of [rows, cols], and stands for it: no others may be used.
    pub(super) fn part(&mut self, rows: usize, cols: usize, columns: Range<usize>) -> SharedMatrix<'_> {
        assert!(columns.end <= cols, "columns of the matrix");
        self.reshape(rows, columns.len());
        SharedMatrix { cols, first: columns.start, ..self.shared() }
    }
}

/// A matrix that several threads write at once, never the same element (see `Leader::share`), or a part of its columns.
#[derive(Clone, Copy)]
pub(super) struct SharedMatrix<'a> {
    data: *mut f32,
    rows: usize,
    cols: usize,
    /// The first column that is there. `stride` columns follow.
    first: usize,
    stride: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: an exclusive borrow of the matrix, handed out in parts. The contract of the `unsafe` methods that write
// says that parts do not overlap.
unsafe impl Send for SharedMatrix<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedMatrix<'_> {}

impl SharedMatrix<'_> {
    /// The stride, as [`Matrix::stride`].
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Numbers of rows and columns.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// The place in a row of `len` columns from `col` on, which must be there.
    #[inline]
    fn column(&self, col: usize, len: usize) -> usize {
        assert!(self.first <= col && col - self.first + len <= self.stride, "elements of one row");
        col - self.first
    }

    /// Address of an element, valid for the rest of its row and the rows after it.
    #[inline]
    pub(super) fn at(&self, row: usize, col: usize) -> *mut f32 {
        let col = self.column(col, 1);
        assert!(row < self.rows, "an element of the matrix");
        // SAFETY: inside the matrix, which was just checked.
        unsafe { self.data.add(row * self.stride + col) }
    }

    /// `len` elements of one row.
    ///
    /// # Safety
    /// No other thread reads or writes them at the same time, and this thread has no other borrow of them.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "that the parts are disjoint is the caller's contract")]
    pub(super) unsafe fn row_mut(&self, row: usize, col: usize, len: usize) -> &mut [f32] {
        self.column(col, len);
        // SAFETY: inside the matrix (checked here and in `at`), and exclusive to the caller.
        unsafe { std::slice::from_raw_parts_mut(self.at(row, col), len) }
    }

    /// `len` elements of one row.
    ///
    /// # Safety
    /// No thread writes them at the same time.
    #[inline]
    pub(super) unsafe fn row_part(&self, row: usize, col: usize, len: usize) -> &[f32] {
        self.column(col, len);
        // SAFETY: inside the matrix (checked here and in `at`), and no thread writes them.
        unsafe { std::slice::from_raw_parts(self.at(row, col), len) }
    }
}

/// [rows, cols] of pseudo-random numbers in [-1, 1), the same for the same seed.
#[cfg(test)]
pub(crate) fn filled(rows: usize, cols: usize, seed: u64) -> Matrix {
    let mut matrix = Matrix::default();
    matrix.reshape(rows, cols);
    let mut random = fastrand::Rng::with_seed(seed);
    for row in 0..rows {
        matrix.row_mut(row).fill_with(|| 2.0 * random.f32() - 1.0);
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
    fn a_part_stands_for_the_whole_shape_and_has_its_own_columns_alone() {
        let mut matrix = Matrix::default();
        let part = matrix.part(3, 500, 128..192);
        assert_eq!((part.shape(), part.stride()), ((3, 500), 80));
        assert_eq!(part.at(2, 128).align_offset(64), 0);
        for column in [127, 128 + 80] {
            assert!(std::panic::catch_unwind(|| part.at(0, column)).is_err(), "column {column}");
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
