//! What a device must be able to do for the encoder: the steps of a BERT layer, each with what follows it fused in.
//!
//! Two devices do: the processor with our own kernels (`cpu`), and whatever candle runs on (`accelerator`). The
//! definition of the model in `super` is written once, in these words.
//!
//! The steps write into memory that a worker keeps, so nothing is allocated inside a layer on a processor. Operations
//! of candle (`CustomOp`) would have to allocate what they return. Both devices are compared with candle-transformers'
//! own models after every layer.

use candle_core::Result;

use super::checkpoint::{Norm, Weight};
use crate::kernel::activation::Activation;

/// The packed sequences of one block, and how attention reads them.
pub struct Sequences {
    /// Where each sequence starts, and the end of the last: [sequences + 1]
    pub cu_seqlens: Vec<usize>,
    /// Attention heads.
    pub heads: usize,
    /// Columns of a head.
    pub head_dim: usize,
}

impl Sequences {
    /// The rows of each sequence.
    pub fn rows(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        self.cu_seqlens.windows(2).map(|ends| ends[0]..ends[1])
    }
}

/// Which tokens of a sequence have a result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Queries {
    /// Every one.
    All,
    /// The first alone: what a model pooled by its first token needs of its last layer.
    First,
}

/// A device. A worker has one of its own, with whatever memory its steps need.
///
/// `Rows` are activations, [rows, columns]; every step that has an `out` gives it its shape.
pub trait Backend: Clone {
    /// Activations where the device keeps them.
    type Rows: Default;
    /// A table of vectors to look up, packed.
    type Table;
    /// The weights of a linear layer, packed.
    type Linear;
    /// The weights of a layer normalisation.
    type Norm;
    /// What relative positions add to the scores of attention.
    type Bias;

    /// Packs `values`: [rows, columns].
    fn table(&self, values: Vec<f32>, columns: usize) -> Result<Self::Table>;
    /// Packs a linear layer.
    fn pack(&self, weight: Weight) -> Result<Self::Linear>;
    /// Packs a layer normalisation.
    fn norm(&self, norm: Norm, epsilon: f64) -> Result<Self::Norm>;
    /// `of(head, distance)` for sequences of up to `tokens` tokens; the distance is the key's position less the query's.
    fn bias(
        &self,
        heads: usize,
        head_dim: usize,
        tokens: usize,
        of: &dyn Fn(usize, isize) -> f32,
    ) -> Result<Self::Bias>;

    /// `out = LayerNorm(words[id] + positions[place])` for each token.
    fn embed(&self, tokens: Tokens<'_, Self>, norm: &Self::Norm, out: &mut Self::Rows) -> Result<()>;
    /// `out = activation(x · Wᵀ + b)`
    fn linear_activate(
        &self,
        layer: &Self::Linear,
        x: &Self::Rows,
        activation: Activation,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// `out = LayerNorm(x · Wᵀ + b + residual)`
    fn linear_add_norm(
        &self,
        layer: &Self::Linear,
        x: &Self::Rows,
        residual: &Self::Rows,
        norm: &Self::Norm,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// `q, k, v = x · Wᵀ + b`, then `out = softmax(q kᵀ / √head_dim + bias) v` of each sequence and head, the heads side by
    /// side: a row for each query. `qkv` is room for the former.
    fn attention(
        &self,
        step: SelfAttention<'_, Self>,
        x: &Self::Rows,
        qkv: &mut Self::Rows,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// The first row of each sequence.
    fn first(&self, x: &Self::Rows, sequences: &Sequences, out: &mut Self::Rows) -> Result<()>;
    /// The mean of each sequence's rows: `[sequences][columns]`.
    fn mean(&self, x: &Self::Rows, sequences: &Sequences) -> Result<Vec<Vec<f32>>>;
    /// Every row as it is: `[rows][columns]`.
    fn values(&self, x: &Self::Rows) -> Result<Vec<Vec<f32>>>;
}

/// The tokens of a block before the first layer.
pub struct Tokens<'a, B: Backend> {
    /// [vocabulary, hidden_size]
    pub words: &'a B::Table,
    /// One of `words` for each token.
    pub ids: &'a [u32],
    /// [places, hidden_size]
    pub positions: &'a B::Table,
    /// One of `positions` for each token.
    pub places: &'a [u32],
}

/// What attends to what.
pub struct SelfAttention<'a, B: Backend> {
    /// From hidden_size to heads · 3 · head_dim: each head's queries, keys and values.
    pub qkv: &'a B::Linear,
    /// Tokens attend to their own sequence.
    pub sequences: &'a Sequences,
    /// Which tokens ask.
    pub queries: Queries,
    /// What is added inside the softmax.
    pub bias: Option<&'a B::Bias>,
}
