//! The byte product by vectors, tile by tile, and the dequantisation of its sums.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::dequantise::{Dequantise, PENDING, PendingSums};
use super::layer::LinearInt8;
use super::tile::Tile;
use crate::kernel::gemm::epilogue::ColumnEpilogue;
use crate::kernel::gemm::panels::NEAR;
use crate::kernel::gemm::quantise::{GROUP, Quantised};
use crate::kernel::gemm::tile::row_tiles;
use crate::kernel::matrix::{Matrix, SharedMatrix};
use crate::kernel::simd::{Kernel, Simd};

/// A product of some panels, by vectors.
pub(super) struct Product<'a> {
    pub(super) layer: &'a LinearInt8,
    pub(super) panels: Range<usize>,
    pub(super) x: &'a Quantised,
    pub(super) residual: Option<&'a Matrix>,
    pub(super) y: SharedMatrix<'a>,
    pub(super) then: Option<&'a ColumnEpilogue<'a>>,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { layer, panels, x, then, .. } = &self;
        let (width, words, groups) = (layer.width, layer.inputs.div_ceil(S::WORD), x.groups());
        let group_words = GROUP / S::WORD;
        // As in `f32`: the tiles of these panels prefetch the next panels, in equal shares.
        let tiles = x.rows().div_ceil(S::TILE_ROWS).max(1);
        let ahead_step = width.div_ceil(tiles);
        let next = if tiles == 1 { NEAR } else { panels.len() * words * width };
        let mut sums: PendingSums = [const { MaybeUninit::uninit() }; PENDING];
        for (turn, (first, rows)) in row_tiles::<S>(x.rows()).enumerate() {
            for panel in panels.clone() {
                let weights = &layer.panels[panel * words * width..][..words * width];
                let ahead = weights.as_ptr().wrapping_add(next + turn * ahead_step * words);
                for group in (0..groups).step_by(PENDING) {
                    let count = PENDING.min(groups - group);
                    for (g, sums) in (group..group + count).zip(&mut sums) {
                        let from = g * group_words;
                        let tile = Tile {
                            x: x.words_from(first).as_ptr().wrapping_add(from),
                            x_stride: x.stride(),
                            w: weights.as_ptr().wrapping_add(from * width),
                            words: group_words.min(words - from),
                            ahead: ahead.wrapping_add(from * ahead_step),
                            ahead_step,
                            sums: sums.as_mut_ptr().cast(),
                            rows,
                        };
                        // SAFETY: x has rows of `inputs` columns (asserted), filled to whole words; the panel was
                        // sliced; a tile is no larger than a block's sums.
                        unsafe { tile.compute(s) };
                    }
                    // SAFETY: these groups of these rows and this panel are summed.
                    unsafe { self.dequantise(panel, group..group + count, first..first + rows, &sums).run(s) };
                }
            }
            if let Some(then) = then {
                then.apply(first..first + rows, panels.start * width..layer.outputs.min(panels.end * width));
            }
        }
    }
}

impl<'a> Product<'a> {
    /// Makes the dequantisation of some groups, at most as many as `sums` holds.
    #[inline(always)]
    pub(super) fn dequantise(
        &self,
        panel: usize,
        groups: Range<usize>,
        rows: Range<usize>,
        sums: &'a PendingSums,
    ) -> Dequantise<'a> {
        let Self { layer, x, residual, y, .. } = *self;
        let (width, all) = (layer.width, x.groups());
        let those = (panel * all + groups.start) * width..(panel * all + groups.end) * width;
        // The rows of y and of the residual have space for the panel of their last column.
        let residual = residual.filter(|_| groups.end == all);
        Dequantise {
            sums,
            width,
            scales: &layer.scales[those.clone()],
            totals: &layer.totals[those],
            params: &x.params_from(rows.start)[groups.start..],
            groups: all,
            start: (groups.start == 0).then(|| &layer.bias[panel * width..][..width]),
            add: residual.map(|add| (add.rows_from(rows.start)[panel * width..].as_ptr(), add.stride())),
            out: y.at(rows.start, panel * width),
            out_stride: y.stride(),
            rows: rows.len(),
        }
    }
}
