//! A query's way to its hits: through the graphs, or past all codes, and by the f32 rows of what is left.

use std::sync::Arc;

use roaring::RoaringBitmap;

use super::graph::codes::OwnQuery;
use super::recall::ef_of_size;
use super::rows::{Rows, Slot};
use super::scan::{Best, Candidate, Neighbour, Sieve, cosine};
use super::{Effort, Index};
use crate::compute::stop::{Stop, Stopped};

/// Rows that one hold of the lock covers in a long scan: a fraction of a millisecond, which is what an insert or
/// removal may have to wait.
const ROWS_PER_HOLD: usize = 8_192;
/// A scan whose hits were removed while it ran is repeated so often before it holds the lock throughout.
const SCANS: usize = 3;

/// Codes that are scanned in the time in which one f32 row is looked up and compared, about: 20 ns each, against 110 to 320 ns among
/// 100,000 vectors of 384 dimensions (benches/index.rs). Where those that match lie far from the query, more rows pass the
/// sieve, and the scan is slower than that.
const CODES_PER_ROW: usize = 6;

/// The near half of a walk for k of those that match holds so many times k of them on average: where their share is
/// half as large near the query as everywhere, there are still enough.
const AMONG_MARGIN: usize = 2;

impl Index {
    /// The nearest live vectors to a query of length 1, best first: exactly min(k, live). Hits of equal
    /// score are in the order of their slots.
    ///
    /// A hit may be removed between this call and the caller's use of it; its slot then names nothing,
    /// and never another vector.
    ///
    /// # Panics
    /// If the query has not the index's number of dimensions.
    pub fn search(&self, query: &[f32], k: usize, effort: Effort, stop: &Stop) -> Result<Vec<Neighbour>, Stopped> {
        self.check(query);
        if k == 0 {
            return Ok(Vec::new());
        }
        let codes = OwnQuery::new(query);
        let by_graph = match effort {
            Effort::Exact => None,
            Effort::Graph { ef } => {
                let ef = ef.unwrap_or_else(|| self.ef_search());
                self.nearest_by_graph(query, &codes, k, ef.max(k), None)
            }
        };
        match by_graph {
            Some(hits) => Ok(hits),
            None => self.nearest_of_all(query, &codes, k, None, stop),
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
    pub fn search_among(
        &self,
        query: &[f32],
        k: usize,
        effort: Effort,
        among: &RoaringBitmap,
        stop: &Stop,
    ) -> Result<Vec<Neighbour>, Stopped> {
        self.check(query);
        if k == 0 {
            return Ok(Vec::new());
        }
        let codes = OwnQuery::new(query);
        let matching = usize::try_from(among.len()).unwrap_or(usize::MAX);
        let live = self.len();
        // As many codes take as long to scan as the cheaper of the two ways to compare with all that match.
        let scan = matching.saturating_mul(CODES_PER_ROW).min(live);
        if let Effort::Graph { ef } = effort {
            let share = live.div_ceil(matching.max(1));
            let ef = ef.unwrap_or_else(|| self.ef_search()).max(k).max(AMONG_MARGIN * k * share) * 2;
            if scan > self.options.scan_rows_per_ef.saturating_mul(ef)
                && let Some(hits) = self.nearest_by_graph(query, &codes, k, ef, Some(among))
            {
                return Ok(hits);
            }
        }
        if scan == live {
            self.nearest_of_all(query, &codes, k, Some(among), stop)
        } else {
            self.nearest_among(query, k, among, stop)
        }
    }

    /// Candidates of a search that names none.
    pub(super) fn ef_search(&self) -> usize {
        let automatic = || {
            let largest = self.rows().segments().iter().map(|segment| segment.live()).max();
            ef_of_size(largest.unwrap_or(0)).max(self.audit.raised())
        };
        self.options.ef_search.unwrap_or_else(automatic)
    }

    /// Whether a search with so many candidates compares with all vectors.
    pub fn scans(&self, ef: usize) -> bool {
        self.is_cheaper_to_scan(&self.rows(), ef)
    }

    fn is_cheaper_to_scan(&self, rows: &Rows, ef: usize) -> bool {
        let scan_rows = self.options.scan_rows_per_ef.saturating_mul(ef);
        rows.segments().is_empty() || rows.live() <= scan_rows.max(ef)
    }

    /// `among`: hits are at these places only. `None`: the exact scan is cheaper, or the walks found too few.
    fn nearest_by_graph(
        &self,
        query: &[f32],
        codes: &OwnQuery,
        k: usize,
        ef: usize,
        among: Option<&RoaringBitmap>,
    ) -> Option<Vec<Neighbour>> {
        let wanted = |slot: Slot| among.is_none_or(|among| among.contains(slot.place()));
        let rows = self.rows();
        let segments = Arc::clone(rows.segments());
        if self.is_cheaper_to_scan(&rows, ef) {
            return None;
        }
        // The tail before the segments, under the lock that names both: a vector is in one of them.
        let mut sieve = Sieve::new(k);
        rows.tail().scan(codes, &mut sieve, |slot| wanted(slot) && rows.is_live(slot));
        drop(rows);

        let mut candidates = sieve.into_candidates();
        for segment in segments.iter() {
            // Removed ones take their share of the places; at most every second is kept for them, because
            // a segment with more of them is about to be merged.
            let (all, live) = (segment.slots().len(), segment.live());
            let ef = ef + ef * (all - live).min(live) / live.max(1);
            // The far half of a walk's best is where it misses most, and no nearer hits stand before those that match.
            let of = if among.is_some() { ef / 2 } else { ef };
            segment.search(codes, ef, of, &mut candidates);
        }
        candidates.retain(|candidate| wanted(candidate.slot));
        let rows = self.rows();
        let hits = best_of(&rows, query, k, candidates);
        let most = among.map_or(rows.live(), |among| rows.live().min(among.len() as usize));
        (hits.len() == k.min(most)).then_some(hits)
    }

    /// `among`: hits are at these places only.
    fn nearest_of_all(
        &self,
        query: &[f32],
        codes: &OwnQuery,
        k: usize,
        among: Option<&RoaringBitmap>,
        stop: &Stop,
    ) -> Result<Vec<Neighbour>, Stopped> {
        for _ in 0..SCANS {
            if let Some(hits) = self.scan(query, codes, k, among, Some(stop))? {
                return Ok(hits);
            }
        }
        let held = self.scan(query, codes, k, among, None)?;
        Ok(held.expect("nothing is removed while the lock is held"))
    }

    /// Compares with all codes. `stop`: gives up the lock between some, and asks whether to go on; then there is no answer
    /// if a vector that was among the best was removed meanwhile, because it may have kept others out.
    fn scan(
        &self,
        query: &[f32],
        codes: &OwnQuery,
        k: usize,
        among: Option<&RoaringBitmap>,
        stop: Option<&Stop>,
    ) -> Result<Option<Vec<Neighbour>>, Stopped> {
        let is_among = |slot: Slot| among.is_none_or(|among| among.contains(slot.place()));
        let mut rows = self.rows();
        let segments = Arc::clone(rows.segments());
        let mut sieve = Sieve::new(k);
        rows.tail().scan(codes, &mut sieve, |slot| is_among(slot) && rows.is_live(slot));
        for segment in segments.iter() {
            for first in (0..segment.nodes()).step_by(ROWS_PER_HOLD) {
                if let Some(stop) = stop {
                    drop(rows);
                    stop.check()?;
                    rows = self.rows();
                }
                let nodes = first..segment.nodes().min(first + ROWS_PER_HOLD as u32);
                segment.scan(nodes, codes, &mut sieve, |slot| is_among(slot) && rows.is_live(slot));
            }
        }
        let candidates = sieve.into_candidates();
        let all_live = candidates.iter().all(|candidate| rows.is_live(candidate.slot));
        Ok(all_live.then(|| best_of(&rows, query, k, candidates)))
    }

    /// Compares with the rows at these places.
    fn nearest_among(
        &self,
        query: &[f32],
        k: usize,
        among: &RoaringBitmap,
        stop: &Stop,
    ) -> Result<Vec<Neighbour>, Stopped> {
        let mut best = Best::new(k);
        let mut places = among.iter();
        let mut some: Vec<u32> = Vec::with_capacity(ROWS_PER_HOLD.min(among.len() as usize));
        loop {
            some.clear();
            some.extend(places.by_ref().take(ROWS_PER_HOLD));
            if some.is_empty() {
                return Ok(best.into_hits());
            }
            stop.check()?;
            let rows = self.rows();
            rows.at_places(some.iter().copied()).for_each(|(slot, row)| best.push(slot, cosine(query, row)));
        }
    }
}

/// The best `k` of candidates, by their f32 rows; those that do not live are passed over.
fn best_of(rows: &Rows, query: &[f32], k: usize, mut candidates: Vec<Candidate>) -> Vec<Neighbour> {
    candidates.sort_unstable_by(|a, b| b.reach().total_cmp(&a.reach()));
    let mut best = Best::new(k);
    for candidate in candidates {
        // Those that follow are farther than k others, whatever their estimates are off by.
        if best.bar().is_some_and(|bar| candidate.reach() < bar) {
            break;
        }
        if let Some(row) = rows.get(candidate.slot) {
            best.push(candidate.slot, cosine(query, row));
        }
    }
    best.into_hits()
}
