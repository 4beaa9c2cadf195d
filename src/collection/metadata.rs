//! Metadata as a document keeps it: the text of a JSON object.
//!
//! As a tree it would take 600 bytes for its first field and 100 for each one more. As text it takes what it takes on the
//! wire, and is what the disk stores. It is made into a tree for a moment where its fields are needed: when it enters and
//! leaves the columns, for an answer, and where a filter asks few documents one by one.

use serde_json::{Map, Value};

use crate::machine::allocator::allocated;

/// The metadata of a document. It has at least the form of a JSON object: nothing else is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata(Box<str>);

impl Metadata {
    /// Of these fields.
    pub fn new(fields: &Map<String, Value>) -> Self {
        let json = serde_json::to_string(fields).expect("keys of a JSON object are strings");
        // A copy: an allocator shrinks no block by less than half, and this one grew by doubling.
        Self(Box::from(json.as_str()))
    }

    /// From the text of a JSON object; `None` if it is anything else.
    pub fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str::<Map<String, Value>>(json).ok()?;
        Some(Self(json.into()))
    }

    /// Its text.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// Its fields. About a microsecond for a few of them.
    pub fn fields(&self) -> Map<String, Value> {
        serde_json::from_str(&self.0).expect("it was made of an object, or checked when it was read")
    }

    /// Bytes in memory.
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
        fn fields_are_what_they_were(fields in prop::collection::btree_map(".{0,9}", (".{0,9}", any::<f64>(), any::<i64>()), 0..9)) {
            let fields = fields.into_iter().map(|(key, value)| (key, json!([value.0, value.1, { "n": value.2 }]))).collect();
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
