//! Quantised activations: each row as bytes, in groups of [`GROUP`] columns with their own quantisation parameters.
//!
//! ```text
//! x ≈ min + scale · q      q in 0..=255; min and max of the group are exact
//! ```
//! The quantisation is asymmetric because activations are (after GELU all but a few are near the lower end). It is
//! per group because a few columns of a BERT are tens of times larger than all others and would coarsen the whole
//! row (Dettmers et al., 2022, "LLM.int8()"; figures for this model in docs/performance.md).
//!
//! The bytes of a row depend on that row alone, and are the same at every level.

use std::marker::PhantomData;

use crate::kernel::matrix::{Aligned, row_stride};
use crate::kernel::simd::Simd;
use crate::kernel::tiles;

/// Columns that share quantisation parameters: of activations, and of the inputs of each output's weights. With 128
/// instead of one group per row, the least cosine to exact arithmetic rises from 0.992 to 0.997 on all-MiniLM-L6-v2
/// (docs/performance.md).
pub const GROUP: usize = 128;

/// [rows, cols] of bytes with their quantisation parameters; filled by an [`Epilogue`](super::epilogue::Epilogue).
#[derive(Default)]
pub struct Quantised {
    /// [rows, stride] words (see `Simd::WORD`). Columns after the last one have arbitrary values: their weights are
    /// zero.
    words: Aligned<i32>,
    /// [rows, groups]
    params: Vec<QuantParams>,
    rows: usize,
    cols: usize,
    /// Words from one row to the next.
    stride: usize,
}

/// The quantisation parameters of a group.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub(in crate::kernel) struct QuantParams {
    pub min: f32,
    pub scale: f32,
}

impl Quantised {
    /// Changes the shape. Memory is reused, and grows if necessary. The contents are unspecified.
    fn reshape(&mut self, rows: usize, cols: usize, word: usize) {
        (self.rows, self.cols) = (rows, cols);
        self.stride = row_stride(cols.div_ceil(word));
        // Tile loads read whole tiles.
        self.words.reserve(rows.next_multiple_of(tiles::TILE_ROWS) * self.stride);
        let params = rows * self.groups();
        if self.params.len() < params {
            self.params.resize(params, QuantParams::default());
        }
    }

    /// Changes the shape for words of `word` numbers, and returns a target that several threads may fill, each its
    /// own rows.
    pub(in crate::kernel) fn target(&mut self, rows: usize, cols: usize, word: usize) -> Target<'_> {
        self.reshape(rows, cols, word);
        Target {
            words: self.words.as_mut_ptr(),
            stride: self.stride,
            params: self.params.as_mut_ptr(),
            groups: self.groups(),
            rows,
            borrowed: PhantomData,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Number of groups in a row.
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

    /// The parameters of all rows from `row` on, [rows, groups].
    pub(in crate::kernel) fn params_from(&self, row: usize) -> &[QuantParams] {
        &self.params[row * self.groups()..self.rows * self.groups()]
    }
}

/// A `Quantised` whose rows several threads fill, each its own.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Target<'a> {
    words: *mut i32,
    stride: usize,
    params: *mut QuantParams,
    groups: usize,
    rows: usize,
    borrowed: PhantomData<&'a mut Quantised>,
}

// SAFETY: stands for an exclusive borrow; the contract of `fill` gives each thread its own rows.
unsafe impl Send for Target<'_> {}
// SAFETY: as above.
unsafe impl Sync for Target<'_> {}

impl Target<'_> {
    /// Quantises `x`: columns of one row from `first` on, which are whole groups or end with the row.
    ///
    /// # Safety
    /// No other thread fills these groups.
    #[inline(always)]
    pub(in crate::kernel) unsafe fn fill<S: Simd>(self, s: S, row: usize, first: usize, x: &[f32]) {
        let (group, count) = (first / GROUP, x.len().div_ceil(GROUP));
        assert!(row < self.rows && first.is_multiple_of(GROUP) && group + count <= self.groups);
        // SAFETY: the shape has space for the row in whole lines, and so in whole vectors.
        unsafe {
            let params = std::slice::from_raw_parts_mut(self.params.add(row * self.groups + group), count);
            quantise(s, x, self.words.add(row * self.stride + first / S::WORD), params);
        }
    }
}

/// Quantises some groups of a row.
///
/// # Safety
/// `words` has space for them, with the last group rounded up to whole vectors.
#[inline(always)]
unsafe fn quantise<S: Simd>(s: S, row: &[f32], mut words: *mut i32, params: &mut [QuantParams]) {
    for (group, params) in row.chunks(GROUP).zip(params) {
        let (least, greatest) = range(s, group);
        let width = greatest - least;
        // A group without width is its minimum. So is one whose scale would not be a normal number.
        let inverse = if width > 1e-30 { 255.0 / width } else { 0.0 };
        *params = QuantParams { min: least, scale: if inverse == 0.0 { 0.0 } else { width / 255.0 } };
        let (least_value, least, inverse) = (least, s.splat(least), s.splat(inverse));
        let mut whole = group.chunks_exact(S::LANES);
        for chunk in &mut whole {
            // SAFETY: the caller guarantees the space.
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

/// The minimum and the maximum of at least one value.
#[inline(always)]
fn range<S: Simd>(s: S, values: &[f32]) -> (f32, f32) {
    let (mut least, mut greatest) = (s.splat(values[0]), s.splat(values[0]));
    // Four vectors are compared with each other first: one after the other would wait for each result.
    let mut fours = values.chunks_exact(4 * S::LANES);
    for four in &mut fours {
        let (a, b) = (s.load(four), s.load(&four[S::LANES..]));
        let (c, d) = (s.load(&four[2 * S::LANES..]), s.load(&four[3 * S::LANES..]));
        least = s.min(least, s.min(s.min(a, b), s.min(c, d)));
        greatest = s.max(greatest, s.max(s.max(a, b), s.max(c, d)));
    }
    let mut whole = fours.remainder().chunks_exact(S::LANES);
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
    use crate::kernel::gemm::epilogue::{Conversion, Epilogue, InPlace};
    use crate::kernel::matrix::filled;
    use crate::kernel::simd::VectorSize;
    use crate::machine::cpu::{self, Level};
    use crate::machine::leader::Leader;

    /// The byte of an element, and its dequantised value.
    pub(in crate::kernel) fn restored(level: Level, q: &Quantised, row: usize, col: usize) -> (u8, f32) {
        let word = VectorSize::of(level).word;
        // Groups are whole words, so columns are adjacent across groups.
        let bits = q.words_from(row)[col / word] as u32 >> (32 / word * (col % word));
        let number = (bits & (u32::MAX >> (32 - 32 / word))) as u8;
        let params = q.params_from(row)[col / GROUP];
        (number, params.min + params.scale * f32::from(number))
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
                Epilogue { before: InPlace::Nothing, x: &mut x, to: Conversion::Int8(&mut q) }
                    .apply(level, &mut Leader::default());
                for row in 0..7 {
                    for (g, group) in x.row(row).chunks(GROUP).enumerate() {
                        let least = group.iter().copied().fold(f32::INFINITY, f32::min);
                        let greatest = group.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                        let width = greatest - least;
                        let step = width / 255.0;
                        assert_eq!(
                            q.params_from(row)[g],
                            QuantParams { min: least, scale: step },
                            "{level}, seed {seed}"
                        );
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
