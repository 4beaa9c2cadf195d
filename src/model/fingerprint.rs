//! The fingerprint of a model: a short name for everything that decides a vector. Vectors of models with equal
//! fingerprints can be compared, whatever the models' names and sources.
//!
//! The fingerprint is the first 32 hex digits of a SHA-256. It covers the following fields in this order, each as
//! `name` and `value`, and each of these as its length in bytes (64 bits, little-endian) and its bytes:
//!
//! | name | value |
//! |---|---|
//! | `fingerprint` | `1`, the version of this table |
//! | `weights` | SHA-256 of the weights in hex. Several files: SHA-256 of their digests, see below |
//! | `tokenizer` | SHA-256 of `tokenizer.json` in hex, then ` name=value` for each change of the settings beside it |
//! | `architecture` | the fields of `config.json` that the computation uses, see [`encoder`] |
//! | `pooling` | the modes, joined by `+`; then ` without the prompt` if that is so |
//! | `steps` | the steps after the pooling with the digests of their weights; left out without any |
//! | `max_tokens` | decimal |
//! | `lowercase` | `true` or `false` |
//! | `prompt.query`, `prompt.document`, `prompt.default` | the prompt; empty for none |
//! | `precision` | as given: one of [`PRECISIONS`], or [`ONNX`] |
//!
//! The digests of shards follow in the order of file names. The digest of a graph comes before those of its weight
//! files.
//!
//! It does not cover names, revisions, and whether the model's own pipeline normalises: vectors are always compared at
//! length 1.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::architecture::{Activation, Architecture, Biases, Layer, Positions, Rope};
use super::digest::hex;
use super::encoder::Encoder;
use super::pooling::Pooling;
use super::prompts::Prompts;
use super::reading::Reading;

/// 128 bits, so two different models never share a fingerprint by accident.
const HEX_DIGITS: usize = 32;

/// The precision of an ONNX graph. The graph has its own arithmetic, which the digest of the weights covers.
pub const ONNX: &str = "onnx";

/// The precisions in which an embedder computes.
pub const PRECISIONS: [&str; 4] = ["f32", "f16", "bf16", "int8"];

/// Everything that decides a vector.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub weights: &'a str,
    pub tokenizer: &'a str,
    pub encoder: &'a Encoder,
    pub pooling: &'a Pooling,
    pub steps: &'a str,
    pub reading: Reading,
    pub prompts: &'a Prompts,
    pub precision: &'a str,
}

/// Computes the fingerprint.
pub(super) fn fingerprint(fields: &Fields<'_>) -> String {
    let prompt = |prompt: &Option<String>| prompt.clone().unwrap_or_default();
    let table = [
        ("fingerprint", "1".to_owned()),
        ("weights", fields.weights.to_owned()),
        ("tokenizer", fields.tokenizer.to_owned()),
        ("architecture", encoder(fields.encoder)),
        ("pooling", fields.pooling.to_string()),
        ("steps", fields.steps.to_owned()),
        ("max_tokens", fields.reading.max_tokens.to_string()),
        ("lowercase", fields.reading.lowercase.to_string()),
        ("prompt.query", prompt(&fields.prompts.query)),
        ("prompt.document", prompt(&fields.prompts.document)),
        ("prompt.default", prompt(&fields.prompts.default)),
        ("precision", fields.precision.to_owned()),
    ];
    let mut hash = Sha256::new();
    let present = table.iter().filter(|(name, value)| *name != "steps" || !value.is_empty());
    for text in present.flat_map(|(name, value)| [*name, value]) {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    let mut digits = hex(&hash.finalize());
    digits.truncate(HEX_DIGITS);
    digits
}

/// Describes the settings that change the computation on the same weights.
fn encoder(encoder: &Encoder) -> String {
    match encoder {
        Encoder::Transformer(architecture) => self::architecture(architecture),
        Encoder::Static(table) if table.drops_unknown => "static unknown=dropped".to_owned(),
        Encoder::Static(_) => "static unknown=kept".to_owned(),
    }
}

/// Describes the settings of a transformer: family, layers, heads, activation, epsilon,
/// the padding token if positions begin behind it, and the attention of each layer if layers rotate. The digest of the
/// weights covers the other sizes.
fn architecture(architecture: &Architecture) -> String {
    let activation = match architecture.hidden_act {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_tanh",
        Activation::Relu => "relu",
        Activation::Silu => "silu",
    };
    let Architecture { family, num_attention_heads: heads, layers, .. } = architecture;
    let (count, epsilon) = (layers.len(), architecture.layer_norm_eps);
    let mut text = format!("{family} layers={count} heads={heads} activation={activation} epsilon={epsilon:e}");
    if let Some(padding) = architecture.padding {
        write!(text, " padding={padding}").expect("a String takes what is written");
    }
    // The family decides the other parts; these are settings of it.
    if architecture.design.positions == Positions::Rotary {
        let scalar = architecture.query_pre_attn_scalar;
        let Biases { qkv, output, up, down, norm } = architecture.design.biases;
        let biases = String::from_iter([qkv, output, up, down, norm].map(|there| if there { '1' } else { '0' }));
        write!(text, " scalar={scalar:e} biases={biases}").expect("a String takes what is written");
        for Layer { span, rope, .. } in layers {
            let limit = |limit: usize| if limit == usize::MAX { "all".to_owned() } else { limit.to_string() };
            let Rope { theta, factor } = rope.unwrap_or(Rope { theta: 0.0, factor: 0.0 });
            let (before, after) = (limit(span.before), limit(span.after));
            write!(text, " {before}:{after}:{theta:e}:{factor:e}").expect("a String takes what is written");
        }
    }
    text
}
