//! Products of whole tiles (16 rows of 64 bytes), which have registers of their own: AMX.
//!
//! ```text
//!                 w: [steps · 16, 32] words of four bytes, a block's columns side by side
//! x: [32, steps · 64 bytes]  ──►  sums: [32, 32]
//! ```
//! Four tiles hold the sums, two hold x and two the weights, so each loaded tile is used twice.

#[cfg(not(target_arch = "x86_64"))]
mod absent;
#[cfg(target_arch = "x86_64")]
mod amx;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use absent::{Shaped, Tiles};
#[cfg(target_arch = "x86_64")]
pub(super) use amx::{Shaped, Tiles};

/// Rows and columns of the sums of a block.
pub(super) const BLOCK: usize = 32;
/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 16;
/// Bytes of a tile's row: the part of each row of x that one step processes.
pub(super) const STEP_BYTES: usize = 64;

/// Sums of a block, [rows, columns].
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Sums<T>(pub [[T; BLOCK]; BLOCK]);

/// The operands of one block of a product.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// [rows, steps · 64 bytes]: 16 rows, or 32 if `tall`.
    pub x: *const i32,
    /// Bytes from one row of x to the next.
    pub x_stride: usize,
    /// True if more than 16 rows are wanted.
    pub tall: bool,
    /// [steps · 16, 32]
    pub w: *const i32,
    /// Number of steps. With 0 steps the sums are zero.
    pub steps: usize,
    /// Data needed next: each step prefetches `ahead_lines` consecutive lines. Any address is valid.
    pub ahead: *const i32,
    /// At least 1.
    pub ahead_lines: usize,
}
