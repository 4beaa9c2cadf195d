//! The weights of a linear layer on bytes, quantised and packed in panels.

use crate::kernel::gemm::quantise::GROUP;
use crate::kernel::matrix::Aligned;
use crate::kernel::simd::{Kernel, Simd, run_words, word};
use crate::kernel::tiles::{TILE_ROWS, Tiles};
use crate::machine::cpu::Level;

/// A linear layer quantised and packed for one instruction set.
pub struct LinearInt8 {
    pub(super) level: Level,
    /// The tiles of the level, if it has them.
    pub(super) tiles: Option<Tiles>,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    /// Columns of a panel.
    pub(super) width: usize,
    /// Numbers per word.
    pub(super) word: usize,
    /// [panels, words of the inputs, width]. With tiles, the words are filled with zeros to whole steps.
    pub(super) panels: Aligned<i32>,
    /// [panels, groups, width]
    pub(super) scales: Aligned,
    /// [panels, groups, width]
    pub(super) totals: Aligned,
    /// [panels, width]
    pub(super) bias: Aligned,
}

impl LinearInt8 {
    /// Quantises and packs `weight`, [outputs, inputs] row-major as PyTorch stores it, and `bias`, `[outputs]`. All
    /// numbers are finite. Panics if the lengths disagree.
    pub fn pack(level: Level, weight: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        let inputs = weight.len().checked_div(outputs).unwrap_or(0);
        assert_eq!(weight.len(), outputs * inputs, "a weight is [outputs, inputs]");
        let (width, word_len) = run_words(level, Shape);
        let (count, groups) = (outputs.div_ceil(width), inputs.div_ceil(GROUP));
        let mut layer = Self {
            level,
            tiles: Tiles::of(level),
            inputs,
            outputs,
            width,
            word: word_len,
            panels: Aligned::default(),
            scales: Aligned::zeros(count * groups * width),
            totals: Aligned::zeros(count * groups * width),
            bias: Aligned::zeros(count * width),
        };
        layer.panels.reserve(count * layer.panel_words());
        layer.bias[..outputs].copy_from_slice(bias);
        for (output, row) in weight.chunks_exact(inputs.max(1)).enumerate() {
            layer.pack_output(output, row);
        }
        layer
    }

    /// Number of i32 in a panel.
    pub(super) fn panel_words(&self) -> usize {
        let words = self.inputs.div_ceil(self.word);
        let whole = if self.tiles.is_some() { words.next_multiple_of(TILE_ROWS) } else { words };
        whole * self.width
    }

    fn pack_output(&mut self, output: usize, weights: &[f32]) {
        let (panel, column) = (output / self.width, output % self.width);
        let (panel_words, groups) = (self.panel_words(), self.inputs.div_ceil(GROUP));
        for (g, group) in weights.chunks(GROUP).enumerate() {
            let greatest = group.iter().fold(0.0f32, |greatest, w| greatest.max(w.abs()));
            let scale = greatest / 127.0;
            let numbers: Vec<i16> = group.iter().map(|&w| quantised_weight(w, scale)).collect();
            let at = (panel * groups + g) * self.width + column;
            self.scales[at] = scale;
            self.totals[at] = scale * numbers.iter().map(|&w| f32::from(w)).sum::<f32>();
            let first = g * (GROUP / self.word);
            for (i, chunk) in numbers.chunks(self.word).enumerate() {
                let mut whole = [0i16; 4];
                whole[..chunk.len()].copy_from_slice(chunk);
                self.panels[panel * panel_words + (first + i) * self.width + column] = word(&whole[..self.word]);
            }
        }
    }

    /// Columns of the result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of a panel.
    pub(in crate::kernel) fn panel(&self) -> usize {
        self.width
    }
}

/// The nearest number in -127..=127. A group of zeros has scale 0.
pub(in crate::kernel::gemm) fn quantised_weight(w: f32, scale: f32) -> i16 {
    if scale > 0.0 { (w / scale).round_ties_even().clamp(-127.0, 127.0) as i16 } else { 0 }
}

/// Columns of a panel, and numbers per word.
struct Shape;

impl Kernel for Shape {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> (usize, usize) {
        (2 * S::LANES, S::WORD)
    }
}
