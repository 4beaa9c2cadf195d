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
mod settings;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::CardError;
use super::file::{parse, read, read_json_if_present};
use super::{digest, layout};
use added::Wanted;
use class::Class;
pub use settings::TruncationSide;
use settings::{Change, Head, Settings, SettingsFile};

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
    /// The model gets the types of tokens.
    pub typed: bool,
    /// The fields of `tokenizer_config.json` that are not settings of every tokenizer: named tokens, a template.
    pub fields: Map<String, Value>,
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
        let name = settings.tokenizer_class.as_deref().or(beside.class);
        let class = Class::of(name, beside.model_type);
        let typed = class::is_typed(&settings, name, beside.model_type);
        let changes = class::changes(class, &head, &settings, &source)?;
        let tokens = added::wanted(directory, &settings.other, &head, &source)?;
        let digest = digest::of_bytes(&bytes);
        let truncation_side = source.truncation_side(&settings, &head)?;
        let max_tokens = source.max_tokens(&settings)?;
        let fields = settings.other;
        let mut file = Self { path: path.clone(), json: bytes, digest, truncation_side, max_tokens, typed, fields };
        file.apply(&changes, &tokens)?;
        if truncation_side == TruncationSide::Left {
            file.digest.push_str(" truncation=left");
        }
        Ok(file)
    }

    /// Reads `tokenizer.json` alone, as the libraries of static vectors do. `max_tokens` is its truncation.
    pub(super) fn alone(directory: &Path) -> Result<Self, CardError> {
        let path = layout::tokenizer(directory)?;
        let json = read(&path)?;
        let head: Head = parse(&path, &json)?;
        let settings = SettingsFile { path: &directory.join("tokenizer_config.json") };
        let truncation_side = settings.truncation_side(&Settings::default(), &head)?;
        let max_tokens = head.truncation.and_then(|truncation| truncation.max_length);
        let digest = digest::of_bytes(&json);
        Ok(Self { path, json, digest, truncation_side, max_tokens, typed: false, fields: Map::new() })
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

#[cfg(test)]
mod tests;
