//! The linear layer in f32: `y = x · Wᵀ + b`, by the register tile of `tile`.

use super::panels::{Form, Layer, Packed, PanelTile, Product};
use super::tile::Tile;
use crate::kernel::matrix::Matrix;
use crate::kernel::simd::{Simd, VectorSize};
use crate::machine::cpu::Level;

/// A linear layer packed for one instruction set.
pub struct Linear {
    pub(super) level: Level,
    packed: Packed<f32>,
}

impl Linear {
    /// Packs `weight`, [outputs, inputs] row-major as PyTorch stores it, and `bias`, `[outputs]`. Panics if the
    /// lengths disagree.
    pub fn pack(level: Level, weight: &[f32], bias: &[f32]) -> Self {
        let width = 2 * VectorSize::of(level).lanes;
        let mut packed = Packed::zeros(Form { width, inputs: 1, words: width }, weight, bias);
        let panel_words = packed.panel_words();
        for (output, row) in weight.chunks_exact(packed.inputs.max(1)).enumerate() {
            let panel = &mut packed.words[output / width * panel_words..];
            for (k, &w) in row.iter().enumerate() {
                panel[k * width + output % width] = w;
            }
        }
        Self { level, packed }
    }
}

impl Layer for Linear {
    type Word = f32;
    type Input = Matrix;
    type Scratch = ();

    fn packed(&self) -> &Packed<f32> {
        &self.packed
    }

    fn shape(x: &Matrix) -> (usize, usize) {
        (x.rows(), x.cols())
    }

    fn scratch(&self) {}

    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, product: &Product<'_, Self>, at: PanelTile<'_, f32>, (): &mut ()) {
        let (x, y, width) = (product.x, product.y, self.packed.form.width);
        let (first, column) = (at.rows.start, at.panel * width);
        let (add, add_stride) = match product.residual {
            Some(residual) => (residual.rows_from(first)[column..].as_ptr(), residual.stride() as isize),
            None => (std::ptr::null(), 0),
        };
        let tile = Tile {
            a: x.rows_from(first).as_ptr(),
            a_stride: x.stride(),
            b: at.weights.as_ptr(),
            b_stride: width,
            depth: self.packed.inputs,
            start: self.packed.bias[column..][..width].as_ptr(),
            add,
            add_stride,
            ahead: at.ahead,
            ahead_step: at.ahead_step,
            out: y.at(first, column),
            out_stride: y.stride(),
            rows: at.rows.len(),
            vectors: 2,
        };
        // SAFETY: x has rows of `inputs` columns, and the panel [inputs, width] and the bias [width] were sliced. y and
        // the residual have `outputs` columns and, being matrices, space in each row for the panel of the last one.
        // The caller guarantees that no other thread uses these elements of y, so nothing overlaps.
        unsafe { tile.compute(s) };
    }
}
