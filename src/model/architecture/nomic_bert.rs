//! NomicBERT (Nussbaum et al., 2024): BERT with rotated positions and SwiGLU, as in nomic-embed-text-v1.5.
//!
//! The model's own code names its fields after GPT-2 (`n_embd`); transformers names them after BERT (`hidden_size`). A
//! configuration has one form or the other, or both: then they must say the same.

use serde_json::json;

use super::fields::Fields;
use super::rope::of_all;
use super::{Activation, Architecture, Biases, Design, Family, Layer, Norm, NormPlace, Positions, Rope, Span};
use crate::model::error::CardError;

/// Fields of the model's own code without an effect: dropout, heads, and ways to compute the same. The library's number
/// of positions is the length of the training there; `n_positions` is the length of a text.
const HARMLESS: [&str; 18] = [
    "attn_pdrop",
    "dense_seq_output",
    "embd_pdrop",
    "fused_bias_fc",
    "fused_dropout_add_ln",
    "max_position_embeddings",
    "max_trained_positions",
    "parallel_block_tied_norm",
    "reorder_and_upcast_attn",
    "resid_pdrop",
    "scale_attn_weights",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "use_flash_attn",
    "use_xentropy",
];

/// The multiple to which the model's own code rounds the width of a gated feed-forward block.
const WIDTH: usize = 256;

/// Reads the architecture in either form.
pub(super) fn read(fields: Fields<'_>) -> Result<Architecture, CardError> {
    if fields.has("n_embd") { own_form(fields) } else { library_form(fields) }
}

/// Reads the form of the model's own code, with the defaults of its `NomicBertConfig`.
fn own_form(mut fields: Fields<'_>) -> Result<Architecture, CardError> {
    let sizes = fields.heads("n_embd", "n_head")?;
    let layers = fields.layers("n_layer")?;
    let inner: usize = fields.take("n_inner")?.unwrap_or(sizes[0].saturating_mul(4));
    let function: String = fields.take("activation_function")?.unwrap_or_else(|| "gelu".to_owned());
    let hidden_act = match function.as_str() {
        "swiglu" => Activation::Silu,
        "geglu" => Activation::Gelu,
        _ => return Err(fields.unsupported("activation_function", &function, "swiglu and geglu")),
    };
    for (name, value, supported) in [
        ("prenorm", json!(false), "false: normalisation after each block"),
        ("use_rms_norm", json!(false), "false: layer normalisation"),
        ("causal", json!(false), "false"),
        ("parallel_block", json!(false), "false"),
        ("scale_attn_by_inverse_layer_idx", json!(false), "false"),
        ("rotary_emb_fraction", json!(1.0), "1.0: the whole of a head is rotated"),
        ("rotary_emb_interleaved", json!(false), "false"),
        ("rotary_emb_scale_base", json!(null), "null"),
        ("rotary_scaling_factor", json!(null), "null: positions are not scaled by the length of a text"),
    ] {
        fields.only(name, value, supported)?;
    }
    let rope = Rope { theta: fields.take("rotary_emb_base")?.unwrap_or(10_000.0), factor: 1.0 };
    if of_all(&mut fields, rope.theta, None)? != rope {
        return Err(fields.unsupported("rope_parameters", "another rotation", "the same as rotary_emb_base"));
    }
    let of_attention = fields.switch_on("qkv_proj_bias")?;
    let biases = Biases {
        qkv: of_attention,
        output: of_attention,
        up: fields.switch_on("mlp_fc1_bias")?,
        down: fields.switch_on("mlp_fc2_bias")?,
        norm: true,
    };
    let multiple = fields.take::<usize>("pad_vocab_size_multiple")?.unwrap_or(1).max(1);
    let sizes = Sizes {
        vocabulary: rounded(fields.size("vocab_size")?, multiple),
        sizes,
        layers,
        inner: rounded(inner, WIDTH),
        positions: fields.take("n_positions")?.unwrap_or(0),
        epsilon: fields.take("layer_norm_epsilon")?.unwrap_or(1e-5),
        types: fields.take("type_vocab_size")?.unwrap_or(2),
    };
    let name = if hidden_act == Activation::Silu { "silu" } else { "gelu" };
    for (name, value, own) in [
        ("hidden_size", json!(sizes.sizes[0]), "n_embd"),
        ("num_attention_heads", json!(sizes.sizes[1]), "n_head"),
        ("head_dim", json!(sizes.sizes[2]), "n_embd / n_head"),
        ("num_hidden_layers", json!(sizes.layers), "n_layer"),
        ("intermediate_size", json!(sizes.inner), "n_inner"),
        ("layer_norm_eps", json!(sizes.epsilon), "layer_norm_epsilon"),
        ("hidden_act", json!(name), "that of activation_function"),
    ] {
        fields.only(name, value, own)?;
    }
    let architecture = sizes.architecture(hidden_act, rope, biases);
    fields.finish(&HARMLESS, architecture)
}

/// Reads the form of transformers, with the defaults of its `NomicBertConfig`.
fn library_form(mut fields: Fields<'_>) -> Result<Architecture, CardError> {
    let sizes = fields.heads("hidden_size", "num_attention_heads")?;
    fields.only("head_dim", json!(sizes[2]), "hidden_size / num_attention_heads")?;
    let hidden_act = fields.activation("hidden_act", "silu")?;
    let rope = of_all(&mut fields, 1000.0, None)?;
    let sizes = Sizes {
        vocabulary: fields.size("vocab_size")?,
        sizes,
        layers: fields.layers("num_hidden_layers")?,
        inner: fields.size("intermediate_size")?,
        positions: fields.take("max_position_embeddings")?.unwrap_or(2048),
        epsilon: fields.take("layer_norm_eps")?.unwrap_or(1e-12),
        types: fields.take("type_vocab_size")?.unwrap_or(2),
    };
    let biases = Biases { qkv: false, output: false, up: false, down: false, norm: true };
    let architecture = sizes.architecture(hidden_act, rope, biases);
    fields.finish(&[], architecture)
}

/// Rounds up. A size that is too large stays so, and no tensor fits it.
fn rounded(size: usize, multiple: usize) -> usize {
    size.checked_next_multiple_of(multiple).unwrap_or(size)
}

/// The sizes in either form.
struct Sizes {
    vocabulary: usize,
    /// The hidden size, the heads and the columns of a head.
    sizes: [usize; 3],
    layers: usize,
    inner: usize,
    positions: usize,
    epsilon: f64,
    types: usize,
}

impl Sizes {
    fn architecture(self, hidden_act: Activation, rope: Rope, biases: Biases) -> Architecture {
        let [hidden_size, heads, head_dim] = self.sizes;
        Architecture {
            family: Family::NomicBert,
            vocab_size: self.vocabulary,
            hidden_size,
            num_attention_heads: heads,
            num_key_value_heads: heads,
            head_dim,
            query_pre_attn_scalar: head_dim as f64,
            intermediate_size: self.inner,
            hidden_act,
            max_position_embeddings: self.positions,
            padding: None,
            type_vocab_size: self.types,
            layer_norm_eps: self.epsilon,
            design: Design {
                positions: Positions::Rotary,
                norm: Norm::Layer,
                norm_place: NormPlace::After,
                gated: true,
                biases,
                ..Design::BERT
            },
            layers: vec![Layer { span: Span::ALL, rope: Some(rope), normalises_attention: true }; self.layers],
        }
    }
}
