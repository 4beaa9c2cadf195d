//! Metadata as tokens: words of one field, by which filters find a document.
//!
//! ```text
//! {"a": {"b": [1, "x"]}}  →  ["a"]  ["a","b"]  ["a","b"]2bff0000000000000  ["a","b"]3x
//! ```
//! A token begins with the list of the keys of a path, as JSON. Alone it says that the field exists. A digit and a
//! value may follow: one token for each value, of lists the values of their elements. Tokens of one path sort as
//! [`Scalar`] does, so a range of numbers is a range of tokens.
//!
//! Invariant: two values have the same token only if an equality filter takes them for the same. No token is longer
//! than the engine can store.

use std::fmt::Write;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::collection::filter::{Finite, Path, Scalar};

/// The token of the empty path, which every document has.
pub(super) const EVERY: &str = "[]";

/// A longer list of keys is stored as its digest. 96: a list of a thousand numbers repeats its path a thousand times.
const MOST_PATH_BYTES: usize = 96;

/// A longer text is stored as its digest. A token may have 32,766 bytes (Lucene).
const MOST_TEXT_BYTES: usize = 16_000;

/// The tokens of a document.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tokens {
    /// The tokens of all fields and values, each once, in order.
    pub all: Vec<String>,
    /// The tokens of values outside lists: documents that share one may be a group.
    pub single: Vec<String>,
}

impl Tokens {
    /// The tokens of a document with this metadata.
    pub fn of(fields: &Map<String, Value>) -> Self {
        let mut tokens = Self::default();
        tokens.enter(fields, &mut Vec::new(), true);
        tokens.all.push(EVERY.to_owned());
        tokens.all.sort_unstable();
        tokens.all.dedup();
        tokens
    }

    fn enter<'m>(&mut self, fields: &'m Map<String, Value>, keys: &mut Vec<&'m str>, is_single: bool) {
        for (key, value) in fields {
            keys.push(key);
            let field = of_keys(keys);
            self.value(&field, value, keys, is_single);
            self.all.push(field);
            keys.pop();
        }
    }

    fn value<'m>(&mut self, field: &str, value: &'m Value, keys: &mut Vec<&'m str>, is_single: bool) {
        match value {
            Value::Object(fields) => self.enter(fields, keys, is_single),
            Value::Array(elements) => {
                elements.iter().for_each(|element| self.value(field, element, keys, false));
            }
            one => {
                let Some(scalar) = Scalar::of(one) else { return };
                let token = of_value(field, &scalar);
                if is_single && scalar != Scalar::Null {
                    self.single.push(token.clone());
                }
                self.all.push(token);
            }
        }
    }
}

/// The token that says that a field exists.
pub(super) fn of_field(path: &Path) -> String {
    of_keys(path.keys())
}

/// The token of a value of a field, by the token of the field.
pub(super) fn of_value(field: &str, value: &Scalar) -> String {
    match value {
        Scalar::Null => format!("{field}0"),
        Scalar::Bool(false) => format!("{field}1f"),
        Scalar::Bool(true) => format!("{field}1t"),
        Scalar::Number(number) => format!("{field}2{:016x}", in_order(*number)),
        Scalar::Text(text) if text.len() <= MOST_TEXT_BYTES => format!("{field}3{text}"),
        Scalar::Text(text) => format!("{field}4{}", digest(text.as_bytes())),
    }
}

/// The value of a token, by what stands behind the token of its field; `None`: it is the digest of a long text, or no
/// token of a value.
pub(super) fn value_of(behind_field: &str) -> Option<Scalar> {
    let (kind, value) = (behind_field.chars().next()?, behind_field.get(1..)?);
    Some(match (kind, value) {
        ('0', "") => Scalar::Null,
        ('1', "f") => Scalar::Bool(false),
        ('1', "t") => Scalar::Bool(true),
        ('2', digits) => Scalar::Number(number_of(u64::from_str_radix(digits, 16).ok()?)?),
        ('3', text) => Scalar::Text(text.into()),
        _ => return None,
    })
}

fn of_keys<K: AsRef<str> + serde::Serialize>(keys: &[K]) -> String {
    let list = serde_json::to_string(keys).expect("a list of texts is JSON");
    // No list of texts begins with "[#".
    if list.len() <= MOST_PATH_BYTES { list } else { format!("[#{}]", digest(list.as_bytes())) }
}

/// The bits of a number, whose order as digits is that of the numbers: those of a negative one are inverted, and the
/// others get the first bit.
fn in_order(number: Finite) -> u64 {
    let bits = number.get().to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn number_of(ordered: u64) -> Option<Finite> {
    Finite::new(f64::from_bits(if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered }))
}

/// SHA-256 as hexadecimal digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn numbers() -> impl Strategy<Value = Finite> {
        any::<f64>().prop_filter_map("a finite number", Finite::new)
    }

    proptest! {
        #[test]
        fn tokens_of_numbers_sort_as_the_numbers_do(a in numbers(), b in numbers()) {
            let token = |number| of_value("", &Scalar::Number(number));
            prop_assert_eq!(token(a).cmp(&token(b)), a.cmp(&b));
            prop_assert_eq!(value_of(&token(a)), Some(Scalar::Number(a)));
        }

        #[test]
        fn a_text_is_read_from_its_token(text in ".{0,20}") {
            let scalar = Scalar::Text(text.into());
            prop_assert_eq!(value_of(&of_value("", &scalar)), Some(scalar));
        }
    }

    #[test]
    fn fields_and_values_are_tokens_of_their_paths() {
        let fields = json!({"a": {"b": [1, "x", {"c": null}]}, "d": true, "e": [], "f": null});
        let tokens = Tokens::of(fields.as_object().unwrap());
        assert_eq!(
            tokens.all,
            [
                r#"["a","b","c"]"#,
                r#"["a","b","c"]0"#,
                r#"["a","b"]"#,
                r#"["a","b"]2bff0000000000000"#,
                r#"["a","b"]3x"#,
                r#"["a"]"#,
                r#"["d"]"#,
                r#"["d"]1t"#,
                r#"["e"]"#,
                r#"["f"]"#,
                r#"["f"]0"#,
                "[]",
            ]
        );
        assert_eq!(tokens.single, [r#"["d"]1t"#]);
    }

    #[test]
    fn long_keys_and_texts_are_digests() {
        let long = "k".repeat(40_000);
        let fields = json!({ &long: &long, "a": &long });
        let tokens = Tokens::of(fields.as_object().unwrap());
        assert!(tokens.all.iter().all(|token| token.len() < 200), "{tokens:?}");
        assert_eq!(tokens.all.len(), 5);
        assert!(tokens.all.contains(&of_field(&Path::new(vec![long]).unwrap())));
    }
}
