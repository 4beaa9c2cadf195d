//! Alibaba's `NewModel` (Zhang et al., 2024): BERT with rotated positions and GeGLU, as in gte-multilingual-base and
//! gte-base-en-v1.5. transformers has it as `gte`, with the same tensors and other defaults.

use serde_json::json;

use super::fields::Fields;
use super::rope::of_all;
use super::{Architecture, Biases, Design, Family, Layer, Norm, NormPlace, Positions, Span};
use crate::model::error::CardError;

/// Reads the architecture, with the defaults of the model's own `NewConfig`, or of `GteConfig` in transformers.
pub(super) fn read(mut fields: Fields<'_>) -> Result<Architecture, CardError> {
    let (usual_theta, usual_positions) = match fields.take::<String>("model_type")?.as_deref() {
        Some("gte") => (160_000.0, 8192),
        _ => (10_000.0, 2048),
    };
    let [hidden_size, num_attention_heads, head_dim] = fields.heads("hidden_size", "num_attention_heads")?;
    for (name, value, supported) in [
        ("position_embedding_type", json!("rope"), "rope"),
        ("layer_norm_type", json!("layer_norm"), "layer_norm"),
        ("logn_attention_scale", json!(false), "false: scores are not scaled by the length of a text"),
        ("pack_qkv", json!(true), "true: queries, keys and values in one tensor"),
        ("is_decoder", json!(false), "false"),
    ] {
        fields.only(name, value, supported)?;
    }
    let rope = of_all(&mut fields, usual_theta, Some(head_dim))?;
    let layers = fields.layers("num_hidden_layers")?;
    let architecture = Architecture {
        family: Family::GteNew,
        vocab_size: fields.size("vocab_size")?,
        hidden_size,
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_dim,
        query_pre_attn_scalar: head_dim as f64,
        intermediate_size: fields.size("intermediate_size")?,
        hidden_act: fields.activation("hidden_act", "gelu")?,
        max_position_embeddings: fields.take("max_position_embeddings")?.unwrap_or(usual_positions),
        padding: None,
        type_vocab_size: fields.take("type_vocab_size")?.unwrap_or(1),
        layer_norm_eps: fields.take("layer_norm_eps")?.unwrap_or(1e-12),
        design: Design {
            positions: Positions::Rotary,
            norm: Norm::Layer,
            norm_place: NormPlace::After,
            gated: true,
            biases: Biases { qkv: true, output: true, up: false, down: true, norm: true },
            ..Design::BERT
        },
        layers: vec![Layer { span: Span::ALL, rope: Some(rope), normalises_attention: true }; layers],
    };
    fields.finish(&["logn_attention_clip1"], architecture)
}
