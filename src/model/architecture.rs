//! The architecture of an encoder: its family, its sizes, and the parts that its layers are made of (`design.rs`).
//! `config.rs` reads it from `config.json`, with a file for each newer family, and refuses other architectures.

mod config;
mod design;
mod fields;
mod gemma3;
mod gte_new;
mod modern_bert;
mod nomic_bert;
mod qwen3;
mod rope;

pub(super) use config::Names;
pub use design::{Biases, Design, Layer, Norm, NormPlace, Positions, Rope, Span};

/// Rows of MPNet's table of relative positions. transformers uses the configured number only for the size of the table,
/// and always computes with 32 rows.
pub const RELATIVE_BUCKETS: usize = 32;

/// A family of models, by its differences from BERT. Dropout and pre-training heads do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// BERT (Devlin et al., 2019).
    Bert,
    /// RoBERTa (Liu et al., 2019), XLM-RoBERTa and CamemBERT: positions are counted from the padding token's id.
    Roberta,
    /// DistilBERT (Sanh et al., 2019): no token types.
    DistilBert,
    /// MPNet (Song et al., 2020): RoBERTa's positions, no token types, and a number added to each score of attention
    /// by the distance of the two tokens.
    Mpnet,
    /// ModernBERT (Warner et al., 2024): rotary positions, local attention in most layers, GeGLU.
    ModernBert,
    /// Qwen3 (Yang et al., 2025): causal attention with grouped queries, SwiGLU.
    Qwen3,
    /// NomicBERT (Nussbaum et al., 2024): BERT with rotary positions and SwiGLU.
    NomicBert,
    /// The new encoder of GTE (Zhang et al., 2024): BERT with rotary positions and GeGLU.
    GteNew,
    /// The text model of Gemma 3 (2025): grouped queries, normalisations before and after each block.
    Gemma3,
}

impl Family {
    /// Returns whether the family has segment embeddings.
    fn has_token_types(self) -> bool {
        matches!(self, Self::Bert | Self::Roberta)
    }

    /// Returns the name of a setting in `config.json`. DistilBERT has shorter names.
    fn name(self, setting: &'static str) -> &'static str {
        match (self, setting) {
            (Self::DistilBert, "hidden_size") => "dim",
            (Self::DistilBert, "num_hidden_layers") => "n_layers",
            (Self::DistilBert, "num_attention_heads") => "n_heads",
            (Self::DistilBert, "intermediate_size") => "hidden_dim",
            (Self::DistilBert, "hidden_act") => "activation",
            _ => setting,
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bert => "bert",
            Self::Roberta => "roberta",
            Self::DistilBert => "distilbert",
            Self::Mpnet => "mpnet",
            Self::ModernBert => "modernbert",
            Self::Qwen3 => "qwen3",
            Self::NomicBert => "nomic_bert",
            Self::GteNew => "new",
            Self::Gemma3 => "gemma3_text",
        })
    }
}

/// An encoder's family, sizes and parts. Names and defaults are those of `BertConfig` and its relatives in Hugging Face
/// transformers. Sizes are positive. The heads are a multiple of the heads of keys and values, and `head_dim` is even
/// if layers rotate.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// The family.
    pub family: Family,
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// The length of a token's vector, and of the model's vectors.
    pub hidden_size: usize,
    /// Attention heads in each layer.
    pub num_attention_heads: usize,
    /// Heads of keys and values in each layer, each for as many heads of queries (Ainslie et al., 2023). As many as
    /// `num_attention_heads` if queries are not grouped.
    pub num_key_value_heads: usize,
    /// The columns of a head.
    pub head_dim: usize,
    /// Scores of attention are divided by the square root of this; `head_dim` in most families.
    pub query_pre_attn_scalar: f64,
    /// The length of a token's vector inside the feed-forward block.
    pub intermediate_size: usize,
    /// The function inside the feed-forward block.
    pub hidden_act: Activation,
    /// Rows of the position embedding, or the most positions without one; see [`Architecture::positions`].
    pub max_position_embeddings: usize,
    /// The padding token, if positions start at the row after its id and count only other tokens. `None` if positions
    /// start at row 0 and count all tokens.
    pub padding: Option<u32>,
    /// Rows of the segment embedding, of which only row 0 is used; 0 if the family has none.
    pub type_vocab_size: usize,
    /// The number added to the variance in each layer normalisation, or to the mean of squares in each RMSNorm.
    pub layer_norm_eps: f64,
    /// The parts that all layers share.
    pub design: Design,
    /// The layers, and the parts in which they differ.
    pub layers: Vec<Layer>,
}

impl Architecture {
    /// Returns the row of the position embedding for a text's first token.
    pub fn position_offset(&self) -> usize {
        self.padding.map_or(0, |padding| padding as usize + 1)
    }

    /// Returns the number of positions. No text can have more tokens.
    pub fn positions(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.position_offset())
    }

    /// Returns the same architecture for texts of at most `tokens` tokens. Positions that are rotations end there.
    pub fn up_to(&self, tokens: usize) -> Self {
        let last = if self.design.positions == Positions::Rotary { tokens } else { usize::MAX };
        Self { max_position_embeddings: self.max_position_embeddings.min(last), ..self.clone() }
    }

    /// Estimates the arithmetic operations for a text, two for each multiply-add. It counts the linear layers and both
    /// products of attention. Normalisations, activations and softmax are less than a hundredth.
    pub fn operations(&self, tokens: usize) -> f64 {
        let (n, inner, heads) = (self.hidden_size, self.intermediate_size, self.num_attention_heads * self.head_dim);
        let keys_and_values = 2 * self.num_key_value_heads * self.head_dim;
        let products = if self.design.gated { 3 } else { 2 };
        let linear = n * (2 * heads + keys_and_values) + products * n * inner;
        let layer = |layer: &Layer| linear + 2 * heads * layer.span.tokens(tokens);
        (2 * tokens) as f64 * self.layers.iter().map(layer).sum::<usize>() as f64
    }
}

/// The function inside the feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x Φ(x), with the error function: `gelu`.
    Gelu,
    /// The approximation of `gelu` by tanh: `gelu_new`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// max(x, 0): `relu`.
    Relu,
    /// x / (1 + e^−x): `silu`, `swish`.
    Silu,
}

impl Activation {
    /// Parses the name of an activation.
    fn parse(name: &str) -> Option<Self> {
        match name {
            "gelu" | "gelu_python" => Some(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Some(Self::GeluTanh),
            "relu" => Some(Self::Relu),
            _ => None,
        }
    }
}

impl Architecture {
    /// Checks the sizes.
    fn check(&self) -> Result<(), String> {
        let types = if self.family.has_token_types() { self.type_vocab_size } else { 1 };
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.layers.len()),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", types),
        ];
        let name = |setting| self.family.name(setting);
        if let Some((setting, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(format!("{} is 0, and must be positive", name(setting)));
        }
        let (heads, groups) = (self.num_attention_heads, self.num_key_value_heads);
        if !heads.is_multiple_of(groups) {
            return Err(format!("num_attention_heads {heads} must be a multiple of num_key_value_heads {groups}"));
        }
        let is_rotated = self.design.positions == Positions::Rotary;
        if is_rotated && !self.head_dim.is_multiple_of(2) {
            return Err(format!(
                "head_dim is {}, and must be even, because pairs of columns are rotated",
                self.head_dim
            ));
        }
        let scalar = self.query_pre_attn_scalar;
        if !(scalar.is_finite() && scalar > 0.0) {
            return Err(format!("query_pre_attn_scalar is {scalar}, and must be a positive number"));
        }
        if self.positions() == 0 {
            let (rows, offset) = (self.max_position_embeddings, self.position_offset());
            return Err(format!(
                "max_position_embeddings is {rows}, and must be more than the first token's position, {offset}"
            ));
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0) {
            return Err(format!("layer_norm_eps is {}, and must be a positive number", self.layer_norm_eps));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
