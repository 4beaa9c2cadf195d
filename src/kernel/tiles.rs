//! Products of whole tiles, 16 rows of 64 bytes each, which have registers of their own: AMX.
//!
//! ```text
//!                 w: [steps · 16, 32] words of four bytes, a block's columns side by side
//! x: [32, steps · 64 bytes]  ──►  sums: [32, 32]
//! ```
//! Four tiles hold the sums, two hold x and two the weights, so that each tile that is loaded is used twice.

#[cfg(not(target_arch = "x86_64"))]
mod absent;
#[cfg(target_arch = "x86_64")]
mod amx;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use absent::{Shaped, Tiles};
#[cfg(target_arch = "x86_64")]
pub(super) use amx::{Shaped, Tiles};

use crate::machine::cpu::Level;

/// Rows and columns of the sums of a block.
pub(super) const BLOCK: usize = 32;
/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 16;
/// Bytes of a tile's row: what one step goes through of each row of x.
pub(super) const STEP_BYTES: usize = 64;

/// Sums of a block, [rows, columns].
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums<T>(pub [[T; BLOCK]; BLOCK]);

/// What one block of a product is computed of.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// [rows, steps · 64 bytes]: 16 rows, or 32 if `tall`.
    pub x: *const i32,
    /// Bytes from row to row of x.
    pub x_stride: usize,
    /// More than 16 rows are wanted.
    pub tall: bool,
    /// [steps · 16, 32]
    pub w: *const i32,
    /// None: the sums are zero.
    pub steps: usize,
    /// What will be needed next: in each step so many lines are fetched, one after the other. Any address is fine.
    pub ahead: *const i32,
    /// At least one.
    pub ahead_lines: usize,
}

/// The tiles of a level that has them.
pub(super) fn of(level: Level) -> Option<Tiles> {
    if level == Level::Amx { Tiles::detect() } else { None }
}

/// Blocks of `rows` rows: (first row, rows).
pub(super) fn row_blocks(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(BLOCK).map(move |first| (first, BLOCK.min(rows - first)))
}
