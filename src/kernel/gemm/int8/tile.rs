//! A tile of an integer product: the exact sums of one group of inputs, in registers.
//!
//! ```text
//! for word in group                  // as in the f32 tile, `WORD` inputs at once
//!     w = panel[word, 0..2]
//!     for i in 0..rows
//!         sums[i] += x[i, word] · w
//! ```

use crate::kernel::simd::{Kernel, Simd};
use crate::kernel::tiles::BLOCK;

/// `rows` rows of a panel, two vectors wide. Strides are in numbers of the pointer's type.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// [rows, words]
    pub x: *const i32,
    pub x_stride: usize,
    /// [words, 2 · LANES]
    pub w: *const i32,
    pub words: usize,
    /// Data needed next, to be prefetched: for each word two lines from here on, then on by `ahead_step` (see
    /// `gemm::tile`).
    pub ahead: *const i32,
    pub ahead_step: usize,
    /// [rows, 2 · LANES], with `BLOCK` numbers from one row to the next.
    pub sums: *mut i32,
    /// 1 ..= TILE_ROWS
    pub rows: usize,
}

impl Tile {
    /// Computes the tile.
    ///
    /// # Safety
    /// The matrices described are valid for reads, and `sums` for writes; it overlaps none of the others.
    #[inline(always)]
    pub(super) unsafe fn compute<S: Simd>(self, s: S) {
        s.call(Trusted(self));
    }
}

/// A tile whose creator upholds the contract of [`Tile::compute`].
struct Trusted(Tile);

impl Kernel for Trusted {
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
                    // Panels are cut into tiles of 1 to `TILE_ROWS` rows, and no level has more than 14.
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
    let (mut x, mut w, mut ahead) = (tile.x, tile.w, tile.ahead);
    let mut sums = [[s.no_words(); VECTORS]; ROWS];
    // SAFETY: rows and words are those of the matrices that the caller guarantees.
    unsafe {
        // Wrapping steps, as in the f32 tile.
        for _ in 0..tile.words {
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
        // Only stores: with more to do here, the compiler would keep the sums in memory all the time.
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                s.store_words_at(sum, tile.sums.add(i * BLOCK + j * S::LANES));
            }
        }
    }
}
