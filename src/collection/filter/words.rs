//! What a filter's text is made of: words, those of the grammar, and quoted texts, as they are read and written.

use std::fmt::{self, Write};

/// What the grammar keeps for itself, in lower case.
const KEYWORDS: [&str; 8] = ["and", "or", "not", "in", "exists", "null", "true", "false"];

/// The word that a text begins with; may be empty.
pub(super) fn word(text: &str) -> &str {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    if !text.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return "";
    }
    &text[..text.find(|c| !inside(c)).unwrap_or(text.len())]
}

/// A word that the grammar keeps for itself.
pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

/// What is wrong with a quoted text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misquoted {
    /// The quote is not closed.
    Open,
    /// There is an escape between the quotes that JSON lacks.
    Escape,
}

/// The quoted text that a text begins with, and what follows it; `None`: it begins with no quote.
pub(super) fn opening(text: &str) -> Result<Option<(String, &str)>, Misquoted> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else { return Ok(None) };
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => {
                let inside = unescaped(&text[1..at]).ok_or(Misquoted::Escape)?;
                return Ok(Some((inside, &text[at + 1..])));
            }
            _ => {}
        }
    }
    Err(Misquoted::Open)
}

/// What stands between two quotes, by JSON's rules, with `\'` beside `\"`.
fn unescaped(inside: &str) -> Option<String> {
    let mut json = String::with_capacity(inside.len() + 2);
    json.push('"');
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                '\'' => json.push('\''),
                c => json.extend(['\\', c]),
            },
            '"' => json.push_str("\\\""),
            // JSON wants these escaped; people paste them.
            c if c < ' ' => write!(json, "\\u{:04x}", u32::from(c)).ok()?,
            c => json.push(c),
        }
    }
    json.push('"');
    serde_json::from_str(&json).ok()
}

/// A text between double quotes.
pub(super) fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}
