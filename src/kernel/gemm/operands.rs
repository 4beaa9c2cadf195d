//! The addresses that a register tile walks over: the rows of its left operand, and the data that is needed next.
//!
//! A turn of a tile's innermost loop has [`Simd::UNROLLED`] steps. On AVX2 a step is only twelve products, and keeping
//! six row addresses, a prefetch per vector and the loop's counter took as many instructions as the products; with
//! four steps a turn they take a quarter of that. Addresses wrap, because with debug assertions every `add` would be
//! checked in the loop that is nearly all of the work.

use crate::kernel::simd::Simd;

/// Rows of the tallest tile of any instruction set.
pub(super) const MOST_ROWS: usize = 14;

/// Four-byte numbers in a cache line.
const LINE: usize = 16;

/// The rows of a left operand, at the present turn.
pub(super) struct Rows<T> {
    /// Every third row. One and two strides from it are addresses that an instruction computes itself.
    starts: [*const T; MOST_ROWS.div_ceil(3)],
    stride: usize,
}

impl<T> Rows<T> {
    /// Rows from `first` on, `stride` numbers apart.
    #[inline(always)]
    pub(super) fn new(first: *const T, stride: usize) -> Self {
        // A loop, because the closure of `std::array::from_fn` is a call without link-time optimisation.
        let mut starts = [first; MOST_ROWS.div_ceil(3)];
        for (i, start) in starts.iter_mut().enumerate() {
            *start = first.wrapping_add(3 * i * stride);
        }
        Self { starts, stride }
    }

    /// The number of a row in a step of this turn.
    #[inline(always)]
    pub(super) fn at<S: Simd>(&self, row: usize, step: usize) -> *const T {
        // With few steps a turn, a pointer for every third row would cost more than it saves.
        match S::UNROLLED {
            1 => self.starts[0].wrapping_add(row * self.stride),
            _ => self.starts[row / 3].wrapping_add(row % 3 * self.stride + step),
        }
    }

    /// Moves on by some steps.
    #[inline(always)]
    pub(super) fn advance(&mut self, steps: usize) {
        for start in &mut self.starts {
            *start = start.wrapping_add(steps);
        }
    }
}

/// Data that is needed next, to be prefetched into the second-level cache.
pub(super) struct Ahead<T> {
    next: *const T,
    /// Numbers from one turn to the next.
    turn: usize,
    /// Cache lines of a turn.
    lines: usize,
}

impl<T> Ahead<T> {
    /// Data from `first` on, `step` four-byte numbers for each step of a tile that is `vectors` wide.
    #[inline(always)]
    pub(super) fn new<S: Simd>(first: *const T, step: usize, vectors: usize) -> Self {
        // A line per vector is known to the compiler, and with one step a turn it is cheaper than counting.
        let lines = if S::UNROLLED == 1 { vectors } else { (S::UNROLLED * step).div_ceil(LINE) };
        Self { next: first, turn: S::UNROLLED * step, lines }
    }

    /// Prefetches the data of a turn.
    #[inline(always)]
    pub(super) fn fetch<S: Simd>(&mut self, s: S) {
        for line in 0..self.lines {
            s.prefetch(self.next.wrapping_add(line * LINE).cast());
        }
        self.next = self.next.wrapping_add(self.turn);
    }
}
