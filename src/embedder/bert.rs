//! BERT (Devlin et al., 2019) and its family on the CPU, over packed sequences.
//!
//! ```text
//! x = LayerNorm(word[id] + position[p] + type[0])                        [tokens, hidden]
//! each layer:
//!     q, k, v = x·Wqkvᵀ + b                                              one product
//!     a = LayerNorm(attention(q, k, v)·Woᵀ + b + x)                      attention per sequence and head
//!     x = LayerNorm(act(a·Wupᵀ + b)·Wdownᵀ + b + a)
//! ```
//! The members of the family differ in where positions begin, in MPNet's relative positions (`relative`), and in what
//! their checkpoints call things (`checkpoint`).
//!
//! The tokens of all sequences lie one after the other: there is no padding and no mask. A caller's batch is cut
//! into blocks of about `BLOCK_TOKENS` tokens, and a block goes through the whole model before the next one
//! starts, so that its activations stay in the second cache. A thread works alone with its own [`Scratch`]; to use
//! more cores, call from more threads.
//!
//! The same sequence gives the same bits alone, in any batch and at any place in it: every product adds up each
//! row in the same order, and attention sees nothing but its own sequence.

pub(super) mod checkpoint;
pub(super) mod relative;

use candle_nn::VarBuilder;

use crate::kernel::activation::Activation;
use crate::kernel::attention::{Bias, Room, Sequence};
use crate::kernel::cpu::Level;
use crate::kernel::gemm::{Linear, Then};
use crate::kernel::matrix::Matrix;
use crate::kernel::norm::LayerNorm;
use crate::model::{self, Architecture, Pooling};
use checkpoint::{Checkpoint, Embeddings, LayerWeights, Norm, Padding, Weight};

/// Tokens that pass through the model together. Its activations (17 KB a token for hidden size 384) should leave
/// the second cache room for a panel of weights, and it should be tall enough that reading the weights once per
/// block costs little (benches/encoder.rs).
const BLOCK_TOKENS: usize = 128;

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A weight is missing, or has another shape or type than the configuration says.
    #[error(transparent)]
    Weights(#[from] candle_core::Error),
    /// The hidden size cannot be cut into equal heads.
    #[error("hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}")]
    Heads {
        /// `hidden_size`
        hidden_size: usize,
        /// `num_attention_heads`
        heads: usize,
    },
}

/// Why a batch could not be computed. `sequence` counts from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// There is nothing to compute a vector from.
    #[error("sequence {sequence} is empty")]
    Empty {
        /// Which sequence.
        sequence: usize,
    },
    /// The model has no embedding for the last positions.
    #[error("sequence {sequence} has {tokens} tokens, the model has {positions} positions")]
    TooLong {
        /// Which sequence.
        sequence: usize,
        /// Its tokens.
        tokens: usize,
        /// Tokens of the longest text that the model can read.
        positions: usize,
    },
    /// A token that the model does not have.
    #[error("sequence {sequence} has token {token}, the vocabulary ends at {vocabulary}")]
    UnknownToken {
        /// Which sequence.
        sequence: usize,
        /// The token id.
        token: u32,
        /// `vocab_size`
        vocabulary: usize,
    },
}

/// A thread's working memory. It grows to the largest block it has seen and is never given back.
#[derive(Default)]
pub struct Scratch {
    /// Where each sequence of the block starts, and the end: [sequences + 1]
    starts: Vec<usize>,
    hidden: Matrix,
    qkv: Matrix,
    mixed: Matrix,
    attended: Matrix,
    inner: Matrix,
    first_hidden: Matrix,
    first_queries: Matrix,
    room: Room,
}

/// What the last layer says of every token.
#[derive(Debug, Clone, PartialEq)]
pub struct Hidden {
    /// [tokens, hidden_size], row-major, the sequences one after the other.
    pub values: Vec<f32>,
    /// Sequence i has the rows `cu_seqlens[i] .. cu_seqlens[i + 1]`.
    pub cu_seqlens: Vec<usize>,
}

/// An encoder of BERT's family with its weights packed for this machine.
pub struct Bert {
    level: Level,
    hidden_size: usize,
    heads: usize,
    activation: Activation,
    /// [vocab_size, hidden_size]
    words: Vec<f32>,
    /// [positions, hidden_size]: position plus token type 0, which every token of a single text has.
    positions: Vec<f32>,
    padding: Option<Padding>,
    norm: LayerNorm,
    /// MPNet's relative positions, the same in each layer.
    bias: Option<Bias>,
    layers: Vec<Layer>,
}

struct Layer {
    /// Queries, keys and values side by side: [3 · hidden_size, hidden_size]
    qkv: Linear,
    output: Linear,
    output_norm: LayerNorm,
    up: Linear,
    down: Linear,
    down_norm: LayerNorm,
}

impl Bert {
    /// Reads the weights from `vb`, with or without the prefix of a model with a head, and packs them for `level`.
    pub fn load(vb: VarBuilder<'_>, architecture: &Architecture, level: Level) -> Result<Self, LoadError> {
        let (hidden_size, heads) = (architecture.hidden_size, architecture.num_attention_heads);
        if heads == 0 || !hidden_size.is_multiple_of(heads) {
            return Err(LoadError::Heads { hidden_size, heads });
        }
        let checkpoint = Checkpoint::new(vb, architecture);
        let epsilon = architecture.layer_norm_eps as f32;
        let layers = (0..architecture.num_hidden_layers)
            .map(|i| Ok(Layer::pack(checkpoint.layer(i)?, epsilon, level)))
            .collect::<Result<_, LoadError>>()?;
        let bias = checkpoint.relative_bias()?;
        let bias = bias.map(|table| relative::bias(&table, heads, hidden_size / heads, architecture.positions()));
        let Embeddings { words, positions, padding, norm: embeddings_norm } = checkpoint.embeddings()?;
        Ok(Self {
            level,
            hidden_size,
            heads,
            activation: match architecture.hidden_act {
                model::Activation::Gelu => Activation::Gelu,
                model::Activation::GeluTanh => Activation::GeluTanh,
                model::Activation::Relu => Activation::Relu,
            },
            words,
            positions,
            padding,
            norm: norm(embeddings_norm, epsilon),
            bias,
            layers,
        })
    }

    /// f32 per vector.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    /// Every token's vector after the last layer. Each sequence has one token id or more, and no more than there are
    /// positions.
    pub fn forward(&self, sequences: &[&[u32]], scratch: &mut Scratch) -> Result<Hidden, InputError> {
        self.check(sequences)?;
        let mut hidden = Hidden { values: Vec::new(), cu_seqlens: vec![0] };
        for block in blocks(sequences) {
            self.embed(block, scratch);
            self.layers.iter().for_each(|layer| self.layer(layer, scratch));
            for row in 0..scratch.hidden.rows() {
                hidden.values.extend_from_slice(scratch.hidden.row(row));
            }
            let before = hidden.cu_seqlens[hidden.cu_seqlens.len() - 1];
            hidden.cu_seqlens.extend(scratch.starts[1..].iter().map(|start| before + start));
        }
        Ok(hidden)
    }

    /// One vector per sequence, `[hidden_size]` each, not normalised.
    pub fn pooled(
        &self,
        sequences: &[&[u32]],
        pooling: Pooling,
        scratch: &mut Scratch,
    ) -> Result<Vec<Vec<f32>>, InputError> {
        self.check(sequences)?;
        let mut vectors = Vec::with_capacity(sequences.len());
        for block in blocks(sequences) {
            self.embed(block, scratch);
            match (pooling, self.layers.split_last()) {
                (Pooling::Cls, Some((last, before))) => {
                    before.iter().for_each(|layer| self.layer(layer, scratch));
                    self.layer_for_first_tokens(last, scratch);
                    vectors.extend((0..block.len()).map(|i| scratch.hidden.row(i).to_vec()));
                }
                (Pooling::Cls, None) => {
                    vectors.extend((0..block.len()).map(|i| scratch.hidden.row(scratch.starts[i]).to_vec()));
                }
                (Pooling::Mean, _) => {
                    self.layers.iter().for_each(|layer| self.layer(layer, scratch));
                    vectors.extend(scratch.starts.windows(2).map(|ends| mean(&scratch.hidden, ends[0]..ends[1])));
                }
            }
        }
        Ok(vectors)
    }

    fn check(&self, sequences: &[&[u32]]) -> Result<(), InputError> {
        let positions = self.positions.len() / self.hidden_size;
        let vocabulary = self.words.len() / self.hidden_size;
        for (sequence, ids) in sequences.iter().enumerate() {
            if ids.is_empty() {
                return Err(InputError::Empty { sequence });
            }
            if ids.len() > positions {
                return Err(InputError::TooLong { sequence, tokens: ids.len(), positions });
            }
            if let Some(&token) = ids.iter().find(|&&id| id as usize >= vocabulary) {
                return Err(InputError::UnknownToken { sequence, token, vocabulary });
            }
        }
        Ok(())
    }

    /// Fills `starts` and `hidden`.
    fn embed(&self, block: &[&[u32]], scratch: &mut Scratch) {
        let n = self.hidden_size;
        scratch.starts.clear();
        scratch.starts.push(0);
        scratch.hidden.reshape(block.iter().map(|ids| ids.len()).sum(), n);
        let mut row = 0;
        for ids in block {
            for (&id, place) in ids.iter().zip(self.places(ids)) {
                let word = &self.words[id as usize * n..][..n];
                let to = scratch.hidden.row_mut(row);
                to.iter_mut().zip(word).zip(place).for_each(|((to, w), p)| *to = w + p);
                row += 1;
            }
            scratch.starts.push(row);
        }
        self.norm.apply(self.level, &mut scratch.hidden);
    }

    /// Each token's position as a vector. Padding is no position; it is among the tokens where a text spells it out.
    fn places<'a>(&'a self, ids: &'a [u32]) -> impl Iterator<Item = &'a [f32]> {
        let mut positions = self.positions.chunks_exact(self.hidden_size);
        ids.iter().map(move |&id| match &self.padding {
            Some(padding) if padding.token == id => padding.place.as_slice(),
            _ => positions.next().expect("no sequence has more tokens than there are positions"),
        })
    }

    /// One layer, from `hidden` to `hidden`.
    fn layer(&self, layer: &Layer, scratch: &mut Scratch) {
        let Scratch { starts, hidden, qkv, mixed, room, .. } = scratch;
        layer.qkv.apply(hidden, Then::Nothing, qkv);
        mixed.reshape(hidden.rows(), self.hidden_size);
        for ends in starts.windows(2) {
            let rows = ends[0]..ends[1];
            self.sequence(qkv, rows.clone(), qkv, rows).attend(self.level, room, mixed);
        }
        self.after_attention(layer, scratch);
    }

    /// The last layer for the first token of each sequence only: keys and values are needed of all tokens, and
    /// nothing else. `hidden` becomes [sequences, hidden_size].
    fn layer_for_first_tokens(&self, layer: &Layer, scratch: &mut Scratch) {
        let n = self.hidden_size;
        let Scratch { starts, hidden, qkv, mixed, first_hidden, first_queries, room, .. } = scratch;
        let sequences = starts.len() - 1;
        first_hidden.reshape(sequences, n);
        for (i, &start) in starts[..sequences].iter().enumerate() {
            first_hidden.row_mut(i).copy_from_slice(hidden.row(start));
        }
        layer.qkv.apply_columns(0..n, first_hidden, Then::Nothing, first_queries);
        layer.qkv.apply_columns(n..3 * n, hidden, Then::Nothing, qkv);
        mixed.reshape(sequences, n);
        for (i, ends) in starts.windows(2).enumerate() {
            self.sequence(first_queries, i..i + 1, qkv, ends[0]..ends[1]).attend(self.level, room, mixed);
        }
        std::mem::swap(hidden, first_hidden);
        self.after_attention(layer, scratch);
    }

    /// From `mixed` and the residual in `hidden` to the layer's result in `hidden`.
    fn after_attention(&self, layer: &Layer, scratch: &mut Scratch) {
        let Scratch { hidden, mixed, attended, inner, .. } = scratch;
        layer.output.apply(mixed, Then::Add(hidden), attended);
        layer.output_norm.apply(self.level, attended);
        layer.up.apply(attended, Then::Activate(self.activation), inner);
        layer.down.apply(inner, Then::Add(attended), hidden);
        layer.down_norm.apply(self.level, hidden);
    }

    fn sequence<'a>(
        &'a self,
        queries: &'a Matrix,
        query_rows: std::ops::Range<usize>,
        keys_values: &'a Matrix,
        rows: std::ops::Range<usize>,
    ) -> Sequence<'a> {
        let (heads, head_dim) = (self.heads, self.hidden_size / self.heads);
        Sequence { queries, query_rows, keys_values, rows, heads, head_dim, bias: self.bias.as_ref() }
    }
}

impl Layer {
    fn pack(weights: LayerWeights, epsilon: f32, level: Level) -> Self {
        let linear = |Weight { weight, bias }: Weight| Linear::pack(level, &weight, &bias);
        Self {
            qkv: linear(weights.qkv),
            output: linear(weights.output),
            output_norm: norm(weights.output_norm, epsilon),
            up: linear(weights.up),
            down: linear(weights.down),
            down_norm: norm(weights.down_norm, epsilon),
        }
    }
}

fn norm(Norm { gain, shift }: Norm, epsilon: f32) -> LayerNorm {
    LayerNorm::new(gain, shift, epsilon)
}

/// Cuts a batch into blocks of whole sequences, as near to [`BLOCK_TOKENS`] as their lengths allow without
/// exceeding it; a longer sequence is a block of its own.
fn blocks<'a>(mut sequences: &'a [&'a [u32]]) -> impl Iterator<Item = &'a [&'a [u32]]> {
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fit = sequences.iter().take_while(|ids| {
            tokens += ids.len();
            tokens <= BLOCK_TOKENS
        });
        let (block, rest) = sequences.split_at(fit.count().max(1).min(sequences.len()));
        sequences = rest;
        (!block.is_empty()).then_some(block)
    })
}

/// The mean of some rows, at least one.
fn mean(hidden: &Matrix, rows: std::ops::Range<usize>) -> Vec<f32> {
    let scale = 1.0 / rows.len() as f32;
    let mut sum = vec![0.0f32; hidden.cols()];
    for row in rows {
        sum.iter_mut().zip(hidden.row(row)).for_each(|(sum, x)| *sum += x);
    }
    sum.iter_mut().for_each(|x| *x *= scale);
    sum
}

#[cfg(test)]
mod tests;
