//! The limit on the number of different fields in a collection's documents.
//!
//! Each additional field costs memory. Documents whose keys are ids or times would add fields without end.
//!
//! Invariant: a document without new fields is never refused, even after a limit was lowered.

use std::collections::BTreeSet;

use super::columns::Columns;
use super::document::Document;
use super::filter::Path;
use super::metadata::Metadata;

/// A document would bring more fields than its collection may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "max_collection_fields: {field} would be a new field, and the collection has {used} of at most {most}: \
     put what differs from document to document into values, not into keys"
)]
pub struct TooManyFields {
    /// Index of the document in the commit.
    pub position: usize,
    /// Path of the first field beyond the limit, cut to its beginning.
    pub field: String,
    /// Number of fields in the collection.
    pub used: usize,
    /// The limit.
    pub most: usize,
}

/// New fields of operations that are not committed yet.
#[derive(Default)]
pub(super) struct NewFields(BTreeSet<Vec<String>>);

impl NewFields {
    /// Separates the documents that bring more fields than are allowed. Keeps their order.
    pub(super) fn admit(
        &mut self,
        columns: &Columns,
        most: usize,
        documents: Vec<Document>,
    ) -> (Vec<Document>, Vec<TooManyFields>) {
        let (mut admitted, mut refused) = (Vec::with_capacity(documents.len()), Vec::new());
        for (position, document) in documents.into_iter().enumerate() {
            let checked = document.content.metadata.as_ref();
            match checked.map_or(Ok(()), |metadata| self.check(columns, most, position, metadata)) {
                Ok(()) => admitted.push(document),
                Err(error) => refused.push(error),
            }
        }
        (admitted, refused)
    }

    /// Checks the fields of one document of a commit, and notes the new ones if they are not too many.
    pub(super) fn check(
        &mut self,
        columns: &Columns,
        most: usize,
        position: usize,
        metadata: &Metadata,
    ) -> Result<(), TooManyFields> {
        let metadata = metadata.fields();
        let mut new = BTreeSet::new();
        columns.new_fields(&metadata, &mut |keys| {
            let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
            if !self.0.contains(&keys) {
                new.insert(keys);
            }
        });
        let used = columns.n_fields() + self.0.len();
        let room = most.saturating_sub(used);
        if let Some(excess) = new.iter().nth(room) {
            return Err(TooManyFields { position, field: shown(excess), used, most });
        }
        self.0.extend(new);
        Ok(())
    }
}

/// The beginning of a path, for an error message.
fn shown(keys: &[String]) -> String {
    /// Most characters shown.
    const MOST: usize = 64;
    let path = Path::new(keys.to_vec()).map(|path| path.to_string()).unwrap_or_default();
    match path.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &path[..end]),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::{Collection, Content, DocId, Model, Options, Settings, Store};
    use super::*;
    use crate::kernel::embedding::Embedding;

    fn collection(max_collection_fields: usize) -> Arc<Collection> {
        let model = Model { name: "m", fingerprint: "f", dimensions: 2 };
        Store::open(Options { max_collection_fields, ..Options::default() })
            .unwrap()
            .create("c", model, Settings::default())
            .unwrap()
    }

    fn document(id: &str, metadata: &serde_json::Value) -> Document {
        let content = Arc::new(Content::new("", metadata.as_object()));
        Document {
            id: DocId::new(id).unwrap(),
            content,
            vectors: Embedding::normalized(vec![1.0, 0.0]).unwrap().into(),
            origin: Default::default(),
        }
    }

    #[test]
    fn a_document_that_brings_too_many_fields_is_refused_and_others_are_stored() {
        let collection = collection(3);
        let refused = collection.commit(vec![
            document("a", &json!({"x": 1, "o": {"y": 2}})),
            document("b", &json!({"z": 1, "o": {"w.w": 2}})),
            document("c", &json!({"z": 1})),
            document("d", &json!({"x": 1, "v": 1})),
        ]);
        let refused = refused.unwrap();
        let positions: Vec<(usize, &str)> = refused.iter().map(|one| (one.position, one.field.as_str())).collect();
        assert_eq!(positions, [(1, "o.\"w.w\""), (2, "z"), (3, "v")]);
        let said = "max_collection_fields: o.\"w.w\" would be a new field, and the collection has 3 of at most 3";
        assert!(refused[0].to_string().starts_with(said), "{}", refused[0]);
        assert_eq!(collection.len(), 1);
        assert_eq!(collection.commit(vec![document("e", &json!({"o": {"y": [1]}, "x": null}))]), Ok(vec![]));
        collection.remove(&[DocId::new("a").unwrap(), DocId::new("e").unwrap()]).unwrap();
        assert_eq!(collection.commit(vec![document("f", &json!({"p": 1, "q": 1, "r": 1}))]), Ok(vec![]));
    }
}
