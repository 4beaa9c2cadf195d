//! The weights of a linear layer on bytes, quantised and packed in panels.

use crate::kernel::gemm::panels::{Form, Packed};
use crate::kernel::gemm::quantise::GROUP;
use crate::kernel::matrix::Aligned;
use crate::kernel::simd::{VectorSize, word};
use crate::kernel::tiles::{BLOCK, STEP_BYTES, TILE_ROWS, Tiles};
use crate::machine::cpu::Level;

/// A linear layer quantised and packed for one instruction set.
pub struct LinearInt8 {
    pub(in crate::kernel::gemm) level: Level,
    /// The tiles of the level, if it has them.
    pub(super) tiles: Option<Tiles>,
    /// Numbers per word.
    word: usize,
    pub(super) packed: Packed<i32>,
    /// [panels, groups, width]
    pub(super) scales: Aligned,
    /// [panels, groups, width]
    pub(super) totals: Aligned,
}

impl LinearInt8 {
    /// Quantises and packs `weight`, [outputs, inputs] row-major as PyTorch stores it, and `bias`, `[outputs]`. All
    /// numbers are finite. Panics if the lengths disagree.
    pub fn pack(level: Level, weight: &[f32], bias: &[f32]) -> Self {
        let VectorSize { lanes, word } = VectorSize::of(level);
        let (width, tiles) = (2 * lanes, Tiles::of(level));
        let form = match tiles {
            Some(_) => {
                assert!(width == BLOCK && word == 4, "a panel is a block wide, and a word has four bytes");
                Form { width, inputs: STEP_BYTES, words: TILE_ROWS * BLOCK }
            }
            None => Form { width, inputs: word, words: width },
        };
        let packed = Packed::zeros(form, weight, bias);
        let groups = packed.panels() * packed.inputs.div_ceil(GROUP);
        let (scales, totals) = (Aligned::zeros(groups * width), Aligned::zeros(groups * width));
        let mut layer = Self { level, tiles, word, packed, scales, totals };
        for (output, row) in weight.chunks_exact(layer.packed.inputs.max(1)).enumerate() {
            layer.pack_output(output, row);
        }
        layer
    }

    fn pack_output(&mut self, output: usize, weights: &[f32]) {
        let width = self.packed.form.width;
        let (panel, column) = (output / width, output % width);
        let (panel_words, groups) = (self.packed.panel_words(), self.packed.inputs.div_ceil(GROUP));
        for (g, group) in weights.chunks(GROUP).enumerate() {
            let greatest = group.iter().fold(0.0f32, |greatest, w| greatest.max(w.abs()));
            let scale = greatest / 127.0;
            let numbers: Vec<i16> = group.iter().map(|&w| quantised_weight(w, scale)).collect();
            let at = (panel * groups + g) * width + column;
            self.scales[at] = scale;
            self.totals[at] = scale * numbers.iter().map(|&w| f32::from(w)).sum::<f32>();
            let first = g * (GROUP / self.word);
            for (i, chunk) in numbers.chunks(self.word).enumerate() {
                let mut whole = [0i16; 4];
                whole[..chunk.len()].copy_from_slice(chunk);
                let at = panel * panel_words + (first + i) * width + column;
                self.packed.words[at] = word(&whole[..self.word]);
            }
        }
    }
}

/// The nearest number in -127..=127. A group of zeros has scale 0.
pub(in crate::kernel::gemm) fn quantised_weight(w: f32, scale: f32) -> i16 {
    if scale > 0.0 { (w / scale).round_ties_even().clamp(-127.0, 127.0) as i16 } else { 0 }
}
