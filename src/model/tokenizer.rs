//! The tokenizer as transformers makes it of its files: `tokenizer.json`, changed by `tokenizer_config.json`.
//!
//! `tokenizer.json` alone is a whole tokenizer, and most readers stop there. transformers goes on: the class that
//! `tokenizer_config.json` names sets lowercasing, accents, Chinese characters or a first space as its own settings
//! say, adds tokens, and truncates at the side and the length of its settings (`class`). Where versions 4 and 5 of
//! transformers agree, this module does the same; where they do not, `tokenizer.json` counts, or a setting that
//! contradicts it is refused by name (docs/models.md).
//!
//! Invariant: a tokenizer that its settings leave alone is handed out byte for byte, and its part of a fingerprint is
//! the digest of the file. Each change is named in [`TokenizerFile::digest`], so that other tokens mean another model.

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

/// Which end of a long text is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TruncationSide {
    /// The end.
    #[default]
    Right,
    /// The beginning.
    Left,
}

/// A tokenizer's files, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenizerFile {
    /// `tokenizer.json`.
    pub path: PathBuf,
    /// Its content, with the changes that `tokenizer_config.json` makes.
    pub json: Vec<u8>,
    /// SHA-256 of the file in hex, and then each change as ` name=value`.
    pub digest: String,
    /// Which end of a long text is left out.
    pub truncation_side: TruncationSide,
    /// Tokens of a text, if `tokenizer_config.json` says it.
    pub max_tokens: Option<usize>,
}

/// What a tokenizer is read with beside its own files.
#[derive(Debug, Default)]
pub(super) struct Beside<'a> {
    /// `model_type` in `config.json`.
    pub model_type: Option<&'a str>,
    /// `tokenizer_class` in `config.json`.
    pub class: Option<&'a str>,
    /// Settings that replace those of `tokenizer_config.json`.
    pub settings: Map<String, Value>,
}

/// The fields of `tokenizer_config.json` that decide something.
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
    /// A float: "no limit" is written as 1e30.
    model_max_length: Option<f64>,
    /// The older name of the same.
    max_len: Option<f64>,
    fast_tokenizer_files: Option<Vec<String>>,
    /// Everything else, tokens among it.
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// The parts of `tokenizer.json` that settings change. The vocabulary is passed over.
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

/// Another value for a part of `tokenizer.json`.
#[derive(Debug, Clone, PartialEq)]
struct Change {
    /// Where it is, as a JSON pointer.
    pointer: &'static str,
    /// The value that replaces it.
    value: Value,
    /// The change as a fingerprint names it.
    name: String,
}

impl TokenizerFile {
    /// Reads the tokenizer of the model in `directory`.
    pub(super) fn read(directory: &Path, beside: Beside<'_>) -> Result<Self, CardError> {
        let path = layout::tokenizer(directory)?;
        let bytes = read(&path)?;
        let head: Head = parse(&path, &bytes)?;
        let settings_path = directory.join("tokenizer_config.json");
        let source = Source { settings: &settings_path };
        let mut fields: Map<String, Value> = read_json_if_present(source.settings)?.unwrap_or_default();
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

    fn apply(&mut self, changes: &[Change], tokens: &[Wanted]) -> Result<(), CardError> {
        if changes.is_empty() && tokens.is_empty() {
            return Ok(());
        }
        let mut whole: Value = parse(&self.path, &self.json)?;
        for change in changes {
            if let Some(place) = whole.pointer_mut(change.pointer) {
                *place = change.value.clone();
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

/// The file that settings come from, for the messages.
struct Source<'a> {
    settings: &'a Path,
}

impl Source<'_> {
    /// Settings that cannot be honoured, whatever the tokenizer is.
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

    /// As transformers: where the settings do not say it, the file's own truncation does.
    fn truncation_side(&self, settings: &Settings, head: &Head) -> Result<TruncationSide, CardError> {
        let in_file = head.truncation.as_ref().and_then(|truncation| truncation.direction.as_deref());
        match settings.truncation_side.as_deref().or(in_file) {
            None | Some("right" | "Right") => Ok(TruncationSide::Right),
            Some("left" | "Left") => Ok(TruncationSide::Left),
            Some(other) => Err(self.unsupported("truncation_side", other.to_owned(), "right and left")),
        }
    }

    fn max_tokens(&self, settings: &Settings) -> Result<Option<usize>, CardError> {
        match settings.model_max_length.or(settings.max_len) {
            // A cast of a float saturates, and NaN becomes 0.
            Some(length) if length >= 1.0 => Ok(Some(length as usize)),
            Some(length) => Err(self.malformed(format!("model_max_length is {length}, and must be 1 or more"))),
            None => Ok(None),
        }
    }

    fn malformed(&self, problem: String) -> CardError {
        CardError::Malformed { path: self.settings.to_owned(), problem }
    }

    fn unsupported(&self, setting: &'static str, value: String, supported: &'static str) -> CardError {
        CardError::Unsupported { path: self.settings.to_owned(), setting, value, supported }
    }
}

#[cfg(test)]
mod tests;
