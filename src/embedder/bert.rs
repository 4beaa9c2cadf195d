//! BERT (Devlin et al., 2019) and its family, over packed sequences, on any device.
//!
//! ```text
//! x = LayerNorm(word[id] + position[p] + type[t])                        [tokens, hidden]
//! each layer:
//!     q, k, v = x·Wqkvᵀ + b                                              one product
//!     a = LayerNorm(attention(q, k, v)·Woᵀ + b + x)                      attention per sequence and head
//!     x = LayerNorm(act(a·Wupᵀ + b)·Wdownᵀ + b + a)
//! ```
//! The members of the family differ in the start of their positions, in MPNet's relative positions (`relative`), and in
//! the names of their checkpoints (`checkpoint`). A device implements the steps (`backend`).
//!
//! The tokens of all sequences are packed without padding and without a mask. A batch is divided into blocks, and a
//! block passes through the whole model before the next one starts, so its activations stay in the second-level cache.
//! A thread works with its own [`Scratch`]. To use more cores, call from more threads, or give a CPU a team of threads.
//!
//! On a CPU the same sequence gives the same bits alone, in any batch, at any position in it and with any number of
//! threads. Every product sums each row in the same order, and attention sees only its own sequence.

pub mod accelerator;
mod backend;
pub(super) mod checkpoint;
pub mod cpu;
pub(super) mod relative;

use candle_nn::VarBuilder;

pub use crate::inference::Sequence;
use crate::kernel::activation::Activation;
use crate::model::{self, Architecture, Mode};
pub use backend::Backend;
use backend::{Queries, SelfAttention, Sequences, Tokens};
use checkpoint::{Checkpoint, Embeddings, LayerWeights, Padding};

/// Tokens that pass through the model together on a CPU. Their activations (17 KB a token for hidden size 384) must
/// leave space in the second-level cache for a panel of weights. More tokens make reading the weights for each block
/// cheaper (benches/encoder.rs).
pub const CPU_BLOCK_TOKENS: usize = 128;

/// The reason why a model does not load.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A weight is missing, or has another shape or type than in the configuration.
    #[error(transparent)]
    Weights(#[from] candle_core::Error),
    /// The hidden size cannot be divided into equal heads.
    #[error("hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}")]
    Heads {
        /// `hidden_size`
        hidden_size: usize,
        /// `num_attention_heads`
        heads: usize,
    },
}

/// The reason why a batch cannot be computed. `sequence` counts from 0.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// A sequence has no tokens, or none that take part in pooling.
    #[error("sequence {sequence} is empty")]
    Empty {
        /// The index of the sequence.
        sequence: usize,
    },
    /// A sequence has more tokens than the model has positions.
    #[error("sequence {sequence} has {tokens} tokens, the model has {positions} positions")]
    TooLong {
        /// The index of the sequence.
        sequence: usize,
        /// Tokens of the sequence.
        tokens: usize,
        /// Tokens of the longest sequence.
        positions: usize,
    },
    /// A sequence is a pair, and the model has one token type.
    #[error("sequence {sequence} has tokens of type 1, the model has {types} token types")]
    NoSuchType {
        /// The index of the sequence.
        sequence: usize,
        /// Token types of the model.
        types: usize,
    },
    /// A token id is not in the vocabulary.
    #[error("sequence {sequence} has token {token}, the vocabulary ends at {vocabulary}")]
    UnknownToken {
        /// The index of the sequence.
        sequence: usize,
        /// The token id.
        token: u32,
        /// `vocab_size`
        vocabulary: usize,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
}

/// A thread's device and its scratch memory. On a CPU the memory grows to the largest block and is kept.
pub struct Scratch<B: Backend> {
    backend: B,
    ids: Vec<u32>,
    places: Vec<u32>,
    sequences: Sequences,
    hidden: B::Rows,
    qkv: B::Rows,
    mixed: B::Rows,
    attended: B::Rows,
    inner: B::Rows,
    first: B::Rows,
}

/// An encoder of BERT's family with its weights packed for one device.
pub struct Bert<B: Backend> {
    hidden_size: usize,
    heads: usize,
    vocabulary: usize,
    /// Tokens of the longest sequence.
    longest: usize,
    /// Tokens of a block.
    block_tokens: usize,
    activation: Activation,
    words: B::Table,
    /// For each token type in turn: the sum of each position and the type, and the row of the padding token last.
    positions: B::Table,
    /// Token types: at most 2, the types of pairs.
    types: usize,
    /// The padding token, which takes no position.
    padding: Option<u32>,
    norm: B::Norm,
    /// MPNet's relative positions, the same in each layer.
    bias: Option<B::Bias>,
    layers: Vec<Layer<B>>,
}

/// A packed layer.
struct Layer<B: Backend> {
    /// Queries, keys and values side by side. [3 · hidden_size, hidden_size]
    qkv: B::Linear,
    output: B::Linear,
    output_norm: B::Norm,
    up: B::Linear,
    down: B::Linear,
    down_norm: B::Norm,
}

impl<B: Backend> Bert<B> {
    /// Reads the weights from `vb`, with or without the prefix of a model with a head, and packs them for `backend`. A
    /// block has at most `block_tokens` tokens, or a single longer sequence.
    pub fn load(
        vb: VarBuilder<'_>,
        architecture: &Architecture,
        backend: &B,
        block_tokens: usize,
    ) -> Result<Self, LoadError> {
        let (hidden_size, heads) = (architecture.hidden_size, architecture.num_attention_heads);
        if heads == 0 || !hidden_size.is_multiple_of(heads) {
            return Err(LoadError::Heads { hidden_size, heads });
        }
        let checkpoint = Checkpoint::new(vb, architecture);
        let epsilon = architecture.layer_norm_eps;
        let layers = (0..architecture.num_hidden_layers)
            .map(|i| Layer::pack(checkpoint.layer(i)?, epsilon, backend))
            .collect::<Result<_, _>>()?;
        let longest = architecture.positions();
        let bias = match checkpoint.relative_bias()? {
            Some(table) => {
                let of = |head: usize, distance: isize| table[relative::bucket(distance) * heads + head];
                Some(backend.bias(heads, hidden_size / heads, longest, &of)?)
            }
            None => None,
        };
        let Embeddings { words, positions, types, padding, norm } = checkpoint.embeddings()?;
        let (padding, place) = padding.map_or((None, Vec::new()), |Padding { token, place }| (Some(token), place));
        let of_type = |of_type: &Vec<f32>| {
            let rows = positions[..longest * hidden_size].iter().chain(&place);
            rows.zip(of_type.iter().cycle()).map(|(position, of_type)| position + of_type).collect::<Vec<f32>>()
        };
        let positions = types.iter().flat_map(of_type).collect();
        Ok(Self {
            hidden_size,
            heads,
            vocabulary: architecture.vocab_size,
            longest,
            block_tokens,
            activation: match architecture.hidden_act {
                model::Activation::Gelu => Activation::Gelu,
                model::Activation::GeluTanh => Activation::GeluTanh,
                model::Activation::Relu => Activation::Relu,
            },
            words: backend.table(words, hidden_size)?,
            positions: backend.table(positions, hidden_size)?,
            types: types.len(),
            padding,
            norm: backend.norm(norm, epsilon)?,
            bias,
            layers,
        })
    }

    /// Returns the length of a vector.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    /// Makes the scratch memory of a thread with this device.
    pub fn scratch(&self, backend: B) -> Scratch<B> {
        let sequences = Sequences {
            cu_seqlens: Vec::new(),
            left_out: Vec::new(),
            heads: self.heads,
            head_dim: self.hidden_size / self.heads,
        };
        Scratch {
            backend,
            ids: Vec::new(),
            places: Vec::new(),
            sequences,
            hidden: B::Rows::default(),
            qkv: B::Rows::default(),
            mixed: B::Rows::default(),
            attended: B::Rows::default(),
            inner: B::Rows::default(),
            first: B::Rows::default(),
        }
    }

    /// Computes one vector for each sequence, `[modes · hidden_size]`, not normalised.
    pub fn pooled(
        &self,
        sequences: &[Sequence<'_>],
        modes: &[Mode],
        scratch: &mut Scratch<B>,
    ) -> Result<Vec<Vec<f32>>, EncodeError> {
        self.check(sequences)?;
        let mut vectors = Vec::with_capacity(sequences.len());
        for block in blocks(sequences, self.block_tokens) {
            self.embed(block, scratch)?;
            vectors.extend(match modes {
                [Mode::Cls] => {
                    let last = self.layers.len().saturating_sub(1);
                    let mut layers = self.layers.iter().enumerate();
                    layers.try_for_each(|(i, layer)| {
                        self.layer(layer, if i == last { Queries::First } else { Queries::All }, scratch)
                    })?;
                    scratch.backend.values(&scratch.hidden)?
                }
                _ => {
                    self.layers.iter().try_for_each(|layer| self.layer(layer, Queries::All, scratch))?;
                    scratch.backend.pool(&scratch.hidden, &scratch.sequences, modes)?
                }
            });
        }
        Ok(vectors)
    }

    /// Checks the lengths and the token ids.
    fn check(&self, sequences: &[Sequence<'_>]) -> Result<(), EncodeError> {
        let (positions, vocabulary, types) = (self.longest, self.vocabulary, self.types);
        for (sequence, &Sequence { ids, first, left_out }) in sequences.iter().enumerate() {
            if ids.len() <= left_out {
                return Err(EncodeError::Empty { sequence });
            }
            if ids.len() > positions {
                return Err(EncodeError::TooLong { sequence, tokens: ids.len(), positions });
            }
            if first < ids.len() && types < 2 {
                return Err(EncodeError::NoSuchType { sequence, types });
            }
            if let Some(&token) = ids.iter().find(|&&id| id as usize >= vocabulary) {
                return Err(EncodeError::UnknownToken { sequence, token, vocabulary });
            }
        }
        Ok(())
    }

    /// Sums the embeddings of a block. Fills `sequences` and `hidden`.
    fn embed(&self, block: &[Sequence<'_>], scratch: &mut Scratch<B>) -> candle_core::Result<()> {
        let Scratch { backend, ids, places, sequences, hidden, .. } = scratch;
        ids.clear();
        places.clear();
        sequences.cu_seqlens.clear();
        sequences.cu_seqlens.push(0);
        sequences.left_out.clear();
        for sequence in block {
            sequences.left_out.push(sequence.left_out);
            ids.extend_from_slice(sequence.ids);
            places.extend(self.places(*sequence));
            sequences.cu_seqlens.push(ids.len());
        }
        let tokens = Tokens { words: &self.words, ids, positions: &self.positions, places };
        backend.embed(tokens, &self.norm, hidden)
    }

    /// Returns each token's row of `positions`. Padding takes no position. A text that spells the padding token has it
    /// among its tokens.
    fn places(&self, Sequence { ids, first, .. }: Sequence<'_>) -> impl Iterator<Item = u32> {
        let rows = self.longest as u32 + u32::from(self.padding.is_some());
        let mut position = 0;
        ids.iter().enumerate().map(move |(n, &id)| {
            let of_type = if n < first { 0 } else { rows };
            if self.padding == Some(id) {
                return of_type + self.longest as u32;
            }
            position += 1;
            of_type + position - 1
        })
    }

    /// Computes a layer from `hidden` to `hidden`, for all tokens or for the first of each sequence.
    fn layer(&self, layer: &Layer<B>, queries: Queries, scratch: &mut Scratch<B>) -> candle_core::Result<()> {
        let Scratch { backend, sequences, hidden, qkv, mixed, attended, inner, first, .. } = scratch;
        let step = SelfAttention { qkv: &layer.qkv, sequences, queries, bias: self.bias.as_ref() };
        backend.attention(step, hidden, qkv, mixed)?;
        if queries == Queries::First {
            backend.first(hidden, sequences, first)?;
            std::mem::swap(hidden, first);
        }
        backend.linear_add_norm(&layer.output, mixed, hidden, &layer.output_norm, attended)?;
        backend.linear_activate(&layer.up, attended, self.activation, inner)?;
        backend.linear_add_norm(&layer.down, inner, attended, &layer.down_norm, hidden)
    }
}

impl<B: Backend> Layer<B> {
    /// Packs the weights of a layer.
    fn pack(weights: LayerWeights, epsilon: f64, backend: &B) -> candle_core::Result<Self> {
        Ok(Self {
            qkv: backend.pack(weights.qkv)?,
            output: backend.pack(weights.output)?,
            output_norm: backend.norm(weights.output_norm, epsilon)?,
            up: backend.pack(weights.up)?,
            down: backend.pack(weights.down)?,
            down_norm: backend.norm(weights.down_norm, epsilon)?,
        })
    }
}

/// Divides a batch into blocks of whole sequences. A block has at most `block_tokens` tokens. A longer sequence is a
/// block of its own.
fn blocks<'a>(mut sequences: &'a [Sequence<'a>], block_tokens: usize) -> impl Iterator<Item = &'a [Sequence<'a>]> {
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fit = sequences.iter().take_while(|sequence| {
            tokens += sequence.ids.len();
            tokens <= block_tokens
        });
        let (block, rest) = sequences.split_at(fit.count().max(1).min(sequences.len()));
        sequences = rest;
        (!block.is_empty()).then_some(block)
    })
}

#[cfg(test)]
mod tests;
