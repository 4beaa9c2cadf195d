//! The register tile: a tile of a matrix product that stays in registers for the whole depth.
//!
//! ```text
//! for k in 0..depth            // one accumulator per element, k ascending: the bits of an element
//!     w = b[k, 0..vectors]     // depend neither on the tile's height nor on the row's position in it
//!     for i in 0..rows
//!         acc[i] += a[i, k] * w
//! ```
//! There is no blocking over the depth. A panel of weights (32 columns, 48 KB at depth 384) stays in the
//! second-level cache while the row tiles pass, and 14 rows read 9 bytes of it per cycle, which is well within that
//! cache's bandwidth.

use super::operands::{Ahead, Rows};
use crate::kernel::simd::{Kernel, Simd};

/// `out[i, j] = start[j] + Σ_k a[i, k] · b[k, j] (+ add[i, j])` for `rows` rows and `vectors` vectors of columns.
/// Strides are in f32.
#[derive(Clone, Copy)]
pub(in crate::kernel) struct Tile {
    /// [rows, depth]
    pub a: *const f32,
    pub a_stride: usize,
    /// [depth, vectors · LANES]
    pub b: *const f32,
    pub b_stride: usize,
    pub depth: usize,
    /// [vectors · LANES], or null for zeros.
    pub start: *const f32,
    /// [rows, vectors · LANES], or null for nothing. Rows may overlap, and the stride may be negative.
    pub add: *const f32,
    pub add_stride: isize,
    /// Data needed next, which this tile prefetches into the second-level cache: `ahead_step` f32 for each k, in whole
    /// lines. Any address is valid.
    pub ahead: *const f32,
    pub ahead_step: usize,
    /// [rows, vectors · LANES]
    pub out: *mut f32,
    pub out_stride: usize,
    /// 1 ..= TILE_ROWS
    pub rows: usize,
    /// 1 or 2
    pub vectors: usize,
}

impl Tile {
    /// Computes the tile.
    ///
    /// # Safety
    /// The matrices described are valid for reads, and `out` for writes; `out` overlaps none of the others.
    #[inline(always)]
    pub(in crate::kernel) unsafe fn compute<S: Simd>(self, s: S) {
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
                match (self.0.rows, self.0.vectors) {
                    $(
                        // SAFETY: the contract of `Tile::compute`; rows and vectors are those of the tile.
                        ($rows, 1) if $rows <= S::TILE_ROWS => unsafe { sized::<S, $rows, 1>(s, self.0) },
                        // SAFETY: as above.
                        ($rows, 2) if $rows <= S::TILE_ROWS => unsafe { sized::<S, $rows, 2>(s, self.0) },
                    )*
                    _ => unreachable!("tiles have 1 to `TILE_ROWS` rows, which are 14 at most, and 1 or 2 vectors"),
                }
            };
        }
        rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    }
}

/// # Safety
/// Like [`Tile::compute`], with `ROWS` rows and `VECTORS` vectors.
#[inline(always)]
unsafe fn sized<S: Simd, const ROWS: usize, const VECTORS: usize>(s: S, tile: Tile) {
    // SAFETY: rows, vectors and depth are those of the matrices that the caller guarantees.
    unsafe {
        let mut start = [s.splat(0.0); VECTORS];
        if !tile.start.is_null() {
            for (j, v) in start.iter_mut().enumerate() {
                *v = s.load_at(tile.start.add(j * S::LANES));
            }
        }
        let mut sums = [start; ROWS];
        let (mut a, mut b) = (Rows::new(tile.a, tile.a_stride), tile.b);
        let mut ahead = Ahead::new::<S>(tile.ahead, tile.ahead_step, VECTORS);
        // Not a closure: if the compiler did not inline it, it would be compiled without the instructions.
        macro_rules! step {
            ($step:expr) => {
                let mut weights = [s.splat(0.0); VECTORS];
                for (j, w) in weights.iter_mut().enumerate() {
                    *w = s.load_at(b.wrapping_add(j * S::LANES));
                }
                b = b.wrapping_add(tile.b_stride);
                for (i, row) in sums.iter_mut().enumerate() {
                    let x = s.splat_at(a.at::<S>(i, $step));
                    for (sum, w) in row.iter_mut().zip(weights) {
                        *sum = s.mul_add(x, w, *sum);
                    }
                }
            };
        }
        for _ in 0..tile.depth / S::UNROLLED {
            ahead.fetch(s);
            for step in 0..S::UNROLLED {
                step!(step);
            }
            a.advance(S::UNROLLED);
        }
        for step in 0..tile.depth % S::UNROLLED {
            step!(step);
        }
        for (i, row) in sums.iter().enumerate() {
            for (j, &sum) in row.iter().enumerate() {
                let mut sum = sum;
                if !tile.add.is_null() {
                    let row = tile.add.offset(i as isize * tile.add_stride);
                    sum = s.add(sum, s.load_at(row.add(j * S::LANES)));
                }
                s.store_at(sum, tile.out.add(i * tile.out_stride + j * S::LANES));
            }
        }
    }
}

/// Cuts `rows` rows into tiles of at most `TILE_ROWS`, of nearly equal height: (first row, rows).
#[inline(always)]
pub(in crate::kernel) fn row_tiles<S: Simd>(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let tiles = rows.div_ceil(S::TILE_ROWS);
    (0..tiles).map(move |i| {
        let first = i * rows / tiles;
        (first, (i + 1) * rows / tiles - first)
    })
}
