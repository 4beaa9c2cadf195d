//! Groups of documents: those whose metadata has the same value in one field.

use std::num::NonZeroUsize;

use serde_json::Value;

use super::document::Content;
use super::filter::{Path, Scalar};

/// How hits are grouped, and how many of one group there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// The field that documents of one group have the same value in.
    pub by: Path,
    /// Hits of one group at most.
    pub size: NonZeroUsize,
}

impl Groups {
    /// What the documents of a document's group have in common: a text, a number or a boolean. `None`: it is a group
    /// of its own, because the field is not there, or is a null, a list or an object.
    pub fn value<'c>(&self, content: &'c Content) -> Option<&'c Value> {
        let value = self.by.find(content.metadata.as_ref()?)?;
        matches!(value, Value::Bool(_) | Value::Number(_) | Value::String(_)).then_some(value)
    }

    /// The same as columns have it: 1 and 1.0 are one group.
    pub(super) fn key(&self, content: &Content) -> Option<Scalar> {
        Scalar::of(self.value(content)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_single_values_make_a_group() {
        let value = |path: &str| {
            let metadata = json!({"a": {"b": "x"}, "n": 1, "f": 1.0, "no": false, "null": null, "list": ["x"]});
            let content = Content { text: String::new(), metadata: metadata.as_object().cloned() };
            Groups { by: Path::parse(path).unwrap(), size: NonZeroUsize::MIN }.key(&content)
        };
        assert_eq!(value("a.b"), Some(Scalar::Text("x".into())));
        assert_eq!(value("no"), Some(Scalar::Bool(false)));
        assert!(value("n").is_some() && value("n") == value("f"));
        for alone in ["a", "null", "list", "absent", "list.x", "n.b"] {
            assert_eq!(value(alone), None, "{alone}");
        }
    }
}
