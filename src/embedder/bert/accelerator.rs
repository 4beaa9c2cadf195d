//! The steps of the encoder by candle's own operations, on any of candle's devices.
//!
//! Linear layers and normalisations work on packed rows, as on a CPU. Attention pads: it gathers the sequences of a
//! block into [sequences, longest], because such a device is fast at one large product, and gathers the results back.

use candle_core::{Device, IndexOp, Result, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::backend::{Backend, Queries, SelfAttention, Sequences, Tokens};
use super::checkpoint::{Norm, Weight};
use crate::kernel::activation::Activation;

/// A device of candle.
#[derive(Clone)]
pub struct Accelerator(Device);

/// Activations, [rows, columns]; `None` before the first step.
#[derive(Default)]
pub struct Rows(Option<Tensor>);

impl Rows {
    fn tensor(&self) -> Result<&Tensor> {
        self.0.as_ref().ok_or_else(|| candle_core::Error::msg("a step reads what no step before it has made"))
    }
}

/// A linear layer in the form that candle multiplies.
pub struct Linear {
    /// [inputs, outputs]
    weight: Tensor,
    /// `[outputs]`
    bias: Tensor,
}

/// A layer normalisation, `[columns]` each.
pub struct LayerNorm {
    gain: Tensor,
    shift: Tensor,
    epsilon: f32,
}

/// The numbers of relative positions, [heads, distances from -(tokens - 1) to tokens - 1], for sequences of at most
/// `tokens` tokens.
pub struct Bias {
    by_distance: Tensor,
    tokens: usize,
}

impl Accelerator {
    /// Takes a device.
    pub fn new(device: Device) -> Self {
        Self(device)
    }

    fn vector(&self, values: Vec<f32>) -> Result<Tensor> {
        let len = values.len();
        Tensor::from_vec(values, len, &self.0)
    }

    fn indices(&self, values: Vec<u32>) -> Result<Tensor> {
        let len = values.len();
        Tensor::from_vec(values, len, &self.0)
    }

    fn project(&self, layer: &Linear, x: &Rows) -> Result<Tensor> {
        x.tensor()?.matmul(&layer.weight)?.broadcast_add(&layer.bias)
    }

    fn normalise(&self, x: &Tensor, norm: &LayerNorm) -> Result<Rows> {
        candle_nn::ops::layer_norm(&x.contiguous()?, &norm.gain, &norm.shift, norm.epsilon).map(|x| Rows(Some(x)))
    }

    /// Returns the numbers for sequences of `longest` tokens. [1, heads, longest, longest]
    fn scores(&self, bias: &Bias, longest: usize) -> Result<Tensor> {
        let distance = |query: usize, key: usize| (bias.tokens - 1 + key - query) as u32;
        let all = (0..longest).flat_map(|query| (0..longest).map(move |key| distance(query, key))).collect();
        let heads = bias.by_distance.dim(0)?;
        bias.by_distance.index_select(&self.indices(all)?, 1)?.reshape((1, heads, longest, longest))
    }
}

impl Backend for Accelerator {
    type Rows = Rows;
    type Table = Tensor;
    type Linear = Linear;
    type Norm = LayerNorm;
    type Bias = Bias;

    fn table(&self, values: Vec<f32>, columns: usize) -> Result<Tensor> {
        let rows = values.len() / columns;
        Tensor::from_vec(values, (rows, columns), &self.0)
    }

    fn pack(&self, Weight { weight, bias }: Weight) -> Result<Linear> {
        let inputs = weight.len() / bias.len();
        Ok(Linear { weight: self.table(weight, inputs)?.t()?.contiguous()?, bias: self.vector(bias)? })
    }

    fn norm(&self, Norm { gain, shift }: Norm, epsilon: f64) -> Result<LayerNorm> {
        Ok(LayerNorm { gain: self.vector(gain)?, shift: self.vector(shift)?, epsilon: epsilon as f32 })
    }

    fn bias(&self, heads: usize, _: usize, tokens: usize, of: &dyn Fn(usize, isize) -> f32) -> Result<Bias> {
        let distances = 1 - tokens as isize..tokens as isize;
        let all = (0..heads).flat_map(|head| distances.clone().map(move |distance| of(head, distance))).collect();
        Ok(Bias { by_distance: self.table(all, distances.len())?, tokens })
    }

    fn embed(&mut self, tokens: Tokens<'_, Self>, norm: &LayerNorm, out: &mut Rows) -> Result<()> {
        let words = tokens.words.index_select(&self.indices(tokens.ids.to_vec())?, 0)?;
        let places = tokens.positions.index_select(&self.indices(tokens.places.to_vec())?, 0)?;
        *out = self.normalise(&(words + places)?, norm)?;
        Ok(())
    }

    fn linear_activate(&mut self, layer: &Linear, x: &Rows, activation: Activation, out: &mut Rows) -> Result<()> {
        let y = self.project(layer, x)?;
        *out = Rows(Some(match activation {
            Activation::Gelu => y.gelu_erf()?,
            Activation::GeluTanh => y.gelu()?,
            Activation::Relu => y.relu()?,
        }));
        Ok(())
    }

    fn linear_add_norm(
        &mut self,
        layer: &Linear,
        x: &Rows,
        residual: &Rows,
        norm: &LayerNorm,
        out: &mut Rows,
    ) -> Result<()> {
        let y = (self.project(layer, x)? + residual.tensor()?)?;
        *out = self.normalise(&y, norm)?;
        Ok(())
    }

    fn attention(&mut self, step: SelfAttention<'_, Self>, x: &Rows, _: &mut Rows, out: &mut Rows) -> Result<()> {
        let SelfAttention { qkv, sequences, queries, bias } = step;
        let &Sequences { heads, head_dim, .. } = sequences;
        let count = sequences.cu_seqlens.len() - 1;
        let longest = sequences.rows().map(|rows| rows.len()).max().unwrap_or(0);
        let (mut from, mut hidden, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for (i, rows) in sequences.rows().enumerate() {
            let len = rows.len();
            // Padding reads the sequence's first row. Any finite row will do, because the mask hides it.
            from.extend((0..longest).map(|j| if j < len { rows.start + j } else { rows.start } as u32));
            hidden.extend((0..longest).map(|j| if j < len { 0.0 } else { f32::NEG_INFINITY }));
            let wanted = if queries == Queries::First { 1 } else { len };
            kept.extend((0..wanted).map(|j| (i * longest + j) as u32));
        }
        let padded = self.project(qkv, x)?.index_select(&self.indices(from)?, 0)?;
        let padded = padded.reshape((count, longest, heads, 3, head_dim))?;
        let part = |i: usize| padded.i((.., .., .., i))?.transpose(1, 2)?.contiguous();
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let scores = (q.matmul(&k.t()?)? / (head_dim as f64).sqrt())?;
        let scores = match bias {
            Some(bias) => scores.broadcast_add(&self.scores(bias, longest)?)?,
            None => scores,
        };
        let hidden = Tensor::from_vec(hidden, (count, 1, 1, longest), &self.0)?;
        let mixed = softmax_last_dim(&scores.broadcast_add(&hidden)?)?.matmul(&v)?;
        let rows = mixed.transpose(1, 2)?.reshape((count * longest, heads * head_dim))?;
        *out = Rows(Some(rows.index_select(&self.indices(kept)?, 0)?));
        Ok(())
    }

    fn first(&self, x: &Rows, sequences: &Sequences, out: &mut Rows) -> Result<()> {
        let first = sequences.rows().map(|rows| rows.start as u32).collect();
        *out = Rows(Some(x.tensor()?.index_select(&self.indices(first)?, 0)?));
        Ok(())
    }

    fn mean(&self, x: &Rows, sequences: &Sequences) -> Result<Vec<Vec<f32>>> {
        let x = x.tensor()?;
        let means =
            sequences.rows().map(|rows| x.narrow(0, rows.start, rows.len())?.mean(0)).collect::<Result<Vec<_>>>()?;
        Tensor::stack(&means, 0)?.to_vec2()
    }

    fn values(&self, x: &Rows) -> Result<Vec<Vec<f32>>> {
        x.tensor()?.to_vec2()
    }
}
