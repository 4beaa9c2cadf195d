//! Group commit: one commit for all operations that wait.
//!
//! ```text
//! commit, remove, update ──► waiting ──► the leader takes all
//!     budget ──► disk, one fsync ──► index, documents ──► answers
//! ```
//! A caller that arrives during a commit waits for the lock. Then either its operation is done, or it becomes the
//! leader and commits all that wait.
//!
//! Invariants: operations take effect in the order in which they began to wait. An answer comes after the fsync,
//! and when searches find the documents. A refused operation leaves nothing behind and fails no other.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::budget::{Exchange, Usage};
use super::commit_queue::{After, Asker, Brief, CommitError, Done, Follow, Operation, QueuedOperation, lock};
use super::disk::{Change, Put, Record};
use super::distinct::{NewFields, TooManyFields};
use super::document::{Content, DocId, Document, Kept, Origin};
use super::documents::{Documents, Entry};
use super::filter::Filter;
use super::matching::Matching;
use super::metadata::Metadata;
use super::migration::Noted;
use super::passages::{Span, Vectors};
use super::single::{Changed, Collection};
use super::texts::Texts;
use crate::compute::stop::Stop;
use crate::lexical::LexicalIndex;

/// The combined effect of several operations on the collection.
#[derive(Default)]
struct Draft {
    /// Each touched document after the commit.
    after: BTreeMap<DocId, After>,
    /// Usage that was exchanged in the budgets.
    exchange: Exchange,
    /// Callers, with their results if the commit succeeds.
    answers: Vec<(Asker, Done)>,
    /// Fields that no document has yet.
    fields: NewFields,
    /// Further changes on disk, which belong to a step of a migration.
    of_step: Vec<Change>,
}

impl Draft {
    /// Ids of the draft's documents that match.
    fn matching(&self, filter: &Filter) -> impl Iterator<Item = &DocId> {
        let matches = |brief: Brief<'_>| filter.matches(&brief.metadata.map(Metadata::fields).unwrap_or_default());
        self.after.iter().filter(move |(_, after)| after.brief().is_some_and(matches)).map(|(id, _)| id)
    }

    /// The content that a document has after the operations so far; `None`: there is no document.
    fn brief<'d>(&'d self, here: &'d Documents, id: &DocId) -> Option<Brief<'d>> {
        match self.after.get(id) {
            Some(after) => after.brief(),
            None => here.entry(id).map(|entry| (&*entry.kept).into()),
        }
    }

    /// The state of a document with other metadata.
    fn patched(&self, here: &Documents, id: &DocId, metadata: Metadata) -> Option<After> {
        let metadata = Some(metadata);
        Some(match self.after.get(id) {
            Some(After::Stored(document)) => {
                let content = Arc::new(Content { text: Arc::clone(&document.content.text), metadata });
                After::Stored(Document { content, ..document.clone() })
            }
            Some(After::Patched(kept)) => After::Patched(Arc::new(Kept { metadata, text: kept.text.clone() })),
            Some(After::Removed) => return None,
            None => {
                let text = here.entry(id)?.kept.text.clone();
                After::Patched(Arc::new(Kept { metadata, text }))
            }
        })
    }
}

impl Collection {
    /// Stores documents, all or none, and makes them searchable. Documents that would bring too many fields are
    /// left out and returned. If an id exists or comes twice, the later document replaces the earlier. Blocks until
    /// the documents are on disk, if the collection is; an upload that is faster than the graph waits for it too.
    pub fn commit(&self, documents: Vec<Document>) -> Result<Vec<TooManyFields>, CommitError> {
        self.perform(Operation::Put(documents)).map(|done| done.refused)
    }

    /// Removes documents and returns the ids of those that existed, in order. Blocks until the removal is on disk.
    pub fn remove(&self, ids: &[DocId]) -> Result<Vec<DocId>, CommitError> {
        self.perform(Operation::Remove(ids.to_vec())).map(|done| done.removed)
    }

    /// Removes the documents that match, all at once, and returns their ids in order. Blocks until the removal is
    /// on disk. `stop` ends the evaluation of the filter, and then nothing is removed.
    pub fn remove_matching(&self, filter: Filter, stop: &Stop) -> Result<Vec<DocId>, CommitError> {
        self.perform(Operation::RemoveMatching(filter, stop.clone())).map(|done| done.removed)
    }

    pub(super) fn perform(&self, operation: Operation) -> Result<Done, CommitError> {
        let _span = tracing::info_span!("commit").entered();
        let (done, answer) = sync_channel(1);
        lock(&self.group_commit.waiting).push(QueuedOperation { operation, done });
        let mut next_row = self.group_commit.turn();
        let all = std::mem::take(&mut *lock(&self.group_commit.waiting));
        if !all.is_empty() {
            self.perform_all(all, &mut next_row);
        }
        drop(next_row);
        answer.recv().expect("the leader answers every operation that it takes")
    }

    fn perform_all(&self, all: Vec<QueuedOperation>, next_row: &mut u64) {
        let mut draft = Draft::default();
        for QueuedOperation { operation, done } in all {
            match self.draft(operation, &mut draft) {
                Ok(what) => draft.answers.push((done, what)),
                Err(error) => answer(&done, Err(error)),
            }
        }
        let Draft { after, exchange, answers, of_step, .. } = draft;
        let stored = self.store((after, of_step), exchange, next_row);
        if stored.is_err() {
            self.budgets.undo(exchange);
        }
        for (done, what) in answers {
            answer(&done, stored.clone().map(|()| what));
        }
        self.wake_maintenance();
    }

    /// Adds an operation, if the quotas allow it.
    fn draft(&self, operation: Operation, draft: &mut Draft) -> Result<Done, CommitError> {
        if !self.admits(&operation) {
            return Err(CommitError::Moved);
        }
        // This thread is the leader, so nothing changes meanwhile.
        let matching = match &operation {
            Operation::RemoveMatching(filter, stop) => Some(self.matching(filter, stop)?),
            Operation::Put(_) | Operation::Remove(_) | Operation::Update(_) | Operation::Follow(_) => None,
        };
        let here = self.read();
        if here.deleted {
            return Err(CommitError::Deleted);
        }
        let is_update = matches!(operation, Operation::Update(_));
        let (after, done) = self.effect(operation, matching, &here, draft);
        // An update exchanges contents; all else of its documents stays.
        let usage = |id: &DocId, brief: Brief<'_>, n_passages| match is_update {
            true => Usage { documents: 0, bytes: self.kept_bytes(brief) },
            false => self.cost(id, brief, n_passages),
        };
        let n_passages = |id: &DocId, after: Option<&After>| match after {
            Some(After::Stored(document)) => document.vectors.count(),
            _ => here.entry(id).map_or(1, |entry| here.n_passages(entry)),
        };
        let before = |id| Some(usage(id, draft.brief(&here, id)?, n_passages(id, draft.after.get(id))));
        let freed: Usage = after.keys().filter_map(before).sum();
        let each = || after.iter().filter_map(|(id, after)| Some((id, after.brief()?, n_passages(id, Some(after)))));
        let added = each().map(|(id, brief, n_passages)| usage(id, brief, n_passages)).sum();
        let shared_cost = |brief: Brief<'_>, n_passages| {
            let words = if is_update { 0 } else { self.words_cost(brief) };
            here.columns_cost(brief.metadata, n_passages) + words
        };
        let reserved_bytes = each().map(|(_, brief, n_passages)| shared_cost(brief, n_passages)).sum();
        let kept_bytes = self.exports.would_keep(freed.bytes);
        let exchange = Exchange { freed, added, reserved_bytes, kept_bytes };
        self.budgets.exchange(exchange)?;
        draft.exchange += exchange;
        draft.after.extend(after);
        Ok(done)
    }

    /// The documents that an operation changes, and its result. `matching`: those that match its filter.
    fn effect(
        &self,
        operation: Operation,
        matching: Option<Matching>,
        here: &Documents,
        draft: &mut Draft,
    ) -> (BTreeMap<DocId, After>, Done) {
        let removed = |ids: Vec<DocId>| {
            let after = ids.iter().map(|id| (id.clone(), After::Removed)).collect();
            (after, Done { removed: ids, ..Done::default() })
        };
        match operation {
            Operation::Put(documents) => {
                let (admitted, refused) = here.admit(&mut draft.fields, self.max_fields, documents);
                let after = admitted.into_iter().map(|d| (d.id.clone(), After::Stored(d))).collect();
                (after, Done { refused, ..Done::default() })
            }
            Operation::Remove(mut ids) => {
                let mut seen = HashSet::new();
                ids.retain(|id| seen.insert(id.clone()) && draft.brief(here, id).is_some());
                removed(ids)
            }
            Operation::RemoveMatching(filter, _) => {
                let positions = matching.iter().map(Matching::positions);
                let mut ids: Vec<DocId> = positions.flat_map(|positions| here.ids(positions)).cloned().collect();
                ids.retain(|id| !draft.after.contains_key(id));
                ids.extend(draft.matching(&filter).cloned());
                ids.sort_unstable();
                removed(ids)
            }
            Operation::Update(update) => {
                let mut fields = std::mem::take(&mut draft.fields);
                let admit =
                    |position, metadata: &Metadata| here.admit_one(&mut fields, self.max_fields, position, metadata);
                let now = |id: &DocId| draft.brief(here, id).map(|brief| brief.metadata);
                let (patched, updated) = update.apply(now, admit);
                draft.fields = fields;
                let after = |(id, metadata)| {
                    let after = draft.patched(here, &id, metadata)?;
                    Some((id, after))
                };
                (patched.into_iter().filter_map(after).collect(), Done { updated, ..Done::default() })
            }
            Operation::Follow(Follow { documents, removed, changes }) => {
                // Its leader admitted the fields. While some of its documents are older, it may have more.
                let gone = removed.into_iter().filter(|id| draft.brief(here, id).is_some());
                let gone = gone.map(|id| (id, After::Removed));
                let after = documents.into_iter().map(|d| (d.id.clone(), After::Stored(d))).chain(gone).collect();
                draft.of_step.extend(changes);
                (after, Done::default())
            }
        }
    }

    /// Commits to disk, then makes the changes visible to searches.
    fn store(
        &self,
        (after, of_step): (BTreeMap<DocId, After>, Vec<Change>),
        exchange: Exchange,
        next_row: &mut u64,
    ) -> Result<(), CommitError> {
        if after.is_empty() && of_step.is_empty() {
            return Ok(());
        }
        let mut changed = Vec::with_capacity(after.len());
        for (id, after) in after {
            let row = *next_row;
            if let After::Stored(document) = &after {
                *next_row += document.vectors.count() as u64;
            }
            changed.push(Changed { row, id, after });
        }
        let noted = self.noted(&changed);
        if let Some(on_disk) = &self.on_disk {
            let texts = self.patched_texts(&changed)?;
            let mut changes = self.changes(on_disk.number, &self.read(), (&changed, texts));
            changes.extend(of_step);
            changes.extend(noted.iter().flat_map(Noted::changes));
            on_disk.disk.commit(changes)?;
        }
        let words = self.read_words(&changed);
        let mut here = self.write();
        if here.deleted {
            return Err(CommitError::Deleted);
        }
        self.apply(&mut here, exchange, changed, words);
        drop(here);
        if let Some(noted) = noted {
            noted.done();
        }
        self.lexical.iter().for_each(LexicalIndex::join_batches);
        Ok(())
    }

    /// The texts of documents that get other metadata, in order: a record is written whole. They are read
    /// before the documents are locked: only this thread changes them.
    fn patched_texts(&self, changed: &[Changed]) -> Result<Vec<Arc<str>>, CommitError> {
        let patched = changed.iter().filter(|changed| matches!(changed.after, After::Patched(_)));
        let kept: Vec<(Arc<Kept>, u64)> = {
            let here = self.read();
            let entries = patched.filter_map(|changed| here.entry(&changed.id));
            entries.map(|entry| (Arc::clone(&entry.kept), entry.row)).collect()
        };
        let mut texts = Texts::of(self);
        let read = |(kept, row): (Arc<Kept>, u64)| Ok(texts.read(&kept, row)?);
        kept.into_iter().map(read).collect()
    }

    /// The changes on disk. Other metadata goes into the row that the document has, with its text.
    fn changes(&self, number: u32, here: &Documents, (changed, texts): (&[Changed], Vec<Arc<str>>)) -> Vec<Change> {
        let mut changes = Vec::with_capacity(2 * changed.len());
        let mut texts = texts.into_iter();
        for Changed { row, id, after } in changed {
            let old = here.entry(id);
            if let After::Patched(kept) = after {
                let patched = old.zip(texts.next()).map(|(old, text)| {
                    let content = Content { text, metadata: kept.metadata.clone() };
                    Change::Replace(self.patched(number, here, (id, old), &content))
                });
                changes.extend(patched);
                continue;
            }
            changes.extend(old.map(|old| Change::Remove { collection: number, row: old.row }));
            if let After::Stored(Document { content, vectors, origin, .. }) = after {
                let (vectors, spans) = match vectors {
                    Vectors::Whole(embedding) => (Cow::Borrowed(embedding.values()), Vec::new()),
                    Vectors::Passages(passages) => {
                        let floats = passages.iter().flat_map(|(_, embedding)| embedding.values()).copied();
                        (Cow::Owned(floats.collect()), passages.iter().map(|(span, _)| *span).collect())
                    }
                };
                let record = Record { vectors: &vectors, spans: &spans, origin: *origin, ..record(id, content) };
                changes.push(Change::Put(Put::new(number, *row, &record)));
            }
        }
        changes
    }

    /// The record of a document with other metadata.
    fn patched(&self, number: u32, here: &Documents, (id, old): (&DocId, &Entry), content: &Content) -> Put {
        let record = Record { origin: here.origin(old), ..record(id, content) };
        let Some(passages) = here.passages(old.slot) else {
            return Put::new(number, old.row, &Record { vectors: &self.row(old.slot), ..record });
        };
        let vectors: Vec<f32> = passages.iter().flat_map(|passage| self.row(passage.slot).to_vec()).collect();
        let spans: Vec<Span> = passages.iter().map(|passage| passage.span).collect();
        Put::new(number, old.row, &Record { vectors: &vectors, spans: &spans, ..record })
    }
}

/// The record of a document, still without its vectors.
fn record<'d>(id: &'d DocId, content: &'d Content) -> Record<'d> {
    let (text, metadata) = (&*content.text, content.metadata.as_ref().map(Metadata::as_json));
    Record { id: id.as_str(), text, metadata, vectors: &[], spans: &[], origin: Origin::default() }
}

fn answer(done: &Asker, result: Result<Done, CommitError>) {
    // The caller waits for this, unless its thread is gone.
    let _ = done.send(result);
}
