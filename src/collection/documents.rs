//! The documents of a collection: by id, by position in the index, and by metadata.
//!
//! Invariant: the three agree. Each document in the map by id has its position in the list and in the columns, and
//! nothing else is there. Each change of a position is noted for filters that were evaluated before it. Vectors,
//! budgets and locks are left to `Collection`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use roaring::RoaringBitmap;

use super::budget::Usage;
use super::changes::Changes;
use super::columns::Columns;
use super::columns::evaluate::{self, Corpus};
use super::distinct::{NewFields, TooManyFields};
use super::document::{Content, DocId, Document};
use super::filter::{Filter, Scalar};
use super::groups::Groups;
use crate::compute::stop::{Stop, Stopped};
use crate::index::Slot;

/// All documents of a collection, behind one lock.
#[derive(Default)]
pub(super) struct Documents {
    pub by_id: BTreeMap<DocId, Entry>,
    /// The document at each position of the index.
    by_position: Vec<Option<(Slot, DocId)>>,
    columns: Columns,
    changes: Changes,
    /// The usage of the documents here and their columns, as the budgets count it.
    pub used: Usage,
    pub deleted: bool,
}

/// A document.
pub(super) struct Entry {
    pub slot: Slot,
    /// Row number on disk. A document that is replaced gets another one; updated metadata keeps it.
    pub row: u64,
    pub content: Arc<Content>,
}

/// A copy of [`Documents::used`] as of the last change, for readers that must not wait for the lock.
#[derive(Default)]
pub(super) struct Counts {
    documents: AtomicUsize,
    bytes: AtomicUsize,
}

impl Documents {
    /// The state after the collection was deleted: no documents, and commits are refused.
    pub fn of_deleted() -> Self {
        Self { deleted: true, ..Self::default() }
    }

    /// Positions of the documents that match.
    pub fn positions(&self, filter: &Filter, stop: &Stop) -> Result<RoaringBitmap, Stopped> {
        evaluate::matching(filter, &|| self, stop)
    }

    /// The latest changes.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Positions of all documents.
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
        content: &Content,
    ) -> Result<(), TooManyFields> {
        new.check(&self.columns, most, position, content)
    }

    /// Upper bound on the bytes that the columns grow by when a document with this content is added.
    pub fn columns_cost(&self, content: &Content) -> usize {
        match content.fields() {
            Some(fields) => self.columns.cost_of(Some(&fields)),
            None => 0,
        }
    }

    /// Of some positions one for each document. All that counts documents goes through here.
    pub fn one_each(&self, positions: RoaringBitmap) -> RoaringBitmap {
        positions
    }

    /// Ids of the documents at some positions.
    pub fn ids(&self, positions: &RoaringBitmap) -> impl Iterator<Item = &DocId> {
        positions.iter().filter_map(|position| self.by_position.get(position as usize)?.as_ref()).map(|(_, id)| id)
    }

    /// The document of a slot; `None`: the slot was removed.
    pub fn at(&self, slot: Slot) -> Option<&DocId> {
        let (owner, id) = self.by_position.get(slot.index() as usize)?.as_ref()?;
        (*owner == slot).then_some(id)
    }

    /// Bytes that the columns take.
    pub fn columns_bytes(&self) -> usize {
        self.columns.bytes()
    }

    /// Inserts a document. Returns the slot of the version that it replaces.
    pub fn put(&mut self, id: DocId, entry: Entry) -> Option<Slot> {
        let at = entry.slot.index() as usize;
        if self.by_position.len() <= at {
            self.by_position.resize(at + 1, None);
        }
        self.by_position[at] = Some((entry.slot, id.clone()));
        self.columns.insert(entry.slot.index(), entry.content.fields().as_ref());
        self.changes.note(entry.slot.index());
        self.by_id.insert(id, entry).map(|old| self.vacate(&old))
    }

    /// Removes a document. Returns its slot.
    pub fn remove(&mut self, id: &DocId) -> Option<Slot> {
        self.by_id.remove(id).map(|old| self.vacate(&old))
    }

    /// Gives a document other metadata. It keeps its slot and its row.
    pub fn patch(&mut self, id: &DocId, content: Arc<Content>) {
        let Some(entry) = self.by_id.get_mut(id) else { return };
        let position = entry.slot.index();
        let before = std::mem::replace(&mut entry.content, content);
        self.columns.remove(position, before.fields().as_ref());
        self.columns.insert(position, entry.content.fields().as_ref());
        self.changes.note(position);
    }

    /// Frees the position of a version that is no longer in the map by id. Returns its slot.
    fn vacate(&mut self, entry: &Entry) -> Slot {
        self.by_position[entry.slot.index() as usize] = None;
        self.columns.remove(entry.slot.index(), entry.content.fields().as_ref());
        self.changes.note(entry.slot.index());
        entry.slot
    }
}

impl Corpus for Documents {
    fn columns(&self) -> &Columns {
        &self.columns
    }

    fn holds(&self, position: u32, filter: &Filter) -> bool {
        let document = self.by_position.get(position as usize).and_then(Option::as_ref);
        let entry = document.and_then(|(_, id)| self.by_id.get(id));
        entry.is_some_and(|entry| filter.matches(&entry.content.fields().unwrap_or_default()))
    }
}

impl Counts {
    /// Number of documents.
    pub fn documents(&self) -> usize {
        self.documents.load(Ordering::Relaxed)
    }

    /// Bytes of the documents, as the budgets count them.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Copies the current usage.
    pub fn note(&self, used: Usage) {
        self.documents.store(used.documents, Ordering::Relaxed);
        self.bytes.store(used.bytes, Ordering::Relaxed);
    }
}
