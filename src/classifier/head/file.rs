//! Reads and writes heads as JSON. A file is small and readable. The same head always gives the same bytes.
//!
//! ```json
//! {
//!   "format": "cognate-head",
//!   "version": 1,
//!   "made_for": {"model": "…", "fingerprint": "…"},
//!   "dimensions": 384,
//!   "training": {"l2": 0.001, "class_weights": "equal", "folds": 5, "accuracy": 0.93, "seed": 0},
//!   "labels": [{"name": "spam", "examples": 20, "bias": 0.1, "weights": [384 numbers]}, …]
//! }
//! ```
//! A number has the fewest digits that read back as the same f32: about 12 bytes for a weight. A reader ignores fields
//! that it does not know. A change that an older reader must not ignore gets a new version.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use super::error::{FORMAT, HeadError, VERSION};
use super::training::Training;
use super::{Head, Label, MadeFor};

/// The fields that every version has.
#[derive(Deserialize)]
struct Kind {
    format: String,
    version: u64,
}

#[derive(Deserialize)]
struct Body {
    made_for: MadeFor,
    dimensions: usize,
    training: Training,
    labels: Vec<Label>,
}

#[derive(Serialize)]
struct Written<'a> {
    format: &'static str,
    version: u64,
    #[serde(flatten)]
    head: &'a Head,
}

impl Head {
    /// Reads a head from the bytes of a file.
    ///
    /// # Errors
    /// The error names the field, its value and the limit. If the bytes are not JSON or lack a field, it names the
    /// line.
    pub fn from_json(bytes: &[u8]) -> Result<Self, HeadError> {
        // Format and version come first: another version may have other fields.
        let Kind { format, version } = serde_json::from_slice(bytes).map_err(HeadError::Json)?;
        if format != FORMAT {
            return Err(HeadError::Format(format));
        }
        if version != VERSION {
            return Err(HeadError::Version(version));
        }
        let Body { made_for, dimensions, training, labels } = serde_json::from_slice(bytes).map_err(HeadError::Json)?;
        let head = Self { made_for, dimensions, training, labels };
        head.check()?;
        Ok(head)
    }

    /// Returns the bytes of the head's file. They end with a line break.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut bytes, Lines(PrettyFormatter::new()));
        Written { format: FORMAT, version: VERSION, head: self }
            .serialize(&mut serializer)
            .expect("finite numbers and texts can be written to memory");
        bytes.push(b'\n');
        bytes
    }
}

/// Writes each field on a line of its own, and a list on one line: people read a label's weights as one thing.
struct Lines(PrettyFormatter<'static>);

impl Formatter for Lines {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::examples::ClassWeights;
    use super::super::tests::{TRAINING, label, made_for};
    use super::*;

    fn head() -> Head {
        let labels = vec![label("spam", 0.1, vec![1.5, -2.0]), label("not \"spam\"", -0.1, vec![1e-7, 3.0])];
        Head::new(made_for(), TRAINING, labels).unwrap()
    }

    #[test]
    fn the_file_is_this_to_the_byte() {
        let expected = r#"{
  "format": "cognate-head",
  "version": 1,
  "made_for": {
    "model": "someone/model",
    "fingerprint": "0123456789abcdef0123456789abcdef"
  },
  "dimensions": 2,
  "training": {
    "l2": 0.001,
    "class_weights": "equal",
    "folds": 5,
    "accuracy": 0.925,
    "seed": 7
  },
  "labels": [{
    "name": "spam",
    "examples": 20,
    "bias": 0.1,
    "weights": [1.5, -2.0]
  }, {
    "name": "not \"spam\"",
    "examples": 20,
    "bias": -0.1,
    "weights": [1e-7, 3.0]
  }]
}
"#;
        assert_eq!(String::from_utf8(head().to_json()).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn every_head_comes_back_to_the_bit(
            weights in prop::collection::vec((prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO,
                prop::num::f32::NORMAL), 1..40),
            bias in prop::num::f32::NORMAL, l2 in 1e-300f64..1e300, accuracy in 0.0f64..=1.0, seed: u64, name in ".+",
        ) {
            let (first, second) = weights.into_iter().unzip();
            let label = |name: String, weights| Label { name, examples: 3, bias, weights };
            let labels = vec![label(format!("{name}2"), first), label(name, second)];
            let training = Training { l2, class_weights: ClassWeights::Balanced, folds: 3, accuracy, seed };
            let head = Head::new(made_for(), training, labels).unwrap();
            let again = Head::from_json(&head.to_json()).unwrap();
            let bits = |head: &Head| -> Vec<u32> {
                head.labels().iter().flat_map(|label| label.weights.iter().map(|w| w.to_bits())).collect()
            };
            prop_assert_eq!(bits(&again), bits(&head));
            prop_assert_eq!(again, head);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..500) {
            prop_assert!(Head::from_json(&bytes).is_err());
            let whole = head().to_json();
            prop_assert!(Head::from_json(&whole[..cut.min(whole.len() - 3)]).is_err());
        }
    }

    /// Returns the error of a head with one field changed. `path` is as in [`Value::pointer`].
    fn mistake(path: &str, value: Value) -> String {
        let mut json: Value = serde_json::from_slice(&head().to_json()).unwrap();
        *json.pointer_mut(path).unwrap() = value;
        Head::from_json(json.to_string().as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_mistake_is_named_with_its_field_value_and_limit() {
        assert_eq!(mistake("/format", json!("onnx")), r#"format is "onnx", and must be "cognate-head""#);
        assert_eq!(mistake("/version", json!(2)), "version is 2, and must be 1");
        assert_eq!(mistake("/made_for/fingerprint", json!("")), "made_for.fingerprint is empty, and must not be");
        assert_eq!(mistake("/dimensions", json!(0)), "dimensions is 0, and must be at least 1");
        assert_eq!(
            mistake("/dimensions", json!(3)),
            "labels[0].weights has 2 values, and must have one for each of the 3 dimensions"
        );
        assert_eq!(
            mistake("/labels/1/weights", json!([1])),
            "labels[1].weights has 1 values, and must have one for each of the 2 dimensions"
        );
        assert_eq!(mistake("/labels", json!([])), "labels has 0 entries, and must have at least 2");
        assert_eq!(mistake("/labels/1/name", json!("")), "labels[1].name is empty, and must not be");
        assert_eq!(
            mistake("/labels/1/name", json!("spam")),
            r#"labels[0].name and labels[1].name are both "spam", and names must differ"#
        );
        let large = mistake("/labels/0/weights/1", json!(1e39));
        assert!(large.starts_with("this is not a head: number out of range at line 1"), "{large}");
        assert_eq!(mistake("/training/l2", json!(0)), "training.l2 is 0, and must be above 0");
        assert_eq!(mistake("/training/accuracy", json!(1.5)), "training.accuracy is 1.5, and must be from 0 to 1");
        let missing = mistake("/labels/0", json!({"name": "a"}));
        assert!(missing.starts_with("this is not a head: missing field `examples` at line 1"), "{missing}");
        let null = mistake("/labels/0/bias", Value::Null);
        assert!(null.starts_with("this is not a head: invalid type: null, expected f32 at line 1"), "{null}");
    }

    #[test]
    fn unknown_fields_are_ignored_and_a_later_version_is_named_whatever_its_fields() {
        let mut json: Value = serde_json::from_slice(&head().to_json()).unwrap();
        json["more"] = json!([1]);
        json["labels"][0]["colour"] = json!("red");
        assert_eq!(Head::from_json(json.to_string().as_bytes()).unwrap(), head());
        let later = Head::from_json(br#"{"format": "cognate-head", "version": 9, "rows": {}}"#).unwrap_err();
        assert_eq!(later.to_string(), "version is 9, and must be 1");
    }
}
