//! Words, keywords and quoted texts of a filter: reading and printing.

use std::fmt::{self, Write};

/// Keywords of the grammar, in lower case.
const KEYWORDS: [&str; 8] = ["and", "or", "not", "in", "exists", "null", "true", "false"];

/// The word that a text begins with; may be empty.
pub(super) fn word(text: &str) -> &str {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    if !text.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        return "";
    }
    &text[..text.find(|c| !inside(c)).unwrap_or(text.len())]
}

/// True if the word is a keyword.
pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

/// Reasons why a quoted text is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misquoted {
    /// The closing quote is missing.
    Open,
    /// JSON does not know an escape in it.
    Escape,
}

/// Splits off the quoted text that a text begins with; `None` if it does not begin with a quote.
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

/// Resolves the escapes of a quoted text: those of JSON, and `\'`.
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
            // JSON requires escapes for these, but people paste them as they are.
            c if c < ' ' => write!(json, "\\u{:04x}", u32::from(c)).ok()?,
            c => json.push(c),
        }
    }
    json.push('"');
    serde_json::from_str(&json).ok()
}

/// Prints a text in double quotes.
pub(super) fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}
