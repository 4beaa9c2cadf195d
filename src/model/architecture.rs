//! The architecture of an encoder: a member of BERT's family and its sizes. `config.rs` reads it from `config.json` and
//! refuses other architectures.

mod config;

pub(super) use config::Names;

/// Rows of MPNet's table of relative positions. transformers uses the configured number only for the size of the table,
/// and always computes with 32 rows.
pub const RELATIVE_BUCKETS: usize = 32;

/// A member of BERT's family, by its differences from BERT. Dropout and pre-training heads do not count.
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
        })
    }
}

/// An encoder's family and sizes. Names and defaults are those of `BertConfig` and its relatives in Hugging Face
/// transformers. Sizes are positive, and the hidden size is a multiple of the heads.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// The family.
    pub family: Family,
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// The length of a token's vector, and of the model's vectors.
    pub hidden_size: usize,
    /// Encoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads in each layer.
    pub num_attention_heads: usize,
    /// The length of a token's vector inside the feed-forward block.
    pub intermediate_size: usize,
    /// The function inside the feed-forward block.
    pub hidden_act: Activation,
    /// Rows of the position embedding; see [`Architecture::positions`].
    pub max_position_embeddings: usize,
    /// The padding token, if positions start at the row after its id and count only other tokens. `None` if positions
    /// start at row 0 and count all tokens.
    pub padding: Option<u32>,
    /// Rows of the segment embedding, of which only row 0 is used; 0 if the family has none.
    pub type_vocab_size: usize,
    /// The number added to the variance in each layer normalisation.
    pub layer_norm_eps: f64,
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

    /// Estimates the arithmetic operations for a text, two for each multiply-add. It counts the linear layers and both
    /// products of attention. Normalisations, activations and softmax are less than a hundredth.
    pub fn operations(&self, tokens: usize) -> f64 {
        let (n, inner) = (self.hidden_size, self.intermediate_size);
        (2 * tokens * self.num_hidden_layers * (4 * n * n + 2 * n * inner + 2 * tokens * n)) as f64
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
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", types),
        ];
        let name = |setting| self.family.name(setting);
        if let Some((setting, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(format!("{} is 0, and must be positive", name(setting)));
        }
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if !hidden.is_multiple_of(heads) {
            let (hidden_size, num_heads) = (name("hidden_size"), name("num_attention_heads"));
            return Err(format!("{hidden_size} {hidden} must be a multiple of {num_heads} {heads}"));
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
