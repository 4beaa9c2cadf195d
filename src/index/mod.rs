//! VECTORS → NEIGHBOURS: unit vectors in memory, and the nearest of them to a query.
//!
//! Synchronous, `Send + Sync`; knows nothing of texts, ids or the wire.
//!
//! ```text
//! insert ──► rows, tail ──(maintain: seal)──► segment ──(maintain: merge)──► fewer, larger segments
//! search  =  scan of the tail  ∪  a walk through each segment, its best compared by their f32 rows
//!            less than min(k, live) hits, a small index, or Exact: scan of all rows
//! ```
//!
//! Promises, whatever the state of the segments: what `insert` returned is found, what `remove` was told is
//! not, and a search has exactly min(k, live) hits with true scores, in order. Only *which* hits is
//! approximate, with [`Effort::Graph`] in an index large enough for a graph.
//!
//! | file | |
//! |---|---|
//! | `options` | what can be chosen |
//! | `rows` | which vectors live, under which slot |
//! | `scan` | scores, their order, the best k |
//! | `segment` | a part that is finished: a graph, and whose vectors are in it |
//! | `graph` | how such a graph is built, repaired, laid out and walked |
//! | `maintenance` | sealing and merging, in the background |

mod graph;
mod maintenance;
mod options;
mod rows;
mod scan;
mod segment;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use roaring::RoaringBitmap;

pub use options::Options;
pub use rows::Slot;
pub use scan::Neighbour;

use crate::kernel::dot_i8::MAX_DIMENSIONS;
use graph::codes::OwnQuery;
use maintenance::Maintenance;
use rows::Rows;
use scan::{Best, cosine};
use segment::Candidate;

/// Rows that one hold of the lock covers in a long scan: about a millisecond, which is what an insert or
/// removal may have to wait.
const ROWS_PER_HOLD: usize = 8_192;
/// A scan whose hits were removed while it ran is repeated so often before it holds the lock throughout.
const SCANS: usize = 3;

/// Vectors of the tail that are compared with each query: half a millisecond at most, a quarter on average.
const SEAL_ABOVE: usize = 4_096;

/// The near half of a walk for k of those that match holds so many times k of them on average: where their share is
/// half as large near the query as everywhere, there are still enough.
const AMONG_MARGIN: usize = 2;

/// How hard to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Compare with all vectors.
    Exact,
    /// Walk the graph and keep the best `ef` candidates, or as many as [`Options::ef_search`] says; at
    /// least k. All vectors are compared where that is cheaper.
    Graph { ef: Option<usize> },
}

/// Unit vectors of one length, searchable while they come and go.
pub struct Index {
    dimensions: usize,
    options: Options,
    rows: RwLock<Rows>,
    /// Held by whoever does maintenance.
    maintenance: Mutex<Maintenance>,
}

impl Index {
    /// An empty index for vectors of `dimensions` components.
    pub fn new(dimensions: usize, options: Options) -> Index {
        Index { dimensions, options, rows: RwLock::default(), maintenance: Mutex::default() }
    }

    /// Adds vectors of length 1 and returns their slots, in order. All of them are found by each search
    /// that begins after this returns. Cheap: the graph follows with [`Index::maintain_for`], and
    /// [`Index::pending`] says how far it is behind.
    ///
    /// # Panics
    /// If a vector has not the index's number of dimensions.
    pub fn insert(&self, vectors: &[Arc<[f32]>]) -> Vec<Slot> {
        vectors.iter().for_each(|vector| self.check(vector));
        let mut rows = self.rows_mut();
        rows.note_insert();
        vectors.iter().map(|vector| rows.insert(Arc::clone(vector))).collect()
    }

    /// Removes vectors: no search that begins after this returns finds them. Slots that are not live
    /// are passed over.
    pub fn remove(&self, slots: &[Slot]) {
        let mut rows = self.rows_mut();
        for &slot in slots {
            rows.remove(slot);
        }
    }

    /// The nearest live vectors to a query of length 1, best first: exactly min(k, live). Hits of equal
    /// score are in the order of their slots.
    ///
    /// A hit may be removed between this call and the caller's use of it; its slot then names nothing,
    /// and never another vector.
    ///
    /// # Panics
    /// If the query has not the index's number of dimensions.
    pub fn search(&self, query: &[f32], k: usize, effort: Effort) -> Vec<Neighbour> {
        self.check(query);
        if k == 0 {
            return Vec::new();
        }
        match effort {
            Effort::Exact => self.nearest_of_all(query, k),
            Effort::Graph { ef } => {
                let ef = ef.unwrap_or(self.options.ef_search).max(k);
                self.nearest_by_graph(query, k, ef, None).unwrap_or_else(|| self.nearest_of_all(query, k))
            }
        }
    }

    /// As [`Index::search`], among the vectors at some places: exactly min(k, live ones among them). A place that
    /// changes hands meanwhile is one of these with its old vector or its new one.
    ///
    /// The best `ef` of a walk hold the best that match, as many as are among them. So where many match, a walk that is
    /// long enough for their share finds k of them; where few do, or the walk met too few because those that
    /// match lie far from the query, they are all compared.
    ///
    /// # Panics
    /// If the query has not the index's number of dimensions.
    pub fn search_among(&self, query: &[f32], k: usize, effort: Effort, among: &RoaringBitmap) -> Vec<Neighbour> {
        self.check(query);
        if k == 0 {
            return Vec::new();
        }
        let matching = usize::try_from(among.len()).unwrap_or(usize::MAX);
        if let Effort::Graph { ef } = effort {
            let share = self.len().div_ceil(matching.max(1));
            let ef = ef.unwrap_or(self.options.ef_search).max(k).max(AMONG_MARGIN * k * share) * 2;
            if matching > self.options.scan_rows_per_ef.saturating_mul(ef)
                && let Some(hits) = self.nearest_by_graph(query, k, ef, Some(among))
            {
                return hits;
            }
        }
        self.nearest_among(query, k, among)
    }

    /// The vector of a live slot.
    pub fn vector(&self, slot: Slot) -> Option<Arc<[f32]>> {
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
    /// cost it about a millisecond. Where inserts outrun maintenance, slow them down by this number.
    pub fn pending(&self) -> usize {
        let rows = self.rows();
        if rows.live() > self.graph_above() && rows.tail_len() > self.seal_above() { rows.tail_len() } else { 0 }
    }

    /// Memory of vectors and segments in bytes, an estimate. A segment that is being built to replace others is not
    /// counted.
    pub fn bytes(&self) -> usize {
        /// Beside its components: two counters, the allocator's own, a place.
        const ROW_OVERHEAD: usize = 16 + 16 + 24;
        let rows = self.rows();
        let segments: usize = rows.segments().iter().map(|segment| segment.bytes()).sum();
        rows.live() * (self.dimensions * size_of::<f32>() + ROW_OVERHEAD) + segments
    }

    /// The tail becomes a segment when it has more vectors than this.
    fn seal_above(&self) -> usize {
        SEAL_ABOVE.min(self.graph_above())
    }

    /// There are segments in an index of more live vectors than this.
    fn graph_above(&self) -> usize {
        // In one dimension all vectors are two; sums of codes are exact up to a length.
        if (2..=MAX_DIMENSIONS).contains(&self.dimensions) { self.options.exact_below } else { usize::MAX }
    }

    /// `among`: hits are at these places only. `None`: the exact scan is cheaper, or the walks found too few.
    fn nearest_by_graph(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        among: Option<&RoaringBitmap>,
    ) -> Option<Vec<Neighbour>> {
        let wanted = |slot: Slot| among.is_none_or(|among| among.contains(slot.place()));
        let rows = self.rows();
        let segments = Arc::clone(rows.segments());
        let scan_rows = self.options.scan_rows_per_ef.saturating_mul(ef);
        if segments.is_empty() || rows.live() <= scan_rows.max(ef) {
            return None;
        }
        // The tail before the segments, under the lock that names both: a vector is in one of them.
        let mut best = Best::new(k);
        let tail = rows.unsealed().filter(|(slot, _)| wanted(*slot));
        tail.for_each(|(slot, row)| best.push(slot, cosine(query, row)));
        drop(rows);

        let mut candidates = Vec::new();
        let codes = OwnQuery::new(query);
        for segment in segments.iter() {
            // Removed ones take their share of the places; at most every second is kept for them, because
            // a segment with more of them is about to be merged.
            let (all, live) = (segment.slots().len(), segment.live());
            let ef = ef + ef * (all - live).min(live) / live.max(1);
            // The far half of a walk's best is where it misses most, and no nearer hits stand before those that match.
            let of = if among.is_some() { ef / 2 } else { ef };
            segment.search(&codes, ef, of, &mut candidates);
        }
        candidates.retain(|candidate| wanted(candidate.slot));
        candidates.sort_unstable_by(|a, b| b.estimate.total_cmp(&a.estimate));

        let rows = self.rows();
        let mut hits = best.into_hits();
        hits.retain(|hit| rows.is_live(hit.slot));
        let mut best = Best::new(k);
        hits.into_iter().for_each(|hit| best.push(hit.slot, hit.score));
        for Candidate { slot, estimate } in candidates {
            // Those that follow are farther than k others, whatever their estimates are off by.
            if best.bar().is_some_and(|bar| estimate + codes.error() < bar) {
                break;
            }
            if let Some(row) = rows.get(slot) {
                best.push(slot, cosine(query, row));
            }
        }
        let hits = best.into_hits();
        let hits = scan::ranked(hits, k);
        let most = among.map_or(rows.live(), |among| rows.live().min(among.len() as usize));
        (hits.len() == k.min(most)).then_some(hits)
    }

    fn nearest_of_all(&self, query: &[f32], k: usize) -> Vec<Neighbour> {
        for _ in 0..SCANS {
            let mut best = Best::new(k);
            let mut from = 0;
            loop {
                let rows = self.rows();
                let to = rows.places().min(from + ROWS_PER_HOLD);
                rows.in_places(from..to).for_each(|(slot, row)| best.push(slot, cosine(query, row)));
                from = to;
                if to < rows.places() {
                    continue;
                }
                let mut hits = best.into_hits();
                hits.retain(|hit| rows.is_live(hit.slot));
                if hits.len() == k.min(rows.live()) {
                    return scan::ranked(hits, k);
                }
                break;
            }
        }
        let rows = self.rows();
        let mut best = Best::new(k);
        rows.all().for_each(|(slot, row)| best.push(slot, cosine(query, row)));
        scan::ranked(best.into_hits(), k)
    }

    fn nearest_among(&self, query: &[f32], k: usize, among: &RoaringBitmap) -> Vec<Neighbour> {
        let mut best = Best::new(k);
        let mut places = among.iter();
        let mut some: Vec<u32> = Vec::with_capacity(ROWS_PER_HOLD.min(among.len() as usize));
        loop {
            some.clear();
            some.extend(places.by_ref().take(ROWS_PER_HOLD));
            if some.is_empty() {
                return scan::ranked(best.into_hits(), k);
            }
            let rows = self.rows();
            rows.at_places(some.iter().copied()).for_each(|(slot, row)| best.push(slot, cosine(query, row)));
        }
    }

    fn check(&self, vector: &[f32]) {
        assert_eq!(vector.len(), self.dimensions, "a vector of another number of dimensions than the index");
        debug_assert!((crate::kernel::norm(vector) - 1.0).abs() < 1e-3, "a vector that is not of length 1");
    }

    fn rows(&self) -> RwLockReadGuard<'_, Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows_mut(&self) -> RwLockWriteGuard<'_, Rows> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A panic under a lock of this module leaves what it guards usable: each change is a few assignments.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
