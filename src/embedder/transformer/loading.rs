//! The loading of an encoder: reads a checkpoint part by part, and packs each part for the device.

use candle_core::Result;
use candle_nn::VarBuilder;

use super::backend::{Backend, Heads, Residual, Span, Sum};
use super::checkpoint::{Checkpoint, Embeddings, LayerWeights, Padding, Words};
use super::{Layer, Transformer, relative};
use crate::kernel::activation::Activation;
use crate::model::{self, Architecture, NormPlace};

impl<B: Backend> Transformer<B> {
    /// Reads the weights from `vb`, with or without the prefix of a model with a head, and packs them for `backend`. A
    /// block has at most `block_tokens` tokens, or a single longer sequence.
    pub fn load(vb: VarBuilder<'_>, architecture: &Architecture, backend: &B, block_tokens: usize) -> Result<Self> {
        Self::of(&Checkpoint::new(vb, architecture), architecture, backend, block_tokens)
    }

    /// Packs the weights of a checkpoint of this architecture for `backend`.
    pub fn of(
        checkpoint: &Checkpoint<'_>,
        architecture: &Architecture,
        backend: &B,
        block_tokens: usize,
    ) -> Result<Self> {
        let Architecture { hidden_size, num_key_value_heads: groups, head_dim: dim, .. } = *architecture;
        let queries = architecture.num_attention_heads / groups;
        let heads = Heads { groups, queries, dim, divisor: (architecture.query_pre_attn_scalar as f32).sqrt() };
        let (longest, epsilon) = (architecture.positions(), architecture.layer_norm_eps);
        let mut kinds: Vec<model::Rope> = Vec::new();
        for rope in architecture.layers.iter().filter_map(|layer| layer.rope) {
            if !kinds.contains(&rope) {
                kinds.push(rope);
            }
        }
        let pack = |(i, layer): (usize, &model::Layer)| {
            let rope = layer.rope.and_then(|rope| kinds.iter().position(|kind| *kind == rope));
            let span = Span { before: layer.span.before, after: layer.span.after };
            Layer::pack(checkpoint.layer(i)?, (architecture, rope, span), backend)
        };
        let layers = architecture.layers.iter().enumerate().map(pack).collect::<Result<_>>()?;
        let rope = |kind: &model::Rope| {
            let angle = |i: usize| kind.theta.powf(-2.0 * i as f64 / dim as f64) / kind.factor;
            backend.rope(dim, longest, &angle)
        };
        let bias = match checkpoint.relative_bias()? {
            Some(table) => {
                let of = |head: usize, distance: isize| table[relative::bucket(distance) * heads.count() + head];
                Some(backend.bias(heads, longest, &of)?)
            }
            None => None,
        };
        let norm = |norm: Option<_>| norm.map(|norm| backend.norm(norm, epsilon)).transpose();
        let Embeddings { words, positions, types, padding, norm: embedding_norm } = checkpoint.embeddings()?;
        let (padding, place) = padding.map_or((None, Vec::new()), |Padding { token, place }| (Some(token), place));
        let (places, rows_of_type) = places(positions.map(|rows| (rows, longest, place)), &types, hidden_size);
        Ok(Self {
            hidden_size,
            heads,
            vocabulary: architecture.vocab_size,
            longest,
            block_tokens,
            activation: match architecture.hidden_act {
                model::Activation::Gelu => Activation::Gelu,
                model::Activation::GeluTanh => Activation::GeluTanh,
                model::Activation::Relu => Activation::Relu,
                model::Activation::Silu => Activation::Silu,
            },
            words: match words {
                Words::Values(words, _) => backend.table(words, hidden_size)?,
                Words::Rows(rows) => backend.mapped(rows)?,
            },
            places: places.map(|places| backend.table(places, hidden_size)).transpose()?,
            rows_of_type,
            has_positions: architecture.design.positions != model::Positions::Rotary,
            types: types.len().max(1),
            padding,
            norm: norm(embedding_norm)?,
            bias,
            ropes: kinds.iter().map(rope).collect::<Result<_>>()?,
            layers,
            last_norm: norm(checkpoint.last_norm()?)?,
        })
    }
}

impl<B: Backend> Layer<B> {
    /// Packs the weights of a layer.
    fn pack(
        weights: LayerWeights,
        (architecture, rope, span): (&Architecture, Option<usize>, Span),
        backend: &B,
    ) -> Result<Self> {
        let epsilon = architecture.layer_norm_eps;
        let place = architecture.design.norm_place;
        let norm = |norm: Option<_>| norm.map(|norm| backend.norm(norm, epsilon)).transpose();
        let residual = |weight, after| {
            let sum = match (norm(after)?, place) {
                (Some(norm), NormPlace::After) => Sum::Normalised(norm),
                (Some(norm), _) => Sum::OfNormalised(norm),
                (None, _) => Sum::Plain,
            };
            Ok::<_, candle_core::Error>(Residual { layer: backend.pack(weight)?, sum })
        };
        let head_norms = match weights.head_norms {
            Some([q, k]) => Some([backend.head_norm(q, epsilon)?, backend.head_norm(k, epsilon)?]),
            None => None,
        };
        Ok(Self {
            place,
            attention_norm: norm(weights.attention_norm)?,
            qkv: backend.pack(weights.qkv)?,
            head_norms,
            rope,
            span,
            output: residual(weights.output, weights.output_norm)?,
            feed_forward_norm: norm(weights.feed_forward_norm)?,
            is_gated: weights.gate.is_some(),
            up: match weights.gate {
                Some(gate) => backend.pack_gated([weights.up, gate])?,
                None => backend.pack(weights.up)?,
            },
            down: residual(weights.down, weights.down_norm)?,
        })
    }
}

/// Makes the table of positions and token types, and the number of its rows for a type. `learned` are the positions,
/// their number, and the row of the padding token, which is empty in a model without that token.
fn places(learned: Option<(Vec<f32>, usize, Vec<f32>)>, types: &[Vec<f32>], n: usize) -> (Option<Vec<f32>>, usize) {
    let Some((positions, longest, padding)) = learned else {
        return ((!types.is_empty()).then(|| types.concat()), 1);
    };
    let mut rows = positions;
    rows.truncate(longest * n);
    rows.extend(padding);
    let count = rows.len() / n;
    if types.is_empty() {
        return (Some(rows), count);
    }
    let of_type = |of_type: &Vec<f32>| {
        rows.iter().zip(of_type.iter().cycle()).map(|(row, of_type)| row + of_type).collect::<Vec<f32>>()
    };
    (Some(types.iter().flat_map(of_type).collect()), count)
}
