//! Exports: the state of a collection at one moment, and the memory that they keep alive.
//!
//! An export shares every vector with the collection, and reads texts from the state of the disk at its moment. If
//! documents are replaced or deleted meanwhile, their parts in memory stay there until the export ends, and
//! `open_exports` counts them until then in the budgets of all collections and of the owner. Their space on disk is not
//! reused before.

use super::disk::{ReadError, Reader};
use super::filter::Filter;
use super::listing::{Listed, Located};
use super::matching::Matching;
use super::open_exports::{ExportError, Kept as KeptBytes};
use super::single::Collection;
use super::texts::text_of;
use crate::compute::stop::Stop;

/// The documents of a collection at one moment, in id order. This iterator reads the text of each document, and drops
/// each that it returned.
pub struct Export {
    documents: std::vec::IntoIter<Located>,
    /// The texts; `None`: they are in memory.
    texts: Option<Reader>,
    _kept: KeptBytes,
}

impl Iterator for Export {
    type Item = Result<Listed, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Located { id, row, kept, vectors, .. } = self.documents.next()?;
        Some(text_of(&kept, row, self.texts.as_ref()).map(|text| Listed { id, text, kept, vectors }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.documents.size_hint()
    }
}

impl ExactSizeIterator for Export {}

impl Collection {
    /// The documents that match, or all of them, as they are now. Blocks while they are listed, and while a commit is
    /// in progress.
    pub fn export(&self, filter: Option<&Filter>, stop: &Stop) -> Result<Export, ExportError> {
        let mut matching = filter.map(|filter| self.matching(filter, stop)).transpose()?;
        // Memory and disk are in the same state.
        let _turn = self.on_disk.is_some().then(|| self.group_commit.turn_of_reader());
        let texts = self.texts_now()?;
        // Held from here on, so that no document leaves between listing the documents and counting the export as
        // open.
        let here = self.read();
        if let Some(matching) = &mut matching {
            matching.catch_up(&here, stop)?;
        }
        let documents = self.locate_all(&here, matching.as_ref().map(Matching::positions));
        let passages: usize = documents.iter().map(|located| located.vectors.bytes()).sum();
        let kept = self.exports.open(documents.capacity() * size_of::<Located>() + passages)?;
        Ok(Export { documents: documents.into_iter(), texts, _kept: kept })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::document::Kept;
    use super::super::open_exports::MOST_OPEN;
    use super::super::{Content, DocId, Document, Model, Options, Patch, Quota, Settings, Store, Usage};
    use super::*;
    use crate::kernel::embedding::Embedding;

    fn collection(store: &Store) -> Arc<Collection> {
        store.create("c", Model { name: "m", fingerprint: "f", dimensions: 2 }, Settings::default()).unwrap()
    }

    fn document(id: &str) -> Document {
        let content = Content::new("text ".repeat(2_000), None);
        let embedding = Embedding::normalized(vec![1.0, 0.0]).unwrap();
        Document {
            id: DocId::new(id).unwrap(),
            content: Arc::new(content),
            vectors: embedding.into(),
            origin: Default::default(),
        }
    }

    fn store(bytes: usize) -> Store {
        Store::open(Options { quota: Quota { bytes, ..Usage::UNLIMITED }, ..Options::default() }).unwrap()
    }

    #[test]
    fn documents_that_only_an_export_holds_are_counted_until_it_ends() {
        let store = store(usize::MAX);
        let collection = collection(&store);
        let empty = store.used().bytes;
        collection.commit(vec![document("a"), document("b")]).unwrap();
        let full = store.used().bytes - empty;
        let earlier = collection.export(None, &Stop::never()).unwrap();
        let later = collection.export(None, &Stop::never()).unwrap();
        collection.remove(&[DocId::new("a").unwrap()]).unwrap();
        assert!(store.used().bytes >= empty + full, "{} of {full}", store.used().bytes - empty);
        assert_eq!(collection.bytes(), full / 2, "the collection itself has one document");
        drop(later);
        assert!(store.used().bytes >= empty + full, "the other one still holds it");
        collection.commit(vec![document("b")]).unwrap();
        assert!(store.used().bytes >= empty + full + full / 2, "a replaced document is held too");
        assert_eq!(earlier.map(|listed| listed.unwrap().id.to_string()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(store.used().bytes, empty + full / 2);
    }

    #[test]
    fn an_update_during_an_export_counts_the_text_twice_and_the_vector_once() {
        let store = store(usize::MAX);
        let collection = collection(&store);
        collection.commit(vec![document("a")]).unwrap();
        let content = Kept::whole(document("a").content.as_ref().clone());
        let content = Kept::bytes_with(Some(content.text_bytes() as usize), None);
        let patch = |value: u8| {
            let fields = serde_json::json!({ "n": value }).as_object().unwrap().clone();
            collection.update(&[DocId::new("a").unwrap()], &Arc::new(Patch { fields, max_bytes: 100 }), None).unwrap()
        };
        assert_eq!(patch(1).documents, 1);
        let before = store.used();
        let export = collection.export(None, &Stop::never()).unwrap();
        let list = store.used().bytes - before.bytes;
        patch(2);
        let kept = store.used().bytes - before.bytes - list;
        assert!((content..content + 100).contains(&kept), "{kept} bytes kept, and the text has {content}");
        drop(export);
        assert_eq!(store.used(), before);
    }

    #[test]
    fn a_deleted_collection_stays_counted_while_an_export_holds_it() {
        let store = store(usize::MAX);
        let collection = collection(&store);
        collection.commit(vec![document("a")]).unwrap();
        let (full, export) = (collection.bytes(), collection.export(None, &Stop::never()).unwrap());
        store.delete("c").unwrap();
        assert!(store.used().bytes >= full && store.used().documents == 0);
        drop(export);
        assert_eq!(store.used(), Usage::default());
    }

    #[test]
    fn replacing_documents_during_an_export_ends_at_the_limit_and_goes_on_after_it() {
        let one = {
            let store = store(usize::MAX);
            let collection = collection(&store);
            collection.commit(vec![document("a")]).unwrap();
            store.used().bytes
        };
        let store = store(one + 1_000);
        let collection = collection(&store);
        collection.commit(vec![document("a")]).unwrap();
        let export = collection.export(None, &Stop::never()).unwrap();
        collection.commit(vec![document("a")]).expect_err("both versions do not fit");
        assert_eq!(store.used().documents, 1, "what was refused left nothing behind");
        drop(export);
        assert_eq!(store.used().bytes, one);
        collection.commit(vec![document("a")]).expect("one of the same size fits");
        assert_eq!(store.used().bytes, one);
    }

    #[test]
    fn there_are_a_few_exports_at_one_time() {
        let store = store(usize::MAX);
        let collection = collection(&store);
        let mut open: Vec<Export> = (0..MOST_OPEN).map(|_| collection.export(None, &Stop::never()).unwrap()).collect();
        assert_eq!(collection.export(None, &Stop::never()).err(), Some(ExportError::TooMany));
        open.pop();
        assert!(collection.export(None, &Stop::never()).is_ok());
    }
}
