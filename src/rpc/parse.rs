//! Checks that several calls share: they turn values of the wire into values that are valid below.

use super::limits::Limits;
use super::status::{Failure, shown};
use crate::collection::DocId;
use crate::embedder::InputType;
use crate::inference::Truncation;
use crate::wire;

/// Checks the number of items in a repeated field.
pub fn count(field: &str, n: usize, min: usize, max: usize) -> Result<(), Failure> {
    if n < min {
        return Err(Failure::invalid(field, format!("{n} items, at least {min} is required")));
    }
    if n > max {
        return Err(Failure::invalid(field, format!("{n} items exceed the limit of {max}")));
    }
    Ok(())
}

/// Checks the size of a text.
pub fn text(field: &str, text: &str, limits: &Limits) -> Result<(), Failure> {
    let (n, max) = (text.len(), limits.max_text_bytes);
    if n > max { Err(Failure::invalid(field, format!("{n} bytes exceed the limit of {max}"))) } else { Ok(()) }
}

/// Checks texts, and reports all that are wrong together.
pub fn texts(field: &str, list: &[String], limits: &Limits) -> Result<(), Failure> {
    let wrong: Vec<_> = list
        .iter()
        .enumerate()
        .filter_map(|(n, item)| match text(&format!("{field}[{n}]"), item, limits) {
            Err(Failure::Invalid(violations)) => Some(violations),
            _ => None,
        })
        .flatten()
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(Failure::Invalid(wrong)) }
}

/// Parses the id of a document.
pub fn id(field: &str, id: &str, limits: &Limits) -> Result<DocId, Failure> {
    if id.len() > limits.max_id_bytes {
        let (n, max) = (id.len(), limits.max_id_bytes);
        return Err(Failure::invalid(field, format!("{n} bytes exceed the limit of {max}")));
    }
    DocId::new(id).ok_or_else(|| Failure::invalid(field, "is empty"))
}

/// Parses the ids of a call, at least one, in order.
pub fn ids(list: &[String], limits: &Limits) -> Result<Vec<DocId>, Failure> {
    count("ids", list.len(), 1, limits.max_texts)?;
    list.iter().enumerate().map(|(n, item)| id(&format!("ids[{n}]"), item, limits)).collect()
}

/// Checks the name of a collection.
pub fn collection_name(field: &str, name: &str, limits: &Limits) -> Result<(), Failure> {
    let (n, max) = (name.len(), limits.max_id_bytes);
    if n == 0 {
        return Err(Failure::invalid(field, "is empty"));
    }
    if n > max {
        return Err(Failure::invalid(field, format!("{n} bytes exceed the limit of {max}")));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.starts_with('.') || !name.chars().all(allowed) {
        let rule = "expected letters, digits, `-`, `_` and `.`, and no dot at the start";
        return Err(Failure::invalid(field, format!("{} is not a name: {rule}", shown(name))));
    }
    Ok(())
}

/// Parses `input_type`.
pub fn input_type(value: i32) -> Result<InputType, Failure> {
    match wire::InputType::try_from(value) {
        Ok(wire::InputType::Unspecified) => Ok(InputType::Plain),
        Ok(wire::InputType::Query) => Ok(InputType::Query),
        Ok(wire::InputType::Document) => Ok(InputType::Document),
        Err(_) => Err(Failure::invalid("input_type", format!("{value} is not a value of InputType"))),
    }
}

/// Parses `truncation`.
pub fn truncation(value: i32) -> Result<Truncation, Failure> {
    match wire::Truncation::try_from(value) {
        Ok(wire::Truncation::Unspecified | wire::Truncation::End) => Ok(Truncation::End),
        Ok(wire::Truncation::Reject) => Ok(Truncation::Reject),
        Err(_) => Err(Failure::invalid("truncation", format!("{value} is not a value of Truncation"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(failure: Failure) -> String {
        tonic::Status::from(failure).message().to_owned()
    }

    #[test]
    fn counts_name_the_field_the_value_and_the_limit() {
        assert_eq!(count("texts", 3, 1, 3), Ok(()));
        assert_eq!(reason(count("texts", 0, 1, 3).unwrap_err()), "texts: 0 items, at least 1 is required");
        assert_eq!(reason(count("texts", 4, 1, 3).unwrap_err()), "texts: 4 items exceed the limit of 3");
    }

    #[test]
    fn collection_names_are_safe_to_use_as_file_names() {
        let limits = Limits { max_id_bytes: 8, ..Limits::default() };
        for name in ["a", "A-b_c.d", "x.y"] {
            assert_eq!(collection_name("name", name, &limits), Ok(()), "{name}");
        }
        for name in ["", ".", "..", ".a", "a/b", "a b", "é", "123456789", "a\0"] {
            assert!(collection_name("name", name, &limits).is_err(), "{name}");
        }
    }

    #[test]
    fn unknown_enum_values_are_refused() {
        assert!(input_type(3).is_err() && input_type(-1).is_err() && truncation(99).is_err());
        assert_eq!(truncation(0), truncation(1));
    }

    #[test]
    fn every_wrong_text_is_named() {
        let limits = Limits { max_text_bytes: 2, ..Limits::default() };
        let list = ["abc".to_owned(), "ab".to_owned(), "abcd".to_owned()];
        let message = reason(texts("b", &list, &limits).unwrap_err());
        assert_eq!(message, "b[0]: 3 bytes exceed the limit of 2; b[2]: 4 bytes exceed the limit of 2");
    }
}
