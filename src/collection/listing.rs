//! Documents with their contents and vectors: one by id, a page of them, or all, in id order.
//!
//! Invariant: one call returns the state of one moment. Vectors and contents are shared with the collection and not
//! copied. `exports` counts the memory that an export keeps alive beyond the collection.

use std::ops::Bound;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::document::{Content, DocId};
use super::documents::{Documents, Entry};
use super::filter::Filter;
use super::passages::{LocatedPassage, StoredVectors};
use super::single::Collection;
use crate::compute::stop::{Stop, Stopped};

/// Below 1 match in 16 documents, the matches are sorted by id; above, all documents are scanned in id order.
const SELECTIVE: usize = 16;

/// A document that is listed.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The id.
    pub id: DocId,
    /// The content.
    pub content: Arc<Content>,
    /// The unit vectors.
    pub vectors: StoredVectors,
}

impl Collection {
    /// Content and vectors of a document.
    pub fn get(&self, id: &DocId) -> Option<Listed> {
        let here = self.read();
        let entry = here.by_id.get(id)?;
        Some(self.listed_one(&here, (id, entry)))
    }

    fn listed_one(&self, here: &Documents, (id, entry): (&DocId, &Entry)) -> Listed {
        let vectors = match here.passages(entry.slot) {
            None => StoredVectors::Whole(self.row(entry.slot)),
            Some(passages) => {
                let vector = |passage: &LocatedPassage| (passage.span, self.row(passage.slot));
                StoredVectors::Passages(passages.iter().map(vector).collect())
            }
        };
        Listed { id: id.clone(), content: Arc::clone(&entry.content), vectors }
    }

    /// The first `limit` documents that match, in id order, starting after the id `after`.
    pub fn list(
        &self,
        filter: Option<&Filter>,
        after: Option<&DocId>,
        limit: usize,
        stop: &Stop,
    ) -> Result<Vec<Listed>, Stopped> {
        let mut matching = filter.map(|filter| self.matching(filter, stop)).transpose()?;
        let here = self.read();
        if let Some(matching) = &mut matching {
            matching.catch_up(&here, stop)?;
        }
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let listed = |one| self.listed_one(&here, one);
        let all = here.by_id.range((from, Bound::Unbounded));
        Ok(match matching {
            None => all.take(limit).map(listed).collect(),
            Some(matching) => {
                let among = matching.positions();
                if here.count(among) * SELECTIVE < here.by_id.len() {
                    let mut ids: Vec<&DocId> =
                        here.ids(among).filter(|id| after.is_none_or(|after| *id > after)).collect();
                    ids.sort_unstable();
                    let entries = ids.into_iter().take(limit).filter_map(|id| here.by_id.get_key_value(id));
                    return Ok(entries.map(listed).collect());
                }
                all.filter(|(_, entry)| among.contains(entry.slot.index())).take(limit).map(listed).collect()
            }
        })
    }

    /// All documents, or those at some positions, in id order.
    pub(super) fn listed(&self, here: &Documents, among: Option<&RoaringBitmap>) -> Vec<Listed> {
        let size = among.map_or(here.by_id.len(), |among| here.count(among));
        let mut listed = Vec::with_capacity(size);
        let is_wanted = |entry: &Entry| among.is_none_or(|among| among.contains(entry.slot.index()));
        let matching = here.by_id.iter().filter(|(_, entry)| is_wanted(entry));
        listed.extend(matching.map(|one| self.listed_one(here, one)));
        listed
    }
}
