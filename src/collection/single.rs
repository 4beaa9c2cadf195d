//! One collection: documents by id and by slot, and the index over their vectors.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use roaring::RoaringBitmap;
use serde_json::Map;

use super::budget::{Budget, Full, Quota, Usage};
use super::columns::Columns;
use super::commits::{Commits, Place};
use super::document::{Content, DocId, Document};
use super::filter::Filter;
use super::gardener::Gardener;
use crate::embedder::Embedding;
use crate::index::{self, Effort, Index, Neighbour, Slot};

/// Estimated bytes of a document's places in the maps, beside its id and content.
const ENTRY_BYTES: usize = 192;

/// Estimated bytes of a vector in a segment: its codes, a byte for each dimension, and this for links and tables.
const GRAPH_BYTES: usize = 176;

/// Where one of so many documents matches, they are listed by what matches, else by what there is in order of ids.
const SELECTIVE: usize = 16;

/// How long one thread works on a graph before another may.
const MAINTENANCE_TURN: Duration = Duration::from_millis(50);

/// Vectors that the graph may lack before commits wait for it. A search compares with all of them:
/// 50,000 cost it about five milliseconds.
const FAR_BEHIND: usize = 50_000;

/// Documents of one model, searchable by vector.
pub struct Collection {
    name: String,
    fingerprint: String,
    index: Index,
    /// Held for reading across a whole search, so that slots and documents agree; for writing only
    /// to swap entries.
    documents: RwLock<Documents>,
    budget: Budget,
    budget_of_all: Arc<Budget>,
    pub(super) commits: Commits,
    /// Where it is stored too; `None`: in memory alone.
    pub(super) place: Option<Place>,
    gardener: Gardener,
}

#[derive(Default)]
pub(super) struct Documents {
    pub by_id: BTreeMap<DocId, Entry>,
    /// The document of each place of the index.
    by_place: Vec<Option<(Slot, DocId)>>,
    columns: Columns,
    /// What was taken from the budgets for the documents here.
    pub used: Usage,
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
    pub quota: Quota,
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

/// A document with its id, content and unit vector.
pub type Listed = (DocId, Arc<Content>, Arc<[f32]>);

impl Documents {
    /// The ids of the documents that match, in no order.
    pub fn matching(&self, filter: &Filter) -> Vec<DocId> {
        self.ids(&self.places(filter)).cloned().collect()
    }

    /// The places of the documents that match.
    fn places(&self, filter: &Filter) -> RoaringBitmap {
        let none = Map::new();
        self.columns.matching(filter, &|place, part: &Filter| {
            let document = self.by_place.get(place as usize).and_then(Option::as_ref);
            let entry = document.and_then(|(_, id)| self.by_id.get(id));
            entry.is_some_and(|entry| part.matches(entry.content.metadata.as_ref().unwrap_or(&none)))
        })
    }

    fn ids(&self, places: &RoaringBitmap) -> impl Iterator<Item = &DocId> {
        places.iter().filter_map(|place| self.by_place.get(place as usize)?.as_ref()).map(|(_, id)| id)
    }

    /// The document of a slot, unless the slot was removed.
    fn at(&self, slot: Slot) -> Option<&DocId> {
        let (owner, id) = self.by_place.get(slot.place() as usize)?.as_ref()?;
        (*owner == slot).then_some(id)
    }

    fn put(&mut self, slot: Slot, id: &DocId, content: &Content) {
        let place = slot.place() as usize;
        if self.by_place.len() <= place {
            self.by_place.resize(place + 1, None);
        }
        self.by_place[place] = Some((slot, id.clone()));
        self.columns.insert(slot.place(), content.metadata.as_ref());
    }

    fn take(&mut self, entry: &Entry) {
        self.by_place[entry.slot.place() as usize] = None;
        self.columns.remove(entry.slot.place(), entry.content.metadata.as_ref());
    }
}

impl Collection {
    pub(super) fn new(new: New<'_>) -> Self {
        Self {
            name: new.name.to_owned(),
            fingerprint: new.fingerprint.to_owned(),
            index: Index::new(new.dimensions, new.index),
            documents: RwLock::default(),
            budget: Budget::of_one(new.quota),
            budget_of_all: new.budget,
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

    /// Documents that the graph lacks yet: searches compare with all of them.
    pub fn unindexed(&self) -> usize {
        self.index.pending()
    }

    /// It has no documents.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Estimated bytes of documents, vectors and graph, as they are taken from the budget.
    pub fn bytes(&self) -> usize {
        self.read().used.bytes
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
                    here.put(slot, &id, &document.content);
                    here.by_id.insert(id, Entry { slot, row, content: document.content })
                }
                None => here.by_id.remove(&id),
            };
            if let Some(old) = old {
                here.take(&old);
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

    /// Documents that match in id order, from the first after `after`.
    pub fn list(&self, filter: Option<&Filter>, after: Option<&DocId>, limit: usize) -> Vec<Listed> {
        let here = self.read();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let listed = |(id, entry): (&DocId, &Entry)| (id.clone(), Arc::clone(&entry.content), self.row(entry.slot));
        let all = here.by_id.range((from, Bound::Unbounded));
        match filter {
            None => all.take(limit).map(listed).collect(),
            Some(filter) => {
                let among = here.places(filter);
                if among.len() as usize * SELECTIVE < here.by_id.len() {
                    let mut ids: Vec<&DocId> =
                        here.ids(&among).filter(|id| after.is_none_or(|after| *id > after)).collect();
                    ids.sort_unstable();
                    return ids
                        .into_iter()
                        .take(limit)
                        .filter_map(|id| here.by_id.get_key_value(id))
                        .map(listed)
                        .collect();
                }
                all.filter(|(_, entry)| among.contains(entry.slot.place())).take(limit).map(listed).collect()
            }
        }
    }

    /// The nearest documents: as many as `k` where so many match, score descending, then id ascending.
    pub fn search(&self, query: &Embedding, search: &Search) -> Vec<Found> {
        let here = self.read();
        let mut hits: Vec<(Neighbour, &DocId)> = match &search.filter {
            Some(filter) => {
                let among = here.places(filter);
                self.with_ties(search.k, |wanted| {
                    self.index.search_among(query.values(), wanted, search.effort, &among)
                })
            }
            None => self.with_ties(search.k, |wanted| self.index.search(query.values(), wanted, search.effort)),
        }
        .into_iter()
        .filter(|hit| search.min_score.is_none_or(|least| hit.score >= least))
        .filter_map(|hit| Some((hit, here.at(hit.slot)?)))
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
        self.budget_of_all.release(here.used);
        let gone = std::mem::replace(&mut *here, Documents { deleted: true, ..Documents::default() });
        gone.by_id.len()
    }

    /// Some graph work; true if there is more.
    pub(super) fn maintain(&self) -> bool {
        !self.read().deleted && self.index.maintain_for(MAINTENANCE_TURN)
    }

    /// All graph work there is. Blocks for as long as it takes.
    pub(super) fn finish_graph(&self) {
        self.index.maintain();
    }

    /// Wakes the maintenance thread, and leaves it a turn where it is far behind: it links more vectors in a turn than a
    /// commit usually brings.
    pub(super) fn tend_graph(&self) {
        self.gardener.wake();
        if self.is_far_behind() {
            std::thread::sleep(MAINTENANCE_TURN);
        }
    }

    /// So many vectors wait for the graph that commits wait too.
    pub(super) fn is_far_behind(&self) -> bool {
        self.index.pending() > FAR_BEHIND
    }

    /// What a document counts for, with all that belongs to it.
    pub(super) fn cost(&self, id: &DocId, content: &Content) -> Usage {
        let bytes = ENTRY_BYTES
            + id.as_str().len()
            + content.bytes()
            + self.dimensions() * (size_of::<f32>() + 1)
            + GRAPH_BYTES;
        Usage { documents: 1, bytes }
    }

    /// Gives back `freed` and takes `added`, in this collection and in all, or changes nothing.
    pub(super) fn exchange(&self, freed: Usage, added: Usage) -> Result<(), Full> {
        self.budget.exchange(freed, added)?;
        self.budget_of_all.exchange(freed, added).inspect_err(|_| self.budget.undo(freed, added))
    }

    /// Takes back an exchange.
    pub(super) fn undo(&self, freed: Usage, added: Usage) {
        self.budget.undo(freed, added);
        self.budget_of_all.undo(freed, added);
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
