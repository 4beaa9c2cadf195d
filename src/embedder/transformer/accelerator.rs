//! The steps of the encoder by candle's own operations, on any of candle's devices.
//!
//! Linear layers and normalisations work on packed rows, as on a CPU. Attention does so too where the device has a
//! function for it (`packed`); elsewhere it pads (`padded`). The mean pads in any case.
//!
//! Weights and activations are f32, f16 or bf16. Products, softmax, normalisations and the mean sum in f32 in any case.

#[cfg(feature = "flash-attn")]
pub(super) mod flash;
mod packed;
pub(super) mod packing;
mod padded;
mod padding;
mod pooling;

use std::ops::Range;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};

use super::backend::{Backend, Heads, Queries, Residual, SelfAttention, Sequences, Sum, Tokens};
use super::checkpoint::{NormWeight, Weight};
use crate::embedder::Precision;
use crate::kernel::activation::Activation;
use crate::model::Mode;
#[cfg(feature = "flash-attn")]
use flash::on as packed_on;
use packing::{PackedAttention, Packing};
use padding::{Gaps, Padding};

/// A device of candle, and the type of the numbers that it computes with.
#[derive(Clone)]
pub struct Accelerator {
    device: Device,
    float: DType,
    /// The device's attention over packed rows, if it has one for this type.
    packed: Option<PackedAttention>,
    /// The packing of the last block, which all its layers share.
    packing: Option<Packing>,
    /// The padding of the last block, likewise.
    padding: Option<Arc<Padding>>,
}

/// Activations, [rows, columns]; `None` before the first step.
#[derive(Default)]
pub struct Rows(Option<Tensor>);

impl Rows {
    fn tensor(&self) -> Result<&Tensor> {
        self.0.as_ref().ok_or_else(|| candle_core::Error::msg("a step reads what no step before it has made"))
    }
}

/// A linear layer in the form that candle multiplies, or the first of the two layers of a gated block.
pub struct Linear {
    /// [inputs, outputs]
    weight: Tensor,
    /// `[outputs]`; `None` in a layer without a bias.
    bias: Option<Tensor>,
    /// The second layer of a gated block. Side by side with the first one, its results would have to be copied out.
    gate: Option<Box<Self>>,
}

/// A normalisation, `[columns]` each.
pub struct Norm {
    gain: Tensor,
    /// `None`: an RMSNorm.
    shift: Option<Tensor>,
    epsilon: f32,
}

/// The cosines and sines of rotary positions, [positions, dim / 2] each.
pub struct Rope {
    cos: Tensor,
    sin: Tensor,
}

/// The numbers of relative positions, [heads, distances from -(tokens - 1) to tokens - 1], for sequences of at most
/// `tokens` tokens.
pub struct Bias {
    by_distance: Tensor,
    tokens: usize,
}

impl Accelerator {
    /// Returns the type for an arithmetic, or `None` for that of a CPU.
    pub fn float(precision: Precision) -> Option<DType> {
        match precision {
            Precision::F32 => Some(DType::F32),
            Precision::F16 => Some(DType::F16),
            Precision::Bf16 => Some(DType::BF16),
            Precision::Int8 => None,
        }
    }

    /// Takes a device, and the type of its numbers.
    pub fn new(device: Device, float: DType) -> Self {
        let packed = packed_on(&device, float);
        Self { device, float, packed, packing: None, padding: None }
    }

    /// Takes an attention over packed rows.
    #[cfg(test)]
    pub fn with_packed(self, attention: PackedAttention) -> Self {
        Self { packed: Some(attention), ..self }
    }

    fn vector(&self, values: Vec<f32>) -> Result<Tensor> {
        let len = values.len();
        Tensor::from_vec(values, len, &self.device)?.to_dtype(self.float)
    }

    fn indices(&self, values: Vec<u32>) -> Result<Tensor> {
        let len = values.len();
        Tensor::from_vec(values, len, &self.device)
    }

    fn project(&self, layer: &Linear, x: &Rows) -> Result<Tensor> {
        let products = x.tensor()?.matmul(&layer.weight)?;
        layer.bias.as_ref().map_or_else(|| Ok(products.clone()), |bias| products.broadcast_add(bias))
    }

    /// Returns the padding of a block.
    fn padding(&self, sequences: &Sequences) -> Result<Arc<Padding>> {
        match &self.padding {
            Some(padding) if padding.cu_seqlens == sequences.cu_seqlens => Ok(Arc::clone(padding)),
            _ => self.pad(sequences).map(Arc::new),
        }
    }

    fn pad(&self, sequences: &Sequences) -> Result<Padding> {
        let cu_seqlens = sequences.cu_seqlens.clone();
        let count = cu_seqlens.len() - 1;
        let longest = sequences.rows().map(|rows| rows.len()).max().unwrap_or(0);
        if sequences.rows().all(|rows| rows.len() == longest) {
            return Ok(Padding { cu_seqlens, count, longest, gaps: None });
        }
        let (mut from, mut places, mut mask) = (Vec::new(), Vec::new(), Vec::new());
        for (i, rows) in sequences.rows().enumerate() {
            let (start, len) = (rows.start, rows.len());
            from.extend((0..longest).map(|j| if j < len { start + j } else { start } as u32));
            places.extend((0..len).map(|j| (i * longest + j) as u32));
            mask.extend((0..longest).map(|j| if j < len { 0.0 } else { f32::NEG_INFINITY }));
        }
        let gaps = Gaps {
            rows: self.indices(from)?,
            places: self.indices(places)?,
            mask: self.vector(mask)?.reshape((count, 1, 1, longest))?,
        };
        Ok(Padding { cu_seqlens, count, longest, gaps: Some(gaps) })
    }
}

/// Returns the attention over packed rows that a device has: none, because this build has none.
#[cfg(not(feature = "flash-attn"))]
fn packed_on(_: &Device, _: DType) -> Option<PackedAttention> {
    None
}

/// Normalises rows.
fn normalised(x: &Tensor, norm: &Norm) -> Result<Tensor> {
    let x = x.contiguous()?;
    match &norm.shift {
        Some(shift) => candle_nn::ops::layer_norm(&x, &norm.gain, shift, norm.epsilon),
        None => candle_nn::ops::rms_norm(&x, &norm.gain, norm.epsilon),
    }
}

/// Computes the activation of each number.
fn activated(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::Relu => x.relu(),
        Activation::Silu => x.silu(),
    }
}

impl Backend for Accelerator {
    type Rows = Rows;
    type Table = Tensor;
    type Linear = Linear;
    type Norm = Norm;
    type HeadNorm = Norm;
    type Bias = Bias;
    type Rope = Rope;

    fn table(&self, values: Vec<f32>, columns: usize) -> Result<Tensor> {
        let rows = values.len() / columns;
        Tensor::from_vec(values, (rows, columns), &self.device)?.to_dtype(self.float)
    }

    fn pack(&self, Weight { weight, bias }: Weight) -> Result<Linear> {
        let inputs = weight.len() / bias.len();
        let bias = bias.iter().any(|&number| number != 0.0).then(|| self.vector(bias)).transpose()?;
        Ok(Linear { weight: self.table(weight, inputs)?.t()?.contiguous()?, bias, gate: None })
    }

    fn pack_gated(&self, [activated, gate]: [Weight; 2]) -> Result<Linear> {
        Ok(Linear { gate: Some(Box::new(self.pack(gate)?)), ..self.pack(activated)? })
    }

    fn norm(&self, norm: NormWeight, epsilon: f64) -> Result<Norm> {
        match norm {
            NormWeight::Layer { gain, shift } => {
                let shift = Some(self.vector(shift)?);
                Ok(Norm { gain: self.vector(gain)?, shift, epsilon: epsilon as f32 })
            }
            NormWeight::Rms { gain } => self.head_norm(gain, epsilon),
        }
    }

    fn head_norm(&self, gain: Vec<f32>, epsilon: f64) -> Result<Norm> {
        Ok(Norm { gain: self.vector(gain)?, shift: None, epsilon: epsilon as f32 })
    }

    fn bias(&self, heads: Heads, tokens: usize, of: &dyn Fn(usize, isize) -> f32) -> Result<Bias> {
        let distances = 1 - tokens as isize..tokens as isize;
        let head = |head| distances.clone().map(move |distance| of(head, distance));
        let all = (0..heads.count()).flat_map(head).collect();
        Ok(Bias { by_distance: self.table(all, distances.len())?, tokens })
    }

    fn rope(&self, dim: usize, tokens: usize, angle: &dyn Fn(usize) -> f64) -> Result<Rope> {
        let table = |of: fn(f64) -> f64| {
            let row = |position: usize| (0..dim / 2).map(move |i| of(angle(i) * position as f64) as f32);
            self.table((0..tokens).flat_map(row).collect(), dim / 2)
        };
        Ok(Rope { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }

    fn embed(&mut self, tokens: Tokens<'_, Self>, norm: Option<&Norm>, out: &mut Rows) -> Result<()> {
        let mut x = tokens.words.index_select(&self.indices(tokens.ids.to_vec())?, 0)?;
        if let Some(positions) = tokens.positions {
            x = (x + positions.index_select(&self.indices(tokens.places.to_vec())?, 0)?)?;
        }
        *out = Rows(Some(match norm {
            Some(norm) => normalised(&x, norm)?,
            None => x,
        }));
        Ok(())
    }

    fn normalise(&mut self, x: &Rows, norm: Option<&Norm>, out: &mut Rows) -> Result<()> {
        let x = x.tensor()?;
        *out = Rows(Some(norm.map_or_else(|| Ok(x.clone()), |norm| normalised(x, norm))?));
        Ok(())
    }

    fn linear_activate(&mut self, layer: &Linear, x: &Rows, activation: Activation, out: &mut Rows) -> Result<()> {
        *out = Rows(Some(activated(&self.project(layer, x)?, activation)?));
        Ok(())
    }

    fn linear_gate(
        &mut self,
        layer: &Linear,
        x: &Rows,
        activation: Activation,
        _: &mut Rows,
        out: &mut Rows,
    ) -> Result<()> {
        let activated = activated(&self.project(layer, x)?, activation)?;
        *out = Rows(Some(match &layer.gate {
            Some(gate) => (activated * self.project(gate, x)?)?,
            None => activated,
        }));
        Ok(())
    }

    fn linear_add(&mut self, layer: &Residual<Self>, x: &Rows, residual: &Rows, out: &mut Rows) -> Result<()> {
        let (y, residual) = (self.project(&layer.layer, x)?, residual.tensor()?);
        *out = Rows(Some(match &layer.sum {
            Sum::Normalised(norm) => normalised(&(y + residual)?, norm)?,
            Sum::Plain => (y + residual)?,
            Sum::OfNormalised(norm) => (normalised(&y, norm)? + residual)?,
        }));
        Ok(())
    }

    fn attention(&mut self, step: SelfAttention<'_, Self>, x: &Rows, _: &mut Rows, out: &mut Rows) -> Result<()> {
        let qkv = self.project(step.qkv, x)?;
        *out = Rows(Some(match self.packed.filter(|packed| packed.takes(&step)) {
            Some(packed) => self.attend_packed(step, &qkv, packed)?,
            None => self.attend_padded(step, qkv)?,
        }));
        Ok(())
    }

    fn ends(&self, x: &Rows, sequences: &Sequences, queries: Queries, out: &mut Rows) -> Result<()> {
        let rows = sequences.ends(queries).map(|row| row as u32).collect();
        *out = Rows(Some(x.tensor()?.index_select(&self.indices(rows)?, 0)?));
        Ok(())
    }

    fn take(&mut self, x: &Rows, rows: Range<usize>, out: &mut Rows) -> Result<()> {
        *out = Rows(Some(x.tensor()?.narrow(0, rows.start, rows.len())?));
        Ok(())
    }

    fn put(&mut self, x: &Rows, rows: Range<usize>, out: &mut Rows) -> Result<()> {
        let x = x.tensor()?;
        *out = Rows(Some(out.tensor()?.slice_assign(&[rows, 0..x.dim(1)?], x)?));
        Ok(())
    }

    fn pool(&self, x: &Rows, sequences: &Sequences, modes: &[Mode]) -> Result<Vec<Vec<f32>>> {
        let mut vectors = vec![Vec::new(); sequences.left_out.len()];
        for mode in modes {
            let rows = match mode {
                Mode::Cls => self.rows(x, sequences.rows().map(|rows| rows.start))?,
                Mode::LastToken => self.rows(x, sequences.rows().map(|rows| rows.end - 1))?,
                Mode::Max => self.max(x, sequences)?,
                Mode::Mean | Mode::MeanSqrtLen | Mode::WeightedMean => self.sum(x, sequences, *mode)?,
            };
            vectors.iter_mut().zip(rows.to_vec2::<f32>()?).for_each(|(vector, part)| vector.extend(part));
        }
        Ok(vectors)
    }

    fn values(&self, x: &Rows) -> Result<Vec<Vec<f32>>> {
        x.tensor()?.to_dtype(DType::F32)?.to_vec2()
    }
}
