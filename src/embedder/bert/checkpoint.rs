//! The tensors of a checkpoint as plain f32, in one form for the whole family. Their names are known only here.
//!
//! Each call reads one part, so that the caller packs it before the next one is read. Names are those of Hugging Face
//! transformers, with or without the prefix of a model with a head.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use crate::model::{Architecture, Family, RELATIVE_BUCKETS};

/// The weights of a model of a known architecture.
pub struct Checkpoint<'a> {
    /// The tensors outside the encoder.
    outside: VarBuilder<'a>,
    vb: VarBuilder<'a>,
    architecture: &'a Architecture,
    names: &'static Names,
}

/// The embeddings before the first layer.
pub struct Embeddings {
    /// [vocab_size, hidden_size]
    pub words: Vec<f32>,
    /// [positions, hidden_size], starting with the first token's row.
    pub positions: Vec<f32>,
    /// The token types of a text, and of the second text of a pair if the model has a type for it. `[hidden_size]`
    /// each; zeros in a family without types.
    pub types: Vec<Vec<f32>>,
    /// The padding token, which takes no position; see [`Architecture::padding`].
    pub padding: Option<Padding>,
    /// The normalisation after the sum.
    pub norm: Norm,
}

/// The padding token in a text that spells it. It gets `place` instead of a position, and the next token gets the
/// position that it would have had.
pub struct Padding {
    /// The token id.
    pub token: u32,
    /// `[hidden_size]`
    pub place: Vec<f32>,
}

/// The head that makes one number of the first token's vector x: `w · f(D x + b) + c`.
pub struct HeadWeights {
    /// D and b. [hidden_size, hidden_size]
    pub dense: Weight,
    /// f
    pub function: HeadFunction,
    /// w and c. [1, hidden_size]
    pub output: Weight,
}

/// The function inside a head, a constant of its family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadFunction {
    /// tanh(x)
    Tanh,
    /// max(x, 0)
    Relu,
}

/// The weights of a layer.
pub struct LayerWeights {
    /// The queries, keys and values of each head, head after head: [heads · 3 · head_dim, hidden_size]
    pub qkv: Weight,
    /// The layer after attention: [hidden_size, hidden_size]
    pub output: Weight,
    /// The normalisation after attention and its residual.
    pub output_norm: Norm,
    /// The first layer of the feed-forward block: [intermediate_size, hidden_size]
    pub up: Weight,
    /// The second layer of the feed-forward block: [hidden_size, intermediate_size]
    pub down: Weight,
    /// The normalisation after the feed-forward block and its residual.
    pub down_norm: Norm,
}

/// A linear layer.
pub struct Weight {
    /// [outputs, inputs], row-major.
    pub weight: Vec<f32>,
    /// `[outputs]`
    pub bias: Vec<f32>,
}

/// The learned parameters of a layer normalisation, `[hidden_size]` each.
pub struct Norm {
    /// The factor.
    pub gain: Vec<f32>,
    /// The term.
    pub shift: Vec<f32>,
}

/// The names of a family's tensors.
struct Names {
    prefix: &'static str,
    /// The prefix before the number of a layer.
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
    /// Takes the tensors in `vb`. Nothing is read yet.
    pub fn new(vb: VarBuilder<'a>, architecture: &'a Architecture) -> Self {
        let names = match architecture.family {
            Family::Bert => &BERT,
            Family::Roberta => &ROBERTA,
            Family::DistilBert => &DISTILBERT,
            Family::Mpnet => &MPNET,
        };
        let (outside, inside) = (vb.clone(), vb.pp(names.prefix));
        let vb = if inside.contains_tensor("embeddings.word_embeddings.weight") { inside } else { vb };
        Self { outside, vb, architecture, names }
    }

    /// Reads the embeddings.
    pub fn embeddings(&self) -> Result<Embeddings> {
        let Architecture { hidden_size, padding, .. } = *self.architecture;
        let vb = self.vb.pp("embeddings");
        let table = |name: &str, rows: usize| values(vb.pp(name).get((rows, hidden_size), "weight")?);
        let mut positions = table("position_embeddings", self.architecture.max_position_embeddings)?;
        let types = match self.architecture.type_vocab_size {
            0 => vec![vec![0.0; hidden_size]],
            rows => table("token_type_embeddings", rows)?.chunks(hidden_size).take(2).map(<[f32]>::to_vec).collect(),
        };
        let offset = (self.architecture.position_offset() * hidden_size).min(positions.len());
        let before = positions.drain(..offset);
        // The padding token's row is the last one before the positions.
        let place = before.skip(padding.map_or(0, |token| token as usize * hidden_size)).collect();
        Ok(Embeddings {
            words: table("word_embeddings", self.architecture.vocab_size)?,
            positions,
            types,
            padding: padding.map(|token| Padding { token, place }),
            norm: self.norm(&vb, "LayerNorm")?,
        })
    }

    /// Reads layer `i`, counted from 0.
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

    /// Reads the relative positions, [RELATIVE_BUCKETS, heads], which all layers share. `None` in a family without
    /// them.
    pub fn relative_bias(&self) -> Result<Option<Vec<f32>>> {
        if self.architecture.family != Family::Mpnet {
            return Ok(None);
        }
        let shape = (RELATIVE_BUCKETS, self.architecture.num_attention_heads);
        values(self.vb.get(shape, "encoder.relative_attention_bias.weight")?).map(Some)
    }

    /// Reads the head of a model for sequences with one label. BERT's dense layer belongs to its encoder (pooler).
    pub fn head(&self) -> Result<HeadWeights> {
        let (n, vb) = (self.architecture.hidden_size, &self.outside);
        let (dense, function, output) = match self.architecture.family {
            Family::Bert => (weight(&self.vb, "pooler.dense", n, n)?, HeadFunction::Tanh, "classifier"),
            Family::DistilBert => (weight(vb, "pre_classifier", n, n)?, HeadFunction::Relu, "classifier"),
            Family::Roberta | Family::Mpnet => {
                (weight(vb, "classifier.dense", n, n)?, HeadFunction::Tanh, "classifier.out_proj")
            }
        };
        Ok(HeadWeights { dense, function, output: weight(vb, output, 1, n)? })
    }

    /// Reads a normalisation. Checkpoints converted from TensorFlow name its vectors gamma and beta.
    fn norm(&self, vb: &VarBuilder<'_>, name: &str) -> Result<Norm> {
        let (vb, n) = (vb.pp(name), self.architecture.hidden_size);
        let (gain, shift) = if vb.contains_tensor("gamma") { ("gamma", "beta") } else { ("weight", "bias") };
        Ok(Norm { gain: values(vb.get(n, gain)?)?, shift: values(vb.get(n, shift)?)? })
    }
}

/// Reads a linear layer.
fn weight(vb: &VarBuilder<'_>, name: &str, outputs: usize, inputs: usize) -> Result<Weight> {
    let vb = vb.pp(name);
    Ok(Weight { weight: values(vb.get((outputs, inputs), "weight")?)?, bias: values(vb.get(outputs, "bias")?)? })
}

/// Returns a tensor's values in row-major order, as f32.
fn values(tensor: Tensor) -> Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// Gathers the rows by heads: the first head's rows of each part, then the second's.
fn by_head(parts: &[Weight; 3], heads: usize) -> Weight {
    let gather = |of: fn(&Weight) -> &[f32]| {
        let head = |i: usize| {
            parts.iter().flat_map(move |part| &of(part)[of(part).len() / heads * i..][..of(part).len() / heads])
        };
        (0..heads).flat_map(head).copied().collect()
    };
    Weight { weight: gather(|part| &part.weight), bias: gather(|part| &part.bias) }
}
