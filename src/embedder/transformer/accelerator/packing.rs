//! The parts of attention over packed rows: the function of a device, its operands, and the places of a block's tokens.

// Without the feature only tests have such a function.
#![cfg_attr(not(feature = "flash-attn"), allow(dead_code))]

use candle_core::{Result, Tensor, TensorId};

use super::super::backend::Span;

/// A function that computes attention over packed rows, and the heads that it has.
#[derive(Clone, Copy)]
pub struct PackedAttention {
    /// Returns whether it has heads of this many columns.
    pub has: fn(usize) -> bool,
    /// Computes `softmax(scale · q kᵀ) v` for each sequence and head. [tokens, heads, dim]
    pub attend: fn(&Operands<'_>) -> Result<Tensor>,
}

/// The operands of attention over packed rows. The columns of a row lie side by side, and rows and heads may lie apart.
pub struct Operands<'a> {
    /// [tokens, heads, dim]
    pub q: &'a Tensor,
    /// [tokens, groups, dim]
    pub k: &'a Tensor,
    /// [tokens, groups, dim]
    pub v: &'a Tensor,
    /// The start of each sequence, and the end of the last: u32 in the memory of the device. `[sequences + 1]`
    pub cu_seqlens: &'a Tensor,
    /// The tokens of the longest sequence.
    pub longest: usize,
    /// The factor of the scores.
    pub scale: f32,
    /// The tokens of its own sequence that a token attends to.
    pub span: Span,
}

/// The places of a block's tokens in their sequences. They are copied to the device once for a block.
#[derive(Clone)]
pub(super) struct Packing {
    pub(super) cu_seqlens: Vec<usize>,
    /// `cu_seqlens` on the device.
    pub(super) starts: Tensor,
    /// The position of each token in its sequence. `[tokens]`
    pub(super) positions: Tensor,
    pub(super) longest: usize,
    /// The cosines and sines of each token, [tokens, dim / 2] each, for the rotations that the layers have asked for.
    pub(super) rotations: Vec<(TensorId, [Tensor; 2])>,
}
