//! The path to a field of metadata.
//!
//! ```text
//! path = key { "." key }        key = quoted | one or more characters other than "."
//! ```
//! A quoted key stands in single or double quotes with JSON's escapes, and reaches every key: `"a.b".c`, `""`. A
//! key that is not quoted as a whole, for example `it's`, is taken literally. A path enters objects, and each
//! object in a list: `authors.name` is the name of each author.
//!
//! Invariant: a printed path parses to the same path, here and in the text of a filter.

use serde_json::{Map, Value};

use super::words::opening;

/// The longest name in bytes that is also tried as one literal key. Longer keys need quotes.
pub const MAX_VERBATIM: usize = 1_024;

/// The keys to a field, from the outside in; at least one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<String>);

impl Path {
    /// Parses a path. `None` if a key without quotes is empty.
    pub fn parse(path: &str) -> Option<Self> {
        let mut keys = Vec::new();
        let mut rest = path;
        loop {
            let (key, after) = quoted_key(rest).or_else(|| plain_key(rest))?;
            keys.push(key);
            match after.strip_prefix('.') {
                Some(more) => rest = more,
                None => return Some(Self(keys)),
            }
        }
    }

    /// The readings of a field name in a request: first as a path, then as one literal key. Metadata from elsewhere
    /// has keys with dots, and clients may not know that dots separate keys here. `None` if the name is not a path
    /// and is longer than `MAX_VERBATIM`.
    pub fn readings(name: &str) -> Option<Vec<Self>> {
        let verbatim = (name.len() <= MAX_VERBATIM).then(|| Self(vec![name.to_owned()]));
        match (Self::parse(name), verbatim) {
            (Some(path), Some(verbatim)) if path != verbatim => Some(vec![path, verbatim]),
            (path, verbatim) => Some(vec![path.or(verbatim)?]),
        }
    }

    /// Makes a path of these keys; `None` without keys.
    pub fn new(keys: Vec<String>) -> Option<Self> {
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// The keys, from the outside in.
    pub fn keys(&self) -> &[String] {
        &self.0
    }

    /// The field's value, if no list is on the way to it.
    pub(in super::super) fn find<'m>(&self, metadata: &'m Map<String, Value>) -> Option<&'m Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(metadata.get(first)?, |value, key| value.get(key))
    }

    /// True if the field exists, also in an object in a list.
    pub(in super::super) fn exists(&self, metadata: &Map<String, Value>) -> bool {
        self.any(metadata, &|_| true)
    }

    /// True if `test` holds for one occurrence of the field. Objects in lists may have several.
    fn any(&self, metadata: &Map<String, Value>, test: &impl Fn(&Value) -> bool) -> bool {
        let Some((first, rest)) = self.0.split_first() else { return false };
        metadata.get(first).is_some_and(|value| any_below(value, rest, test))
    }

    /// True if `test` holds for the field's value or for an element of it, in nested lists too.
    pub(super) fn any_value(&self, metadata: &Map<String, Value>, test: impl Fn(&Value) -> bool) -> bool {
        self.any(metadata, &|field| any_element(field, &test))
    }
}

/// Splits off the quoted key that a path begins with. A dot or the end must follow.
fn quoted_key(path: &str) -> Option<(String, &str)> {
    let (key, after) = opening(path).ok()??;
    (after.is_empty() || after.starts_with('.')).then_some((key, after))
}

/// Splits off the characters up to a dot or the end.
fn plain_key(path: &str) -> Option<(String, &str)> {
    let (key, after) = path.split_at(path.find('.').unwrap_or(path.len()));
    (!key.is_empty()).then(|| (key.to_owned(), after))
}

fn any_below(value: &Value, keys: &[String], test: &impl Fn(&Value) -> bool) -> bool {
    match (keys.split_first(), value) {
        (None, value) => test(value),
        (Some((key, rest)), Value::Object(fields)) => fields.get(key).is_some_and(|value| any_below(value, rest, test)),
        (Some(_), Value::Array(elements)) => elements.iter().any(|element| any_below(element, keys, test)),
        (Some(_), _) => false,
    }
}

fn any_element(value: &Value, test: &impl Fn(&Value) -> bool) -> bool {
    match value {
        Value::Array(elements) => elements.iter().any(|element| any_element(element, test)),
        one => test(one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(path: &str) -> Option<Vec<String>> {
        Some(Path::parse(path)?.keys().to_vec())
    }

    #[test]
    fn quotes_reach_every_key_and_what_was_a_plain_path_stays_one() {
        for (path, expected) in [
            ("a", vec!["a"]),
            ("a.b c", vec!["a", "b c"]),
            ("it's.x\"y\"", vec!["it's", "x\"y\""]),
            (r#""a.b".c"#, vec!["a.b", "c"]),
            (r"c.'a.b'", vec!["c", "a.b"]),
            (r#""""#, vec![""]),
            (r#"a."".'"'"#, vec!["a", "", "\""]),
            (r#""\u0000\"\\.""#, vec!["\0\"\\."]),
            ("'70s.rock", vec!["'70s", "rock"]),
            ("\"a\"b", vec!["\"a\"b"]),
        ] {
            assert_eq!(keys(path), Some(expected.into_iter().map(str::to_owned).collect()), "{path}");
        }
    }

    #[test]
    fn keys_that_are_empty_without_quotes_are_no_path() {
        for wrong in ["", ".", "a.", ".a", "a..b", "\"a\"."] {
            assert_eq!(keys(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_with_a_dot_is_a_path_and_a_key_too() {
        let readings = |name: &str| -> Vec<String> {
            Path::readings(name).unwrap().iter().map(|path| path.keys().join("/")).collect()
        };
        assert_eq!(readings("a"), ["a"]);
        assert_eq!(readings("a.b"), ["a/b", "a.b"]);
        assert_eq!(readings("\"a.b\""), ["a.b", "\"a.b\""]);
        assert_eq!(readings("a..b"), ["a..b"]);
        assert_eq!(readings(""), [""]);
        let dots = ".".repeat(MAX_VERBATIM + 1);
        assert_eq!(Path::readings(&dots), None, "too long for a key without quotes");
        assert_eq!(readings(&format!("\"{dots}\"")), [dots]);
    }
}
