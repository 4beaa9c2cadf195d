//! Qwen3 (Yang et al., 2025): a causal transformer with RMSNorm, SwiGLU, grouped queries, and normalised queries and
//! keys. Qwen3-Embedding takes the vector of the last token.

use super::fields::Fields;
use super::rope::{Kind, of_all};
use super::{Architecture, Biases, Design, Family, Layer, Norm, NormPlace, Positions, Span};
use crate::model::error::CardError;

/// Reads the architecture. Defaults are those of `Qwen3Config`.
pub(super) fn read(mut fields: Fields<'_>) -> Result<Architecture, CardError> {
    let layers = fields.layers("num_hidden_layers")?;
    let num_attention_heads = fields.size("num_attention_heads")?;
    let head_dim = fields.take("head_dim")?.unwrap_or(128);
    let is_sliding = fields.switch("use_sliding_window")?;
    let window: usize = fields.take("sliding_window")?.unwrap_or(4096);
    let first_sliding: usize = fields.take("max_window_layers")?.unwrap_or(28);
    let kind = |layer: usize| if is_sliding && layer >= first_sliding { Kind::Sliding } else { Kind::Full };
    let kinds = Kind::take(&mut fields, layers, kind)?;
    if kinds.contains(&Kind::Sliding) && (window == 0 || !is_sliding) {
        let problem = "layer_types has sliding_attention, which needs use_sliding_window and a positive sliding_window";
        return Err(fields.malformed(problem));
    }
    let rope = of_all(&mut fields, 10_000.0, None)?;
    let of_attention = fields.switch("attention_bias")?;
    let architecture = Architecture {
        family: Family::Qwen3,
        vocab_size: fields.size("vocab_size")?,
        hidden_size: fields.size("hidden_size")?,
        num_attention_heads,
        num_key_value_heads: fields.take("num_key_value_heads")?.unwrap_or(num_attention_heads),
        head_dim,
        query_pre_attn_scalar: head_dim as f64,
        intermediate_size: fields.size("intermediate_size")?,
        hidden_act: fields.activation("hidden_act", "silu")?,
        max_position_embeddings: fields.take("max_position_embeddings")?.unwrap_or(32_768),
        padding: None,
        type_vocab_size: 0,
        layer_norm_eps: fields.take("rms_norm_eps")?.unwrap_or(1e-6),
        design: Design {
            positions: Positions::Rotary,
            scales_embeddings: false,
            normalises_embeddings: false,
            norm: Norm::Rms,
            norm_place: NormPlace::Before,
            normalises_queries_and_keys: true,
            gated: true,
            biases: Biases { qkv: of_attention, output: of_attention, up: false, down: false, norm: false },
        },
        layers: kinds
            .into_iter()
            .map(|kind| Layer {
                span: match kind {
                    Kind::Full => Span::CAUSAL,
                    Kind::Sliding => Span { before: window - 1, after: 0 },
                },
                rope: Some(rope),
                normalises_attention: true,
            })
            .collect(),
    };
    fields.finish(&[], architecture)
}
