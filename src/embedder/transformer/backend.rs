//! The steps of the encoder that a device implements. Each step of a layer is fused with the operations after it.
//!
//! Two devices implement them: the CPU with our own kernels (`cpu`), and candle's devices (`accelerator`). The model in
//! `super` is defined once, by these steps.
//!
//! The steps write into memory that a worker keeps, so nothing is allocated inside a layer on a CPU. Operations of
//! candle (`CustomOp`) would have to allocate their results. Both devices are compared with candle-transformers' own
//! models after every layer.

use std::ops::Range;

use candle_core::Result;

use super::checkpoint::{NormWeight, Weight};
use crate::embedder::weights::Rows;
use crate::kernel::activation::Activation;
pub use crate::kernel::attention::{Heads, Queries, Span};
use crate::model::Mode;

/// The packed sequences of a block.
#[derive(Default)]
pub struct Sequences {
    /// The start of each sequence, and the end of the last. [sequences + 1]
    pub cu_seqlens: Vec<usize>,
    /// The tokens at the beginning of each sequence that pooling leaves out. `[sequences]`
    pub left_out: Vec<usize>,
}

impl Sequences {
    /// Returns the rows of each sequence.
    pub fn rows(&self) -> impl Iterator<Item = Range<usize>> {
        self.cu_seqlens.windows(2).map(|ends| ends[0]..ends[1])
    }

    /// Returns the number of tokens with a result.
    pub fn results(&self, queries: Queries) -> usize {
        match queries {
            Queries::All => self.cu_seqlens.last().copied().unwrap_or(0),
            Queries::First | Queries::Last => self.left_out.len(),
        }
    }

    /// Returns the row of each sequence's first token, or of its last one.
    pub fn ends(&self, queries: Queries) -> impl Iterator<Item = usize> {
        self.rows().map(move |rows| if queries == Queries::Last { rows.end - 1 } else { rows.start })
    }
}

/// A device. Each worker has its own, with the memory that its steps need.
///
/// `Rows` are activations, [rows, columns]. Each step sets the shape of its `out`.
pub trait Backend: Sized {
    /// Activations in the memory of the device.
    type Rows: Default;
    /// A packed table of vectors.
    type Table;
    /// The packed weights of a linear layer, or of the two layers of a gated block.
    type Linear;
    /// The weights of a normalisation.
    type Norm;
    /// The weights of the normalisation of a head.
    type HeadNorm;
    /// The numbers that relative positions add to the scores of attention.
    type Bias;
    /// The angles of rotary positions.
    type Rope;

    /// Packs a table. [rows, columns]
    fn table(&self, values: Vec<f32>, columns: usize) -> Result<Self::Table>;
    /// Takes a table that is in a file. A device without access to it packs the values.
    fn mapped(&self, rows: Rows) -> Result<Self::Table> {
        self.table(rows.values(), rows.columns())
    }
    /// Packs a linear layer.
    fn pack(&self, weight: Weight) -> Result<Self::Linear>;
    /// Packs the two layers of a gated block, which have the same shape. The first one has the activation.
    fn pack_gated(&self, weights: [Weight; 2]) -> Result<Self::Linear>;
    /// Packs a normalisation.
    fn norm(&self, norm: NormWeight, epsilon: f64) -> Result<Self::Norm>;
    /// Packs an RMSNorm of heads. `[head_dim]`
    fn head_norm(&self, gain: Vec<f32>, epsilon: f64) -> Result<Self::HeadNorm>;
    /// Packs `of(head, distance)` for sequences of at most `tokens` tokens. The distance is the key's position minus
    /// the query's.
    fn bias(&self, heads: Heads, tokens: usize, of: &dyn Fn(usize, isize) -> f32) -> Result<Self::Bias>;
    /// Packs rotations for sequences of at most `tokens` tokens. At position 1 the columns i and i + dim / 2 of a head
    /// are rotated by `angle(i)`.
    fn rope(&self, dim: usize, tokens: usize, angle: &dyn Fn(usize) -> f64) -> Result<Self::Rope>;

    /// Computes `out = N(words[id] + positions[place])` for each token, without the terms that are not there.
    fn embed(&mut self, tokens: Tokens<'_, Self>, norm: Option<&Self::Norm>, out: &mut Self::Rows) -> Result<()>;
    /// Computes `out = N(x)`, or copies x without a normalisation.
    fn normalise(&mut self, x: &Self::Rows, norm: Option<&Self::Norm>, out: &mut Self::Rows) -> Result<()>;
    /// Computes `out = activation(x · Wᵀ + b)`.
    fn linear_activate(
        &mut self,
        layer: &Self::Linear,
        x: &Self::Rows,
        activation: Activation,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Computes `out = activation(x · Wᵀ + b) · (x · Vᵀ + c)`. `products` is scratch memory.
    fn linear_gate(
        &mut self,
        layer: &Self::Linear,
        x: &Self::Rows,
        activation: Activation,
        products: &mut Self::Rows,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Computes the sum of `y = x · Wᵀ + b` and the residual.
    fn linear_add(
        &mut self,
        layer: &Residual<Self>,
        x: &Self::Rows,
        residual: &Self::Rows,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Computes `q, k, v = x · Wᵀ + b`, then `out = softmax(q kᵀ / divisor + bias) v` for each sequence and head. A
    /// query has one row, with its heads side by side. `qkv` is scratch memory.
    fn attention(
        &mut self,
        step: SelfAttention<'_, Self>,
        x: &Self::Rows,
        qkv: &mut Self::Rows,
        out: &mut Self::Rows,
    ) -> Result<()>;
    /// Copies the first or the last row of each sequence.
    fn ends(&self, x: &Self::Rows, sequences: &Sequences, queries: Queries, out: &mut Self::Rows) -> Result<()>;
    /// Copies some rows of x. Only a device with blocks of a limited size is asked to.
    fn take(&mut self, x: &Self::Rows, rows: Range<usize>, out: &mut Self::Rows) -> Result<()>;
    /// Replaces some rows of `out` by x. After the last row `out` is complete.
    fn put(&mut self, x: &Self::Rows, rows: Range<usize>, out: &mut Self::Rows) -> Result<()>;
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
    /// The table of positions and token types, if the model has one. [places, hidden_size]
    pub positions: Option<&'a B::Table>,
    /// The row of `positions` for each token.
    pub places: &'a [u32],
}

/// The linear layer at the end of a block, y, and its sum with the block's input r.
pub struct Residual<B: Backend> {
    /// The layer.
    pub layer: B::Linear,
    /// The sum.
    pub sum: Sum<B::Norm>,
}

/// The sum of y and r with a normalisation N.
pub enum Sum<N> {
    /// N(y + r)
    Normalised(N),
    /// y + r
    Plain,
    /// N(y) + r
    OfNormalised(N),
}

/// The operands of self-attention.
pub struct SelfAttention<'a, B: Backend> {
    /// The layer from hidden_size to the queries, the key and the value of each group of heads.
    pub qkv: &'a B::Linear,
    /// The heads.
    pub heads: Heads,
    /// The sequences. A token attends to its own sequence.
    pub sequences: &'a Sequences,
    /// The tokens for which a result is computed.
    pub queries: Queries,
    /// The tokens that a token attends to.
    pub span: Span,
    /// The numbers that are added inside the softmax.
    pub bias: Option<&'a B::Bias>,
    /// The normalisations of queries and keys.
    pub norms: Option<&'a [B::HeadNorm; 2]>,
    /// The rotation of queries and keys.
    pub rope: Option<&'a B::Rope>,
}
