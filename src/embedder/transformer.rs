//! A transformer encoder (Vaswani et al., 2017) over packed sequences, on any device: any combination of the parts that
//! [`Design`](crate::model::Design) describes.
//!
//! ```text
//! x = N(word[id] + position[p] + type[t])                                [tokens, hidden]
//! each layer, for attention and then the feed-forward block f, with a normalisation before, after, or both:
//!     x = N(x + f(x))    or    x = x + f(N(x))    or    x = x + N'(f(N(x)))
//! attention:    q, k, v = x·Wqkvᵀ + b, one product;    attention(q, k, v)·Woᵀ + b, per sequence and head
//! feed-forward: act(x·Wupᵀ + b)·Wdownᵀ + b,    or gated: (act(x·Wupᵀ + b) ⊙ (x·Wgateᵀ + b))·Wdownᵀ + b
//! ```
//! BERT is one of these, and so are the other families; they differ in their parts and in the names of their
//! checkpoints (`checkpoint`). A device implements the steps (`backend`).
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
mod loading;
pub(super) mod relative;

pub use crate::inference::Sequence;
use crate::kernel::activation::Activation;
use crate::model::{Mode, NormPlace};
pub use backend::Backend;
use backend::{Heads, Queries, Residual, SelfAttention, Sequences, Span, Tokens};

/// Tokens that pass through the model together on a CPU. Their activations (17 KB a token for hidden size 384) must
/// leave space in the second-level cache for a panel of weights. More tokens make reading the weights for each block
/// cheaper (benches/encoder.rs).
pub const CPU_BLOCK_TOKENS: usize = 128;

/// Blocks whose tokens pass together through what follows the attention, where a token needs no other. A longer text
/// passes in parts: the wide activations of the feed-forward network take memory for a part, not for the text. With
/// ModernBERT-base's sizes 512 and 1,024 tokens together take 3 to 7 % more time than 256.
const PART_BLOCKS: usize = 2;

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
    /// The normalised input of a block, if the normalisation comes before it.
    normalised: B::Rows,
    qkv: B::Rows,
    mixed: B::Rows,
    attended: B::Rows,
    /// The two products of a gated block.
    products: B::Rows,
    inner: B::Rows,
    ends: B::Rows,
    /// The rows of a part: the result of the attention, and the input of the layer.
    part: [B::Rows; 2],
}

/// An encoder with its weights packed for one device.
pub struct Transformer<B: Backend> {
    hidden_size: usize,
    heads: Heads,
    vocabulary: usize,
    /// Tokens of the longest sequence.
    longest: usize,
    /// Tokens of a block.
    block_tokens: usize,
    activation: Activation,
    words: B::Table,
    /// For each token type in turn: with learned positions the sum of each position and the type, and the row of the
    /// padding token last; without them the type. `None` without both.
    places: Option<B::Table>,
    /// Rows of `places` for a token type.
    rows_of_type: usize,
    /// A token's row in `places` depends on its position.
    has_positions: bool,
    /// Token types: at most 2, the types of pairs.
    types: usize,
    /// The padding token, which takes no position.
    padding: Option<u32>,
    norm: Option<B::Norm>,
    /// MPNet's relative positions, the same in each layer.
    bias: Option<B::Bias>,
    /// The rotations of the layers, each once.
    ropes: Vec<B::Rope>,
    layers: Vec<Layer<B>>,
    /// The normalisation after the last layer.
    last_norm: Option<B::Norm>,
}

/// A packed layer.
struct Layer<B: Backend> {
    place: NormPlace,
    attention_norm: Option<B::Norm>,
    /// The queries, the key and the value of each group side by side. [groups · (queries + 2) · head_dim, hidden_size]
    qkv: B::Linear,
    head_norms: Option<[B::HeadNorm; 2]>,
    /// Its rotation among those of the model.
    rope: Option<usize>,
    span: Span,
    output: Residual<B>,
    feed_forward_norm: Option<B::Norm>,
    up: B::Linear,
    is_gated: bool,
    down: Residual<B>,
}

impl<B: Backend> Transformer<B> {
    /// Returns the length of a vector.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    /// Makes the scratch memory of a thread with this device.
    pub fn scratch(&self, backend: B) -> Scratch<B> {
        Scratch {
            backend,
            ids: Vec::new(),
            places: Vec::new(),
            sequences: Sequences::default(),
            hidden: B::Rows::default(),
            normalised: B::Rows::default(),
            qkv: B::Rows::default(),
            mixed: B::Rows::default(),
            attended: B::Rows::default(),
            products: B::Rows::default(),
            inner: B::Rows::default(),
            ends: B::Rows::default(),
            part: Default::default(),
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
        // A single token's vector needs the last layer for that token alone.
        let queries = match modes {
            [Mode::Cls] => Queries::First,
            [Mode::LastToken] => Queries::Last,
            _ => Queries::All,
        };
        let mut vectors = Vec::with_capacity(sequences.len());
        for block in blocks(sequences, self.block_tokens) {
            self.block(block, queries, scratch)?;
            vectors.extend(match queries {
                Queries::All => scratch.backend.pool(&scratch.hidden, &scratch.sequences, modes)?,
                Queries::First | Queries::Last => scratch.backend.values(&scratch.hidden)?,
            });
        }
        Ok(vectors)
    }

    /// Computes the vectors of a block's tokens, or of one token of each sequence. Fills `hidden`.
    fn block(&self, block: &[Sequence<'_>], queries: Queries, scratch: &mut Scratch<B>) -> candle_core::Result<()> {
        self.embed(block, scratch)?;
        let last = self.layers.len().saturating_sub(1);
        for (i, layer) in self.layers.iter().enumerate() {
            self.layer(layer, if i == last { queries } else { Queries::All }, scratch)?;
        }
        let Scratch { backend, hidden, normalised, .. } = scratch;
        if let Some(norm) = &self.last_norm {
            backend.normalise(hidden, Some(norm), normalised)?;
            std::mem::swap(hidden, normalised);
        }
        Ok(())
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
        let tokens = Tokens { words: &self.words, ids, positions: self.places.as_ref(), places };
        backend.embed(tokens, self.norm.as_ref(), hidden)
    }

    /// Returns each token's row of `places`. Padding takes no position. A text that spells the padding token has it
    /// among its tokens.
    fn places(&self, Sequence { ids, first, .. }: Sequence<'_>) -> impl Iterator<Item = u32> {
        let (rows, step) = (self.rows_of_type as u32, u32::from(self.has_positions));
        let mut position = 0;
        ids.iter().enumerate().map(move |(n, &id)| {
            let of_type = if n < first { 0 } else { rows };
            if self.padding == Some(id) {
                return of_type + self.longest as u32;
            }
            position += step;
            of_type + position - step
        })
    }

    /// Computes a layer from `hidden` to `hidden`, for all tokens or for one of each sequence.
    fn layer(&self, layer: &Layer<B>, queries: Queries, scratch: &mut Scratch<B>) -> candle_core::Result<()> {
        let Scratch { backend, sequences, hidden, normalised, qkv, mixed, ends, .. } = scratch;
        let is_after = layer.place == NormPlace::After;
        let step = SelfAttention {
            qkv: &layer.qkv,
            heads: self.heads,
            sequences,
            queries,
            span: layer.span,
            bias: self.bias.as_ref(),
            norms: layer.head_norms.as_ref(),
            rope: layer.rope.map(|rope| &self.ropes[rope]),
        };
        if !is_after {
            backend.normalise(hidden, layer.attention_norm.as_ref(), normalised)?;
        }
        backend.attention(step, if is_after { hidden } else { normalised }, qkv, mixed)?;
        if queries != Queries::All {
            backend.ends(hidden, sequences, queries, ends)?;
            std::mem::swap(hidden, ends);
        }
        let (rows, part_rows) = (sequences.results(queries), self.block_tokens.saturating_mul(PART_BLOCKS));
        if rows <= part_rows {
            return self.after_attention(layer, scratch);
        }
        for first in (0..rows).step_by(part_rows) {
            let part = first..rows.min(first + part_rows);
            scratch.swap_part();
            let Scratch { backend, hidden, mixed, part: [whole_mixed, whole_hidden], .. } = scratch;
            backend.take(whole_mixed, part.clone(), mixed)?;
            backend.take(whole_hidden, part.clone(), hidden)?;
            self.after_attention(layer, scratch)?;
            scratch.swap_part();
            let Scratch { backend, hidden, part: [_, part_hidden], .. } = scratch;
            backend.put(part_hidden, part, hidden)?;
        }
        Ok(())
    }

    /// Computes the rest of a layer from the attention `mixed` and the layer's input `hidden` to `hidden`, row by row.
    fn after_attention(&self, layer: &Layer<B>, scratch: &mut Scratch<B>) -> candle_core::Result<()> {
        let Scratch { backend, hidden, normalised, mixed, attended, products, inner, .. } = scratch;
        let is_after = layer.place == NormPlace::After;
        backend.linear_add(&layer.output, mixed, hidden, attended)?;
        if !is_after {
            backend.normalise(attended, layer.feed_forward_norm.as_ref(), normalised)?;
        }
        let x = if is_after { &*attended } else { normalised };
        match layer.is_gated {
            true => backend.linear_gate(&layer.up, x, self.activation, products, inner)?,
            false => backend.linear_activate(&layer.up, x, self.activation, inner)?,
        }
        backend.linear_add(&layer.down, inner, attended, hidden)
    }
}

impl<B: Backend> Scratch<B> {
    /// Exchanges the rows of a part and of the block.
    fn swap_part(&mut self) {
        let [mixed, hidden] = &mut self.part;
        std::mem::swap(&mut self.mixed, mixed);
        std::mem::swap(&mut self.hidden, hidden);
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
