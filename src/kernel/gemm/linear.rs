//! The linear layers of an encoder in the arithmetic of its model, with the steps that follow while results are in
//! cache.
//!
//! A layer is computed by parts of its columns, each for all rows. Steps that need no other columns run in the same
//! part: the thread that computed the values uses them, no other core has to fetch them, and no thread waits.

use std::ops::Range;

use super::bf16x3::LinearBf16x3;
use super::epilogue::{ColumnEpilogue, Conversion, InPlace};
use super::f32;
use super::int8::LinearInt8;
use super::panels::{Layer as _, Product};
use super::quantise::{GROUP, Quantised};
use super::split_bf16::SplitBf16;
use crate::kernel::activation::Activation;
use crate::kernel::matrix::{Matrix, SharedMatrix};
use crate::kernel::simd::{run, run_words};
use crate::machine::cpu::Level;
use crate::machine::leader::Leader;

/// The number format that linear layers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberFormat {
    /// f32.
    F32,
    /// f32 split into two bf16 (see [`super::split_bf16`]).
    SplitBf16,
    /// Bytes (see [`super::quantise`]).
    Int8,
}

impl NumberFormat {
    /// The format for a model whose arithmetic is f32.
    pub fn of_f32(level: Level) -> Self {
        if LinearBf16x3::is_for(level) { Self::SplitBf16 } else { Self::F32 }
    }
}

/// Activations, [rows, columns], in the formats that linear layers read.
#[derive(Default)]
pub struct LayerInput {
    /// The activations in f32.
    pub f32: Matrix,
    /// The activations as bytes, if a linear layer reads them.
    pub int8: Quantised,
    /// The activations split into two bf16, if a linear layer reads them.
    pub split_bf16: SplitBf16,
}

impl LayerInput {
    /// The activations, and the destination of their conversion for the next linear layer.
    pub fn target(&mut self, form: NumberFormat) -> (&mut Matrix, Conversion<'_>) {
        let to = match form {
            NumberFormat::F32 => Conversion::Nothing,
            NumberFormat::SplitBf16 => Conversion::SplitBf16(&mut self.split_bf16),
            NumberFormat::Int8 => Conversion::Int8(&mut self.int8),
        };
        (&mut self.f32, to)
    }
}

/// The input and the kind of a gated product.
#[derive(Clone, Copy)]
pub struct Gate<'a> {
    /// The activations. [rows, inputs]
    pub x: &'a LayerInput,
    /// The function of the first product.
    pub activation: Activation,
    /// The format that the next layer reads.
    pub form: NumberFormat,
}

/// A linear layer packed for one instruction set: `y = x · Wᵀ + b`.
pub enum Linear {
    /// The product in f32.
    F32(f32::Linear),
    /// The product of split bf16.
    SplitBf16(LinearBf16x3),
    /// The product of bytes.
    Int8(LinearInt8),
}

impl Linear {
    /// Packs `weight`, [outputs, inputs] row-major as PyTorch stores it, and `bias`, `[outputs]`, for rows of this
    /// format. All numbers are finite. Panics if the lengths disagree.
    pub fn pack(level: Level, form: NumberFormat, weight: &[f32], bias: &[f32]) -> Self {
        let split = if form == NumberFormat::SplitBf16 { LinearBf16x3::pack(level, weight, bias) } else { None };
        match (form, split) {
            (NumberFormat::Int8, _) => Self::Int8(LinearInt8::pack(level, weight, bias)),
            (_, Some(layer)) => Self::SplitBf16(layer),
            (_, None) => Self::F32(f32::Linear::pack(level, weight, bias)),
        }
    }

    /// Packs the two layers of a gated block into one, for [`Linear::gate`]: both have a row for each of its columns.
    pub fn pack_gated(level: Level, form: NumberFormat, [a, b]: [(&[f32], &[f32]); 2]) -> Self {
        let inputs = a.0.len().checked_div(a.1.len()).unwrap_or(0);
        assert_eq!((a.0.len(), a.1.len()), (b.0.len(), b.1.len()), "two layers of the same shape");
        let weight = a.0.chunks(GROUP * inputs.max(1)).zip(b.0.chunks(GROUP * inputs.max(1)));
        let weight: Vec<f32> = weight.flat_map(|(a, b)| a.iter().chain(b)).copied().collect();
        let bias: Vec<f32> =
            a.1.chunks(GROUP).zip(b.1.chunks(GROUP)).flat_map(|(a, b)| a.iter().chain(b)).copied().collect();
        Self::pack(level, form, &weight, &bias)
    }

    /// Columns of the result, and of a panel.
    fn columns_and_width(&self) -> (usize, usize) {
        match self {
            Self::F32(layer) => (layer.packed().outputs, layer.packed().form.width),
            Self::SplitBf16(layer) => (layer.packed().outputs, layer.packed().form.width),
            Self::Int8(layer) => (layer.packed().outputs, layer.packed().form.width),
        }
    }

    /// Columns of the result.
    pub fn outputs(&self) -> usize {
        self.columns_and_width().0
    }

    /// Columns that are computed together. Parts of the result begin at a multiple of this.
    pub(in crate::kernel) fn panel(&self) -> usize {
        self.columns_and_width().1
    }

    /// Computes `y = x · Wᵀ + b`, plus `residual` if given; x: [rows, inputs]; y becomes [rows, outputs]. The team of
    /// `leader` shares the work. Panics if a shape is wrong.
    pub fn apply(&self, leader: &mut Leader, x: &LayerInput, residual: Option<&Matrix>, y: &mut Matrix) {
        y.reshape(x.f32.rows(), self.outputs());
        let y = y.shared();
        // Enough parts, so that no thread waits long for the last one.
        const MOST_PARTS: usize = 12;
        let size = self.outputs().div_ceil(MOST_PARTS).next_multiple_of(self.panel());
        self.share(leader, size, &|columns| self.columns(columns, x, residual, y, None));
    }

    /// Computes `out = activation(x · Wᵀ + b)`, in f32 and in the format of the next layer. The team of `leader` shares
    /// the work. Panics if a shape is wrong.
    pub fn activate(
        &self,
        level: Level,
        leader: &mut Leader,
        x: &LayerInput,
        activation: Activation,
        form: NumberFormat,
        out: &mut LayerInput,
    ) {
        out.f32.reshape(x.f32.rows(), self.outputs());
        let (y, to) = out.target(form);
        let pass = ColumnEpilogue::new(level, InPlace::Activate(activation), y, to);
        // A group has its own quantisation parameters, so it needs no other column. It is whole panels at every
        // level.
        self.share(leader, GROUP, &|columns| {
            self.columns(columns, x, None, pass.product(), Some(&pass));
        });
    }

    /// Computes `out = activation(x · Wᵀ + b) · (x · Vᵀ + c)` of a layer that [`Linear::pack_gated`] made of W and V;
    /// otherwise as [`Linear::activate`]. `products` is scratch memory.
    pub fn gate(&self, step: Gate<'_>, level: Level, leader: &mut Leader, products: &mut Matrix, out: &mut LayerInput) {
        let Gate { x, activation, form } = step;
        products.reshape(x.f32.rows(), self.outputs());
        out.f32.reshape(x.f32.rows(), self.outputs() / 2);
        let (y, to) = out.target(form);
        let pass = ColumnEpilogue::gated(level, activation, products, y, to);
        self.share(leader, 2 * GROUP, &|columns| {
            self.columns(columns, x, None, pass.product(), Some(&pass));
        });
    }

    /// Shares the columns among the team, `size` per part.
    fn share(&self, leader: &mut Leader, size: usize, part: &(dyn Fn(Range<usize>) + Sync)) {
        let outputs = self.outputs();
        leader.share(outputs.div_ceil(size.max(1)), &|i| part(i * size..outputs.min((i + 1) * size)));
    }

    /// Computes some columns of [`Linear::apply`], from a multiple of [`Linear::panel`] to another one or the last
    /// column. No other thread uses them. The rows of each tile go through `then` while they are in cache.
    pub(in crate::kernel) fn columns(
        &self,
        columns: Range<usize>,
        x: &LayerInput,
        residual: Option<&Matrix>,
        y: SharedMatrix<'_>,
        then: Option<&ColumnEpilogue<'_>>,
    ) {
        match self {
            Self::F32(layer) => run(layer.level, Product { layer, columns, x: &x.f32, residual, y, then }),
            Self::SplitBf16(layer) => run(Level::Amx, Product { layer, columns, x: &x.split_bf16, residual, y, then }),
            Self::Int8(layer) => run_words(layer.level, Product { layer, columns, x: &x.int8, residual, y, then }),
        }
    }
}
