//! One collection: its documents and the index over their vectors, changed together and counted in the budgets.
//!
//! Other files of this module add the operations: commits, listings, searches, exports.
//!
//! Invariant: a change is visible as a whole. Documents, slots and counts change while the documents are locked for
//! writing, and every document has a live slot in the index. `documents` keeps the maps of the documents, `commits`
//! the order of changes.

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::budget::{Exchange, Usage};
use super::budgets::Budgets;
use super::commit_queue::{After, GroupCommit, OnDisk};
use super::document::{Content, DocId, Kept, Origin};
use super::documents::{Counts, Documents, Entry};
use super::maintenance_thread::MaintenanceThread;
use super::migration::Role;
use super::open_exports::Exports;
use super::passages::{LocatedPassage, PassageSizes, Span, Vectors};
use super::stats::Counters;
use crate::index::{self, Index, Quality, SegmentStorage, Slot, Vector};
use crate::kernel::embedding::Embedding;
use crate::lexical::{self, LexicalIndex, Prepared};

/// Documents of one model, searchable by vector.
pub struct Collection {
    name: String,
    model: String,
    fingerprint: String,
    passages: Option<PassageSizes>,
    pub(super) index: Index,
    /// The words of the texts; `None`: the collection has no lexical index.
    pub(super) lexical: Option<LexicalIndex>,
    lexical_options: Option<lexical::Options>,
    /// Locked for moments: for reading to name hits, for writing to swap entries.
    documents: RwLock<Documents>,
    /// Follows `documents`, for readers that must not wait for its lock.
    pub(super) counts: Counts,
    pub(super) budgets: Budgets,
    /// Most fields that the documents may have between them.
    pub(super) max_fields: usize,
    pub(super) exports: Arc<Exports>,
    pub(super) searches: Arc<Counters>,
    pub(super) group_commit: GroupCommit,
    /// Its part in a migration.
    pub(super) role: Mutex<Role>,
    /// The collection on disk; `None`: it is in memory alone.
    pub(super) on_disk: Option<OnDisk>,
    pub(super) maintenance: MaintenanceThread,
}

/// A change of a document.
pub(super) struct Changed {
    /// The first row number of a new version.
    pub row: u64,
    pub id: DocId,
    pub after: After,
}

/// Parameters of a new collection.
pub(super) struct New<'a> {
    pub name: &'a str,
    /// The name of its model.
    pub model: &'a str,
    pub fingerprint: &'a str,
    pub dimensions: usize,
    /// The sizes of its passages; `None`: a text is one passage.
    pub passages: Option<PassageSizes>,
    pub index: index::Options,
    /// Storage for the index's segments; `None`: they are not stored.
    pub index_storage: Option<SegmentStorage>,
    /// The settings of its lexical index; `None`: it has none.
    pub lexical: Option<lexical::Options>,
    /// Storage for its segments; `None`: they are not stored.
    pub lexical_storage: Option<lexical::Storage>,
    /// The counters of searches.
    pub searches: Arc<Counters>,
    pub budgets: Budgets,
    /// Most fields that the documents may have between them.
    pub max_fields: usize,
    pub maintenance: MaintenanceThread,
    pub on_disk: Option<OnDisk>,
    /// The lowest unused row number.
    pub next_row: u64,
}

impl Collection {
    pub(super) fn new(new: New<'_>) -> Self {
        Self {
            name: new.name.to_owned(),
            model: new.model.to_owned(),
            fingerprint: new.fingerprint.to_owned(),
            passages: new.passages,
            index: match new.index_storage {
                Some(keep) => Index::stored(new.dimensions, new.index, keep),
                None => Index::new(new.dimensions, new.index),
            }
            .counted_by(Arc::clone(&new.searches.of_indexes)),
            searches: new.searches,
            lexical: new.lexical.map(|options| match new.lexical_storage {
                Some(storage) => LexicalIndex::stored(options.language, storage),
                None => LexicalIndex::new(options.language),
            }),
            lexical_options: new.lexical,
            documents: RwLock::default(),
            counts: Counts::default(),
            exports: Arc::new(Exports::new(new.budgets.shared.clone())),
            budgets: new.budgets,
            max_fields: new.max_fields,
            group_commit: GroupCommit::new(new.next_row),
            role: Mutex::default(),
            on_disk: new.on_disk,
            maintenance: new.maintenance,
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its model when it was created; empty: not known.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Fingerprint of the model that its vectors come from.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The caller who created it, and whose limits its documents count for; `None`: they count for nobody's.
    pub fn owner(&self) -> Option<&str> {
        self.budgets.shared.owner().map(|name| &**name)
    }

    /// The sizes of its passages; `None`: a text is one passage, however long it is.
    pub fn passages(&self) -> Option<PassageSizes> {
        self.passages
    }

    /// True if texts are not in memory, so that to return documents may block.
    pub fn reads_texts(&self) -> bool {
        self.on_disk.is_some()
    }

    /// Length of the vectors.
    pub fn dimensions(&self) -> usize {
        self.index.dimensions()
    }

    /// Number of documents. Never waits for a lock.
    pub fn len(&self) -> usize {
        self.counts.documents()
    }

    /// True if each document is one passage. Never waits for a lock.
    pub(super) fn is_of_whole_texts(&self) -> bool {
        self.counts.passages() == self.counts.documents()
    }

    /// Number of passages: one for each document, and more for long ones. Never waits for a lock.
    pub fn n_passages(&self) -> usize {
        self.counts.passages()
    }

    /// Number of passages that the graph lacks yet. Searches compare with all of them.
    pub fn unindexed(&self) -> usize {
        self.index.pending()
    }

    /// Number of segments of the vector index.
    pub fn segments(&self) -> usize {
        self.index.segments()
    }

    /// Recall of the searches, as measured.
    pub fn quality(&self) -> Quality {
        self.index.quality()
    }

    /// Bytes of the index files, which are mapped into memory.
    pub fn index_file_bytes(&self) -> usize {
        self.index.mapped_bytes()
    }

    /// The settings of its lexical index; `None`: it has none.
    pub fn lexical(&self) -> Option<lexical::Options> {
        self.lexical_options
    }

    /// Bytes of the files of the lexical index, which are mapped into memory.
    pub fn lexical_file_bytes(&self) -> usize {
        self.lexical.as_ref().map_or(0, LexicalIndex::mapped_bytes)
    }

    /// True if there are no documents.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Estimated bytes of documents, vectors, graph and words, as the budgets count them. Never waits for a lock.
    pub fn bytes(&self) -> usize {
        self.counts.bytes()
    }

    /// Reads the words of changed documents, for [`Collection::apply`]. Takes about as long as to parse the texts.
    pub(super) fn read_words(&self, changed: &[Changed]) -> Option<Prepared> {
        let texts = changed.iter().filter_map(|changed| {
            let After::Stored(document) = &changed.after else { return None };
            Some((changed.row, &*document.content.text))
        });
        Some(self.lexical.as_ref()?.prepare(texts))
    }

    /// Makes changed documents visible to searches. The budget was exchanged before; now the real growth of columns and
    /// words replaces the reservation. Rows that no file holds yet are counted only now: they move into one soon, or
    /// the next commit finds less room.
    pub(super) fn apply(
        &self,
        here: &mut Documents,
        exchange: Exchange,
        changed: Vec<Changed>,
        words: Option<Prepared>,
    ) {
        self.exports.keep(exchange.freed.bytes, exchange.kept_bytes);
        here.used = here.used + exchange.added - exchange.freed;
        here.used.bytes += exchange.reserved_bytes;
        let before = here.columns_bytes();
        self.show(here, changed, words);
        let after = here.columns_bytes();
        self.recount(here, before + exchange.reserved_bytes, after);
        self.note_used(here, here.used);
    }

    /// Makes changed documents visible to searches, all at once.
    fn show(&self, here: &mut Documents, changed: Vec<Changed>, words: Option<Prepared>) {
        let keyed = changed.iter().flat_map(|Changed { row, after, .. }| {
            let document = if let After::Stored(document) = after { Some(document) } else { None };
            (*row..).zip(document.into_iter().flat_map(|document| document.vectors.iter()))
        });
        let keyed: Vec<(u64, Arc<[f32]>)> = keyed.map(|(row, (_, vector))| (row, Arc::from(vector.values()))).collect();
        let mut slots = self.index.insert_keyed(&keyed).into_iter();
        let (mut gone, mut gone_rows, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for Changed { row, id, after } in changed {
            if !matches!(after, After::Patched(_)) {
                gone_rows.extend(here.entry(&id).map(|entry| entry.row));
            }
            let document = match after {
                After::Stored(document) => document,
                After::Patched(kept) => {
                    here.patch(&id, kept);
                    continue;
                }
                After::Removed => {
                    here.remove(&id, &mut gone);
                    continue;
                }
            };
            let mut slot = || slots.next().expect("each vector has a slot");
            let (first, passages) = match &document.vectors {
                Vectors::Whole(_) => (slot(), Vec::new()),
                Vectors::Passages(passages) => {
                    let located = |(span, _): &(Span, Embedding)| LocatedPassage { slot: slot(), span: *span };
                    let passages: Vec<LocatedPassage> = passages.iter().map(located).collect();
                    (passages[0].slot, passages)
                }
            };
            positions.push((row, first.index()));
            let kept = self.kept(document.content);
            here.put(id, Entry { slot: first, row, kept }, passages, &mut gone);
            if document.origin == Origin::Client {
                here.note_given(first);
            }
        }
        self.index.remove(&gone);
        if let (Some(lexical), Some(words)) = (&self.lexical, words) {
            let position = |row: u64| {
                let at = positions.binary_search_by_key(&row, |(row, _)| *row);
                positions[at.expect("words are those of the documents that change")].1
            };
            lexical.apply(words, position, &gone_rows);
        }
    }

    /// Releases the budget and refuses later commits. Returns the number of documents.
    pub(super) fn delete(&self) -> usize {
        let mut here = self.write();
        self.budgets.shared.release(Usage { bytes: 0, ..here.used });
        self.exports.keep(here.used.bytes, here.used.bytes);
        let gone = std::mem::replace(&mut *here, Documents::of_deleted());
        self.note_used(&mut here, Usage::default());
        self.index.discard();
        self.index.clear();
        self.lexical.iter().for_each(LexicalIndex::discard);
        gone.len()
    }

    /// Tells the indexes that all stored documents are loaded.
    pub(super) fn loaded(&self) {
        self.index.restored();
        self.lexical.iter().for_each(LexicalIndex::restored);
        self.write().loaded = true;
        self.recount_varying();
    }

    /// The part of a content that stays in memory: without the text, if that is on disk.
    fn kept(&self, content: Arc<Content>) -> Arc<Kept> {
        let content = Arc::unwrap_or_clone(content);
        Arc::new(match self.on_disk {
            Some(_) => Kept::without_text(content.metadata, &content.text),
            None => Kept::whole(content),
        })
    }

    pub(super) fn row(&self, slot: Slot) -> Vector {
        self.index.vector(slot).expect("a document's slot is live while the documents are locked")
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Documents> {
        self.documents.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Documents> {
        self.documents.write().unwrap_or_else(PoisonError::into_inner)
    }
}
