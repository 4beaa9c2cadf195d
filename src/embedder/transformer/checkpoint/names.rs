//! The names of each family's tensors, as Hugging Face transformers and the models' own code have them.
//!
//! A part that a family does not have has no name here, and is never read: the architecture says which parts there are.

use crate::model::Family;

/// The names of a family's tensors.
pub(super) struct Names {
    /// The prefixes of a model with a head: one of them.
    pub prefixes: &'static [&'static str],
    pub words: &'static str,
    pub positions: &'static str,
    pub types: &'static str,
    pub embedding_norm: &'static str,
    /// The prefix before the number of a layer.
    pub layer: &'static str,
    pub qkv: Qkv,
    /// The normalisations of queries and keys.
    pub head_norms: [&'static str; 2],
    pub output: &'static str,
    pub up: Up,
    pub down: &'static str,
    /// The normalisations before attention and before the feed-forward block.
    pub before: [&'static str; 2],
    /// The normalisations after them.
    pub after: [&'static str; 2],
    /// The normalisation after the last layer.
    pub last_norm: &'static str,
}

/// The layers of queries, keys and values.
pub(super) enum Qkv {
    /// Three tensors.
    Apart([&'static str; 3]),
    /// The rows of the queries, then the keys, then the values.
    Together(&'static str),
}

/// The first layer of a feed-forward block.
pub(super) enum Up {
    /// A single layer.
    Plain(&'static str),
    /// The two layers of a gated block. The first has the activation.
    Apart([&'static str; 2]),
    /// Both in one tensor, the one with the activation first.
    ActivatedFirst(&'static str),
    /// Both in one tensor, the one with the activation last.
    ActivatedLast(&'static str),
}

const BERT: Names = Names {
    prefixes: &["bert"],
    words: "embeddings.word_embeddings",
    positions: "embeddings.position_embeddings",
    types: "embeddings.token_type_embeddings",
    embedding_norm: "embeddings.LayerNorm",
    layer: "encoder.layer",
    qkv: Qkv::Apart(["attention.self.query", "attention.self.key", "attention.self.value"]),
    head_norms: ["", ""],
    output: "attention.output.dense",
    up: Up::Plain("intermediate.dense"),
    down: "output.dense",
    before: ["", ""],
    after: ["attention.output.LayerNorm", "output.LayerNorm"],
    last_norm: "",
};

const ROBERTA: Names = Names { prefixes: &["roberta"], ..BERT };

const DISTILBERT: Names = Names {
    prefixes: &["distilbert"],
    layer: "transformer.layer",
    qkv: Qkv::Apart(["attention.q_lin", "attention.k_lin", "attention.v_lin"]),
    output: "attention.out_lin",
    up: Up::Plain("ffn.lin1"),
    down: "ffn.lin2",
    after: ["sa_layer_norm", "output_layer_norm"],
    ..BERT
};

const MPNET: Names = Names {
    prefixes: &["mpnet"],
    qkv: Qkv::Apart(["attention.attn.q", "attention.attn.k", "attention.attn.v"]),
    output: "attention.attn.o",
    after: ["attention.LayerNorm", "output.LayerNorm"],
    ..BERT
};

const MODERN_BERT: Names = Names {
    prefixes: &["model"],
    words: "embeddings.tok_embeddings",
    embedding_norm: "embeddings.norm",
    layer: "layers",
    qkv: Qkv::Together("attn.Wqkv"),
    output: "attn.Wo",
    up: Up::ActivatedFirst("mlp.Wi"),
    down: "mlp.Wo",
    before: ["attn_norm", "mlp_norm"],
    after: ["", ""],
    last_norm: "final_norm",
    ..BERT
};

const QWEN3: Names = Names {
    prefixes: &["model"],
    words: "embed_tokens",
    layer: "layers",
    qkv: Qkv::Apart(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    head_norms: ["self_attn.q_norm", "self_attn.k_norm"],
    output: "self_attn.o_proj",
    up: Up::Apart(["mlp.gate_proj", "mlp.up_proj"]),
    down: "mlp.down_proj",
    before: ["input_layernorm", "post_attention_layernorm"],
    after: ["", ""],
    last_norm: "norm",
    ..BERT
};

const GEMMA3: Names = Names {
    before: ["input_layernorm", "pre_feedforward_layernorm"],
    after: ["post_attention_layernorm", "post_feedforward_layernorm"],
    ..QWEN3
};

const NOMIC_BERT: Names = Names {
    prefixes: &["nomic_bert"],
    embedding_norm: "emb_ln",
    layer: "encoder.layers",
    qkv: Qkv::Together("attn.Wqkv"),
    output: "attn.out_proj",
    up: Up::Apart(["mlp.fc12", "mlp.fc11"]),
    down: "mlp.fc2",
    after: ["norm1", "norm2"],
    ..BERT
};

const GTE_NEW: Names = Names {
    prefixes: &["new", "gte"],
    qkv: Qkv::Together("attention.qkv_proj"),
    output: "attention.o_proj",
    up: Up::ActivatedLast("mlp.up_gate_proj"),
    down: "mlp.down_proj",
    after: ["attn_ln", "mlp_ln"],
    ..BERT
};

/// Returns the names of a family.
pub(super) fn of(family: Family) -> &'static Names {
    match family {
        Family::Bert => &BERT,
        Family::Roberta => &ROBERTA,
        Family::DistilBert => &DISTILBERT,
        Family::Mpnet => &MPNET,
        Family::ModernBert => &MODERN_BERT,
        Family::Qwen3 => &QWEN3,
        Family::NomicBert => &NOMIC_BERT,
        Family::GteNew => &GTE_NEW,
        Family::Gemma3 => &GEMMA3,
    }
}
