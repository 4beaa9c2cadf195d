//! One collection: documents by id and by slot, and the index over their vectors.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use super::commits::{Commits, Place};
use super::document::{Content, DocId, Document};
use super::filter::Filter;
use super::gardener::Gardener;
use super::store::Budget;
use crate::embedder::Embedding;
use crate::index::{self, Effort, Index, Neighbour, Slot};

/// Estimated bytes of a document's places in the maps, beside its id and content.
const ENTRY_BYTES: usize = 192;

/// Estimated bytes of a vector's links in the graph.
const GRAPH_BYTES: usize = 2_300;

/// How long one thread works on a graph before another may.
const MAINTENANCE_TURN: Duration = Duration::from_millis(50);

/// Vectors that the graph may lack before commits wait for it. A search compares with all of them:
/// 20,000 cost it about two milliseconds.
const FAR_BEHIND: usize = 20_000;

/// Documents of one model, searchable by vector.
pub struct Collection {
    name: String,
    fingerprint: String,
    index: Index,
    /// Held for reading across a whole search, so that slots and documents agree; for writing only
    /// to swap entries.
    documents: RwLock<Documents>,
    pub(super) budget: Arc<Budget>,
    pub(super) commits: Commits,
    /// Where it is stored too; `None`: in memory alone.
    pub(super) place: Option<Place>,
    gardener: Gardener,
}

#[derive(Default)]
pub(super) struct Documents {
    pub by_id: BTreeMap<DocId, Entry>,
    by_slot: HashMap<Slot, DocId>,
    /// Bytes taken from the budget for the documents here.
    pub bytes: usize,
    pub deleted: bool,
}

pub(super) struct Entry {
    slot: Slot,
    /// Its number on disk: each version of a document has another.
    pub row: u64,
    pub content: Arc<Content>,
}

/// How a collection is made.
pub(super) struct New<'a> {
    pub name: &'a str,
    pub fingerprint: &'a str,
    pub dimensions: usize,
    pub index: index::Options,
    pub budget: Arc<Budget>,
    pub gardener: Gardener,
    pub place: Option<Place>,
    /// The lowest row that was never used.
    pub next_row: u64,
}

/// What to find.
#[derive(Debug, Clone)]
pub struct Search {
    /// Hits wanted, at least 1.
    pub k: usize,
    /// How hard to look.
    pub effort: Effort,
    /// Only these documents.
    pub filter: Option<Filter>,
    /// Only hits that score as much.
    pub min_score: Option<f32>,
}

/// A document that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its id.
    pub id: DocId,
    /// Its content.
    pub content: Arc<Content>,
    /// Cosine similarity to the query.
    pub score: f32,
    /// Its unit vector, `[dimensions]`.
    pub vector: Arc<[f32]>,
}

impl Collection {
    pub(super) fn new(new: New<'_>) -> Self {
        Self {
            name: new.name.to_owned(),
            fingerprint: new.fingerprint.to_owned(),
            index: Index::new(new.dimensions, new.index),
            documents: RwLock::default(),
            budget: new.budget,
            commits: Commits::new(new.next_row),
            place: new.place,
            gardener: new.gardener,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fingerprint of the model that its vectors come from.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Length of its vectors.
    pub fn dimensions(&self) -> usize {
        self.index.dimensions()
    }

    /// Documents in it.
    pub fn len(&self) -> usize {
        self.read().by_id.len()
    }

    /// It has no documents.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Estimated bytes of documents, vectors and graph, as they are taken from the budget.
    pub fn bytes(&self) -> usize {
        self.read().bytes
    }

    /// Puts changed documents, with their rows, where searches see them, all at once. `None`: the document goes.
    pub(super) fn show(&self, here: &mut Documents, changed: Vec<(u64, DocId, Option<Document>)>) {
        let documents = changed.iter().filter_map(|(_, _, document)| document.as_ref());
        let vectors: Vec<Arc<[f32]>> = documents.map(|document| Arc::from(document.embedding.values())).collect();
        let mut slots = self.index.insert(&vectors).into_iter();
        let mut gone = Vec::new();
        for (row, id, document) in changed {
            let old = match document {
                Some(document) => {
                    let slot = slots.next().expect("each document has a vector, and each vector a slot");
                    here.by_slot.insert(slot, id.clone());
                    here.by_id.insert(id, Entry { slot, row, content: document.content })
                }
                None => here.by_id.remove(&id),
            };
            if let Some(old) = old {
                here.by_slot.remove(&old.slot);
                gone.push(old.slot);
            }
        }
        self.index.remove(&gone);
    }

    /// The content and vector of a document.
    pub fn get(&self, id: &DocId) -> Option<(Arc<Content>, Arc<[f32]>)> {
        let here = self.read();
        let entry = here.by_id.get(id)?;
        Some((Arc::clone(&entry.content), self.row(entry.slot)))
    }

    /// Documents in id order, from the first after `after`.
    pub fn list(&self, after: Option<&DocId>, limit: usize) -> Vec<(DocId, Arc<Content>, Arc<[f32]>)> {
        let here = self.read();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        here.by_id
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|(id, entry)| (id.clone(), Arc::clone(&entry.content), self.row(entry.slot)))
            .collect()
    }

    /// The nearest documents: as many as `k` where so many match, score descending, then id ascending.
    pub fn search(&self, query: &Embedding, search: &Search) -> Vec<Found> {
        let here = self.read();
        let mut hits: Vec<(Neighbour, &DocId)> = match &search.filter {
            Some(filter) => {
                let none = serde_json::Map::new();
                let matching: Vec<Slot> = here
                    .by_id
                    .values()
                    .filter(|entry| filter.matches(entry.content.metadata.as_ref().unwrap_or(&none)))
                    .map(|entry| entry.slot)
                    .collect();
                self.with_ties(search.k, |wanted| self.index.scan(query.values(), wanted, matching.iter().copied()))
            }
            None => self.with_ties(search.k, |wanted| self.index.search(query.values(), wanted, search.effort)),
        }
        .into_iter()
        .filter(|hit| search.min_score.is_none_or(|least| hit.score >= least))
        .filter_map(|hit| Some((hit, here.by_slot.get(&hit.slot)?)))
        .collect();
        hits.sort_by(|(a, a_id), (b, b_id)| b.score.total_cmp(&a.score).then_with(|| a_id.cmp(b_id)));
        hits.truncate(search.k);
        hits.into_iter()
            .filter_map(|(hit, id)| {
                let content = Arc::clone(&here.by_id.get(id)?.content);
                Some(Found { id: id.clone(), content, score: hit.score, vector: self.row(hit.slot) })
            })
            .collect()
    }

    /// Searches for more than `k`, until the hit at `k` and the last differ in score: of documents
    /// that score alike, those with the lowest ids are wanted, and the index does not know ids.
    fn with_ties(&self, k: usize, find: impl Fn(usize) -> Vec<Neighbour>) -> Vec<Neighbour> {
        let mut wanted = k + 8;
        loop {
            let hits = find(wanted);
            let settled = hits.len() < wanted || hits[k - 1].score > hits[wanted - 1].score;
            if settled {
                return hits;
            }
            wanted *= 4;
        }
    }

    /// Gives the budget back and refuses later commits. Returns the documents that went.
    pub(super) fn delete(&self) -> usize {
        let mut here = self.write();
        self.budget.release(here.bytes);
        let gone = std::mem::replace(&mut *here, Documents { deleted: true, ..Documents::default() });
        gone.by_id.len()
    }

    /// Some graph work; true if there is more.
    pub(super) fn maintain(&self) -> bool {
        !self.read().deleted && self.index.maintain_for(MAINTENANCE_TURN)
    }

    /// Wakes the maintenance thread, and works with it for a turn where the graph is far behind. A turn links more
    /// vectors than a commit usually brings, so that what is behind gets less.
    pub(super) fn tend_graph(&self) {
        self.gardener.wake();
        if self.index.pending() > FAR_BEHIND {
            self.index.maintain_for(MAINTENANCE_TURN);
        }
    }

    /// Estimated bytes of a document and all that belongs to it.
    pub(super) fn cost(&self, id: &DocId, content: &Content) -> usize {
        ENTRY_BYTES + 2 * id.as_str().len() + content.bytes() + self.dimensions() * size_of::<f32>() + GRAPH_BYTES
    }

    fn row(&self, slot: Slot) -> Arc<[f32]> {
        self.index.vector(slot).expect("a document's slot is live while the documents are locked")
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Documents> {
        self.documents.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Documents> {
        self.documents.write().unwrap_or_else(PoisonError::into_inner)
    }
}
