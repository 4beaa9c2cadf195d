//! ModernBERT (Warner et al., 2024): normalisation before each block, GeGLU, rotated positions, and a window in two of
//! three layers. granite-embedding-r2, gte-modernbert-base and mmBERT are of this family.

use serde_json::json;

use super::fields::Fields;
use super::rope::{Kind, of_kinds};
use super::{Architecture, Biases, Design, Family, Layer, Norm, NormPlace, Positions, Span};
use crate::model::error::CardError;

/// Fields without an effect. `layer_norm_eps` and `position_embedding_type` are written, and no version reads them.
const HARMLESS: [&str; 6] = [
    "layer_norm_eps",
    "position_embedding_type",
    "reference_compile",
    "repad_logits_with_grad",
    "sparse_pred_ignore_index",
    "sparse_prediction",
];

/// Reads the architecture. Defaults are those of `ModernBertConfig`.
pub(super) fn read(mut fields: Fields<'_>) -> Result<Architecture, CardError> {
    let [hidden_size, num_attention_heads, head_dim] = fields.heads("hidden_size", "num_attention_heads")?;
    let layers = fields.layers("num_hidden_layers")?;
    let full_every = match fields.has("global_attn_every_n_layers") {
        true => fields.size("global_attn_every_n_layers")?,
        false => 3,
    };
    let kind = |layer: usize| if layer.is_multiple_of(full_every) { Kind::Full } else { Kind::Sliding };
    let kinds = Kind::take(&mut fields, layers, kind)?;
    let ropes = of_kinds(&mut fields, [("global_rope_theta", 160_000.0), ("local_rope_theta", 10_000.0)])?;
    // The window is of this size, half of it on each side.
    let window = Span::window(fields.take::<usize>("local_attention")?.unwrap_or(128) / 2);
    let of_attention = fields.switch("attention_bias")?;
    let of_feed_forward = fields.switch("mlp_bias")?;
    let of_norm = fields.switch("norm_bias")?;
    fields.only("is_decoder", json!(false), "false")?;
    fields.only("add_cross_attention", json!(false), "false")?;
    let architecture = Architecture {
        family: Family::ModernBert,
        vocab_size: fields.size("vocab_size")?,
        hidden_size,
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_dim,
        query_pre_attn_scalar: head_dim as f64,
        intermediate_size: fields.size("intermediate_size")?,
        hidden_act: fields.activation("hidden_activation", "gelu")?,
        max_position_embeddings: fields.take("max_position_embeddings")?.unwrap_or(8192),
        padding: None,
        type_vocab_size: 0,
        layer_norm_eps: fields.take("norm_eps")?.unwrap_or(1e-5),
        design: Design {
            positions: Positions::Rotary,
            scales_embeddings: false,
            normalises_embeddings: true,
            norm: Norm::Layer,
            norm_place: NormPlace::Before,
            normalises_queries_and_keys: false,
            gated: true,
            biases: Biases {
                qkv: of_attention,
                output: of_attention,
                up: of_feed_forward,
                down: of_feed_forward,
                norm: of_norm,
            },
        },
        layers: kinds
            .into_iter()
            .enumerate()
            .map(|(layer, kind)| Layer {
                span: if kind == Kind::Full { Span::ALL } else { window },
                rope: Some(ropes.of(kind)),
                // The first layer comes behind the normalisation of the embeddings.
                normalises_attention: layer > 0,
            })
            .collect(),
    };
    fields.finish(&HARMLESS, architecture)
}
