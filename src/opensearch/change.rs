//! Changes of a collection: documents are stored, patched and removed.
//!
//! A change goes on when its caller leaves: a task of its own does it. A patch and a removal by filter read a document
//! first, and the change names the version that was read. If another caller was faster, the document is read again.
//!
//! Invariant: a change takes a bounded number of documents to memory at one time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::collection::Collection;
use super::document::{Change, Version};
use super::error::{Error, NotStored, Unavailable};
use super::http;
use super::reader::MATCHING_PAGE;
use super::writer::{MOST_REQUEST_BYTES, Outcome, WAITING_BYTES, outcomes};
use crate::budget::Held;
use crate::collection::{Content, DocId, Document, Filter, Listed, Metadata, Patch, Update, Updated};

/// Documents that are patched together.
const UPDATED_AT_ONCE: usize = 256;

/// Documents that are removed together.
const REMOVED_AT_ONCE: usize = 1_000;

/// Times that a document is read again because another caller changed it.
const ATTEMPTS: usize = 8;

/// Bytes of an id and its action in a request, beyond the id.
const ACTION_BYTES: usize = 128;

impl Collection {
    /// Stores documents. A later one replaces an earlier one of the same id. Returns those that were not stored, in
    /// order; the others are durable, and searches find them. If it fails, nothing is known to be stored.
    pub async fn commit(self: &Arc<Self>, documents: Vec<Document>) -> Result<Vec<NotStored>, Error> {
        let collection = Arc::clone(self);
        in_task(async move { collection.store(documents).await }).await
    }

    /// Removes documents. Returns the ids of those that existed, in the given order, each once.
    pub async fn remove(self: &Arc<Self>, mut ids: Vec<DocId>) -> Result<Vec<DocId>, Error> {
        let mut seen = HashSet::new();
        ids.retain(|id| seen.insert(id.clone()));
        let collection = Arc::clone(self);
        in_task(async move {
            let removed = collection.remove_each(ids.into_iter().map(|id| (id, None)).collect()).await?;
            Ok(removed.into_iter().filter(|(_, outcome)| *outcome == Outcome::Done).map(|(id, _)| id).collect())
        })
        .await
    }

    /// Removes the documents that match, page by page, and returns their number.
    pub async fn remove_matching(self: &Arc<Self>, filter: Filter) -> Result<usize, Error> {
        let collection = Arc::clone(self);
        in_task(async move { collection.remove_all_matching(&filter).await }).await
    }

    /// Patches the first of these documents, as many as one request takes, at least one. No id comes twice. Documents
    /// that do not match `only` are passed over.
    pub async fn update(
        self: &Arc<Self>,
        ids: &[DocId],
        patch: &Arc<Patch>,
        only: Option<&Arc<Filter>>,
    ) -> Result<Updated, Error> {
        let ids = ids[..ids.len().min(UPDATED_AT_ONCE)].to_vec();
        let update = Update { ids, patch: Arc::clone(patch), only: only.cloned() };
        let collection = Arc::clone(self);
        in_task(async move { collection.patch_all(update).await }).await
    }

    async fn store(&self, documents: Vec<Document>) -> Result<Vec<NotStored>, Error> {
        let (mut queued, mut first) = (Vec::new(), 0);
        for part in parts(documents, |document| self.estimate(document)) {
            let held = self.hold(part.iter().map(|document| self.estimate(document)).sum()).await;
            let n = part.len();
            let (words, positions) = (self.reader.clone(), last_of_each(&part));
            let write = move || {
                let mut words = words;
                let last = positions.iter().map(|&at| &part[at]);
                let written = last.map(|Document { id, content, vectors, .. }| {
                    let rows = vectors.iter().map(|(span, row)| (span, row.values()));
                    Change::store(id, content, rows, words.as_mut(), None)
                });
                let written = written.collect::<Vec<_>>();
                (written, places(&part, &positions))
            };
            let (changes, places) = self.engine.compute_bulk(write).await?;
            queued.push((first, places, self.writer.queue(changes, held).await));
            first += n;
        }
        let mut not_stored = Vec::new();
        for (first, places, receiver) in queued {
            let outcomes = outcomes(receiver).await?;
            for (at, place) in places.into_iter().enumerate() {
                if let Outcome::Refused(reason) = &outcomes[place] {
                    not_stored.push(NotStored { position: first + at, reason: reason.clone() });
                }
            }
        }
        // A failure that concerns all documents ends the commit: the caller may begin it again.
        match not_stored.iter().find(|refused| !matches!(refused.reason, Error::Unexpected { .. })) {
            Some(refused) => Err(refused.reason.clone()),
            None => Ok(not_stored),
        }
    }

    async fn remove_each(&self, ids: Vec<(DocId, Option<Version>)>) -> Result<Vec<(DocId, Outcome)>, Error> {
        let (mut removed, mut queued) = (Vec::with_capacity(ids.len()), Vec::new());
        for part in ids.chunks(REMOVED_AT_ONCE) {
            let held = self.hold(part.iter().map(|(id, _)| id.as_str().len() + ACTION_BYTES).sum()).await;
            let changes = part.iter().map(|(id, version)| Change::remove(id, *version)).collect();
            queued.push((part, self.writer.queue(changes, held).await));
        }
        for (part, receiver) in queued {
            for ((id, _), outcome) in part.iter().zip(outcomes(receiver).await?) {
                match outcome {
                    Outcome::Refused(error) => return Err(error),
                    outcome => removed.push((id.clone(), outcome)),
                }
            }
        }
        Ok(removed)
    }

    async fn remove_all_matching(&self, filter: &Filter) -> Result<usize, Error> {
        let mut removed = 0;
        for attempt in 0..ATTEMPTS {
            let (mut last, mut conflicts) = (None, 0);
            loop {
                let page = self.matching_versions(filter, last.as_ref()).await?;
                let is_last = page.len() < MATCHING_PAGE;
                let Some((id, _)) = page.last() else { break };
                last = Some(id.clone());
                let versions = page.into_iter().map(|(id, version)| (id, Some(version))).collect();
                for (_, outcome) in self.remove_each(versions).await? {
                    removed += usize::from(outcome == Outcome::Done);
                    conflicts += usize::from(outcome == Outcome::Conflict);
                }
                if is_last {
                    break;
                }
            }
            if conflicts == 0 {
                return Ok(removed);
            }
            tokio::time::sleep(http::pause(attempt)).await;
        }
        Err(changing())
    }

    async fn patch_all(&self, update: Update) -> Result<Updated, Error> {
        let Update { ids, patch, only } = update;
        let mut all = Updated { taken: ids.len(), ..Updated::default() };
        let mut left = ids;
        for attempt in 0..ATTEMPTS {
            let found = self.get_versions(&left).await?;
            let stored: HashMap<DocId, (Listed, Version)> =
                found.into_iter().flatten().map(|(listed, version)| (listed.id.clone(), (listed, version))).collect();
            let update = Update { ids: left, patch: Arc::clone(&patch), only: only.clone() };
            let words = self.reader.clone();
            let write = move || {
                let now = |id: &DocId| Some(stored.get(id)?.0.kept.metadata.as_ref());
                let (patched, updated) = update.apply(now, |_, _| Ok(()));
                (changes(&patched, &stored, words), updated)
            };
            let (changes, updated) = self.engine.compute_bulk(write).await?;
            all.documents += updated.documents;
            all.missing.extend(updated.missing);
            all.refused.extend(updated.refused);
            if changes.is_empty() {
                return Ok(all);
            }
            let held = self.hold(changes.iter().map(|change| change.lines.len()).sum()).await;
            let ids: Vec<DocId> = changes.iter().map(|change| change.id.clone()).collect();
            let outcomes = outcomes(self.writer.queue(changes, held).await).await?;
            left = Vec::new();
            for (id, outcome) in ids.into_iter().zip(outcomes) {
                match outcome {
                    Outcome::Done => {}
                    Outcome::Refused(error) => return Err(error),
                    Outcome::Missing | Outcome::Conflict => {
                        all.documents -= 1;
                        left.push(id);
                    }
                }
            }
            if left.is_empty() {
                return Ok(all);
            }
            tokio::time::sleep(http::pause(attempt)).await;
        }
        Err(changing())
    }

    /// Waits for memory. A request for more than all of it gets all.
    async fn hold(&self, bytes: usize) -> Held {
        let held = self.shared.waiting.hold(bytes.min(self.shared.waiting.total())).await;
        held.expect("it is not more than all")
    }

    /// The bytes that a document takes in a request, about: a number of a vector has up to 13 characters, and 5 more in
    /// base64. Metadata is there twice, with its paths.
    fn estimate(&self, Document { id, content, vectors, .. }: &Document) -> usize {
        let numbers = vectors.count() * self.meta.dimensions * 18;
        let text = content.text.len() * if self.reader.is_some() { 3 } else { 1 };
        let metadata = content.metadata.as_ref().map_or(0, |metadata| metadata.as_json().len() * 6);
        id.as_str().len() + ACTION_BYTES + numbers + text + metadata
    }
}

/// The patched documents as changes of the versions that were read.
fn changes(
    patched: &BTreeMap<DocId, Metadata>,
    stored: &HashMap<DocId, (Listed, Version)>,
    mut words: Option<crate::lexical::TermReader>,
) -> Vec<Change> {
    let change = |(id, metadata): (&DocId, &Metadata)| {
        let (listed, version) = stored.get(id)?;
        let content = Content { text: Arc::clone(&listed.text), metadata: Some(metadata.clone()) };
        Some(Change::store(id, &content, listed.vectors.rows(), words.as_mut(), Some(*version)))
    };
    patched.iter().filter_map(change).collect()
}

/// Divides documents into parts of bounded size.
fn parts(documents: Vec<Document>, bytes_of: impl Fn(&Document) -> usize) -> Vec<Vec<Document>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for document in documents {
        let of_document = bytes_of(&document);
        if bytes > 0 && bytes + of_document > MOST_REQUEST_BYTES.min(WAITING_BYTES) {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += of_document;
        if let Some(part) = parts.last_mut() {
            part.push(document);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// The index of the last document of each id, in order.
fn last_of_each(documents: &[Document]) -> Vec<usize> {
    let mut seen = HashSet::new();
    let mut last: Vec<usize> = (0..documents.len()).rev().filter(|&at| seen.insert(&documents[at].id)).collect();
    last.reverse();
    last
}

/// The place in `last` of each document's id.
fn places(documents: &[Document], last: &[usize]) -> Vec<usize> {
    let places: HashMap<&DocId, usize> =
        last.iter().enumerate().map(|(place, &at)| (&documents[at].id, place)).collect();
    documents.iter().map(|document| places[&document.id]).collect()
}

fn changing() -> Error {
    let reason = "other callers change the same documents all the time";
    Error::Unavailable(Unavailable::new(reason, http::pause(ATTEMPTS)))
}

/// Does work that goes on when its caller leaves.
async fn in_task<T: Send + 'static>(work: impl Future<Output = Result<T, Error>> + Send + 'static) -> Result<T, Error> {
    let span = tracing::Instrument::in_current_span(work);
    tokio::spawn(span).await.map_err(|error| Error::unexpected(format!("a change has ended: {error}")))?
}
