//! Parses a document from a JSON object.

use std::borrow::Cow;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

use super::error::Bad;
use super::number::{self as numbers, Double, LargeNumbers};
use super::options::Options;
use super::record::Parsed;
use super::syntax::{self, Node, shortened};
use crate::wire::metadata::MAX_DEPTH;
use crate::wire::{Document, Passage, Vector};

type Fields<'t> = Vec<(Cow<'t, str>, Node<'t>)>;

/// Parses `{"id": …, "text": …, "metadata": {…}, "vector": […], "passages": [{"start": …, "end": …, "vector": […]},
/// …]}`. One of text and vector is required. Fields with other names are added to the metadata, and so is a field
/// `passages` that is not a list of such objects. A number as id keeps its digits.
pub(super) fn document(text: &str, line: u64, options: &Options) -> Result<Parsed, Bad> {
    let node = syntax::parse(text).map_err(|invalid| Bad::NotJson(invalid.to_string()))?;
    let Node::Object(mut fields) = node else { return Err(Bad::NotAnObject) };
    for (named, flag) in [(&options.id_column, "--id-column"), (&options.text_column, "--text-column")] {
        if let Some(name) = named.as_ref().filter(|&name| fields.iter().all(|(field, _)| field != name)) {
            let names: Vec<String> = fields.iter().map(|(field, _)| format!("{field:?}")).collect();
            return Err(Bad::NoField { name: shortened(name), flag, fields: shortened(&names.join(", ")) });
        }
    }

    let id = match take(&mut fields, options.id_column()) {
        None => None,
        Some(Node::String(id)) => Some(id.into_owned()),
        Some(Node::Number(digits)) => Some(digits.to_owned()),
        Some(_) => return Err(wrong_type(options.id_column(), "a string or a number")),
    };
    let text = match take(&mut fields, options.text_column()) {
        None => None,
        Some(Node::String(text)) => Some(text.into_owned()),
        Some(_) => return Err(wrong_type(options.text_column(), "a string")),
    };
    let vector = match take(&mut fields, "vector") {
        None => None,
        Some(Node::Array(numbers)) => Some(vector(&numbers)?),
        Some(_) => return Err(wrong_type("vector", "a list of numbers")),
    };
    let passages = match fields.iter().any(|(name, node)| name == "passages" && are_passages(node)) {
        true => take(&mut fields, "passages").map_or_else(|| Ok(Vec::new()), passages)?,
        false => Vec::new(),
    };
    if text.is_none() && vector.is_none() {
        return Err(Bad::Empty);
    }
    let (metadata, given) = match take(&mut fields, "metadata") {
        None => (Vec::new(), false),
        Some(Node::Object(fields)) => (fields, true),
        Some(_) => return Err(wrong_type("metadata", "an object")),
    };
    let (metadata, large_numbers) = merge(metadata, fields, options.large_numbers)?;
    let metadata = (given || !metadata.fields.is_empty()).then_some(metadata);
    let document = Document { text: text.unwrap_or_default(), metadata, vector, passages, ..Default::default() };
    Ok(Parsed::new(id, document, line, options).with_large_numbers(large_numbers))
}

/// Removes a field. A null counts as missing.
fn take<'t>(fields: &mut Fields<'t>, name: &str) -> Option<Node<'t>> {
    let at = fields.iter().position(|(field, _)| field == name)?;
    Some(fields.remove(at).1).filter(|node| *node != Node::Null)
}

/// The names of a passage's fields.
const PASSAGE_FIELDS: [&str; 3] = ["start", "end", "vector"];

/// True for a list of objects with the fields of passages, as an export has it.
fn are_passages(node: &Node<'_>) -> bool {
    let is_passage = |node: &Node<'_>| match node {
        Node::Object(fields) => {
            fields.len() == 3 && PASSAGE_FIELDS.iter().all(|wanted| fields.iter().any(|(name, _)| name == wanted))
        }
        _ => false,
    };
    matches!(node, Node::Array(items) if !items.is_empty() && items.iter().all(is_passage))
}

fn passages(node: Node<'_>) -> Result<Vec<Passage>, Bad> {
    let Node::Array(items) = node else { return Ok(Vec::new()) };
    let wrong = |n: usize, name: &str, expected| Bad::WrongType { field: format!("passages[{n}].{name}"), expected };
    let passage = |(n, node): (usize, Node<'_>)| {
        let Node::Object(mut fields) = node else { return Err(wrong_type("passages", "a list of objects")) };
        let mut byte = |name| match take(&mut fields, name) {
            Some(Node::Number(digits)) => digits.parse().map_err(|_| wrong(n, name, "a number of bytes")),
            _ => Err(wrong(n, name, "a number of bytes")),
        };
        let (start, end) = (byte("start")?, byte("end")?);
        let vector = match take(&mut fields, "vector") {
            Some(Node::Array(numbers)) => vector(&numbers)?,
            _ => return Err(wrong(n, "vector", "a list of numbers")),
        };
        Ok(Passage { start, end, vector: Some(vector), ..Default::default() })
    };
    items.into_iter().enumerate().map(passage).collect()
}

fn vector(numbers: &[Node<'_>]) -> Result<Vector, Bad> {
    let value = |(position, node): (usize, &Node<'_>)| {
        // Parsed directly to 32 bits, so an exported vector is read back exactly.
        let value = match node {
            Node::Number(digits) => digits.parse::<f32>().ok(),
            _ => return Err(wrong_type("vector", "a list of numbers")),
        };
        value.filter(|value| value.is_finite()).ok_or_else(|| Bad::WrongType {
            field: format!("vector[{position}]"),
            expected: "within the range of 32-bit floats",
        })
    };
    Ok(Vector { values: numbers.iter().enumerate().map(value).collect::<Result<_, _>>()?, ..Default::default() })
}

/// Merges the metadata of a record: the fields of `metadata`, and the other fields of the record. Returns it with the
/// number of numbers that are stored differently from the file.
fn merge(inside: Fields<'_>, beside: Fields<'_>, large: LargeNumbers) -> Result<(Struct, u32), Bad> {
    let (mut metadata, mut converting) = (Struct::default(), Converting { path: Vec::new(), large, large_numbers: 0 });
    let is_inside = inside.into_iter().map(|field| (true, field)).chain(beside.into_iter().map(|field| (false, field)));
    for (inside, (name, node)) in is_inside {
        if inside {
            converting.path.push("metadata".into());
        }
        let value = converting.field(&name, node)?;
        converting.path.clear();
        if metadata.fields.contains_key(&*name) {
            return Err(Bad::Twice(shortened(&name)));
        }
        metadata.fields.insert(name.into_owned(), value);
    }
    Ok((metadata, converting.large_numbers))
}

/// The conversion from JSON to the wire.
struct Converting {
    /// Names and positions on the path to the value, for messages.
    path: Vec<String>,
    large: LargeNumbers,
    large_numbers: u32,
}

impl Converting {
    fn field(&mut self, name: &str, node: Node<'_>) -> Result<Value, Bad> {
        self.path.push(name.to_owned());
        let inside_metadata = usize::from(self.path[0] == "metadata" && self.path.len() > 1);
        if self.path.len() - inside_metadata > MAX_DEPTH {
            return Err(Bad::TooDeep { field: self.shown() });
        }
        let value = self.value(node)?;
        self.path.pop();
        Ok(value)
    }

    fn value(&mut self, node: Node<'_>) -> Result<Value, Bad> {
        let kind = match node {
            Node::Null => Kind::NullValue(0),
            Node::Bool(truth) => Kind::BoolValue(truth),
            Node::String(text) => Kind::StringValue(text.into_owned()),
            Node::Number(digits) => {
                let (path, large) = (&self.path, self.large);
                number(digits, || shortened(&path.join(".")), large, &mut self.large_numbers)?
            }
            Node::Array(items) => {
                let items = items.into_iter().enumerate();
                let values = items.map(|(position, item)| self.field(&position.to_string(), item));
                Kind::ListValue(ListValue { values: values.collect::<Result<_, _>>()? })
            }
            Node::Object(fields) => {
                let fields = fields.into_iter();
                let fields = fields.map(|(name, node)| {
                    let value = self.field(&name, node)?;
                    Ok((name.into_owned(), value))
                });
                Kind::StructValue(Struct { fields: fields.collect::<Result<_, Bad>>()? })
            }
        };
        Ok(Value { kind: Some(kind) })
    }

    fn shown(&self) -> String {
        shortened(&self.path.join("."))
    }
}

/// Converts a number of the metadata. `large_numbers` counts those that are stored differently from the file.
pub(super) fn number(
    digits: &str,
    field: impl FnOnce() -> String,
    large: LargeNumbers,
    large_numbers: &mut u32,
) -> Result<Kind, Bad> {
    match numbers::double(digits) {
        Ok(Double::Same(value)) => Ok(Kind::NumberValue(value)),
        Ok(Double::Rounded(nearest)) => match large {
            LargeNumbers::Refuse => {
                Err(Bad::LargeNumber { field: field(), digits: shortened(digits), nearest: format!("{nearest:.0}") })
            }
            LargeNumbers::Text => {
                *large_numbers += 1;
                Ok(Kind::StringValue(digits.to_owned()))
            }
            LargeNumbers::Round => {
                *large_numbers += 1;
                Ok(Kind::NumberValue(nearest))
            }
        },
        Err(reason) => Err(Bad::OutOfRange { field: field(), digits: shortened(digits), reason: reason.to_string() }),
    }
}

fn wrong_type(field: &str, expected: &'static str) -> Bad {
    Bad::WrongType { field: shortened(field), expected }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::reader::{Format, MadeUpIds};
    use crate::wire::metadata;

    fn options() -> Options {
        let made_up_ids = MadeUpIds::ByLine { prefix: "file".into() };
        Options { made_up_ids, ..Options::new(Format::Jsonl, "file") }
    }

    fn read(text: &str) -> Result<Document, Bad> {
        document(text, 7, &options()).map(|parsed| parsed.document)
    }

    fn parse(value: &Value) -> Result<Document, Bad> {
        read(&value.to_string())
    }

    #[test]
    fn all_four_fields_are_read() {
        let read = parse(&json!({ "id": "a", "text": "t", "metadata": { "k": [1, null] }, "vector": [1, -0.5] }));
        let metadata = metadata::from_json(json!({ "k": [1, null] }).as_object().unwrap());
        let vector = Vector { values: vec![1.0, -0.5], ..Default::default() };
        let (metadata, vector) = (Some(metadata), Some(vector));
        let expected = Document { id: "a".into(), text: "t".into(), metadata, vector, ..Default::default() };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn a_missing_id_is_generated_and_a_number_as_id_keeps_its_digits() {
        assert_eq!(parse(&json!({ "text": "t" })).unwrap().id, "file:7");
        assert_eq!(parse(&json!({ "id": null, "text": "t" })).unwrap().id, "file:7");
        for digits in ["42", "100000000000000000001", "100000000000000000002", "1.0", "1e0", "1.10", "-0", "-0.0"] {
            assert_eq!(read(&format!("{{\"id\": {digits}, \"text\": \"t\"}}")).unwrap().id, digits);
        }
    }

    #[test]
    fn other_fields_are_added_to_the_metadata_unless_it_has_them() {
        let read = parse(&json!({ "text": "t", "year": 1999, "metadata": { "k": 1 } })).unwrap();
        let expected = metadata::from_json(json!({ "k": 1, "year": 1999 }).as_object().unwrap());
        assert_eq!(read.metadata, Some(expected));
        assert_eq!(parse(&json!({ "text": "t", "k": 2, "metadata": { "k": 1 } })), Err(Bad::Twice("k".into())));
        assert_eq!(parse(&json!({ "text": "t" })).unwrap().metadata, None);
    }

    #[test]
    fn text_and_id_may_have_other_names_that_must_exist() {
        let named = Options { id_column: Some("url".into()), text_column: Some("body".into()), ..options() };
        let read = document(r#"{"url": "u", "body": "b", "text": "not it"}"#, 1, &named).unwrap().document;
        assert_eq!((read.id.as_str(), read.text.as_str()), ("u", "b"));
        assert!(read.metadata.unwrap().fields.contains_key("text"));
        let error = document(r#"{"uri": "u", "body": "b"}"#, 1, &named).err().unwrap();
        assert_eq!(error.to_string(), r#"no field "url", which --id-column names; its fields are "uri", "body""#);
        let error = document(r#"{"url": "u", "vector": [1]}"#, 1, &named).err().unwrap().to_string();
        assert!(error.contains("--text-column"), "{error}");
    }

    #[test]
    fn wrong_types_are_reported_by_field() {
        for (record, message) in [
            (json!({ "id": [1], "text": "t" }), r#""id" is not a string or a number"#),
            (json!({ "text": 5 }), r#""text" is not a string"#),
            (json!({ "vector": "0.5" }), r#""vector" is not a list of numbers"#),
            (json!({ "vector": [1, "x"] }), r#""vector" is not a list of numbers"#),
            (json!({ "vector": [1, 1e39] }), r#""vector[1]" is not within the range of 32-bit floats"#),
            (json!({ "text": "t", "metadata": [] }), r#""metadata" is not an object"#),
            (json!({ "id": "only" }), "no text and no vector"),
        ] {
            assert_eq!(parse(&record).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn metadata_too_deep_for_the_wire_is_refused_here() {
        let nested = |depth| (1..depth).fold(json!(1), |inner, _| json!([inner]));
        let inside = |depth| parse(&json!({ "text": "t", "metadata": { "k": nested(depth) } }));
        assert!(inside(MAX_DEPTH).is_ok() && matches!(inside(MAX_DEPTH + 1), Err(Bad::TooDeep { .. })));
        let beside = |depth| parse(&json!({ "text": "t", "k": nested(depth) }));
        assert!(beside(MAX_DEPTH).is_ok() && matches!(beside(MAX_DEPTH + 1), Err(Bad::TooDeep { .. })));
    }

    #[test]
    fn a_whole_number_that_metadata_cannot_hold_is_refused_kept_as_text_or_rounded_as_asked() {
        let text = r#"{"text": "t", "n": 7, "metadata": {"order": [9007199254740993]}}"#;
        let parse = |large_numbers| document(text, 1, &Options { large_numbers, ..options() });
        let error = parse(LargeNumbers::Refuse).err().unwrap().to_string();
        assert!(error.starts_with("metadata.order.0: 9007199254740993 is a whole number beyond 2^53"), "{error}");
        for (large, kept) in
            [(LargeNumbers::Text, json!("9007199254740993")), (LargeNumbers::Round, json!(9007199254740992i64))]
        {
            let parsed = parse(large).unwrap();
            let metadata = metadata::to_json(&parsed.document.metadata.unwrap()).unwrap();
            assert_eq!((&metadata["order"][0], parsed.remarks.large_numbers), (&kept, 1));
        }
        let error = read(r#"{"text": "t", "s": 1e999}"#).unwrap_err().to_string();
        assert!(error.starts_with("s: 1e999 is too large"), "{error}");
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused() {
        for text in [r#"{"id": "a", "text": "t", "id": "b"}"#, r#"{"text": "t", "metadata": {"k": 1, "k": 2}}"#] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("occurs twice"), "{error}");
        }
    }
}
