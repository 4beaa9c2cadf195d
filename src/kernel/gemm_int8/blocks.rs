//! The product where the processor has tiles: a block of 32 × 32 sums at a time, and the same bits as by [`super::tile`].
//!
//! ```text
//! for each panel, for each block of rows
//!     for some groups: sums[group] = Σ q · w          // by tiles, exact
//!     out += Σ step · scale · sums + least · total     // by vectors, group by group
//! ```
//! Sums of several groups wait in the first cache for one walk over the block's rows: the vectors work on them while
//! the tiles go on with what follows.

use std::mem::MaybeUninit;

use super::{LinearInt8, Product};
use crate::kernel::gemm::NEAR;
use crate::kernel::quantise::{GROUP, Grid};
use crate::kernel::simd::{Kernel, Simd};
use crate::kernel::tiles::{BLOCK, Block, STEP_BYTES, Shaped, Sums, TILE_ROWS, Tiles, row_blocks};

/// Groups whose sums wait: 16 KB.
const WAITING: usize = 4;
/// Steps of a group.
const GROUP_STEPS: usize = GROUP / STEP_BYTES;
/// Words of the weights of a step.
const STEP_WORDS: usize = TILE_ROWS * BLOCK;

/// A product by tiles.
pub(super) struct Blocks<'a> {
    pub tiles: Tiles,
    pub product: Product<'a>,
}

impl Kernel for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Product { layer, panels, x, residual, y, then } = self.product;
        assert!(layer.width == BLOCK && layer.word == 4, "a panel is a block wide, and a word has four bytes");
        let shaped = self.tiles.shape();
        let (panel_words, groups) = (layer.panel_words(), x.groups());
        let blocks = row_blocks(x.rows()).count();
        let lines = (STEP_WORDS / 16).div_ceil(blocks.max(1));
        let mut sums = [const { MaybeUninit::<Sums<i32>>::uninit() }; WAITING];
        let next = if blocks == 1 { NEAR } else { panels.len() * panel_words };
        for (turn, (first, rows)) in row_blocks(x.rows()).enumerate() {
            for panel in panels.clone() {
                let w = layer.panels[panel * panel_words..][..panel_words].as_ptr();
                let ahead = w.wrapping_add(next + turn * lines * 16 * (panel_words / STEP_WORDS));
                for group in (0..groups).step_by(WAITING) {
                    let count = WAITING.min(groups - group);
                    for (g, sums) in (group..group + count).zip(&mut sums) {
                        let (from, to) = (g * GROUP_STEPS, layer.steps().min((g + 1) * GROUP_STEPS));
                        let block = Block {
                            x: x.words_from(first).as_ptr().wrapping_add(from * STEP_BYTES / 4),
                            x_stride: 4 * x.stride(),
                            tall: rows > TILE_ROWS,
                            w: w.wrapping_add(from * STEP_WORDS),
                            steps: to - from,
                            ahead: ahead.wrapping_add(from * lines * 16),
                            ahead_lines: lines,
                        };
                        // SAFETY: x has memory for whole tiles of rows and columns, and the panel for whole steps.
                        unsafe { shaped.dot_bytes(block, sums) };
                    }
                    let fold = Fold {
                        sums: &sums,
                        scales: layer.scales[(panel * groups + group) * BLOCK..][..count * BLOCK].as_ptr(),
                        totals: layer.totals[(panel * groups + group) * BLOCK..][..count * BLOCK].as_ptr(),
                        grids: &x.grids_from(first)[group..],
                        groups,
                        start: (group == 0).then(|| layer.bias[panel * BLOCK..][..BLOCK].as_ptr()),
                        add: residual
                            .filter(|_| group + count == groups)
                            .map(|residual| (residual.rows_from(first)[panel * BLOCK..].as_ptr(), residual.stride())),
                        out: y.at(first, panel * BLOCK),
                        out_stride: y.stride(),
                        rows,
                    };
                    // SAFETY: y and the residual have `outputs` columns and, being matrices, room in each row for the
                    // panel that holds the last of them; the panel belongs to one part. Grids are those of all rows.
                    unsafe {
                        match count {
                            1 => fold.groups::<S, 1>(s),
                            2 => fold.groups::<S, 2>(s),
                            3 => fold.groups::<S, 3>(s),
                            _ => fold.groups::<S, WAITING>(s),
                        }
                    }
                }
            }
            if let Some(then) = then {
                then.apply(first..first + rows, panels.start * BLOCK..layer.outputs.min(panels.end * BLOCK));
            }
        }
        // Held until here: tiles keep their shape from block to block.
        drop::<Shaped>(shaped);
    }
}

impl LinearInt8 {
    /// Steps through the inputs.
    fn steps(&self) -> usize {
        self.panel_words() / STEP_WORDS
    }
}

/// Adds the waiting sums of some groups to a block of the result.
struct Fold<'a> {
    /// Those of the groups that wait.
    sums: &'a [MaybeUninit<Sums<i32>>; WAITING],
    /// [groups that wait, 32]
    scales: *const f32,
    /// [groups that wait, 32]
    totals: *const f32,
    /// From the first row's grid of the first group that waits; [rows, groups].
    grids: &'a [Grid],
    /// Groups of a row.
    groups: usize,
    /// What the sum begins with, [32]; else with what is there.
    start: Option<*const f32>,
    /// What is added at last, [rows, 32], and its stride.
    add: Option<(*const f32, usize)>,
    /// [rows, 32]
    out: *mut f32,
    out_stride: usize,
    rows: usize,
}

impl Fold<'_> {
    /// # Safety
    /// `GROUPS` groups wait, and all pointers are valid as described for them; nobody else uses `out`.
    #[inline(always)]
    unsafe fn groups<S: Simd, const GROUPS: usize>(&self, s: S) {
        // SAFETY: of all pointer steps, the caller vouches.
        unsafe {
            for at in (0..BLOCK).step_by(S::LANES) {
                let (mut scales, mut totals) = ([s.splat(0.0); GROUPS], [s.splat(0.0); GROUPS]);
                for g in 0..GROUPS {
                    scales[g] = s.load_at(self.scales.add(g * BLOCK + at));
                    totals[g] = s.load_at(self.totals.add(g * BLOCK + at));
                }
                for i in 0..self.rows {
                    let out = self.out.add(i * self.out_stride + at);
                    let grids = &self.grids[i * self.groups..][..GROUPS];
                    let mut sum = match self.start {
                        Some(start) => s.load_at(start.add(at)),
                        None => s.load_at(out),
                    };
                    for g in 0..GROUPS {
                        let exact = s.load_words_at(self.sums[g].assume_init_ref().0[i][at..].as_ptr());
                        let scaled = s.mul(s.to_f32(exact), scales[g]);
                        sum = s.mul_add(scaled, s.splat(grids[g].step), sum);
                        sum = s.mul_add(totals[g], s.splat(grids[g].least), sum);
                    }
                    if let Some((add, stride)) = self.add {
                        sum = s.add(sum, s.load_at(add.add(i * stride + at)));
                    }
                    s.store_at(sum, out);
                }
            }
        }
    }
}
