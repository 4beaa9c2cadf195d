//! The tokenizer as transformers builds it: `tokenizer.json`, changed by `tokenizer_config.json`.
//!
//! `tokenizer.json` alone is a whole tokenizer. transformers changes it further. The class in `tokenizer_config.json`
//! sets lowercasing, accents, Chinese characters or a first space from its settings (`class.rs`). It adds tokens
//! (`added.rs`), and truncates at the side and the length of its settings. Where versions 4 and 5 of transformers
//! agree, this module does the same. Where they differ, `tokenizer.json` counts, or a setting that contradicts it is
//! refused by name (docs/models.md).
//!
//! Invariant: a tokenizer that its settings do not change stays the same byte for byte, and its part of a fingerprint
//! is the digest of the file. [`TokenizerFile::digest`] names each change, so other tokens mean another model.

mod added;
mod class;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::CardError;
use super::file::{parse, read, read_json_if_present};
use super::{fingerprint, layout, switch};
use added::{Added, Wanted};
use class::Class;

/// The end at which a long text is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TruncationSide {
    /// The end.
    #[default]
    Right,
    /// The beginning.
    Left,
}

/// A tokenizer, read from its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenizerFile {
    /// The path of `tokenizer.json`.
    pub path: PathBuf,
    /// The content of `tokenizer.json`, with the changes of `tokenizer_config.json`.
    pub json: Vec<u8>,
    /// SHA-256 of the file in hex, followed by each change as ` name=value`.
    pub digest: String,
    /// The end at which a long text is cut off.
    pub truncation_side: TruncationSide,
    /// Maximum tokens of a text, if `tokenizer_config.json` has it.
    pub max_tokens: Option<usize>,
}

/// Settings of a tokenizer outside its own files.
#[derive(Debug, Default)]
pub(super) struct Beside<'a> {
    /// `model_type` in `config.json`.
    pub model_type: Option<&'a str>,
    /// `tokenizer_class` in `config.json`.
    pub class: Option<&'a str>,
    /// Settings that replace those of `tokenizer_config.json`.
    pub settings: Map<String, Value>,
}

/// The fields of `tokenizer_config.json` that matter.
#[derive(Debug, Default, Deserialize)]
struct Settings {
    tokenizer_class: Option<String>,
    #[serde(default, deserialize_with = "switch::optional")]
    do_lower_case: Option<bool>,
    #[serde(default, deserialize_with = "switch::optional")]
    strip_accents: Option<bool>,
    #[serde(default, deserialize_with = "switch::optional")]
    tokenize_chinese_chars: Option<bool>,
    #[serde(default, deserialize_with = "switch::optional")]
    add_prefix_space: Option<bool>,
    #[serde(default, deserialize_with = "switch::optional")]
    split_special_tokens: Option<bool>,
    truncation_side: Option<String>,
    /// A float, because "no limit" is written as 1e30.
    model_max_length: Option<f64>,
    /// The older name of `model_max_length`.
    max_len: Option<f64>,
    fast_tokenizer_files: Option<Vec<String>>,
    /// All other fields; some of them are tokens.
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// The parts of `tokenizer.json` that settings can change. The vocabulary is skipped.
#[derive(Debug, Deserialize)]
struct Head {
    truncation: Option<HeadTruncation>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Option<HeadModel>,
}

#[derive(Debug, Deserialize)]
struct HeadTruncation {
    direction: Option<String>,
}

#[derive(Debug, Deserialize)]
struct HeadModel {
    unk_token: Option<String>,
}

/// A new value for a part of `tokenizer.json`.
#[derive(Debug, Clone, PartialEq)]
struct Change {
    /// The part, as a JSON pointer.
    pointer: &'static str,
    /// The new value.
    value: Value,
    /// The name of the change in a fingerprint.
    name: String,
}

impl TokenizerFile {
    /// Reads the tokenizer of the model in `directory`.
    pub(super) fn read(directory: &Path, beside: Beside<'_>) -> Result<Self, CardError> {
        let path = layout::tokenizer(directory)?;
        let bytes = read(&path)?;
        let head: Head = parse(&path, &bytes)?;
        let settings_path = directory.join("tokenizer_config.json");
        let source = SettingsFile { path: &settings_path };
        let mut fields: Map<String, Value> = read_json_if_present(source.path)?.unwrap_or_default();
        fields.extend(beside.settings);
        let settings: Settings =
            serde_json::from_value(Value::Object(fields)).map_err(|error| source.malformed(error.to_string()))?;
        source.refuse(&settings)?;
        let class = Class::of(settings.tokenizer_class.as_deref().or(beside.class), beside.model_type);
        let changes = class::changes(class, &head, &settings, &source)?;
        let tokens = added::wanted(directory, &settings.other, &head, &source)?;
        let digest = fingerprint::bytes(&bytes);
        let truncation_side = source.truncation_side(&settings, &head)?;
        let max_tokens = source.max_tokens(&settings)?;
        let mut file = Self { path: path.clone(), json: bytes, digest, truncation_side, max_tokens };
        file.apply(&changes, &tokens)?;
        if truncation_side == TruncationSide::Left {
            file.digest.push_str(" truncation=left");
        }
        Ok(file)
    }

    /// Applies changes and added tokens.
    fn apply(&mut self, changes: &[Change], tokens: &[Wanted]) -> Result<(), CardError> {
        if changes.is_empty() && tokens.is_empty() {
            return Ok(());
        }
        let mut whole: Value = parse(&self.path, &self.json)?;
        for change in changes {
            if let Some(part) = whole.pointer_mut(change.pointer) {
                *part = change.value.clone();
            }
            self.digest.push_str(&format!(" {}", change.name));
        }
        for wanted in tokens {
            if added::add(&mut whole, wanted) {
                self.digest.push_str(&format!(" token={}", wanted.token));
            }
        }
        self.json = whole.to_string().into_bytes();
        Ok(())
    }
}

/// The file of the settings. Errors name it.
struct SettingsFile<'a> {
    path: &'a Path,
}

impl SettingsFile<'_> {
    /// Refuses settings that no tokenizer here can honour.
    fn refuse(&self, settings: &Settings) -> Result<(), CardError> {
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
    fn truncation_side(&self, settings: &Settings, head: &Head) -> Result<TruncationSide, CardError> {
        let in_file = head.truncation.as_ref().and_then(|truncation| truncation.direction.as_deref());
        match settings.truncation_side.as_deref().or(in_file) {
            None | Some("right" | "Right") => Ok(TruncationSide::Right),
            Some("left" | "Left") => Ok(TruncationSide::Left),
            Some(other) => Err(self.unsupported("truncation_side", other.to_owned(), "right and left")),
        }
    }

    /// Returns the length in the settings.
    fn max_tokens(&self, settings: &Settings) -> Result<Option<usize>, CardError> {
        match settings.model_max_length.or(settings.max_len) {
            // The cast of a float saturates.
            Some(length) if length >= 1.0 => Ok(Some(length as usize)),
            Some(length) => Err(self.malformed(format!("model_max_length is {length}, and must be at least 1"))),
            None => Ok(None),
        }
    }

    fn malformed(&self, problem: String) -> CardError {
        CardError::Malformed { path: self.path.to_owned(), problem }
    }

    fn unsupported(&self, setting: &'static str, value: String, supported: &'static str) -> CardError {
        CardError::Unsupported { path: self.path.to_owned(), setting, value, supported }
    }
}

#[cfg(test)]
mod tests;
