//! Patches: documents get other metadata by a JSON merge patch (RFC 7396).
//!
//! Invariants: a document that may not have the result keeps its state, and its neighbours are patched. Applying a
//! patch twice does what applying it once does.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::distinct::TooManyFields;
use super::document::DocId;
use super::filter::Filter;
use super::metadata::Metadata;

/// A change of metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// The merge patch: a null removes a field, an object is merged with the field, other values replace it.
    pub fields: Map<String, Value>,
    /// Most bytes of a document's metadata as JSON. Metadata that is larger already may not grow.
    pub max_bytes: usize,
}

/// The documents to patch in one commit.
pub(crate) struct Update {
    pub ids: Vec<DocId>,
    pub patch: Arc<Patch>,
    /// Condition on the documents; the others are passed over.
    pub only: Option<Arc<Filter>>,
}

/// The result of an update.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Updated {
    /// Number of ids that the commit took, from the first on.
    pub taken: usize,
    /// Number of patched documents, including those that had nothing to change.
    pub documents: usize,
    /// Ids that do not exist.
    pub missing: Vec<DocId>,
    /// Documents that were not patched.
    pub refused: Vec<(DocId, NotPatched)>,
}

/// The reason why a document was not patched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPatched {
    /// The metadata would be too large.
    #[error("the document's metadata would have {bytes} bytes as JSON, which exceed the limit of {limit}")]
    TooLarge {
        /// Bytes that it would have.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The patch would bring too many fields.
    #[error(transparent)]
    TooManyFields(TooManyFields),
}

impl Update {
    /// Patches the documents, and returns the metadata that changes. `now` is the present metadata of a document, if it
    /// exists and has some, and `admit` checks that the fields of a new one are not too many.
    pub(crate) fn apply<'d>(
        self,
        now: impl Fn(&DocId) -> Option<Option<&'d Metadata>>,
        mut admit: impl FnMut(usize, &Metadata) -> Result<(), TooManyFields>,
    ) -> (BTreeMap<DocId, Metadata>, Updated) {
        let mut updated = Updated { taken: self.ids.len(), ..Updated::default() };
        let mut patched = BTreeMap::new();
        for (position, id) in self.ids.into_iter().enumerate() {
            let Some(before) = now(&id) else {
                updated.missing.push(id);
                continue;
            };
            let fields = before.map(Metadata::fields).unwrap_or_default();
            if self.only.as_ref().is_some_and(|only| !only.matches(&fields)) {
                continue;
            }
            let after = self.patch.metadata(before, &fields).and_then(|after| {
                after.as_ref().map_or(Ok(()), |after| admit(position, after)).map_err(NotPatched::TooManyFields)?;
                Ok(after)
            });
            match after {
                Ok(after) => {
                    updated.documents += 1;
                    patched.extend(after.map(|after| (id, after)));
                }
                Err(reason) => updated.refused.push((id, reason)),
            }
        }
        (patched, updated)
    }
}

impl Patch {
    /// Bytes of the patch as JSON.
    pub fn json_bytes(&self) -> usize {
        Metadata::new(&self.fields).as_json().len()
    }

    /// The metadata after the patch; `None` if that changes nothing. `fields`: those before.
    fn metadata(&self, before: Option<&Metadata>, fields: &Map<String, Value>) -> Result<Option<Metadata>, NotPatched> {
        let mut patched = fields.clone();
        merge(&mut patched, &self.fields);
        if patched == *fields {
            return Ok(None);
        }
        let json_bytes = |metadata: &Metadata| metadata.as_json().len();
        let metadata = Metadata::new(&patched);
        let (bytes, limit) = (json_bytes(&metadata), self.max_bytes);
        if bytes > limit.max(before.map_or(0, json_bytes)) {
            return Err(NotPatched::TooLarge { bytes, limit });
        }
        Ok(Some(metadata))
    }
}

/// Merges a patch into an object: RFC 7396, section 2.
fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(key);
            }
            Value::Object(patch) => {
                let field = target.entry(key.as_str()).or_insert(Value::Null);
                if !field.is_object() {
                    *field = Value::Object(Map::new());
                }
                if let Value::Object(inner) = field {
                    merge(inner, patch);
                }
            }
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_are_merged_as_the_examples_of_the_rfc_say() {
        // RFC 7396, appendix A, as far as target and patch are objects.
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({"a": [1]}), json!({"a": {"b": {"c": 2}}}), json!({"a": {"b": {"c": 2}}})),
        ] {
            let mut merged = target.as_object().unwrap().clone();
            for _twice in 0..2 {
                merge(&mut merged, patch.as_object().unwrap());
                assert_eq!(Value::Object(merged.clone()), expected, "{target} with {patch}");
            }
        }
    }

    #[test]
    fn metadata_above_the_limit_may_shrink_and_not_grow() {
        let patched = |patch: Value, before: Value| {
            let patch = Patch { fields: patch.as_object().unwrap().clone(), max_bytes: 10 };
            let before = before.as_object().map(Metadata::new);
            let fields = before.as_ref().map(Metadata::fields).unwrap_or_default();
            let after = patch.metadata(before.as_ref(), &fields)?;
            Ok(after.map(|after| Value::Object(after.fields())))
        };
        assert_eq!(patched(json!({"a": "12"}), json!({})), Ok(Some(json!({"a": "12"}))));
        assert_eq!(patched(json!({"a": "123"}), json!({})), Err(NotPatched::TooLarge { bytes: 11, limit: 10 }));
        let large = json!({"a": "1234567", "b": 1});
        assert_eq!(patched(json!({"b": null}), large.clone()), Ok(Some(json!({"a": "1234567"}))));
        assert_eq!(patched(json!({"b": 12}), large.clone()), Err(NotPatched::TooLarge { bytes: 22, limit: 10 }));
        assert_eq!(patched(json!({"b": 1}), large), Ok(None));
        assert_eq!(patched(json!({"b": null}), Value::Null), Ok(None), "a document without metadata stays so");
    }
}
