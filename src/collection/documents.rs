//! The documents of a collection: by id, by position in the index, and by metadata.
//!
//! A document has a position for each of its passages. Its metadata is in the columns at each of them, so that the
//! positions that match a filter are those that a search may find. The first one stands for the document where
//! documents are counted.
//!
//! Invariant: the three agree. Each document in the map by id has its positions in the list and in the columns, and
//! nothing else is there. All positions of a document have the same entry, so that a search names a hit by one look
//! at the list. Each change of a position is noted for filters that were evaluated before it. Vectors, budgets and
//! locks are left to `Collection`.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use roaring::RoaringBitmap;
use serde_json::{Map, Value};

use super::budget::Usage;
use super::changes::Changes;
use super::columns::Columns;
use super::columns::evaluate::{self, Corpus};
use super::distinct::{NewFields, TooManyFields};
use super::document::{DocId, Document, Kept, Origin};
use super::filter::{Filter, Scalar};
use super::groups::Groups;
use super::metadata::Metadata;
use super::passages::LocatedPassage;
use crate::compute::stop::{Stop, Stopped};
use crate::index::Slot;

/// All documents of a collection, behind one lock.
#[derive(Default)]
pub(super) struct Documents {
    /// The first position of each document.
    by_id: BTreeMap<DocId, u32>,
    /// The passage at each position of the index; `None`: the position is free.
    by_position: Vec<Option<Place>>,
    /// The passages of the documents that have several, by the position of the first.
    passages: HashMap<u32, Arc<[LocatedPassage]>>,
    /// The positions of all passages but the first of each document.
    further: RoaringBitmap,
    /// The first positions of the documents whose vectors came from a client.
    given: RoaringBitmap,
    columns: Columns,
    changes: Changes,
    /// The usage of the documents here, as the budgets count it, with what they share: columns, words, and rows.
    pub used: Usage,
    /// The bytes of words and rows among them, which change with the segments.
    pub varying_bytes: usize,
    /// True if all stored documents are loaded.
    pub loaded: bool,
    pub deleted: bool,
}

/// A passage at a position of the index, and its document.
struct Place {
    slot: Slot,
    id: DocId,
    entry: Entry,
}

/// A document.
#[derive(Clone)]
pub(super) struct Entry {
    /// The slot of its vector; of its first passage, if there are several.
    pub slot: Slot,
    /// The first row number on disk; there is one for each passage. A document that is replaced gets others; updated
    /// metadata keeps them.
    pub row: u64,
    pub kept: Arc<Kept>,
}

/// A copy of [`Documents::used`] as of the last change, for readers that must not wait for the lock.
#[derive(Default)]
pub(super) struct Counts {
    documents: AtomicUsize,
    passages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Documents {
    /// The state after the collection was deleted: no documents, and commits are refused.
    pub fn of_deleted() -> Self {
        Self { deleted: true, ..Self::default() }
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The document with this id.
    pub fn get(&self, id: &DocId) -> Option<(&DocId, &Entry)> {
        self.at_position(*self.by_id.get(id)?)
    }

    /// The entry of the document with this id.
    pub fn entry(&self, id: &DocId) -> Option<&Entry> {
        self.get(id).map(|(_, entry)| entry)
    }

    /// All documents in id order, starting after the id `after`.
    pub fn after(&self, after: Option<&DocId>) -> impl Iterator<Item = (&DocId, &Entry)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range((from, Bound::Unbounded)).filter_map(|(_, first)| self.at_position(*first))
    }

    /// Positions of the documents that match.
    pub fn positions(&self, filter: &Filter, stop: &Stop) -> Result<RoaringBitmap, Stopped> {
        evaluate::matching(filter, &|| self, stop)
    }

    /// The latest changes.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Positions of all passages.
    pub fn all(&self) -> &RoaringBitmap {
        self.columns.all()
    }

    /// Positions of the documents whose group has this value.
    pub fn in_group(&self, groups: &Groups, value: &Scalar) -> RoaringBitmap {
        self.columns.in_group(groups, value)
    }

    /// Separates the documents that would bring more fields than are allowed.
    pub fn admit(
        &self,
        new: &mut NewFields,
        most: usize,
        documents: Vec<Document>,
    ) -> (Vec<Document>, Vec<TooManyFields>) {
        new.admit(&self.columns, most, documents)
    }

    /// Checks that a document does not bring more fields than are allowed.
    pub fn admit_one(
        &self,
        new: &mut NewFields,
        most: usize,
        position: usize,
        metadata: &Metadata,
    ) -> Result<(), TooManyFields> {
        new.check(&self.columns, most, position, metadata)
    }

    /// Upper bound on the bytes that the columns grow by when a document with this metadata is added.
    pub fn columns_cost(&self, metadata: Option<&Metadata>, n_passages: usize) -> usize {
        match metadata.map(Metadata::fields) {
            Some(fields) => self.columns.cost_of(Some(&fields)) * n_passages,
            None => 0,
        }
    }

    /// Reduces positions to one for each document. They must include all positions of a document, or none.
    pub fn one_each(&self, positions: RoaringBitmap) -> RoaringBitmap {
        positions - &self.further
    }

    /// Ids of the documents at some positions, each once: all positions of a document must be there, or none.
    pub fn ids(&self, positions: &RoaringBitmap) -> impl Iterator<Item = &DocId> {
        let first = positions.iter().filter(|position| !self.further.contains(*position));
        first.filter_map(|position| self.at_position(position)).map(|(id, _)| id)
    }

    /// Number of the documents at some positions.
    pub fn count(&self, positions: &RoaringBitmap) -> usize {
        positions.difference_len(&self.further) as usize
    }

    /// The passages of a document, if it has several, by the slot of the first.
    pub fn passages(&self, first: Slot) -> Option<&Arc<[LocatedPassage]>> {
        self.passages.get(&first.index())
    }

    /// The origin of a document's vectors.
    pub fn origin(&self, entry: &Entry) -> Origin {
        if self.given.contains(entry.slot.index()) { Origin::Client } else { Origin::Model }
    }

    /// Notes that the vectors of a document here came from a client.
    pub fn note_given(&mut self, first: Slot) {
        self.given.insert(first.index());
    }

    /// Number of the documents whose vectors came from a client.
    pub fn n_given(&self) -> usize {
        self.given.len() as usize
    }

    /// Number of the document's passages.
    pub fn n_passages(&self, entry: &Entry) -> usize {
        self.passages(entry.slot).map_or(1, |passages| passages.len())
    }

    /// Number of all passages.
    pub fn all_passages(&self) -> usize {
        self.by_id.len() + self.further.len() as usize
    }

    /// The document of a slot; `None`: the slot was removed.
    pub fn at(&self, slot: Slot) -> Option<(&DocId, &Entry)> {
        let place = self.place(slot.index())?;
        (place.slot == slot).then_some((&place.id, &place.entry))
    }

    /// The document at a position; `None`: the position is free.
    pub fn at_position(&self, position: u32) -> Option<(&DocId, &Entry)> {
        self.place(position).map(|place| (&place.id, &place.entry))
    }

    /// The first slot of the document at a position; `None`: the position is free.
    pub fn first_slot(&self, position: u32) -> Option<Slot> {
        self.place(position).map(|place| place.entry.slot)
    }

    fn place(&self, position: u32) -> Option<&Place> {
        self.by_position.get(position as usize)?.as_ref()
    }

    /// Bytes that the columns take.
    pub fn columns_bytes(&self) -> usize {
        self.columns.bytes()
    }

    /// Inserts a document, with its passages if it has several. Adds the slots of the version that it replaces to
    /// `gone`.
    pub fn put(&mut self, id: DocId, entry: Entry, passages: Vec<LocatedPassage>, gone: &mut Vec<Slot>) {
        let fields = entry.kept.fields();
        let further = passages.iter().skip(1).map(|passage| passage.slot);
        for slot in std::iter::once(entry.slot).chain(further.clone()) {
            let at = slot.index() as usize;
            if self.by_position.len() <= at {
                self.by_position.resize_with(at + 1, || None);
            }
            self.by_position[at] = Some(Place { slot, id: id.clone(), entry: entry.clone() });
            self.columns.insert(slot.index(), fields.as_ref());
            self.changes.note(slot.index());
        }
        self.further.extend(further.map(Slot::index));
        let first = entry.slot.index();
        if let Some(old) = self.by_id.insert(id, first) {
            self.vacate(old, gone);
        }
        if !passages.is_empty() {
            self.passages.insert(first, passages.into());
        }
    }

    /// Removes a document. Adds its slots to `gone`.
    pub fn remove(&mut self, id: &DocId, gone: &mut Vec<Slot>) {
        if let Some(first) = self.by_id.remove(id) {
            self.vacate(first, gone);
        }
    }

    /// Gives a document other metadata. It keeps its slots and its rows.
    pub fn patch(&mut self, id: &DocId, kept: Arc<Kept>) {
        let Some(&first) = self.by_id.get(id) else { return };
        let (before, after) = (self.fields(first), kept.fields());
        let further = self.passages.get(&first).into_iter().flat_map(|passages| passages.iter().skip(1));
        for position in std::iter::once(first).chain(further.map(|passage| passage.slot.index())) {
            if let Some(place) = &mut self.by_position[position as usize] {
                place.entry.kept = Arc::clone(&kept);
            }
            self.columns.remove(position, before.as_ref());
            self.columns.insert(position, after.as_ref());
            self.changes.note(position);
        }
    }

    /// Frees the positions of a version that is no longer in the map by id.
    fn vacate(&mut self, first: u32, gone: &mut Vec<Slot>) {
        let fields = self.fields(first);
        let passages = self.passages.remove(&first);
        let further = passages.iter().flat_map(|passages| passages.iter().skip(1)).map(|passage| passage.slot.index());
        for position in std::iter::once(first).chain(further) {
            gone.extend(self.by_position[position as usize].take().map(|place| place.slot));
            self.further.remove(position);
            self.given.remove(position);
            self.columns.remove(position, fields.as_ref());
            self.changes.note(position);
        }
    }

    /// The fields of the document at a position, parsed anew.
    fn fields(&self, position: u32) -> Option<Map<String, Value>> {
        self.at_position(position)?.1.kept.fields()
    }
}

impl Corpus for Documents {
    fn columns(&self) -> &Columns {
        &self.columns
    }

    fn holds(&self, position: u32, filter: &Filter) -> bool {
        let document = self.at_position(position);
        document.is_some_and(|(_, entry)| filter.matches(&entry.kept.fields().unwrap_or_default()))
    }
}

impl Counts {
    /// Number of documents.
    pub fn documents(&self) -> usize {
        self.documents.load(Ordering::Relaxed)
    }

    /// Number of their passages.
    pub fn passages(&self) -> usize {
        self.passages.load(Ordering::Relaxed)
    }

    /// Bytes of the documents, as the budgets count them.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Copies the current usage.
    pub fn note(&self, used: Usage, passages: usize) {
        self.passages.store(passages, Ordering::Relaxed);
        self.documents.store(used.documents, Ordering::Relaxed);
        self.bytes.store(used.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_cost_a_document_of_one_vector_no_memory() {
        assert_eq!(size_of::<Entry>(), 24);
        assert_eq!(size_of::<Option<Place>>(), 48);
        assert_eq!(size_of::<Kept>(), 32);
    }
}
