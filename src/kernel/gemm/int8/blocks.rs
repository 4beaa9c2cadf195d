//! The byte product on processors with tiles: a block of 32 × 32 sums at a time. While vector units
//! [`dequantise`](super::dequantise) the sums, the tiles continue with the next block.

use std::mem::MaybeUninit;

use super::dequantise::PENDING;
use super::product::Product;
use crate::kernel::gemm::panels::NEAR;
use crate::kernel::gemm::quantise::GROUP;
use crate::kernel::simd::{Kernel, Simd};
use crate::kernel::tiles::{BLOCK, Block, STEP_BYTES, Shaped, Sums, TILE_ROWS, Tiles, row_blocks};

/// Steps per group.
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
        let product = &self.product;
        let Product { layer, panels, x, then, .. } = product;
        assert!(layer.width == BLOCK && layer.word == 4, "a panel is a block wide, and a word has four bytes");
        let shaped = self.tiles.shape();
        let (panel_words, groups) = (layer.panel_words(), x.groups());
        let steps = panel_words / STEP_WORDS;
        let blocks = row_blocks(x.rows()).count();
        let lines = (STEP_WORDS / 16).div_ceil(blocks.max(1));
        let mut sums = [const { MaybeUninit::<Sums<i32>>::uninit() }; PENDING];
        let next = if blocks == 1 { NEAR } else { panels.len() * panel_words };
        for (turn, (first, rows)) in row_blocks(x.rows()).enumerate() {
            for panel in panels.clone() {
                let w = layer.panels[panel * panel_words..][..panel_words].as_ptr();
                let ahead = w.wrapping_add(next + turn * lines * 16 * (panel_words / STEP_WORDS));
                for group in (0..groups).step_by(PENDING) {
                    let count = PENDING.min(groups - group);
                    for (g, sums) in (group..group + count).zip(&mut sums) {
                        let (from, to) = (g * GROUP_STEPS, steps.min((g + 1) * GROUP_STEPS));
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
                    // SAFETY: these groups of these rows and this panel are summed.
                    unsafe { product.dequantise(panel, group..group + count, first..first + rows, &sums).run(s) };
                }
            }
            if let Some(then) = then {
                then.apply(first..first + rows, panels.start * BLOCK..layer.outputs.min(panels.end * BLOCK));
            }
        }
        // Kept until here, because tiles keep their shape from block to block.
        drop::<Shaped>(shaped);
    }
}
