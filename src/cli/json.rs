//! Answers of the server as JSON, for `--json`. Documents have the form that `cognate upload` reads.

use prost_types::Struct;
use serde_json::{Map, Value, json};

use crate::wire::half;
use crate::wire::metadata;
use crate::wire::vector::{self, Values};
use crate::wire::{Document, Passage, Vector, VectorFormat};

/// The format of vectors that are printed here if a command asks for some: the quickest to decode.
pub fn vector_format(with_vector: bool) -> i32 {
    let format = if with_vector { VectorFormat::F32Bytes } else { VectorFormat::Unspecified };
    format.into()
}

/// A document as `{"id", "text", "metadata", "vector", "passages"}`; the last three only if present.
pub fn document(document: &Document) -> anyhow::Result<Value> {
    let mut fields = Map::new();
    fields.insert("id".into(), document.id.clone().into());
    fields.insert("text".into(), document.text.clone().into());
    add_metadata(&mut fields, document.metadata.as_ref())?;
    add_vector(&mut fields, document.vector.as_ref())?;
    if !document.passages.is_empty() {
        let passages = document.passages.iter().map(passage).collect::<anyhow::Result<_>>()?;
        fields.insert("passages".into(), Value::Array(passages));
    }
    Ok(Value::Object(fields))
}

/// A passage as `{"start", "end", "score", "text", "vector", "scale"}`; the last four only if present.
pub fn passage(passage: &Passage) -> anyhow::Result<Value> {
    let mut fields = Map::new();
    fields.insert("start".into(), passage.start.into());
    fields.insert("end".into(), passage.end.into());
    if passage.score != 0.0 {
        fields.insert("score".into(), number(passage.score));
    }
    if !passage.text.is_empty() {
        fields.insert("text".into(), passage.text.clone().into());
    }
    add_vector(&mut fields, passage.vector.as_ref())?;
    if let Some(vector) = passage.vector.as_ref().filter(|vector| vector.scale != 0.0) {
        fields.insert("scale".into(), number(vector.scale));
    }
    Ok(Value::Object(fields))
}

/// Adds `"metadata"` if present.
pub fn add_metadata(fields: &mut Map<String, Value>, metadata: Option<&Struct>) -> anyhow::Result<()> {
    if let Some(metadata) = metadata {
        fields.insert("metadata".into(), Value::Object(metadata::to_json(metadata)?));
    }
    Ok(())
}

/// Adds `"vector"` if present.
pub fn add_vector(fields: &mut Map<String, Value>, vector: Option<&Vector>) -> anyhow::Result<()> {
    if let Some(vector) = vector {
        fields.insert("vector".into(), numbers(&vector::read(vector)?));
    }
    Ok(())
}

/// The numbers of a vector. For INT8 the bytes before scaling, for BINARY the packed bytes.
pub fn numbers(values: &Values) -> Value {
    match values {
        Values::F32(values) => values.iter().copied().map(number).collect(),
        Values::F16(values) => values.iter().map(|value| number(half::to_f32(*value))).collect(),
        Values::Int8 { bytes, .. } => json!(bytes),
        Values::Binary { bytes, .. } => json!(bytes),
    }
}

/// A float with the fewest digits that identify it: 0.1, where the nearest double would print 0.10000000149011612.
/// NaN and infinity, which JSON lacks, become null.
pub fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reader::{Format, Options, read};

    #[test]
    fn a_float_has_no_more_digits_than_it_needs_and_survives() {
        assert_eq!(number(0.1).to_string(), "0.1");
        assert_eq!(number(f32::NAN), Value::Null);
        for value in [0.70710677f32, -1e-7, f32::MIN_POSITIVE, f32::MAX, 1.0 / 3.0] {
            assert_eq!(number(value).as_f64().map(|x| x as f32), Some(value));
        }
    }

    proptest! {
        #[test]
        fn every_float_reads_back_as_itself(value in prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL) {
            let printed = number(value).to_string();
            let read: Value = serde_json::from_str(&printed).unwrap();
            prop_assert_eq!(read.as_f64().map(|x| (x as f32).to_bits()), Some(value.to_bits()), "{}", printed);
        }
    }

    #[test]
    fn a_document_that_was_printed_can_be_uploaded_again() {
        let metadata = json!({ "k": [1, "two"], "deep": { "er": null } });
        let original = Document {
            id: "a".into(),
            text: "text \"quoted\"\nand more".into(),
            metadata: Some(metadata::from_json(metadata.as_object().unwrap())),
            vector: Some(Vector { values: vec![0.1, -1e-7, 3.0], ..Default::default() }),
            passages: Vec::new(),
        };
        let passage =
            |start, end, vector: &Option<Vector>| Passage { start, end, vector: vector.clone(), ..Default::default() };
        let passages = vec![passage(0, 4, &original.vector), passage(5, 22, &original.vector)];
        let of_passages = Document { vector: None, passages, ..original.clone() };
        for original in [original, of_passages] {
            let printed = document(&original).unwrap().to_string();
            let options = Options::new(Format::Jsonl, "f");
            let record = read(printed.as_bytes(), &options).unwrap().next().unwrap().unwrap();
            assert_eq!(record.document, Ok(original));
        }
    }
}
