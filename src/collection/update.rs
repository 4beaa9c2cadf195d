//! Updates: documents get other metadata, and nothing is embedded.
//!
//! An updated document keeps its vector, its text, its slot in the index and its row on disk. So the index and its
//! files do not change, not even at the next start, which recognises vectors by their rows.
//!
//! Invariants: a patch meets the metadata that a document has when its commit comes. A commit takes a bounded number
//! of documents, so that others have their turn; a long update is many commits. `patch` has the merge, `commits` the
//! commit.

use std::sync::Arc;

use super::commit_queue::{CommitError, Operation};
use super::document::{DocId, Kept};
use super::filter::Filter;
use super::patch::{Patch, Update, Updated};
use super::single::Collection;
use crate::compute::stop::{Stop, Stopped};

/// Most documents of one commit. Searches wait some milliseconds while they change.
const COMMIT_DOCUMENTS: usize = if cfg!(test) { 8 } else { 256 };

/// A commit ends with the document that brings it to this many bytes of text and metadata, which are copied.
const COMMIT_BYTES: usize = 1 << 20;

impl Collection {
    /// Patches the first of these documents, as many as one commit takes, at least one. No id comes twice. Documents
    /// that do not match `only` are passed over. Blocks until the change is on disk, if the collection is.
    pub fn update(
        &self,
        ids: &[DocId],
        patch: &Arc<Patch>,
        only: Option<&Arc<Filter>>,
    ) -> Result<Updated, CommitError> {
        let ids = ids[..self.one_commit(ids)].to_vec();
        let update = Update { ids, patch: Arc::clone(patch), only: only.cloned() };
        self.perform(Operation::Update(update)).map(|done| done.updated)
    }

    /// Number of ids, from the first on, that one commit takes.
    fn one_commit(&self, ids: &[DocId]) -> usize {
        let here = self.read();
        let mut bytes = 0;
        let before_last = ids.iter().take(COMMIT_DOCUMENTS - 1).take_while(|id| {
            let kept = here.entry(id).map(|entry| &entry.kept);
            bytes += kept.map_or(0, |kept| Kept::bytes_with(Some(kept.text_bytes() as usize), kept.metadata.as_ref()));
            bytes < COMMIT_BYTES
        });
        (before_last.count() + 1).min(ids.len())
    }

    /// The ids of the documents that match now.
    pub fn matching_ids(&self, filter: &Filter, stop: &Stop) -> Result<Vec<DocId>, Stopped> {
        let mut matching = self.matching(filter, stop)?;
        let here = self.read();
        matching.catch_up(&here, stop)?;
        Ok(here.ids(matching.positions()).cloned().collect())
    }
}
