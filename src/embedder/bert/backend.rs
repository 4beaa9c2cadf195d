//! The steps of the encoder that a device implements. Each step of a BERT layer is fused with the operation after it.
//!
//! Two devices implement them: the CPU with our own kernels (`cpu`), and candle's devices (`accelerator`). The model in
//! `super` is defined once, by these steps.
//!
//! The steps write into memory that a worker keeps, so nothing is allocated inside a layer on a CPU. Operations of
//! candle (`CustomOp`) would have to allocate their results. Both devices are compared with candle-transformers' own
//! models after every layer.

use candle_core::Result;

use super::checkpoint::{Norm, Weight};
use crate::kernel::activation::Activation;
use crate::model::Mode;

/// The packed sequences of a block, and the shape of attention.
pub struct Sequences {
    /// The start of each sequence, and the end of the last. [sequences + 1]
    pub cu_seqlens: Vec<usize>,
    /// The tokens at the beginning of each sequence that pooling leaves out. `[sequences]`
    pub left_out: Vec<usize>,
    /// The attention heads.
    pub heads: usize,
    /// The columns of a head.
    pub head_dim: usize,
}

impl Sequences {
    /// Returns the rows of each sequence.
    pub fn rows(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        self.cu_seqlens.windows(2).map(|ends| ends[0]..ends[1])
    }
}

/// The tokens of a sequence for which a result is computed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Queries {
    /// All tokens.
    All,
    /// The first token only, as pooling by the first token needs it in the last layer.
    First,
}

/// A device. Each worker has its own, with the memory that its steps need.
///
/// `Rows` are activations, [rows, columns]. Each step sets the shape of its `out`.
pub trait Backend: Sized {
    /// Activations in the memory of the device.
    type Rows: Default;
    /// A packed table of vectors.
    type Table;
    /// The packed weights of a linear layer.
    type Linear;
    /// The weights of a layer normalisation.
    type Norm;
    /// The numbers that relative positions add to the scores of attention.
    type Bias;

    /// Packs a table. [rows, columns]
    fn table(&self, values: Vec<f32>, columns: usize) -> Result<Self::Table>;
    /// Packs a linear layer.
    fn pack(&self, weight: Weight) -> Result<Self::Linear>;
    /// Packs a layer normalisation.
    fn norm(&self, norm: Norm, epsilon: f64) -> Result<Self::Norm>;
    /// Packs `of(head, distance)` for sequences of at most `tokens` tokens. The distance is the key's position minus
    /// the query's.
    fn bias(
        &self,
        heads: usize,
        head_dim: usize,
        tokens: usize,
        of: &dyn Fn(usize, isize) -> f32,
    ) -> Result<Self::Bias>;

    /// Computes `out = LayerNorm(words[id] + positions[place])` for each token.
    fn embed(&mut self, tokens: Tokens<'_, Self>, norm: &Self::Norm, out: &mut Self::Rows) -> Result<()>;
    /// Computes `out = activation(x · Wᵀ + b)`.
    fn linear_activate(
        &mut self,
        layer: &Self::Linear,
        x: &Self::Rows,
        activation: Activation,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Computes `out = LayerNorm(x · Wᵀ + b + residual)`.
    fn linear_add_norm(
        &mut self,
        layer: &Self::Linear,
        x: &Self::Rows,
        residual: &Self::Rows,
        norm: &Self::Norm,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Computes `q, k, v = x · Wᵀ + b`, then `out = softmax(q kᵀ / √head_dim + bias) v` for each sequence and head. A
    /// query has one row, with its heads side by side. `qkv` is scratch memory.
    fn attention(
        &mut self,
        step: SelfAttention<'_, Self>,
        x: &Self::Rows,
        qkv: &mut Self::Rows,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Copies the first row of each sequence.
    fn first(&self, x: &Self::Rows, sequences: &Sequences, out: &mut Self::Rows) -> Result<()>;
    /// Pools each sequence's rows in each mode. `[sequences][modes · columns]`
    fn pool(&self, x: &Self::Rows, sequences: &Sequences, modes: &[Mode]) -> Result<Vec<Vec<f32>>>;
    /// Returns all rows. `[rows][columns]`
    fn values(&self, x: &Self::Rows) -> Result<Vec<Vec<f32>>>;
}

/// The tokens of a block before the first layer.
pub struct Tokens<'a, B: Backend> {
    /// The table of words. [vocabulary, hidden_size]
    pub words: &'a B::Table,
    /// The row of `words` for each token.
    pub ids: &'a [u32],
    /// The table of positions. [positions, hidden_size]
    pub positions: &'a B::Table,
    /// The row of `positions` for each token.
    pub places: &'a [u32],
}

/// The operands of self-attention.
pub struct SelfAttention<'a, B: Backend> {
    /// The layer from hidden_size to heads · 3 · head_dim: each head's queries, keys and values.
    pub qkv: &'a B::Linear,
    /// The sequences. A token attends to its own sequence.
    pub sequences: &'a Sequences,
    /// The tokens for which a result is computed.
    pub queries: Queries,
    /// The numbers that are added inside the softmax.
    pub bias: Option<&'a B::Bias>,
}
