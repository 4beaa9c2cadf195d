//! Groups of documents that have the same value in one metadata field.
//!
//! A search by groups works in rounds (`search`). A round excludes the documents that earlier rounds have seen, and all
//! documents of groups that are full. So it finds k hits if the groups have them, also where most documents are in one
//! group. A property test compares it, and diversity, with a plain ranking of all documents.

use std::num::NonZeroUsize;

use serde_json::Value;

use super::filter::{Path, Scalar};
use super::metadata::Metadata;

/// The field that hits are grouped by, and the most hits of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// The field, by the readings of its name ([`Path::readings`]): the first reading that a document has counts.
    pub by: Vec<Path>,
    /// The most hits of one group.
    pub size: NonZeroUsize,
}

impl Groups {
    /// The value that all documents of the group of one with this metadata have: a text, a number or a boolean. `None`:
    /// the document is a group of its own, because the field is missing, or is a null, a list or an object, or lies in
    /// the objects of a list.
    pub fn value(&self, metadata: Option<&Metadata>) -> Option<Value> {
        let fields = metadata?.fields();
        let value = self.by.iter().find(|path| path.exists(&fields))?.find(&fields)?;
        matches!(value, Value::Bool(_) | Value::Number(_) | Value::String(_)).then(|| value.clone())
    }

    /// The same value as the columns store it: 1 and 1.0 are one group.
    pub(crate) fn key(&self, metadata: Option<&Metadata>) -> Option<Scalar> {
        Scalar::of(&self.value(metadata)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(path: &str) -> Option<Scalar> {
        let metadata = json!({
            "a": {"b": "x", "c": ["y"]}, "n": 1, "f": 1.0, "no": false, "null": null, "list": ["x"],
            "a.b": "z", "a.c": "z", "a.d": "z", "l": [{"b": "x"}]
        });
        let metadata = metadata.as_object().map(Metadata::new);
        Groups { by: Path::readings(path).unwrap(), size: NonZeroUsize::MIN }.key(metadata.as_ref())
    }

    #[test]
    fn only_single_values_make_a_group() {
        assert_eq!(key("a.b"), Some(Scalar::Text("x".into())));
        assert_eq!(key("no"), Some(Scalar::Bool(false)));
        assert!(key("n").is_some() && key("n") == key("f"));
        for alone in ["a", "null", "list", "absent", "list.x", "n.b", "l.b"] {
            assert_eq!(key(alone), None, "{alone}");
        }
    }

    #[test]
    fn a_key_with_a_dot_makes_groups_where_no_field_has_its_path() {
        assert_eq!(key("a.d"), Some(Scalar::Text("z".into())));
        assert_eq!(key("\"a.b\""), Some(Scalar::Text("z".into())));
        assert_eq!(key("a.c"), None, "the field is a list, and hides the key");
    }
}
