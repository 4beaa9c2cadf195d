//! A test that every document is found by each of its own vectors.
//!
//! The graph is approximate: a document that it misses is not lost, but no search finds it. So the graph is asked
//! for every document, as clients ask. (A search with a stored vector looks it up by a digest too.) The index
//! itself measures the recall of graph walks.

use super::document::DocId;
use super::search::Search;
use super::single::Collection;
use crate::index::Effort;
use crate::kernel::embedding::Embedding;

/// Documents that are read under one hold of the lock.
const BATCH: usize = 1_024;

/// Least score of a document for its own vector: 1, less rounding.
const ITSELF: f32 = 0.9999;

impl Collection {
    /// Brings the graph up to date, and returns the ids of documents that have a vector which finds neither them nor a
    /// document that is as near. Blocks: about a minute for 100,000 documents.
    pub fn unfound(&self) -> Vec<DocId> {
        self.finish_graph();
        let search = Search::nearest(1, Effort::Graph { ef: None });
        let mut unfound = Vec::new();
        let mut after = None;
        loop {
            let some = self.vectors_after(after.as_ref(), BATCH);
            let Some((last, _)) = some.last() else { return unfound };
            after = Some(last.clone());
            for (id, vectors) in some {
                if !vectors.iter().all(|vector| self.finds(vector, &search)) {
                    unfound.push(id);
                }
            }
        }
    }

    fn finds(&self, vector: &[f32], search: &Search) -> bool {
        let Some(query) = Embedding::restored(vector.to_vec()) else { return false };
        self.search(&query, search).first().is_some_and(|found| found.score >= ITSELF)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Content, Document, Model, Options, Settings, Store};
    use super::*;
    use crate::index;

    fn vector(angle: f32) -> Vec<f32> {
        vec![angle.cos(), angle.sin()]
    }

    #[test]
    fn documents_find_themselves_and_a_vector_that_nobody_has_finds_none() {
        let store = Store::open(Options {
            index: index::Options { exact_below: 50, scan_rows_per_ef: 0, ..index::Options::default() },
            ..Options::default()
        })
        .unwrap();
        let collection =
            store.create("c", Model { name: "m", fingerprint: "f", dimensions: 2 }, Settings::default()).unwrap();
        let documents = (0..200u8).map(|n| Document {
            id: DocId::new(&n.to_string()).unwrap(),
            content: Arc::new(Content::default()),
            vectors: Embedding::normalized(vector(f32::from(n) / 100.0)).unwrap().into(),
            origin: Default::default(),
        });
        collection.commit(documents.collect()).unwrap();
        assert_eq!(collection.unfound(), []);
        let search = Search::nearest(1, Effort::Graph { ef: None });
        assert!(collection.finds(&vector(1.0), &search) && !collection.finds(&vector(4.0), &search));
    }
}
