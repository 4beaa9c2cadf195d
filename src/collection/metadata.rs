//! Metadata as a document stores it: the text of a JSON object.
//!
//! A tree of values would take 600 bytes for its first field and 100 for each further one. Text takes as much as on
//! the wire, and the disk stores it as it is. It is parsed where fields are needed: when a document enters or
//! leaves the columns, for an answer, and where a filter checks few documents one by one.

use serde_json::{Map, Value};

use crate::machine::allocator::allocated;

/// The metadata of a document. The text is always a valid JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata(Box<str>);

impl Metadata {
    /// Makes metadata with these fields.
    pub fn new(fields: &Map<String, Value>) -> Self {
        let json = serde_json::to_string(fields).expect("keys of a JSON object are strings");
        // A copy with exact capacity: the string grew by doubling, and allocators shrink no block by less than
        // half.
        Self(Box::from(json.as_str()))
    }

    /// Makes metadata from the text of a JSON object; `None` if it is anything else.
    pub fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str::<Map<String, Value>>(json).ok()?;
        Some(Self(json.into()))
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// Parses the fields. Takes about a microsecond for a few of them.
    pub fn fields(&self) -> Map<String, Value> {
        serde_json::from_str(&self.0).expect("it was made of an object, or checked when it was read")
    }

    /// Bytes of memory that the text takes.
    pub fn bytes(&self) -> usize {
        allocated(self.0.len())
    }
}

impl From<&Map<String, Value>> for Metadata {
    fn from(fields: &Map<String, Value>) -> Self {
        Self::new(fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn fields_are_what_they_were(
            fields in prop::collection::btree_map(".{0,9}", (".{0,9}", any::<f64>(), any::<i64>()), 0..9),
        ) {
            let value = |(text, x, n): (String, f64, i64)| json!([text, x, { "n": n }]);
            let fields = fields.into_iter().map(|(key, values)| (key, value(values))).collect();
            let kept = Metadata::new(&fields);
            prop_assert_eq!(&kept.fields(), &fields);
            prop_assert_eq!(Metadata::from_json(kept.as_json()), Some(kept));
        }
    }

    #[test]
    fn numbers_stay_what_they_are() {
        let fields = json!({"a": 1, "b": 1.0, "c": -0.1, "d": 9_007_199_254_740_992_u64, "e": 1e300, "f": 5e-324});
        let fields = fields.as_object().expect("it is one");
        assert_eq!(&Metadata::new(fields).fields(), fields);
    }

    #[test]
    fn only_objects_are_metadata() {
        for json in ["", "1", "[]", "null", "{", "{} {}"] {
            assert_eq!(Metadata::from_json(json), None, "{json}");
        }
        assert!(Metadata::from_json(r#" {"a": 1} "#).is_some());
    }
}
