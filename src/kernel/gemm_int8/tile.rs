//! A tile of an integer product: one group of inputs at a time in registers, then onto the sum in f32.
//!
//! ```text
//! for g in 0..groups
//!     for word in group                  // as in the f32 tile, `WORD` inputs at once
//!         w = panel[word, 0..2]
//!         for i in 0..rows
//!             acc[i] += x[i, word] · w   // exact
//!     out[i] += step[i, g] · scale[g] · acc[i] + least[i, g] · total[g]
//! ```
//! The sums go through memory between groups: they are in the first cache, and their registers give the tile twice
//! the height.

use crate::kernel::quantise::{GROUP, Grid};
use crate::kernel::simd::{Kernel, Simd};

/// `rows` rows of a panel, two vectors wide. Strides are in numbers of the pointer's type.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// [rows, words]
    pub x: *const i32,
    pub x_stride: usize,
    /// [rows, groups]
    pub grids: *const Grid,
    /// [words, 2 · LANES]
    pub w: *const i32,
    pub words: usize,
    pub groups: usize,
    /// [groups, 2 · LANES]
    pub scales: *const f32,
    /// [groups, 2 · LANES]
    pub totals: *const f32,
    /// [2 · LANES]
    pub start: *const f32,
    /// [rows, 2 · LANES], or null for nothing.
    pub add: *const f32,
    pub add_stride: usize,
    /// What will be needed next: for each word two lines from here on, then on by `ahead_step` (see `gemm::tile`).
    pub ahead: *const i32,
    pub ahead_step: usize,
    /// [rows, 2 · LANES]
    pub out: *mut f32,
    pub out_stride: usize,
    /// 1 ..= TILE_ROWS
    pub rows: usize,
}

impl Tile {
    /// Computes the tile.
    ///
    /// # Safety
    /// The matrices described are valid for reads, and `out` for writes; `out` overlaps none of the others.
    #[inline(always)]
    pub(super) unsafe fn compute<S: Simd>(self, s: S) {
        s.call(Vouched(self));
    }
}

/// A tile whose maker upholds the contract of [`Tile::compute`].
struct Vouched(Tile);

impl Kernel for Vouched {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        macro_rules! rows {
            ($($rows:literal)*) => {
                match self.0.rows {
                    $(
                        // SAFETY: the contract of `Tile::compute`; the rows are those of the tile.
                        $rows if $rows <= S::TILE_ROWS => unsafe { sized::<S, $rows>(s, self.0) },
                    )*
                    rows => panic!("no tile has {rows} rows"),
                }
            };
        }
        rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    }
}

/// # Safety
/// As [`Tile::compute`], with `ROWS` rows.
#[inline(always)]
unsafe fn sized<S: Simd, const ROWS: usize>(s: S, tile: Tile) {
    const VECTORS: usize = 2;
    let width = VECTORS * S::LANES;
    let words_a_group = GROUP / S::WORD;
    let (mut x, mut w, mut ahead) = (tile.x, tile.w, tile.ahead);
    // SAFETY of all pointer steps: rows, words and groups are those of the matrices the caller vouches for.
    unsafe {
        for group in 0..tile.groups {
            let words = words_a_group.min(tile.words - group * words_a_group);
            let mut sums = [[s.no_words(); VECTORS]; ROWS];
            // Wrapping steps, as in the f32 tile.
            for _ in 0..words {
                let mut weights = [s.no_words(); VECTORS];
                for (j, weight) in weights.iter_mut().enumerate() {
                    *weight = s.load_words_at(w.wrapping_add(j * S::LANES));
                    s.prefetch(ahead.wrapping_add(j * S::LANES).cast());
                }
                for (i, row) in sums.iter_mut().enumerate() {
                    let x = s.splat_word_at(x.wrapping_add(i * tile.x_stride));
                    for (sum, weight) in row.iter_mut().zip(weights) {
                        *sum = s.dot_words(*sum, x, weight);
                    }
                }
                x = x.wrapping_add(1);
                w = w.wrapping_add(width);
                ahead = ahead.wrapping_add(tile.ahead_step);
            }
            for j in 0..VECTORS {
                let at = j * S::LANES;
                let scale = s.load_at(tile.scales.add(group * width + at));
                let total = s.load_at(tile.totals.add(group * width + at));
                for (i, row) in sums.iter().enumerate() {
                    let out = tile.out.add(i * tile.out_stride + at);
                    let before = s.load_at(if group == 0 { tile.start.add(at) } else { out });
                    let grid = *tile.grids.add(i * tile.groups + group);
                    let scaled = s.mul(s.to_f32(row[j]), scale);
                    let sum = s.mul_add(scaled, s.splat(grid.step), before);
                    s.store_at(s.mul_add(total, s.splat(grid.least), sum), out);
                }
            }
        }
        if !tile.add.is_null() {
            for i in 0..ROWS {
                for at in [0, S::LANES] {
                    let out = tile.out.add(i * tile.out_stride + at);
                    s.store_at(s.add(s.load_at(out), s.load_at(tile.add.add(i * tile.add_stride + at))), out);
                }
            }
        }
    }
}
