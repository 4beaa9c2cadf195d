//! Activations split into two bf16: a high and a low part, x ≈ high + low, to 2⁻¹⁷ of its size.
//!
//! Processors with tiles multiply bf16 fastest. Of the product of two such sums, the three greater products are
//! computed, and the product of the low parts is omitted: at most 2⁻¹⁶ of the whole (Henry, Tang and Heinecke,
//! 2019, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations").

use std::marker::PhantomData;

use crate::kernel::matrix::{Aligned, row_stride};
use crate::kernel::simd::Simd;
use crate::kernel::tiles;

/// Numbers in a tile's row. Rows are filled with zeros to whole steps.
pub(in crate::kernel) const STEP: usize = tiles::STEP_BYTES / 2;

/// [rows, cols] of split numbers; filled by an [`Epilogue`](super::epilogue::Epilogue).
#[derive(Default)]
pub struct SplitBf16 {
    /// [rows, stride] words of two numbers.
    highs: Aligned<i32>,
    /// [rows, stride] words of two numbers.
    lows: Aligned<i32>,
    rows: usize,
    cols: usize,
    /// Words from one row to the next.
    stride: usize,
}

impl SplitBf16 {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Words from one row to the next.
    pub(in crate::kernel) fn stride(&self) -> usize {
        self.stride
    }

    /// All high and low parts from `row` on.
    pub(in crate::kernel) fn words_from(&self, row: usize) -> (&[i32], &[i32]) {
        (&self.highs[row * self.stride..], &self.lows[row * self.stride..])
    }

    /// Changes the shape, and returns a target that several threads may fill, each its own rows.
    pub(in crate::kernel) fn target(&mut self, rows: usize, cols: usize) -> Target<'_> {
        (self.rows, self.cols) = (rows, cols);
        self.stride = row_stride(cols.next_multiple_of(STEP) / 2);
        // Tile loads read whole tiles.
        let words = rows.next_multiple_of(tiles::TILE_ROWS) * self.stride;
        self.highs.reserve(words);
        self.lows.reserve(words);
        let (highs, lows) = (self.highs.as_mut_ptr(), self.lows.as_mut_ptr());
        Target { highs, lows, stride: self.stride, rows, cols, borrowed: PhantomData }
    }
}

/// `SplitBf16` whose rows several threads fill, each its own.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Target<'a> {
    highs: *mut i32,
    lows: *mut i32,
    stride: usize,
    rows: usize,
    cols: usize,
    borrowed: PhantomData<&'a mut SplitBf16>,
}

// SAFETY: stands for an exclusive borrow; the contract of `fill` gives each thread its own rows.
unsafe impl Send for Target<'_> {}
// SAFETY: as above.
unsafe impl Sync for Target<'_> {}

impl Target<'_> {
    /// Splits `x`, finite numbers: columns of one row from `first` on, which are whole steps or end with the row.
    ///
    /// # Safety
    /// No other thread fills these columns.
    #[inline(always)]
    pub(in crate::kernel) unsafe fn fill<S: Simd>(self, s: S, row: usize, first: usize, x: &[f32]) {
        assert!(row < self.rows && first.is_multiple_of(STEP) && first + x.len() <= self.cols);
        let at = row * self.stride + first / 2;
        let (mut high, mut low) = (self.highs.wrapping_add(at), self.lows.wrapping_add(at));
        for at in (0..x.len().next_multiple_of(STEP)).step_by(S::LANES) {
            let rest = &x[at.min(x.len())..];
            let v = if rest.len() >= S::LANES { s.load(rest) } else { s.load_or(rest, 0.0) };
            // SAFETY: the shape has space for the row in whole steps, which are whole vectors.
            unsafe {
                let rounded = s.store_bf16_at(v, high);
                s.store_bf16_at(s.sub(v, rounded), low);
            }
            (high, low) = (high.wrapping_add(S::LANES / 2), low.wrapping_add(S::LANES / 2));
        }
    }
}

#[cfg(test)]
pub(in crate::kernel) mod tests {
    use super::*;
    use crate::kernel::gemm::epilogue::{Conversion, Epilogue, InPlace};
    use crate::kernel::matrix::filled;
    use crate::machine::cpu;
    use crate::machine::leader::Leader;

    /// Both parts of an element.
    pub(in crate::kernel) fn restored(split: &SplitBf16, row: usize, col: usize) -> (f32, f32) {
        let number = |word: i32| f32::from_bits((word as u32 >> (16 * (col % 2))) << 16);
        let (highs, lows) = split.words_from(row);
        (number(highs[col / 2]), number(lows[col / 2]))
    }

    #[test]
    fn both_parts_give_every_value_to_2_to_the_minus_17_and_are_the_same_at_every_level() {
        for cols in [1, 2, 15, 16, 31, 32, 33, 129, 384] {
            let seed = cols as u64;
            let mut x = filled(7, cols, seed);
            x.row_mut(2)[0] = 1.0 + f32::EPSILON;
            x.row_mut(3).fill(-3.1e-20);
            x.row_mut(4).iter_mut().for_each(|x| *x *= 4e9);
            for level in cpu::Level::supported() {
                let mut split = SplitBf16::default();
                Epilogue { before: InPlace::Nothing, x: &mut x, to: Conversion::SplitBf16(&mut split) }
                    .apply(level, &mut Leader::default());
                for row in 0..7 {
                    for (col, &value) in x.row(row).iter().enumerate() {
                        let (high, low) = restored(&split, row, col);
                        let at = format!("{level}, {cols} columns, seed {seed}, [{row}, {col}]");
                        assert_eq!(high, crate::kernel::simd::bf16(value), "{at}");
                        assert_eq!(low, crate::kernel::simd::bf16(value - high), "{at}");
                        assert!((high + low - value).abs() <= value.abs() * 2f32.powi(-17), "{at}");
                    }
                    for col in cols..cols.next_multiple_of(STEP) {
                        assert_eq!(restored(&split, row, col), (0.0, 0.0), "{level}, {cols} columns, beyond the last");
                    }
                }
            }
        }
    }
}
