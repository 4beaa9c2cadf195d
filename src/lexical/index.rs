//! The index: documents go in and out, and searches take a state of it.
//!
//! ```text
//! prepare ──► apply ──► batches ──(join)──► fewer batches ──(maintain: seal)──► segment ──(maintain: merge)──► files
//! question = one state: the best of each part, by statistics of all parts
//! ```
//! Locks are held to exchange a state, never while texts are read or segments are written.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use roaring::RoaringBitmap;

use super::analyzer::Analyzer;
use super::batch::{Batch, Builder};
use super::files::{Files, Storage};
use super::language::Language;
use super::query::Question;
use super::restoring::{Found, Restoring};
use super::segment::Segment;
use super::state::{LivePart, Part, State};

/// Two batches are put together if the older one is at most this many times as large as the newer. So a document is
/// moved few times, and the number of batches grows with the logarithm of their documents.
const ALIKE: usize = 2;
/// Larger batches wait to be sealed.
const MOST_JOINED_BYTES: usize = 4 << 20;

/// Words of documents that can be found while documents are added and removed.
pub struct LexicalIndex {
    analyzer: Analyzer,
    state: RwLock<Arc<State>>,
    /// The files of the segments; `None`: they are in memory only.
    pub(super) files: Option<Files>,
    /// Segments of an earlier process, until [`LexicalIndex::restored`].
    restoring: Mutex<Option<Restoring>>,
    /// Held by the thread that does maintenance.
    pub(super) maintenance: Mutex<()>,
    /// The time of the last insert.
    inserted: Mutex<Option<Instant>>,
}

/// Documents whose texts are read and that nobody can find yet.
pub struct Prepared {
    batch: Batch,
    /// Documents that an earlier process stored.
    found: Vec<Found>,
}

/// A state of an index.
pub struct Snapshot(Arc<State>);

#[cfg(test)]
impl Prepared {
    /// The number of documents whose texts were read, because no segment has them.
    pub(super) fn read_anew(&self) -> usize {
        self.batch.members.len()
    }
}

impl LexicalIndex {
    /// An empty index in memory. The language decides what its terms are.
    pub fn new(language: Option<Language>) -> Self {
        Self {
            analyzer: Analyzer::new(language),
            state: RwLock::default(),
            files: None,
            restoring: Mutex::default(),
            maintenance: Mutex::default(),
            inserted: Mutex::default(),
        }
    }

    /// An empty index that keeps its segments in mapped files.
    ///
    /// The caller inserts the documents of an earlier process again, with their keys, and then calls
    /// [`LexicalIndex::restored`]. Afterwards the index has the segments that the earlier process left. It must not be
    /// searched before. The files are a cache: a missing part is built again, and one that cannot be written stays in
    /// memory.
    pub fn stored(language: Option<Language>, storage: Storage) -> Self {
        let mut index = Self::new(language);
        let directory = storage.directory.clone();
        match Files::open(storage, language.map(Language::code)) {
            Ok((files, stored)) => {
                let mut segments = Vec::with_capacity(stored.len());
                for files in stored {
                    let path = files.path().to_owned();
                    match Segment::stored(files) {
                        Ok(segment) => segments.push(segment),
                        Err(error) => {
                            let shown = path.display();
                            tracing::warn!(path = %shown, %error, "an unreadable segment of words is built again");
                            let _ = std::fs::remove_dir_all(path);
                        }
                    }
                }
                index.files = Some(files);
                index.restoring = Mutex::new(Some(Restoring::new(segments)));
            }
            Err(error) => {
                let directory = directory.display();
                tracing::warn!(%directory, %error, "words cannot be stored here: each start reads all texts again");
            }
        }
        index
    }

    /// Reads texts, each with its key, in ascending order of keys. Keys are greater than all that were prepared before.
    /// A text without terms is left out.
    pub fn prepare<'t>(&self, texts: impl IntoIterator<Item = (u64, &'t str)>) -> Prepared {
        let restoring = lock(&self.restoring);
        let mut analyzer = self.analyzer.clone();
        let (mut builder, mut found) = (Builder::default(), Vec::new());
        for (key, text) in texts {
            let digest = crc32fast::hash(text.as_bytes());
            match restoring.as_ref().and_then(|restoring| restoring.find(key, digest)) {
                Some(document) => found.push(document),
                None => builder.add(key, digest, text, &mut analyzer),
            }
        }
        Prepared { batch: builder.build(), found }
    }

    /// Adds and removes documents, all at once for those who search. `position` gives the position of each key that was
    /// prepared. Unknown keys are not removed.
    pub fn apply(&self, mut prepared: Prepared, position: impl Fn(u64) -> u32, removed: &[u64]) {
        if let Some(restoring) = lock(&self.restoring).as_mut() {
            prepared.found.iter().for_each(|found| restoring.place(found, position(found.key)));
        }
        let adds = prepared.batch.members.len() > 0;
        if !adds && removed.is_empty() {
            return;
        }
        prepared.batch.members.place_all(position);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let state = Arc::make_mut(&mut state);
        state.remove(removed);
        if adds {
            state.parts.push(LivePart::new(Part::Batch(prepared.batch), RoaringBitmap::new()));
            *lock(&self.inserted) = Some(Instant::now());
        }
    }

    /// Puts small batches together. To be called after [`LexicalIndex::apply`], by one thread at a time.
    pub fn join_batches(&self) {
        loop {
            let state = self.state();
            let free = state.parts.iter().rev().take_while(|live| live.part.as_batch().is_some() && !live.at_work);
            let mut last = free.take(2).cloned().collect::<Vec<_>>();
            last.reverse();
            let [older, newer] = &*last else { return };
            if older.part.bytes() > (ALIKE * newer.part.bytes()).min(MOST_JOINED_BYTES) {
                return;
            }
            let joined = Batch::joined(&batches(&last));
            let joined = (joined.members.len() > 0).then_some(Part::Batch(joined));
            if !self.replace(&last, joined, false) {
                return;
            }
        }
    }

    /// Ends restoring: all documents of an earlier process are inserted.
    pub fn restored(&self) {
        let Some(restoring) = lock(&self.restoring).take() else { return };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let state = Arc::make_mut(&mut state);
        state.parts.extend(restoring.into_parts());
        state.parts.sort_by_key(|live| live.part.members().range());
    }

    /// The present state of the index. Cheap.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.state())
    }

    /// The search for the words of a text, in a state of this index.
    pub fn question(&self, Snapshot(state): Snapshot, text: &str) -> Question {
        let mut terms = Vec::new();
        self.analyzer.clone().terms(text, |term| terms.push(term.to_owned()));
        Question::new(state, &terms)
    }

    /// The number of different terms of the query that a text has.
    pub fn terms_in(&self, question: &Question, text: &str) -> usize {
        let mut found = BTreeSet::new();
        self.analyzer.clone().terms(text, |term| {
            if question.has(term) && !found.contains(term) {
                found.insert(term.to_owned());
            }
        });
        found.len()
    }

    /// Deletes the stored files. The index must not be used again.
    pub fn discard(&self) {
        self.files.iter().for_each(Files::discard);
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }

    /// The number of documents that have terms.
    pub fn len(&self) -> usize {
        self.state().totals().0 as usize
    }

    /// True if no document has a term.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory in bytes, without mapped files and without a segment in the making.
    pub fn bytes(&self) -> usize {
        self.state().bytes()
    }

    /// Bytes of the files that are mapped into memory.
    pub fn mapped_bytes(&self) -> usize {
        let state = self.state();
        state.parts.iter().filter_map(|live| live.part.as_segment()).map(Segment::mapped_bytes).sum()
    }

    /// Bytes of documents that should be in a segment and are not yet. If inserts outrun maintenance, slow them down by
    /// this number.
    pub fn pending_bytes(&self) -> usize {
        self.state().parts.iter().filter_map(|live| live.part.as_batch()).map(Batch::bytes).sum()
    }

    /// The time of the last insert; `None`: there was none.
    pub(super) fn last_insert(&self) -> Option<Instant> {
        *lock(&self.inserted)
    }

    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Marks batches that a segment is being made of. They are not put together with others.
    pub(super) fn mark(&self, at_work: &[LivePart]) {
        Arc::make_mut(&mut self.state.write().unwrap_or_else(PoisonError::into_inner)).mark(at_work);
    }

    /// Replaces parts by one that was made of them; see [`State::replace`]. Parts that are at work are replaced only by
    /// the work itself.
    pub(super) fn replace(&self, parts: &[LivePart], new: Option<Part>, is_maintenance: bool) -> bool {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let is_free = |of: &LivePart| {
            is_maintenance || !state.parts.iter().any(|live| live.at_work && Arc::ptr_eq(&live.part, &of.part))
        };
        parts.iter().all(is_free) && Arc::make_mut(&mut state).replace(parts, new)
    }
}

/// The batches among some parts, with their removed documents.
pub(super) fn batches(parts: &[LivePart]) -> Vec<(&Batch, &RoaringBitmap)> {
    parts.iter().filter_map(|live| Some((live.part.as_batch()?, &*live.removed))).collect()
}

/// Locks a mutex. Each change under one of these locks is one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
