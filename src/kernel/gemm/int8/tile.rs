//! A tile of an integer product: the exact sums of one group of inputs, in registers.
//!
//! ```text
//! for word in group                  // as in the f32 tile, `WORD` inputs at once
//!     w = panel[word, 0..2]
//!     for i in 0..rows
//!         sums[i] += x[i, word] · w
//! ```

use crate::kernel::gemm::operands::{Ahead, Rows};
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
    /// Data needed next, to be prefetched: `ahead_step` numbers for each word (see `gemm::tile`).
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
                    _ => unreachable!("tiles have 1 to `TILE_ROWS` rows, which are 14 at most"),
                }
            };
        }
        rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    }
}

/// # Safety
/// Like [`Tile::compute`], with `ROWS` rows.
#[inline(always)]
unsafe fn sized<S: Simd, const ROWS: usize>(s: S, tile: Tile) {
    const VECTORS: usize = 2;
    let width = VECTORS * S::LANES;
    let (mut x, mut w) = (Rows::new(tile.x, tile.x_stride), tile.w);
    let mut ahead = Ahead::new::<S>(tile.ahead, tile.ahead_step, VECTORS);
    let mut sums = [[s.no_words(); VECTORS]; ROWS];
    // SAFETY: rows and words are those of the matrices that the caller guarantees.
    unsafe {
        // Not a closure: if the compiler did not inline it, it would be compiled without the instructions.
        macro_rules! step {
            ($step:expr) => {
                let mut weights = [s.no_words(); VECTORS];
                for (j, weight) in weights.iter_mut().enumerate() {
                    *weight = s.load_words_at(w.wrapping_add($step * width + j * S::LANES));
                }
                for (i, row) in sums.iter_mut().enumerate() {
                    let x = s.splat_word_at(x.at::<S>(i, $step));
                    for (sum, weight) in row.iter_mut().zip(weights) {
                        *sum = s.dot_words(*sum, x, weight);
                    }
                }
            };
        }
        for _ in 0..tile.words / S::UNROLLED {
            ahead.fetch(s);
            for step in 0..S::UNROLLED {
                step!(step);
            }
            x.advance(S::UNROLLED);
            w = w.wrapping_add(S::UNROLLED * width);
        }
        for step in 0..tile.words % S::UNROLLED {
            step!(step);
        }
        // Only stores: with more to do here, the compiler would keep the sums in memory all the time.
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                s.store_words_at(sum, tile.sums.add(i * BLOCK + j * S::LANES));
            }
        }
    }
}
