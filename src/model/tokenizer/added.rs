//! Tokens that settings add to a vocabulary or change. The tokenizer finds them in a text before it does anything else.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::settings::{Added, Head, SettingsFile};
use crate::model::error::CardError;
use crate::model::file::read_json_if_present;

/// A token that the settings want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub token: Added,
    /// The token has a role: `cls_token` for example.
    pub role: bool,
}

/// The settings that name tokens with a role.
const NAMED: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The settings that list further tokens: the newer name and the older.
const LISTS: [&str; 2] = ["extra_special_tokens", "additional_special_tokens"];

/// Lists the tokens in the settings that `tokenizer.json` does not have, or has with other flags.
pub(super) fn wanted(
    directory: &Path,
    settings: &Map<String, Value>,
    head: &Head,
    source: &SettingsFile<'_>,
) -> Result<Vec<Wanted>, CardError> {
    let mut wanted: Vec<Added> = Vec::new();
    let mut settings = settings.clone();
    match settings.get("added_tokens_decoder").and_then(Value::as_object) {
        Some(decoder) => {
            let mut numbered = Vec::with_capacity(decoder.len());
            for (number, token) in decoder {
                let number: u64 = number
                    .parse()
                    .map_err(|_| source.malformed(format!("added_tokens_decoder: {number:?} is not a number")))?;
                numbered.push((number, parse(token, source)?));
            }
            numbered.sort_by_key(|(number, _)| *number);
            wanted.extend(numbered.into_iter().map(|(_, token)| token));
        }
        // This older file counts only without the newer setting.
        None => {
            let path = directory.join("special_tokens_map.json");
            settings.extend(read_json_if_present::<Map<String, Value>>(&path)?.unwrap_or_default());
        }
    }
    wanted.retain(|token| !token.content.is_empty() && !head.added_tokens.contains(token));
    let known =
        |wanted: &[Added], content: &str| wanted.iter().chain(&head.added_tokens).any(|token| token.content == content);
    for list in LISTS {
        for token in settings.get(list).and_then(Value::as_array).into_iter().flatten() {
            let token = if token.is_string() { special(token) } else { Some(parse(token, source)?) };
            if let Some(token) = token.filter(|token| !known(&wanted, &token.content)) {
                wanted.push(token);
            }
        }
    }
    let mut all: Vec<Wanted> = wanted.iter().cloned().map(|token| Wanted { token, role: false }).collect();
    for token in NAMED.iter().filter_map(|name| special(settings.get(*name)?)) {
        if !known(&wanted, &token.content) {
            wanted.push(token.clone());
            all.push(Wanted { token, role: true });
        }
    }
    Ok(all)
}

/// Reads a token with a role. It is special, whatever its own flag is.
fn special(token: &Value) -> Option<Added> {
    if token.is_object() {
        let token: Added = serde_json::from_value(token.clone()).ok()?;
        return Some(Added { special: true, ..token });
    }
    content(token).filter(|content| !content.is_empty()).map(Added::special)
}

/// Reads an added token.
fn parse(token: &Value, source: &SettingsFile<'_>) -> Result<Added, CardError> {
    serde_json::from_value(token.clone())
        .map_err(|error| source.malformed(format!("the added token {token} is invalid: {error}")))
}

/// Returns the text of a token, which is written as a string or as an object.
pub(super) fn content(token: &Value) -> Option<String> {
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
}

/// Adds a token to a whole `tokenizer.json`, with its id in the vocabulary or else the next free one. Returns whether
/// it was added: a token with a role that is not in the vocabulary is left out, because the model has no vector for it.
pub(super) fn add(whole: &mut Value, Wanted { token, role }: &Wanted) -> bool {
    let mut tokens = whole.get("added_tokens").and_then(Value::as_array).cloned().unwrap_or_default();
    let number = |token: &Value| token.get("id").and_then(Value::as_u64);
    let before = tokens.iter().position(|other| other.get("content").and_then(Value::as_str) == Some(&token.content));
    let known = before.and_then(|index| number(&tokens[index])).or_else(|| in_vocabulary(whole, &token.content));
    let id = match known {
        Some(id) => id,
        None if *role => return false,
        None => {
            let size = vocabulary_size(whole);
            let last = tokens.iter().filter_map(number).max();
            last.filter(|last| *last >= size).map_or(size, |last| last + 1)
        }
    };
    let mut entry = json!(token);
    entry["id"] = json!(id);
    match before {
        Some(index) => tokens[index] = entry,
        None => tokens.push(entry),
    }
    whole["added_tokens"] = Value::Array(tokens);
    true
}

/// Counts the tokens of the vocabulary.
fn vocabulary_size(whole: &Value) -> u64 {
    match whole.pointer("/model/vocab") {
        Some(Value::Object(vocabulary)) => vocabulary.len() as u64,
        Some(Value::Array(pieces)) => pieces.len() as u64,
        _ => 0,
    }
}

/// Finds a token's id in the vocabulary.
fn in_vocabulary(whole: &Value, content: &str) -> Option<u64> {
    match whole.pointer("/model/vocab")? {
        Value::Object(vocabulary) => vocabulary.get(content)?.as_u64(),
        Value::Array(pieces) => {
            pieces.iter().position(|piece| piece.get(0).and_then(Value::as_str) == Some(content)).map(|n| n as u64)
        }
        _ => None,
    }
}
