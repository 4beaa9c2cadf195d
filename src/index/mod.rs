//! VECTORS → NEIGHBOURS: unit vectors, and the nearest of them to a query.
//!
//! Synchronous, `Send + Sync`; knows nothing of texts, ids or the wire.
//!
//! ```text
//! insert ──► rows, tail ──(maintain: seal)──► segment ──(maintain: merge)──► fewer, larger segments ──► files
//! search  =  scan of the tail's codes  ∪  a walk through each segment, the best compared by their f32 rows
//!            less than min(k, live) hits, a small index, or Exact: scan of all codes
//! ```
//!
//! Promises, whatever the state of the segments: what `insert` returned is found, what `remove` was told is
//! not, and a search has exactly min(k, live) hits with true scores, in order. Only *which* hits is
//! approximate, with [`Effort::Graph`] in an index large enough for a graph.
//!
//! | file | |
//! |---|---|
//! | `options` | what can be chosen |
//! | `search` | a query's way to its hits |
//! | `row_table`, `slot`, `vector` | which vectors live, under which slot, and where each lies |
//! | `write_buffer` | those that no segment holds |
//! | `recall`, `learned` | what searches by graph miss, how hard they look therefore, and where that is kept |
//! | `scan` | scores, their order, the best k |
//! | `segment` | a part that is finished: a graph, and whose vectors are in it |
//! | `building`, `parts` | how it is made, step by step |
//! | `file`, `stored_rows`, `restore` | where it is kept, and how the next process takes it up |
//! | `graph` | how such a graph is built, repaired, laid out and walked |
//! | `maintenance` | sealing and merging, in the background |

mod building;
mod file;
pub(crate) mod fuzz;
mod graph;
mod learned;
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
mod stored_rows;
#[cfg(test)]
mod tests;
mod vector;
mod write_buffer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use file::SegmentStorage;
pub use options::Options;
pub use recall::Quality;
#[cfg(test)]
pub(crate) use scan::COMPARED;
pub use scan::{Nearest, Neighbour};
pub use search::Query;
pub use slot::Slot;
pub use vector::Vector;

use crate::compute::stop::Stop;
pub use crate::kernel::dot_i8::MAX_DIMENSIONS;
use file::Files;
use graph::codes::Codes;
use learned::Learned;
use maintenance::Maintenance;
use recall::Audit;
use restore::Restoring;
use roaring::RoaringBitmap;
use row_table::RowTable;

/// Vectors of the tail that are compared with each query: a tenth of a millisecond at most.
const SEAL_ABOVE: usize = 4_096;

/// The most candidates that are of use: beyond it an exact scan of a hundred thousand is as quick.
pub const MAX_EF: usize = 4_096;

/// How hard to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Compare with all vectors.
    Exact,
    /// Walk the graph and keep the best `ef` candidates, or as many as [`Options::ef_search`] says; at
    /// least k. All vectors are compared where that is cheaper.
    Graph {
        /// Candidates that the search keeps.
        ef: Option<usize>,
    },
}

/// Unit vectors of one length, searchable while they come and go.
pub struct Index {
    dimensions: usize,
    options: Options,
    rows: RwLock<RowTable>,
    /// Held by whoever does maintenance.
    maintenance: Mutex<Maintenance>,
    /// Where segments are kept; `None`: in memory alone.
    files: Option<Files>,
    /// Segments of an earlier process, until [`Index::restored`].
    restoring: Mutex<Option<Restoring>>,
    audit: Audit,
}

impl Index {
    /// An empty index in memory, for vectors of `dimensions` components.
    ///
    /// # Panics
    /// If there are none or more than [`MAX_DIMENSIONS`].
    pub fn new(dimensions: usize, options: Options) -> Index {
        Index {
            dimensions,
            options,
            rows: RwLock::new(RowTable::new(dimensions)),
            maintenance: Mutex::default(),
            files: None,
            restoring: Mutex::default(),
            audit: Audit::new(Learned::default()),
        }
    }

    /// An empty index that keeps its segments, with their vectors, in a directory of its own, mapped into memory. It has
    /// the graphs that an earlier process left there as soon as the vectors are inserted again with their keys, and
    /// [`Index::restored`] was called; until then there are no searches. The directory is a cache: what is missing
    /// there is built again, and what cannot be written stays in memory.
    ///
    /// # Panics
    /// As [`Index::new`].
    pub fn stored(dimensions: usize, options: Options, storage: SegmentStorage) -> Index {
        let directory = storage.directory.clone();
        let mut index = Index::new(dimensions, options);
        match Files::open(storage, dimensions) {
            Ok((files, stored)) => {
                index.audit = Audit::new(files.learned().unwrap_or_default());
                index.files = Some(files);
                index.restoring = Mutex::new(Some(Restoring::new(stored)));
            }
            Err(error) => {
                tracing::warn!(directory = %directory.display(), %error, "the index is not kept: it is built anew at each start");
            }
        }
        index
    }

    /// Adds vectors of length 1 and returns their slots, in order. All of them are found by each search
    /// that begins after this returns. Cheap: the graph follows with [`Index::maintain_for`], and
    /// [`Index::pending`] says how far it is behind.
    ///
    /// # Panics
    /// If a vector has not the index's number of dimensions.
    pub fn insert(&self, vectors: &[Arc<[f32]>]) -> Vec<Slot> {
        let keyed: Vec<(u64, Arc<[f32]>)> = vectors.iter().map(|vector| (0, Arc::clone(vector))).collect();
        self.insert_keyed(&keyed)
    }

    /// As [`Index::insert`], of vectors with the keys by which they are known again: each vector that ever was has one of
    /// its own.
    ///
    /// # Panics
    /// As [`Index::insert`].
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

    /// All vectors of an earlier process have come.
    pub fn restored(&self) {
        let Some(restoring) = lock(&self.restoring).take() else { return };
        self.install(&restoring.into_segments(), &[]);
    }

    /// Deletes what is stored: the index is not to be used again.
    pub fn discard(&self) {
        self.files.iter().for_each(Files::discard);
    }

    /// Forgets all vectors: the index is not to be used again, and whoever still holds it holds no memory by that.
    pub fn clear(&self) {
        let rows = std::mem::replace(&mut *self.rows_mut(), RowTable::new(self.dimensions));
        // Not under the lock: freeing a million rows takes a while.
        drop(rows);
        // Who does maintenance just now finds nothing to go on with.
        if let Ok(mut maintenance) = self.maintenance.try_lock() {
            *maintenance = Maintenance::default();
        }
    }

    /// Removes vectors: no search that begins after this returns finds them. Slots that are not live
    /// are passed over.
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

    /// Live vectors.
    pub fn len(&self) -> usize {
        self.rows().live()
    }

    /// Whether no vector is live.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Vectors that a segment should hold and none does yet. Each search compares with all of them: 10,000
    /// cost it a tenth of a millisecond. Where inserts outrun maintenance, slow them down by this number.
    pub fn pending(&self) -> usize {
        let rows = self.rows();
        let waiting = rows.write_buffer().slots().len();
        if rows.live() > self.graph_above() && waiting > self.seal_above() { waiting } else { 0 }
    }

    /// How well searches find that say nothing about it.
    pub fn quality(&self) -> Quality {
        self.audit.quality(self.width(false))
    }

    /// A query of length 1, with the places that its filter left, that [`Index::audit`] may answer again: of those that are
    /// asked with [`Effort::Graph`] and no `ef`, each once.
    pub fn sample(&self, query: &[f32], among: Option<&RoaringBitmap>) {
        self.check(query);
        self.audit.sample(query, among);
    }

    /// Answers one of the latest samples as clients are answered, and exactly, for [`Index::quality`], and learns how many candidates
    /// it needs; false if none waits. Takes as long as some scans.
    pub fn audit(&self) -> bool {
        let Some(sample) = self.audit.next() else { return false };
        // Nobody raises the flag, so that nothing is left out.
        if let Ok(seen) = self.check_sample(&sample, &Stop::never()) {
            let learned = self.audit.note(&seen, self.options.ef_search.is_none());
            if let (Some(learned), Some(files)) = (learned, &self.files) {
                files.save_learned(learned);
            }
        }
        true
    }

    /// Whether it should check more queries than one now and then: it knows too little of how well they find, or they find too little.
    pub fn is_learning(&self) -> bool {
        self.audit.is_learning()
    }

    /// Memory of vectors and segments in bytes, an estimate. A segment that is being built to replace others is not
    /// counted, and what is mapped neither.
    pub fn bytes(&self) -> usize {
        let rows = self.rows();
        let segments: usize = rows.segments().iter().map(|segment| segment.bytes()).sum();
        rows.bytes() + segments
    }

    /// Bytes of the files that are mapped into memory: of these, what is used stays there as long as there is room.
    pub fn mapped_bytes(&self) -> usize {
        self.rows().segments().iter().map(|segment| segment.mapped_bytes()).sum()
    }

    /// The tail becomes a segment when it has more vectors than this.
    fn seal_above(&self) -> usize {
        SEAL_ABOVE.min(self.graph_above())
    }

    /// There are segments in an index of more live vectors than this.
    fn graph_above(&self) -> usize {
        // In one dimension all vectors are two.
        if self.dimensions > 1 { self.options.exact_below } else { usize::MAX }
    }

    fn check(&self, vector: &[f32]) {
        assert_eq!(vector.len(), self.dimensions, "a vector of another number of dimensions than the index");
        debug_assert!((crate::kernel::norm(vector) - 1.0).abs() < 1e-3, "a vector that is not of length 1");
    }

    fn rows(&self) -> RwLockReadGuard<'_, RowTable> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows_mut(&self) -> RwLockWriteGuard<'_, RowTable> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A panic under a lock of this module leaves what it guards usable: each change is a few assignments.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
