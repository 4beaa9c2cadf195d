//! What an encoder computes and its sizes: BERT and the members of its family. How `config.json` says it, and
//! what is refused, is in `config`.

mod config;

pub(super) use config::Names;

/// Rows of MPNet's table of relative positions. The configuration has a number for it that transformers uses for
/// the size of the table only: it computes rows for 32 of them, whatever is configured.
pub const RELATIVE_BUCKETS: usize = 32;

/// What a model adds to BERT or leaves out. Dropout and pre-training heads aside, that is all of the difference.
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
    fn has_token_types(self) -> bool {
        matches!(self, Self::Bert | Self::Roberta)
    }

    /// What `config.json` calls a setting: DistilBERT has shorter names.
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

/// An encoder's family and sizes, under BERT's names in `config.json`; sizes are positive, and the heads divide the
/// hidden size. Names and defaults: `BertConfig` and its like in Hugging Face transformers.
#[derive(Debug, Clone, PartialEq)]
pub struct Architecture {
    /// What it computes.
    pub family: Family,
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Length of a token's vector, and of the model's.
    pub hidden_size: usize,
    /// Encoder layers.
    pub num_hidden_layers: usize,
    /// Attention heads in each layer.
    pub num_attention_heads: usize,
    /// Length of a token's vector inside the feed-forward block.
    pub intermediate_size: usize,
    /// The function inside the feed-forward block.
    pub hidden_act: Activation,
    /// Rows of the position embedding; see [`Architecture::positions`].
    pub max_position_embeddings: usize,
    /// The padding token where positions are counted from the row after its id, and only over other tokens;
    /// none where they are counted from row 0 over all tokens.
    pub padding: Option<u32>,
    /// Rows of the segment embedding, of which only row 0 is used; 0 where the family has none.
    pub type_vocab_size: usize,
    /// Added to the variance in each layer normalisation.
    pub layer_norm_eps: f64,
}

impl Architecture {
    /// The row of the position embedding that belongs to a text's first token.
    pub fn position_offset(&self) -> usize {
        self.padding.map_or(0, |padding| padding as usize + 1)
    }

    /// Tokens for which there are positions: no text can have more.
    pub fn positions(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.position_offset())
    }

    /// Arithmetic operations that a text of so many tokens needs, two to each multiply-add: the linear layers and both
    /// products of attention. What is left out (normalisations, activations, softmax) is less than a hundredth.
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
    /// Its approximation by tanh: `gelu_new`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// max(x, 0): `relu`.
    Relu,
}

impl Activation {
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
            return Err(format!("{} is 0", name(setting)));
        }
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
        if !hidden.is_multiple_of(heads) {
            let (hidden_size, num_heads) = (name("hidden_size"), name("num_attention_heads"));
            return Err(format!("{hidden_size} {hidden} is no multiple of {num_heads} {heads}"));
        }
        if self.positions() == 0 {
            let (rows, offset) = (self.max_position_embeddings, self.position_offset());
            return Err(format!("max_position_embeddings is {rows}, and the first token's position would be {offset}"));
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0) {
            return Err(format!("layer_norm_eps is {}, not a positive number", self.layer_norm_eps));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
