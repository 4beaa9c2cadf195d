//! The linear layers of an encoder, in the arithmetic of its model, and what follows them while their results are hot.
//!
//! A layer is computed by columns, each part of them for all rows. What follows and needs no other column is done in
//! the same part: whoever made the values uses them, no other core has to fetch them, and nobody waits.

use std::ops::Range;

use super::bf16x3::LinearPairs;
use super::epilogue::{Before, ColumnPass, To};
use super::f32;
use super::int8::LinearInt8;
use super::quantise::{GROUP, Quantised};
use super::split_bf16::Pairs;
use crate::kernel::activation::Activation;
use crate::kernel::matrix::{Matrix, Shared};
use crate::machine::cpu::Level;
use crate::machine::team::Team;

/// The form in which linear layers want their rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// f32 as it is.
    F32,
    /// f32 as pairs of bf16 (see [`super::split_bf16`]).
    Pairs,
    /// Bytes (see [`super::quantise`]).
    Bytes,
}

impl Form {
    /// Where the arithmetic is to be f32.
    pub fn of_f32(level: Level) -> Self {
        if LinearPairs::is_for(level) { Self::Pairs } else { Self::F32 }
    }
}

/// [rows, columns] of activations.
#[derive(Default)]
pub struct Rows {
    /// What they are.
    pub f32: Matrix,
    /// The same as bytes, where a linear layer reads them so.
    pub bytes: Quantised,
    /// The same as pairs, where a linear layer reads them so.
    pub pairs: Pairs,
}

impl Rows {
    /// The activations, and what a pass makes of them for the next linear layer.
    pub fn target(&mut self, form: Form) -> (&mut Matrix, To<'_>) {
        let to = match form {
            Form::F32 => To::Nothing,
            Form::Pairs => To::Pairs(&mut self.pairs),
            Form::Bytes => To::Bytes(&mut self.bytes),
        };
        (&mut self.f32, to)
    }
}

/// A linear layer packed for one instruction set: `y = x · Wᵀ + b`.
pub enum Linear {
    /// On f32.
    F32(f32::Linear),
    /// On pairs of bf16.
    Pairs(LinearPairs),
    /// On bytes.
    Bytes(LinearInt8),
}

impl Linear {
    /// Packs `weight`: [outputs, inputs], row-major as PyTorch stores it, and `bias`: `[outputs]`, for rows of that
    /// form. All are finite. Panics if the lengths disagree.
    pub fn pack(level: Level, form: Form, weight: &[f32], bias: &[f32]) -> Self {
        let pairs = if form == Form::Pairs { LinearPairs::pack(level, weight, bias) } else { None };
        match (form, pairs) {
            (Form::Bytes, _) => Self::Bytes(LinearInt8::pack(level, weight, bias)),
            (_, Some(layer)) => Self::Pairs(layer),
            (_, None) => Self::F32(f32::Linear::pack(level, weight, bias)),
        }
    }

    /// Columns of the result.
    pub fn outputs(&self) -> usize {
        match self {
            Self::F32(layer) => layer.outputs(),
            Self::Pairs(layer) => layer.outputs(),
            Self::Bytes(layer) => layer.outputs(),
        }
    }

    /// Columns that are computed together: parts of the result begin at a multiple of them.
    pub(in crate::kernel) fn panel(&self) -> usize {
        match self {
            Self::F32(layer) => layer.panel(),
            Self::Pairs(layer) => layer.panel(),
            Self::Bytes(layer) => layer.panel(),
        }
    }

    /// `y = x · Wᵀ + b`, plus `residual` if there is one; x: [rows, inputs]; y becomes [rows, outputs]. Shared out
    /// among `team`. Panics if a shape is wrong.
    pub fn apply(&self, team: &Team, x: &Rows, residual: Option<&Matrix>, y: &mut Matrix) {
        y.reshape(x.f32.rows(), self.outputs());
        let y = y.shared();
        // Enough parts that nobody waits long for the last one.
        const MOST_PARTS: usize = 12;
        let size = self.outputs().div_ceil(MOST_PARTS).next_multiple_of(self.panel());
        self.share(team, size, &|columns| self.columns(columns, x, residual, y, None));
    }

    /// `out = activation(x · Wᵀ + b)`, in f32 and in the form that the next layer wants. Shared out among `team`.
    /// Panics if a shape is wrong.
    pub fn activate(&self, level: Level, team: &Team, x: &Rows, activation: Activation, form: Form, out: &mut Rows) {
        out.f32.reshape(x.f32.rows(), self.outputs());
        let (y, to) = out.target(form);
        let pass = ColumnPass::new(level, Before::Activate(activation), y, to);
        // A group has a grid of its own, so that it needs no other column; and it is whole panels of every level.
        self.share(team, GROUP, &|columns| {
            self.columns(columns, x, None, pass.x(), Some(&pass));
        });
    }

    /// Shares out the columns, `size` to a part.
    fn share(&self, team: &Team, size: usize, part: &(dyn Fn(Range<usize>) + Sync)) {
        let outputs = self.outputs();
        team.share(outputs.div_ceil(size.max(1)), &|i| part(i * size..outputs.min((i + 1) * size)));
    }

    /// Some columns of [`Linear::apply`], beginning at a multiple of [`Linear::panel`] and ending at one or the last.
    /// Rows go through `then`, those of a tile at a time, while they are hot.
    pub(in crate::kernel) fn columns(
        &self,
        columns: Range<usize>,
        x: &Rows,
        residual: Option<&Matrix>,
        y: Shared<'_>,
        then: Option<&ColumnPass<'_>>,
    ) {
        match self {
            Self::F32(layer) => layer.columns(columns, &x.f32, residual, y, then),
            Self::Pairs(layer) => layer.columns(columns, &x.pairs, residual, y, then),
            Self::Bytes(layer) => layer.columns(columns, &x.bytes, residual, y, then),
        }
    }
}
