//! A checkpoint's tensors as plain f32 in one form for the whole family: the only place that knows their names.
//!
//! Each call reads one piece, so that its caller can pack it before the next one is there. Names are those of
//! Hugging Face transformers, with or without the prefix that a model with a head puts before them.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use crate::model::{Architecture, Family, RELATIVE_BUCKETS};

/// The weights of a model of a known architecture.
pub struct Checkpoint<'a> {
    vb: VarBuilder<'a>,
    architecture: &'a Architecture,
    names: &'static Names,
}

/// What a token is made of before the first layer.
pub struct Embeddings {
    /// [vocab_size, hidden_size]
    pub words: Vec<f32>,
    /// [positions, hidden_size], from the first token's on: position plus token type 0, which every token of a
    /// single text has.
    pub positions: Vec<f32>,
    /// What takes no position; see [`Architecture::padding`].
    pub padding: Option<Padding>,
    /// After the sum.
    pub norm: Norm,
}

/// The padding token in a text that spells it out: it gets `place` instead of a position, and the token after it the
/// position that it would have had.
pub struct Padding {
    /// Its id.
    pub token: u32,
    /// `[hidden_size]`, token type 0 included.
    pub place: Vec<f32>,
}

/// One layer of the encoder.
pub struct LayerWeights {
    /// The queries, keys and values of each head, head after head: [heads · 3 · head_dim, hidden_size]
    pub qkv: Weight,
    /// After attention: [hidden_size, hidden_size]
    pub output: Weight,
    /// After the residual connection around attention.
    pub output_norm: Norm,
    /// Into the feed-forward block: [intermediate_size, hidden_size]
    pub up: Weight,
    /// Out of it: [hidden_size, intermediate_size]
    pub down: Weight,
    /// After the residual connection around it.
    pub down_norm: Norm,
}

/// A linear layer.
pub struct Weight {
    /// [outputs, inputs], row-major.
    pub weight: Vec<f32>,
    /// `[outputs]`
    pub bias: Vec<f32>,
}

/// The learned part of a layer normalisation, `[hidden_size]` each.
pub struct Norm {
    /// The factor.
    pub gain: Vec<f32>,
    /// The term.
    pub shift: Vec<f32>,
}

/// Where a family keeps what every member has.
struct Names {
    prefix: &'static str,
    /// Before the number of a layer.
    layer: &'static str,
    qkv: [&'static str; 3],
    output: &'static str,
    output_norm: &'static str,
    up: &'static str,
    down: &'static str,
    down_norm: &'static str,
}

const BERT: Names = Names {
    prefix: "bert",
    layer: "encoder.layer",
    qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
    output: "attention.output.dense",
    output_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    down_norm: "output.LayerNorm",
};

const ROBERTA: Names = Names { prefix: "roberta", ..BERT };

const DISTILBERT: Names = Names {
    prefix: "distilbert",
    layer: "transformer.layer",
    qkv: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    output: "attention.out_lin",
    output_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    down_norm: "output_layer_norm",
};

const MPNET: Names = Names {
    prefix: "mpnet",
    qkv: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
    output: "attention.attn.o",
    output_norm: "attention.LayerNorm",
    ..BERT
};

impl<'a> Checkpoint<'a> {
    /// Of the tensors in `vb`; nothing is read yet.
    pub fn new(vb: VarBuilder<'a>, architecture: &'a Architecture) -> Self {
        let names = match architecture.family {
            Family::Bert => &BERT,
            Family::Roberta => &ROBERTA,
            Family::DistilBert => &DISTILBERT,
            Family::Mpnet => &MPNET,
        };
        let inside = vb.pp(names.prefix);
        let vb = if inside.contains_tensor("embeddings.word_embeddings.weight") { inside } else { vb };
        Self { vb, architecture, names }
    }

    /// What comes before the first layer.
    pub fn embeddings(&self) -> Result<Embeddings> {
        let Architecture { hidden_size, padding, .. } = *self.architecture;
        let vb = self.vb.pp("embeddings");
        let table = |name: &str, rows: usize| values(vb.pp(name).get((rows, hidden_size), "weight")?);
        let mut positions = table("position_embeddings", self.architecture.max_position_embeddings)?;
        if self.architecture.type_vocab_size > 0 {
            let types = table("token_type_embeddings", self.architecture.type_vocab_size)?;
            for row in positions.chunks_exact_mut(hidden_size) {
                row.iter_mut().zip(&types).for_each(|(p, t)| *p += t);
            }
        }
        let offset = (self.architecture.position_offset() * hidden_size).min(positions.len());
        let before = positions.drain(..offset);
        // The padding token's own row is the last one before those of the others.
        let place = before.skip(padding.map_or(0, |token| token as usize * hidden_size)).collect();
        Ok(Embeddings {
            words: table("word_embeddings", self.architecture.vocab_size)?,
            positions,
            padding: padding.map(|token| Padding { token, place }),
            norm: self.norm(&vb, "LayerNorm")?,
        })
    }

    /// Layer `i`, counted from 0.
    pub fn layer(&self, i: usize) -> Result<LayerWeights> {
        let Architecture { hidden_size: n, intermediate_size: inner, .. } = *self.architecture;
        let vb = self.vb.pp(self.names.layer).pp(i);
        let [q, k, v] = self.names.qkv;
        let parts = [weight(&vb, q, n, n)?, weight(&vb, k, n, n)?, weight(&vb, v, n, n)?];
        Ok(LayerWeights {
            qkv: by_head(&parts, self.architecture.num_attention_heads),
            output: weight(&vb, self.names.output, n, n)?,
            output_norm: self.norm(&vb, self.names.output_norm)?,
            up: weight(&vb, self.names.up, inner, n)?,
            down: weight(&vb, self.names.down, n, inner)?,
            down_norm: self.norm(&vb, self.names.down_norm)?,
        })
    }

    /// [RELATIVE_BUCKETS, heads], which all layers share; none in a family without relative positions.
    pub fn relative_bias(&self) -> Result<Option<Vec<f32>>> {
        if self.architecture.family != Family::Mpnet {
            return Ok(None);
        }
        let shape = (RELATIVE_BUCKETS, self.architecture.num_attention_heads);
        values(self.vb.get(shape, "encoder.relative_attention_bias.weight")?).map(Some)
    }

    /// Checkpoints converted from TensorFlow call its two vectors gamma and beta.
    fn norm(&self, vb: &VarBuilder<'_>, name: &str) -> Result<Norm> {
        let (vb, n) = (vb.pp(name), self.architecture.hidden_size);
        let (gain, shift) = if vb.contains_tensor("gamma") { ("gamma", "beta") } else { ("weight", "bias") };
        Ok(Norm { gain: values(vb.get(n, gain)?)?, shift: values(vb.get(n, shift)?)? })
    }
}

fn weight(vb: &VarBuilder<'_>, name: &str, outputs: usize, inputs: usize) -> Result<Weight> {
    let vb = vb.pp(name);
    Ok(Weight { weight: values(vb.get((outputs, inputs), "weight")?)?, bias: values(vb.get(outputs, "bias")?)? })
}

/// The tensor's values in row-major order, as f32.
fn values(tensor: Tensor) -> Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// The first head's rows of each part, then the second's.
fn by_head(parts: &[Weight; 3], heads: usize) -> Weight {
    let gather = |of: fn(&Weight) -> &[f32]| {
        let head = |i: usize| {
            parts.iter().flat_map(move |part| &of(part)[of(part).len() / heads * i..][..of(part).len() / heads])
        };
        (0..heads).flat_map(head).copied().collect()
    };
    Weight { weight: gather(|part| &part.weight), bias: gather(|part| &part.bias) }
}
