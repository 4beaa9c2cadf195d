//! The tensors of a checkpoint as plain f32, in one form for all families. Their names are known only in `names`.
//!
//! Each call reads one part, so that the caller packs it before the next one is read. Tensors are found with or without
//! the prefix of a model with a head.

mod head;
mod names;

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use crate::embedder::weights::{Rows, Stored};
use crate::model::{Architecture, Norm, NormPlace, Positions, RELATIVE_BUCKETS};
pub use head::HeadWeights;
use names::{Names, Qkv, Up};

/// The weights of a model of a known architecture.
pub struct Checkpoint<'a> {
    /// The files, if tables may stay in them.
    stored: Option<&'a Stored>,
    /// The tensors outside the encoder.
    outside: VarBuilder<'a>,
    vb: VarBuilder<'a>,
    architecture: &'a Architecture,
    names: &'static Names,
}

/// The embeddings before the first layer.
pub struct Embeddings {
    /// [vocab_size, hidden_size]
    pub words: Words,
    /// [positions, hidden_size], starting with the first token's row. `None` without learned positions.
    pub positions: Option<Vec<f32>>,
    /// The token types of a text, and of the second text of a pair if the model has a type for it. `[hidden_size]`
    /// each; empty in a model without types.
    pub types: Vec<Vec<f32>>,
    /// The padding token, which takes no position; see [`Architecture::padding`].
    pub padding: Option<Padding>,
    /// The normalisation after the sum.
    pub norm: Option<NormWeight>,
}

/// The table of words.
pub enum Words {
    /// In memory, with the length of a row.
    Values(Vec<f32>, usize),
    /// In its file.
    Rows(Rows),
}

impl Words {
    /// Multiplies all numbers by a factor.
    fn scaled(self, scale: f32) -> Self {
        match self {
            Self::Values(mut values, columns) => {
                values.iter_mut().for_each(|x| *x *= scale);
                Self::Values(values, columns)
            }
            Self::Rows(rows) => Self::Rows(rows.scaled(scale)),
        }
    }

    /// Copies a row.
    fn row(&self, row: usize) -> Vec<f32> {
        match self {
            Self::Values(values, columns) => values[row * columns..][..*columns].to_vec(),
            Self::Rows(rows) => {
                let mut to = vec![0.0; rows.columns()];
                rows.read(row, &mut to);
                to
            }
        }
    }
}

/// The padding token in a text that spells it. It gets `place` instead of a position, and the next token gets the
/// position that it would have had.
pub struct Padding {
    /// The token id.
    pub token: u32,
    /// `[hidden_size]`
    pub place: Vec<f32>,
}

/// The weights of a layer.
pub struct LayerWeights {
    /// The normalisation before attention.
    pub attention_norm: Option<NormWeight>,
    /// Each group's queries, key and value, group after group: [groups · (queries + 2) · head_dim, hidden_size]
    pub qkv: Weight,
    /// The gains of the normalisations of queries and keys. `[head_dim]`
    pub head_norms: Option<[Vec<f32>; 2]>,
    /// The layer after attention: [hidden_size, heads · head_dim]
    pub output: Weight,
    /// The normalisation after attention.
    pub output_norm: Option<NormWeight>,
    /// The normalisation before the feed-forward block.
    pub feed_forward_norm: Option<NormWeight>,
    /// The first layer of the feed-forward block: [intermediate_size, hidden_size]
    pub up: Weight,
    /// The layer without an activation, of the same shape, if the block is gated.
    pub gate: Option<Weight>,
    /// The second layer of the feed-forward block: [hidden_size, intermediate_size]
    pub down: Weight,
    /// The normalisation after the feed-forward block.
    pub down_norm: Option<NormWeight>,
}

/// A linear layer.
pub struct Weight {
    /// [outputs, inputs], row-major.
    pub weight: Vec<f32>,
    /// `[outputs]`, zeros in a layer without a bias.
    pub bias: Vec<f32>,
}

/// The learned parameters of a normalisation, `[hidden_size]` each.
pub enum NormWeight {
    /// Layer normalisation.
    Layer {
        /// The factor.
        gain: Vec<f32>,
        /// The term, zeros in a normalisation without one.
        shift: Vec<f32>,
    },
    /// RMSNorm.
    Rms {
        /// The factor.
        gain: Vec<f32>,
    },
}

impl<'a> Checkpoint<'a> {
    /// Takes the tensors in `vb`. Nothing is read yet.
    pub fn new(vb: VarBuilder<'a>, architecture: &'a Architecture) -> Self {
        let names = names::of(architecture.family);
        let outside = vb.clone();
        let inside = names.prefixes.iter().map(|prefix| vb.pp(prefix));
        let vb = inside.into_iter().find(|vb| vb.pp(names.words).contains_tensor("weight")).unwrap_or(vb.clone());
        Self { stored: None, outside, vb, architecture, names }
    }

    /// Leaves the table of words in its file, which has the same tensors.
    pub fn stored(self, stored: &'a Stored) -> Self {
        Self { stored: Some(stored), ..self }
    }

    /// Reads the embeddings.
    pub fn embeddings(&self) -> Result<Embeddings> {
        let Architecture { hidden_size, padding, design, .. } = *self.architecture;
        let table = |name: &str, rows: usize| values(self.vb.pp(name).get((rows, hidden_size), "weight")?);
        let types = match self.architecture.type_vocab_size {
            0 => Vec::new(),
            rows => table(self.names.types, rows)?.chunks(hidden_size).take(2).map(<[f32]>::to_vec).collect(),
        };
        let words = self.table(&self.vb.pp(self.names.words), self.architecture.vocab_size)?;
        let words = if design.scales_embeddings { words.scaled((hidden_size as f32).sqrt()) } else { words };
        let norm = design.normalises_embeddings.then(|| self.norm(&self.vb, self.names.embedding_norm)).transpose()?;
        if design.positions == Positions::Rotary {
            return Ok(Embeddings { words, positions: None, types, padding: None, norm });
        }
        let mut positions = table(self.names.positions, self.architecture.max_position_embeddings)?;
        let offset = (self.architecture.position_offset() * hidden_size).min(positions.len());
        let before = positions.drain(..offset);
        // The padding token's row is the last one before the positions.
        let place = before.skip(padding.map_or(0, |token| token as usize * hidden_size)).collect();
        let padding = padding.map(|token| Padding { token, place });
        Ok(Embeddings { words, positions: Some(positions), types, padding, norm })
    }

    /// Finds a table with a vector for each token, or reads it.
    fn table(&self, vb: &VarBuilder<'_>, tokens: usize) -> Result<Words> {
        let shape = (tokens, self.architecture.hidden_size);
        let name = format!("{}.weight", vb.prefix());
        match self.stored.map(|stored| stored.rows(&name, shape)).transpose()?.flatten() {
            Some(rows) => Ok(Words::Rows(rows)),
            None => Ok(Words::Values(values(vb.get(shape, "weight")?)?, shape.1)),
        }
    }

    /// Reads layer `i`, counted from 0.
    pub fn layer(&self, i: usize) -> Result<LayerWeights> {
        let Architecture { hidden_size: n, intermediate_size: inner, head_dim, design, .. } = *self.architecture;
        let Names { before, after, output, down, .. } = self.names;
        let heads = self.architecture.num_attention_heads * head_dim;
        let vb = self.vb.pp(self.names.layer).pp(i);
        let norm = |there: bool, name: &str| there.then(|| self.norm(&vb, name)).transpose();
        let is_before = design.norm_place != NormPlace::After;
        let is_after = design.norm_place != NormPlace::Before;
        let (up, gate) = self.up(&vb)?;
        Ok(LayerWeights {
            attention_norm: norm(is_before && self.architecture.layers[i].normalises_attention, before[0])?,
            qkv: self.qkv(&vb)?,
            head_norms: design.normalises_queries_and_keys.then(|| self.head_norms(&vb)).transpose()?,
            output: weight(&vb, output, (n, heads), design.biases.output)?,
            output_norm: norm(is_after, after[0])?,
            feed_forward_norm: norm(is_before, before[1])?,
            up,
            gate,
            down: weight(&vb, down, (n, inner), design.biases.down)?,
            down_norm: norm(is_after, after[1])?,
        })
    }

    /// Reads the normalisation after the last layer.
    pub fn last_norm(&self) -> Result<Option<NormWeight>> {
        let there = self.architecture.design.norm_place != NormPlace::After;
        there.then(|| self.norm(&self.vb, self.names.last_norm)).transpose()
    }

    /// Reads the layers of queries, keys and values.
    fn qkv(&self, vb: &VarBuilder<'_>) -> Result<Weight> {
        let Architecture { hidden_size: n, num_attention_heads, num_key_value_heads: groups, head_dim, .. } =
            *self.architecture;
        let (queries, keys, bias) =
            (num_attention_heads * head_dim, groups * head_dim, self.architecture.design.biases.qkv);
        let parts = match self.names.qkv {
            Qkv::Apart([q, k, v]) => {
                [weight(vb, q, (queries, n), bias)?, weight(vb, k, (keys, n), bias)?, weight(vb, v, (keys, n), bias)?]
            }
            Qkv::Together(name) => {
                let (q, rest) = weight(vb, name, (queries + 2 * keys, n), bias)?.split(queries);
                let (k, v) = rest.split(keys);
                [q, k, v]
            }
        };
        Ok(by_group(&parts, groups))
    }

    /// Reads the first layer of the feed-forward block, and the one without an activation if the block is gated.
    fn up(&self, vb: &VarBuilder<'_>) -> Result<(Weight, Option<Weight>)> {
        let Architecture { hidden_size: n, intermediate_size: inner, .. } = *self.architecture;
        let design = self.architecture.design;
        let bias = design.biases.up;
        let alone = |name| weight(vb, name, (inner, n), bias);
        Ok(match self.names.up {
            Up::Plain(name) => (alone(name)?, None),
            Up::Apart([up, gate]) => (alone(up)?, design.gated.then(|| alone(gate)).transpose()?),
            Up::ActivatedFirst(name) => {
                let (up, gate) = weight(vb, name, (2 * inner, n), bias)?.split(inner);
                (up, Some(gate))
            }
            Up::ActivatedLast(name) => {
                let (gate, up) = weight(vb, name, (2 * inner, n), bias)?.split(inner);
                (up, Some(gate))
            }
        })
    }

    /// Reads the gains of the normalisations of queries and keys.
    fn head_norms(&self, vb: &VarBuilder<'_>) -> Result<[Vec<f32>; 2]> {
        let [of_query, of_key] = self.names.head_norms;
        let gain = |name: &str| self.gain(vb.pp(name).get(self.architecture.head_dim, "weight")?);
        Ok([gain(of_query)?, gain(of_key)?])
    }

    /// Reads the relative positions, [RELATIVE_BUCKETS, heads], which all layers share. `None` in a family without
    /// them.
    pub fn relative_bias(&self) -> Result<Option<Vec<f32>>> {
        if self.architecture.design.positions != Positions::LearnedAndRelative {
            return Ok(None);
        }
        let shape = (RELATIVE_BUCKETS, self.architecture.num_attention_heads);
        values(self.vb.get(shape, "encoder.relative_attention_bias.weight")?).map(Some)
    }

    /// Reads a normalisation. Checkpoints converted from TensorFlow name its vectors gamma and beta.
    fn norm(&self, vb: &VarBuilder<'_>, name: &str) -> Result<NormWeight> {
        let (vb, n, design) = (vb.pp(name), self.architecture.hidden_size, self.architecture.design);
        let (gain, shift) = if vb.contains_tensor("gamma") { ("gamma", "beta") } else { ("weight", "bias") };
        let gain = self.gain(vb.get(n, gain)?)?;
        Ok(match design.norm {
            Norm::Layer if design.biases.norm => NormWeight::Layer { gain, shift: values(vb.get(n, shift)?)? },
            Norm::Layer => NormWeight::Layer { gain, shift: vec![0.0; n] },
            Norm::Rms | Norm::RmsPlusOne => NormWeight::Rms { gain },
        })
    }

    /// Returns the gain of a normalisation.
    fn gain(&self, stored: Tensor) -> Result<Vec<f32>> {
        let mut gain = values(stored)?;
        if self.architecture.design.norm == Norm::RmsPlusOne {
            gain.iter_mut().for_each(|gain| *gain += 1.0);
        }
        Ok(gain)
    }
}

impl Weight {
    /// Divides the outputs into the first ones and the others.
    fn split(mut self, outputs: usize) -> (Self, Self) {
        let inputs = self.weight.len() / self.bias.len();
        let rest = Self { weight: self.weight.split_off(outputs * inputs), bias: self.bias.split_off(outputs) };
        (self, rest)
    }
}

/// Reads a linear layer, [outputs, inputs].
fn weight(vb: &VarBuilder<'_>, name: &str, shape: (usize, usize), has_bias: bool) -> Result<Weight> {
    let vb = vb.pp(name);
    let weight = values(vb.get(shape, "weight")?)?;
    Ok(Weight { weight, bias: if has_bias { values(vb.get(shape.0, "bias")?)? } else { vec![0.0; shape.0] } })
}

/// Returns a tensor's values in row-major order, as f32.
fn values(tensor: Tensor) -> Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// Gathers the rows by groups of heads: the first group's rows of each part, then the second's.
fn by_group(parts: &[Weight; 3], groups: usize) -> Weight {
    let gather = |of: fn(&Weight) -> &[f32]| {
        let group = |i: usize| {
            parts.iter().flat_map(move |part| &of(part)[of(part).len() / groups * i..][..of(part).len() / groups])
        };
        (0..groups).flat_map(group).copied().collect()
    };
    Weight { weight: gather(|part| &part.weight), bias: gather(|part| &part.bias) }
}
