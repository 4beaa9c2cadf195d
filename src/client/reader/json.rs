//! A document from a JSON object.

use serde_json::{Map, Value};

use super::{Bad, Options};
use crate::proto::{Document, Vector};
use crate::rpc::metadata;

/// `{"id": …, "text": …, "metadata": {…}, "vector": […]}`, all but one of text and vector optional; fields of any
/// other name are added to the metadata.
pub(super) fn document(text: &str, line: u64, options: &Options) -> Result<Document, Bad> {
    let value: Value = serde_json::from_str(text).map_err(|error| Bad::NotJson(error.to_string()))?;
    let Value::Object(mut fields) = value else { return Err(Bad::NotAnObject) };
    let mut take = |name: &str| fields.remove(name).filter(|value| !value.is_null());

    let id = match take(options.id_column()) {
        None => options.generated_id(line)?,
        Some(Value::String(id)) => id,
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => return Err(wrong_type(options.id_column(), "a string or a number")),
    };
    let text = match take(&options.text_column) {
        None => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => return Err(wrong_type(&options.text_column, "a string")),
    };
    let vector = match take("vector") {
        None => None,
        Some(Value::Array(numbers)) => Some(vector(&numbers)?),
        Some(_) => return Err(wrong_type("vector", "a list of numbers")),
    };
    if text.is_none() && vector.is_none() {
        return Err(Bad::Empty);
    }
    let (metadata, given) = match take("metadata") {
        None => (Map::new(), false),
        Some(Value::Object(map)) => (map, true),
        Some(_) => return Err(wrong_type("metadata", "an object")),
    };
    let metadata = merge(metadata, fields)?;
    metadata::check_depth(&metadata)?;
    let metadata = (given || !metadata.is_empty()).then(|| metadata::from_json(&metadata));
    Ok(Document { id, text: text.unwrap_or_default(), metadata, vector })
}

fn vector(numbers: &[Value]) -> Result<Vector, Bad> {
    let values: Option<Vec<f32>> = numbers.iter().map(|number| number.as_f64().map(|x| x as f32)).collect();
    let values = values.ok_or_else(|| wrong_type("vector", "a list of numbers"))?;
    Ok(Vector { values, ..Default::default() })
}

fn merge(mut metadata: Map<String, Value>, others: Map<String, Value>) -> Result<Map<String, Value>, Bad> {
    for (name, value) in others {
        if metadata.contains_key(&name) {
            return Err(Bad::Twice(name));
        }
        metadata.insert(name, value);
    }
    Ok(metadata)
}

fn wrong_type(field: &str, expected: &'static str) -> Bad {
    Bad::WrongType { field: field.to_string(), expected }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::reader::Format;

    fn parse(value: &Value) -> Result<Document, Bad> {
        document(&value.to_string(), 7, &Options::new(Format::Jsonl, "file"))
    }

    #[test]
    fn all_four_fields_are_read() {
        let read = parse(&json!({ "id": "a", "text": "t", "metadata": { "k": [1, null] }, "vector": [1, -0.5] }));
        let metadata = metadata::from_json(json!({ "k": [1, null] }).as_object().unwrap());
        let vector = Vector { values: vec![1.0, -0.5], ..Default::default() };
        let expected = Document { id: "a".into(), text: "t".into(), metadata: Some(metadata), vector: Some(vector) };
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn a_missing_id_is_made_of_file_and_line_and_a_number_is_an_id() {
        assert_eq!(parse(&json!({ "text": "t" })).unwrap().id, "file:7");
        assert_eq!(parse(&json!({ "id": null, "text": "t" })).unwrap().id, "file:7");
        assert_eq!(parse(&json!({ "id": 42, "text": "t" })).unwrap().id, "42");
    }

    #[test]
    fn other_fields_join_the_metadata_unless_they_are_there_already() {
        let read = parse(&json!({ "text": "t", "year": 1999, "metadata": { "k": 1 } })).unwrap();
        let expected = metadata::from_json(json!({ "k": 1, "year": 1999 }).as_object().unwrap());
        assert_eq!(read.metadata, Some(expected));
        assert_eq!(parse(&json!({ "text": "t", "k": 2, "metadata": { "k": 1 } })), Err(Bad::Twice("k".into())));
        assert_eq!(parse(&json!({ "text": "t" })).unwrap().metadata, None);
    }

    #[test]
    fn text_and_id_may_have_other_names() {
        let options = Options {
            id_column: Some("url".into()),
            text_column: "body".into(),
            ..Options::new(Format::Jsonl, "file")
        };
        let read = document(r#"{"url": "u", "body": "b", "text": "not it"}"#, 1, &options).unwrap();
        assert_eq!((read.id.as_str(), read.text.as_str()), ("u", "b"));
        assert!(read.metadata.unwrap().fields.contains_key("text"));
    }

    #[test]
    fn wrong_types_are_told_by_field() {
        for (record, message) in [
            (json!({ "id": [1], "text": "t" }), r#""id" is not a string or a number"#),
            (json!({ "text": 5 }), r#""text" is not a string"#),
            (json!({ "vector": "0.5" }), r#""vector" is not a list of numbers"#),
            (json!({ "vector": [1, "x"] }), r#""vector" is not a list of numbers"#),
            (json!({ "text": "t", "metadata": [] }), r#""metadata" is not an object"#),
            (json!({ "id": "only" }), "no text and no vector"),
        ] {
            assert_eq!(parse(&record).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn metadata_too_deep_for_the_wire_is_refused_here() {
        let deep = (0..metadata::MAX_DEPTH).fold(json!(1), |inner, _| json!([inner]));
        assert!(matches!(parse(&json!({ "text": "t", "metadata": { "k": deep } })), Err(Bad::Metadata(_))));
    }
}
