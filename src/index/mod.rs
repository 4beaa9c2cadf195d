//! VECTORS → NEIGHBOURS: an index of unit vectors that finds the nearest of them to a query.
//!
//! Synchronous, `Send + Sync`. It knows nothing of texts, ids or the wire.
//!
//! ```text
//! insert ──► rows, write buffer ──(maintain: seal)──► segment ──(maintain: merge)──► fewer, larger segments ──► files
//! search  =  scan of the write buffer's codes  ∪  a walk through each segment; the best are compared by f32 rows
//!            fewer than min(k, live) hits, a small index, or Exact: scan of all codes
//! ```
//!
//! Guarantees in every state of the segments: a search finds each vector that `insert` returned, and none that
//! `remove` was given. It returns exactly min(k, live) hits with true scores, in order. Only the *choice* of hits is
//! approximate, with [`Effort::Graph`] in an index large enough for a graph.
//!
//! | file | |
//! |---|---|
//! | `options` | the settings |
//! | `search` | the path of a query to its hits |
//! | `row_table`, `slot`, `vector` | the live vectors, their slots and their memory |
//! | `write_buffer` | the vectors that are in no segment yet |
//! | `ef` | the `ef` of searches that set none |
//! | `recall`, `learned` | measured recall, the level of `ef` that it leads to, and the file that keeps it |
//! | `scan` | scores, their order, the best k |
//! | `segment` | a finished part of the index: a graph, and the slots of its vectors |
//! | `building`, `parts` | building a segment, step by step |
//! | `file`, `stored_rows`, `restore` | files of segments, and reading them at the next start |
//! | `graph` | building, repairing, laying out and walking a graph |
//! | `stats` | counts of searches, for metrics |
//! | `maintenance` | sealing and merging, in the background |

mod building;
mod ef;
mod file;
pub(crate) mod fuzz;
mod graph;
mod learned;
mod lock;
mod maintenance;
mod options;
mod parts;
mod recall;
mod restore;
mod row_table;
mod scan;
mod search;
mod segment;
mod slot;
mod stats;
mod stored_rows;
#[cfg(test)]
mod tests;
mod vector;
mod write_buffer;

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use ef::MAX_EF;
pub use file::SegmentStorage;
pub use options::Options;
pub use recall::Quality;
#[cfg(test)]
pub(crate) use scan::COMPARED;
pub use scan::{Nearest, Neighbour};
pub use search::Query;
pub use slot::Slot;
pub use stats::{SearchCounters, Searches};
pub use vector::Vector;

use crate::compute::stop::Stop;
pub use crate::kernel::dot_i8::MAX_DIMENSIONS;
use building::SegmentJob;
use file::Files;
use graph::codes::Codes;
use learned::Learned;
use lock::lock;
use recall::Audit;
use restore::Restoring;
use roaring::RoaringBitmap;
use row_table::RowTable;

/// The most vectors in the write buffer before it is sealed. Each query is compared with all of them: a tenth of a
/// millisecond at most.
const SEAL_ABOVE: usize = 4_096;

/// The effort of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Compare with all vectors.
    Exact,
    /// Walk the graph and keep the best candidates. All vectors are compared if that is cheaper.
    Graph {
        /// The number of candidates to keep, at least k. `None`: [`Options::ef_search`].
        ef: Option<usize>,
    },
}

/// Unit vectors of one dimension that can be searched while vectors are added and removed.
pub struct Index {
    dimensions: usize,
    options: Options,
    rows: RwLock<RowTable>,
    /// The segment in the making. Locked by the thread that does maintenance.
    segment_job: Mutex<Option<SegmentJob>>,
    /// The files of the segments; `None`: they are in memory only.
    files: Option<Files>,
    /// Segments of an earlier process, until [`Index::restored`].
    restoring: Mutex<Option<Restoring>>,
    audit: Audit,
    counters: Arc<SearchCounters>,
}

impl Index {
    /// An empty index in memory, for vectors of `dimensions` components.
    ///
    /// # Panics
    /// If `dimensions` is 0 or more than [`MAX_DIMENSIONS`].
    pub fn new(dimensions: usize, options: Options) -> Index {
        Index {
            dimensions,
            options,
            rows: RwLock::new(RowTable::new(dimensions)),
            segment_job: Mutex::default(),
            files: None,
            restoring: Mutex::default(),
            audit: Audit::new(Learned::default()),
            counters: Arc::default(),
        }
    }

    /// Lets `counters` count the searches of this index, beside those of others.
    #[must_use]
    pub fn counted_by(mut self, counters: Arc<SearchCounters>) -> Index {
        self.counters = counters;
        self
    }

    /// An empty index that keeps its segments, with their vectors, in mapped files of a directory of its own.
    ///
    /// The caller inserts the vectors of an earlier process again, with their keys, and then calls [`Index::restored`].
    /// Afterwards the index has the graphs that the earlier process left in the directory. It must not be searched
    /// before. The directory is a cache: a missing part is built again, and a part that cannot be written stays in
    /// memory.
    ///
    /// # Panics
    /// Like [`Index::new`].
    pub fn stored(dimensions: usize, options: Options, storage: SegmentStorage) -> Index {
        let directory = storage.directory.clone();
        let mut index = Index::new(dimensions, options);
        match Files::open(storage, dimensions, index.options.sketches) {
            Ok((files, stored)) => {
                index.audit = Audit::new(files.learned().unwrap_or_default());
                index.files = Some(files);
                index.restoring = Mutex::new(Some(Restoring::new(stored)));
            }
            Err(error) => {
                let directory = directory.display();
                tracing::warn!(%directory, %error, "the index cannot be stored here: each start builds it again");
            }
        }
        index
    }

    /// Adds vectors of length 1 and returns their slots, in order. Each search that begins after this returns finds
    /// all of them. Cheap: [`Index::maintain_for`] adds them to a graph later, and [`Index::pending`] returns the
    /// number that still waits for it.
    ///
    /// # Panics
    /// If a vector has another number of dimensions than the index.
    pub fn insert(&self, vectors: &[Arc<[f32]>]) -> Vec<Slot> {
        let keyed: Vec<(u64, Arc<[f32]>)> = vectors.iter().map(|vector| (0, Arc::clone(vector))).collect();
        self.insert_keyed(&keyed)
    }

    /// Like [`Index::insert`], with a key for each vector, by which the next process recognises it. No two vectors have
    /// the same key, not even if one of them is removed.
    ///
    /// # Panics
    /// Like [`Index::insert`].
    pub fn insert_keyed(&self, vectors: &[(u64, Arc<[f32]>)]) -> Vec<Slot> {
        let mut codes = Codes::with_capacity(self.dimensions, vectors.len());
        let mut buffered = Vec::with_capacity(vectors.len());
        let mut restoring = lock(&self.restoring);
        let found: Vec<_> = vectors
            .iter()
            .map(|(key, vector)| {
                self.check(vector);
                let found = restoring.as_mut().and_then(|restoring| restoring.find(*key, vector));
                if found.is_none() {
                    codes.push(vector);
                }
                found
            })
            .collect();
        let mut rows = self.rows_mut();
        let mut slots = Vec::with_capacity(vectors.len());
        for ((key, vector), found) in vectors.iter().zip(found) {
            if let (Some((stored, place)), Some(restoring)) = (found, restoring.as_mut()) {
                let slot = rows.insert(*key, stored);
                restoring.assign(&place, slot);
                slots.push(slot);
            } else {
                let slot = rows.insert(*key, Arc::clone(vector).into());
                buffered.push(slot);
                slots.push(slot);
            }
        }
        rows.add_to_write_buffer(&buffered, &codes);
        slots
    }

    /// Ends restoring: all vectors of an earlier process are inserted.
    pub fn restored(&self) {
        let Some(restoring) = lock(&self.restoring).take() else { return };
        self.install(&restoring.into_segments(), &[]);
    }

    /// Deletes the stored files. The index must not be used again.
    pub fn discard(&self) {
        self.files.iter().for_each(Files::discard);
    }

    /// Frees the memory of all vectors, even if others still hold the index. It must not be used again.
    pub fn clear(&self) {
        let rows = std::mem::replace(&mut *self.rows_mut(), RowTable::new(self.dimensions));
        // Dropped without the lock: freeing a million rows takes a while.
        drop(rows);
        // If maintenance runs just now, it finds nothing to continue with.
        if let Ok(mut job) = self.segment_job.try_lock() {
            *job = None;
        }
    }

    /// Removes vectors: no search that begins after this returns finds them. Slots that are not live are ignored.
    pub fn remove(&self, slots: &[Slot]) {
        let mut rows = self.rows_mut();
        for &slot in slots {
            rows.remove(slot);
        }
    }

    /// The vector of a live slot.
    pub fn vector(&self, slot: Slot) -> Option<Vector> {
        self.rows().get(slot).cloned()
    }

    /// Components of each vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The number of live vectors.
    pub fn len(&self) -> usize {
        self.rows().live()
    }

    /// True if no vector is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of vectors that should be in a segment and are not yet. Each search compares with all of them: 10,000
    /// take a tenth of a millisecond. If inserts outrun maintenance, slow them down by this number.
    pub fn pending(&self) -> usize {
        let rows = self.rows();
        let waiting = rows.write_buffer().slots().len();
        if rows.live() > self.graph_above() && waiting > self.seal_above() { waiting } else { 0 }
    }

    /// The number of segments.
    pub fn segments(&self) -> usize {
        self.rows().segments().len()
    }

    /// Recall of searches that set no `ef`.
    pub fn quality(&self) -> Quality {
        self.audit.quality(self.width(false))
    }

    /// Records a query of length 1, with the slot indices that pass its filter. [`Index::audit`] may answer it again.
    /// To be called once for each query with [`Effort::Graph`] and no `ef`.
    pub fn sample(&self, query: &[f32], among: Option<&RoaringBitmap>) {
        self.check(query);
        self.audit.sample(query, among);
    }

    /// Answers one recorded query again, as for a client and exactly, for [`Index::quality`], and learns its `ef`.
    /// False if no query waits. Takes the time of several scans.
    pub fn audit(&self) -> bool {
        let Some(sample) = self.audit.next() else { return false };
        // The flag is never raised, so the check is complete.
        if let Ok(seen) = self.check_sample(&sample, &Stop::never()) {
            let learned = self.audit.note(&seen, self.options.ef_search.is_none());
            if let (Some(learned), Some(files)) = (learned, &self.files) {
                files.save_learned(learned);
            }
        }
        true
    }

    /// True if more than an occasional query should be checked: recall is not well known yet, or it is too low.
    pub fn is_learning(&self) -> bool {
        self.audit.is_learning()
    }

    /// The memory of vectors and segments in bytes, estimated. It includes no segment that is being built to replace
    /// others, and no mapped files.
    pub fn bytes(&self) -> usize {
        let rows = self.rows();
        let segments: usize = rows.segments().iter().map(|segment| segment.bytes()).sum();
        rows.bytes() + segments
    }

    /// Number of vectors whose rows are in memory, and not in a file.
    pub fn rows_in_memory(&self) -> usize {
        self.rows().in_memory()
    }

    /// Bytes of the files that are mapped into memory. The pages in use stay in memory while there is space for them.
    pub fn mapped_bytes(&self) -> usize {
        self.rows().segments().iter().map(|segment| segment.mapped_bytes()).sum()
    }

    /// The write buffer becomes a segment when it has more vectors than this.
    fn seal_above(&self) -> usize {
        SEAL_ABOVE.min(self.graph_above())
    }

    /// An index of more live vectors than this has segments.
    fn graph_above(&self) -> usize {
        // One dimension has only two unit vectors.
        if self.dimensions > 1 { self.options.exact_below } else { usize::MAX }
    }

    fn check(&self, vector: &[f32]) {
        assert_eq!(vector.len(), self.dimensions, "the vector and the index differ in their number of dimensions");
        debug_assert!((crate::kernel::norm(vector) - 1.0).abs() < 1e-3, "the vector does not have length 1");
    }

    fn rows(&self) -> RwLockReadGuard<'_, RowTable> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows_mut(&self) -> RwLockWriteGuard<'_, RowTable> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }
}
