//! The files of a tokenizer, as far as they decide about each other: the settings in `tokenizer_config.json`, and the
//! parts of `tokenizer.json` that settings can change.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::error::CardError;
use crate::model::{layout, switch};

/// The end at which a long text is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TruncationSide {
    /// The end.
    #[default]
    Right,
    /// The beginning.
    Left,
}

/// The fields of `tokenizer_config.json` that matter.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Settings {
    pub(super) tokenizer_class: Option<String>,
    #[serde(default, deserialize_with = "switch::optional")]
    pub(super) do_lower_case: Option<bool>,
    #[serde(default, deserialize_with = "switch::optional")]
    pub(super) strip_accents: Option<bool>,
    #[serde(default, deserialize_with = "switch::optional")]
    pub(super) tokenize_chinese_chars: Option<bool>,
    #[serde(default, deserialize_with = "switch::optional")]
    pub(super) add_prefix_space: Option<bool>,
    #[serde(default, deserialize_with = "switch::optional")]
    pub(super) add_bos_token: Option<bool>,
    #[serde(default, deserialize_with = "switch::optional")]
    pub(super) add_eos_token: Option<bool>,
    #[serde(default, deserialize_with = "switch::optional")]
    pub(super) split_special_tokens: Option<bool>,
    pub(super) truncation_side: Option<String>,
    /// A float, because "no limit" is written as 1e30.
    pub(super) model_max_length: Option<f64>,
    /// The older name of `model_max_length`.
    pub(super) max_len: Option<f64>,
    pub(super) fast_tokenizer_files: Option<Vec<String>>,
    pub(super) model_input_names: Option<Vec<String>>,
    /// All other fields; some of them are tokens.
    #[serde(flatten)]
    pub(super) other: Map<String, Value>,
}

/// The parts of `tokenizer.json` that settings can change. The vocabulary is skipped.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    pub(super) truncation: Option<HeadTruncation>,
    pub(super) normalizer: Option<Value>,
    pub(super) pre_tokenizer: Option<Value>,
    pub(super) post_processor: Option<Value>,
    #[serde(default)]
    pub(super) added_tokens: Vec<Added>,
    pub(super) model: Option<HeadModel>,
}

#[derive(Debug, Deserialize)]
pub(super) struct HeadTruncation {
    pub(super) direction: Option<String>,
    pub(super) max_length: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub(super) struct HeadModel {
    pub(super) unk_token: Option<String>,
}

/// A new value for a part of `tokenizer.json`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    /// The part, as a JSON pointer.
    pub(super) pointer: &'static str,
    /// The new value.
    pub(super) value: Value,
    /// The name of the change in a fingerprint.
    pub(super) name: String,
}

/// The file of the settings. Errors name it.
pub(super) struct SettingsFile<'a> {
    pub(super) path: &'a Path,
}

impl SettingsFile<'_> {
    /// Refuses settings that no tokenizer here can honour.
    pub(super) fn refuse(&self, settings: &Settings) -> Result<(), CardError> {
        if settings.split_special_tokens == Some(true) {
            return Err(self.unsupported("split_special_tokens", "true".to_owned(), "false"));
        }
        let files = settings.fast_tokenizer_files.as_deref().unwrap_or_default();
        if let Some(other) = files.iter().find(|file| *file != layout::TOKENIZER) {
            return Err(self.unsupported("fast_tokenizer_files", other.clone(), layout::TOKENIZER));
        }
        Ok(())
    }

    /// Chooses the side as transformers does: by the settings, or else by the truncation in `tokenizer.json`.
    pub(super) fn truncation_side(&self, settings: &Settings, head: &Head) -> Result<TruncationSide, CardError> {
        let in_file = head.truncation.as_ref().and_then(|truncation| truncation.direction.as_deref());
        match settings.truncation_side.as_deref().or(in_file) {
            None | Some("right" | "Right") => Ok(TruncationSide::Right),
            Some("left" | "Left") => Ok(TruncationSide::Left),
            Some(other) => Err(self.unsupported("truncation_side", other.to_owned(), "right and left")),
        }
    }

    /// Returns the length in the settings.
    pub(super) fn max_tokens(&self, settings: &Settings) -> Result<Option<usize>, CardError> {
        match settings.model_max_length.or(settings.max_len) {
            // The cast of a float saturates.
            Some(length) if length >= 1.0 => Ok(Some(length as usize)),
            Some(length) => Err(self.malformed(format!("model_max_length is {length}, and must be at least 1"))),
            None => Ok(None),
        }
    }

    pub(super) fn malformed(&self, problem: String) -> CardError {
        CardError::malformed(self.path, problem)
    }

    pub(super) fn unsupported(&self, setting: &'static str, value: String, supported: &'static str) -> CardError {
        CardError::unsupported(self.path, setting, value, supported)
    }
}

/// An added token without its id, which follows from the vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Added {
    pub(super) content: String,
    #[serde(default)]
    pub(super) single_word: bool,
    #[serde(default)]
    pub(super) lstrip: bool,
    #[serde(default)]
    pub(super) rstrip: bool,
    #[serde(default = "yes")]
    pub(super) normalized: bool,
    #[serde(default)]
    pub(super) special: bool,
}

/// The default of `normalized`, as in Python's `AddedToken`.
fn yes() -> bool {
    true
}

impl Added {
    pub(super) fn special(content: String) -> Self {
        Self { content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true }
    }
}

/// The token's name in a fingerprint.
impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content, single_word, lstrip, rstrip, normalized, special } = self;
        write!(f, "{content:?}")?;
        for flag in [single_word, lstrip, rstrip, normalized, special] {
            f.write_str(if *flag { "1" } else { "0" })?;
        }
        Ok(())
    }
}
