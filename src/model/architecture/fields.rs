//! The fields of a `config.json`, taken one by one.
//!
//! Invariant: each field is honoured, known to have no effect, or refused by name. A family takes those that it
//! honours; [`Fields::finish`] refuses what is left and not known. `null` is a missing field, as in transformers.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{Activation, Architecture};
use crate::model::error::CardError;
use crate::model::file::read_json;

/// The most layers: ten times those of the deepest models.
pub(super) const MOST_LAYERS: usize = 1000;

/// Fields without an effect on the vectors of tokens in any family: names, types and places of files, dropout, heads,
/// generation, ids of special tokens (the tokenizer has its own), and ways to compute the same.
const HARMLESS: [&str; 50] = [
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_implementation",
    "auto_map",
    "bos_token_id",
    "chunk_size_feed_forward",
    "classifier_activation",
    "classifier_bias",
    "classifier_dropout",
    "classifier_pooling",
    "cls_token_id",
    "decoder_bias",
    "deterministic_flash_attn",
    "dtype",
    "embedding_dropout",
    "eos_token_id",
    "finetuning_task",
    "gradient_checkpointing",
    "hidden_dropout_prob",
    "id2label",
    "initializer_cutoff_factor",
    "initializer_range",
    "label2id",
    "mask_token_id",
    "mlp_dropout",
    "model_type",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "pruned_heads",
    "quantization_config",
    "return_dict",
    "sentence_transformers",
    "sep_token_id",
    "task_specific_params",
    "tie_word_embeddings",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "unk_token_id",
    "unpad_inputs",
    "use_cache",
    "use_memory_efficient_attention",
];

/// The fields of a configuration that are not taken yet.
pub(super) struct Fields<'a> {
    path: &'a Path,
    left: Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// Reads all fields.
    pub(super) fn read(path: &'a Path) -> Result<Self, CardError> {
        let mut left: Map<String, Value> = read_json(path)?;
        left.retain(|_, value| !value.is_null());
        Ok(Self { path, left })
    }

    /// Returns whether a field is there and not taken yet.
    pub(super) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Takes a field.
    pub(super) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, CardError> {
        let Some(value) = self.left.remove(name) else { return Ok(None) };
        serde_json::from_value(value).map(Some).map_err(|error| self.malformed(format!("{name}: {error}")))
    }

    /// Takes a switch that is off unless it is there.
    pub(super) fn switch(&mut self, name: &str) -> Result<bool, CardError> {
        Ok(self.take(name)?.unwrap_or(false))
    }

    /// Takes a switch that is on unless it is there.
    pub(super) fn switch_on(&mut self, name: &str) -> Result<bool, CardError> {
        Ok(self.take(name)?.unwrap_or(true))
    }

    /// Takes a positive size.
    pub(super) fn size(&mut self, name: &str) -> Result<usize, CardError> {
        match self.take(name)? {
            Some(0) => Err(self.malformed(format!("{name} is 0, and must be positive"))),
            Some(size) => Ok(size),
            None => Err(self.malformed(format!("missing field `{name}`"))),
        }
    }

    /// Takes the number of layers.
    pub(super) fn layers(&mut self, name: &str) -> Result<usize, CardError> {
        match self.size(name)? {
            layers if layers > MOST_LAYERS => {
                Err(self.malformed(format!("{name} is {layers}, and must be at most {MOST_LAYERS}")))
            }
            layers => Ok(layers),
        }
    }

    /// Takes the hidden size and the heads of a family whose heads divide it. Returns both with the columns of a head.
    pub(super) fn heads(&mut self, of_size: &str, of_heads: &str) -> Result<[usize; 3], CardError> {
        let (hidden, heads) = (self.size(of_size)?, self.size(of_heads)?);
        match hidden % heads {
            0 => Ok([hidden, heads, hidden / heads]),
            _ => Err(self.malformed(format!("{of_size} {hidden} must be a multiple of {of_heads} {heads}"))),
        }
    }

    /// Takes the name of the function inside the feed-forward block.
    pub(super) fn activation(&mut self, name: &str, usual: &str) -> Result<Activation, CardError> {
        let function: String = self.take(name)?.unwrap_or_else(|| usual.to_owned());
        match function.as_str() {
            "silu" | "swish" => Ok(Activation::Silu),
            other => Activation::parse(other)
                .ok_or_else(|| self.unsupported(name, &function, "gelu, gelu_new, gelu_pytorch_tanh, relu, silu")),
        }
    }

    /// Takes a field that may have one value only, or be missing.
    pub(super) fn only(&mut self, name: &str, value: Value, supported: &'static str) -> Result<(), CardError> {
        match self.left.remove(name) {
            // 1 is 1.0.
            Some(found) if found != value && found.as_f64().is_none_or(|found| Some(found) != value.as_f64()) => {
                Err(self.unsupported(name, &shown(&found), supported))
            }
            _ => Ok(()),
        }
    }

    /// Refuses the fields that are left, but for those without an effect. Then checks the architecture.
    pub(super) fn finish(self, harmless: &[&str], architecture: Architecture) -> Result<Architecture, CardError> {
        let known = |name: &str| HARMLESS.contains(&name) || harmless.contains(&name);
        if let Some((name, value)) = self.left.iter().find(|(name, _)| !known(name)) {
            let supported = "the fields of the family's own configuration (docs/models.md)";
            return Err(self.unsupported(name, &shown(value), supported));
        }
        architecture.check().map_err(|problem| self.malformed(problem))?;
        Ok(architecture)
    }

    pub(super) fn malformed(&self, problem: impl Into<String>) -> CardError {
        CardError::malformed(self.path, problem)
    }

    pub(super) fn unsupported(&self, name: &str, value: &str, supported: &'static str) -> CardError {
        CardError::unsupported(self.path, name, value, supported)
    }
}

/// Returns the text of a value: that of a string without its quotes.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
