//! Gemma 3's text model (Gemma Team, 2025): RMSNorm before and after each block, GeGLU, grouped queries, normalised
//! queries and keys, and a window in most layers. EmbeddingGemma attends in both directions.

use serde_json::json;

use super::fields::Fields;
use super::rope::{Kind, of_kinds};
use super::{Architecture, Biases, Design, Family, Layer, Norm, NormPlace, Positions, Span};
use crate::model::error::CardError;

/// Fields without an effect: the cap is for words that are generated, and `layer_types` says what the pattern does.
const HARMLESS: [&str; 2] = ["final_logit_softcapping", "_sliding_window_pattern"];

/// Reads the architecture. Defaults are those of `Gemma3TextConfig`.
pub(super) fn read(mut fields: Fields<'_>) -> Result<Architecture, CardError> {
    let layers = fields.layers("num_hidden_layers")?;
    let full_every = match fields.has("sliding_window_pattern") {
        true => fields.size("sliding_window_pattern")?,
        false => 6,
    };
    let kind = |layer: usize| if (layer + 1).is_multiple_of(full_every) { Kind::Full } else { Kind::Sliding };
    let kinds = Kind::take(&mut fields, layers, kind)?;
    let ropes = of_kinds(&mut fields, [("rope_theta", 1_000_000.0), ("rope_local_base_freq", 10_000.0)])?;
    fields.only("attn_logit_softcapping", json!(null), "null: scores are not capped")?;
    fields.only("is_decoder", json!(false), "false")?;
    let window = match fields.has("sliding_window") {
        true => fields.size("sliding_window")?,
        false => 4096,
    };
    // In both directions the window is of this size, half of it on each side.
    let (all, near) = match fields.switch("use_bidirectional_attention")? {
        true => (Span::ALL, Span::window(window / 2)),
        false => (Span::CAUSAL, Span { before: window - 1, after: 0 }),
    };
    let of_attention = fields.switch("attention_bias")?;
    let architecture = Architecture {
        family: Family::Gemma3,
        vocab_size: fields.size("vocab_size")?,
        hidden_size: fields.size("hidden_size")?,
        num_attention_heads: fields.size("num_attention_heads")?,
        num_key_value_heads: fields.take("num_key_value_heads")?.unwrap_or(4),
        head_dim: fields.take("head_dim")?.unwrap_or(256),
        query_pre_attn_scalar: fields.take("query_pre_attn_scalar")?.unwrap_or(256.0),
        intermediate_size: fields.size("intermediate_size")?,
        hidden_act: fields.activation("hidden_activation", "gelu_pytorch_tanh")?,
        max_position_embeddings: fields.take("max_position_embeddings")?.unwrap_or(131_072),
        padding: None,
        type_vocab_size: 0,
        layer_norm_eps: fields.take("rms_norm_eps")?.unwrap_or(1e-6),
        design: Design {
            positions: Positions::Rotary,
            scales_embeddings: true,
            normalises_embeddings: false,
            norm: Norm::RmsPlusOne,
            norm_place: NormPlace::BeforeAndAfter,
            normalises_queries_and_keys: true,
            gated: true,
            biases: Biases { qkv: of_attention, output: of_attention, up: false, down: false, norm: false },
        },
        layers: kinds
            .into_iter()
            .map(|kind| Layer {
                span: if kind == Kind::Full { all } else { near },
                rope: Some(ropes.of(kind)),
                normalises_attention: true,
            })
            .collect(),
    };
    fields.finish(&HARMLESS, architecture)
}
