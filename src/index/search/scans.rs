//! The exact answer: a scan of all codes, or of the f32 rows of the matching vectors if they are few.
//!
//! Invariant: the lock of the rows is held for a fraction of a millisecond, because inserts and removals wait for it,
//! and later searches wait behind those. A scan of codes holds no lock at all. The check of recall runs on a thread of
//! low priority, which may lose its core for many milliseconds at any time.

use std::sync::Arc;

use super::super::Index;
use super::super::scan::{Best, CandidateFilter, Margin, Nearest, cosine};
use super::super::segment::Removed;
use super::{Asked, best_of};
use crate::compute::stop::Stopped;

/// Rows that are compared while the lock is held: a fraction of a millisecond, the longest wait of an insert or
/// removal.
const ROWS_PER_HOLD: usize = 1_024;
/// Attempts of a scan whose hits were removed while it ran, before it holds the lock throughout.
const SCANS: usize = 3;

/// Codes that are scanned in about the time of one f32 row, lookup and comparison: 20 ns each, against 110 to 320 ns
/// among 100,000 vectors of 384 dimensions (benches/index.rs). If the matching vectors lie far from the query, more
/// rows pass the candidate filter, and the scan is slower than that.
const CODES_PER_ROW: usize = 6;

/// The cost of an exact search among `matching` of `live` vectors, in scanned codes.
pub(super) fn cost(matching: usize, live: usize) -> usize {
    matching.saturating_mul(CODES_PER_ROW).min(live)
}

impl Index {
    /// Finds the nearest exactly, in the cheaper of two ways.
    pub(super) fn by_scan(&self, asked: &Asked<'_>) -> Result<Nearest, Stopped> {
        if let Some(among) = asked.among {
            let (matching, live) = (among.len() as usize, self.len());
            if cost(matching, live) < live {
                return self.of_rows(asked, among.iter());
            }
        }
        for _ in 0..SCANS {
            if let Some(nearest) = self.of_codes(asked, Hold::Ends)? {
                return Ok(nearest);
            }
        }
        let held = self.of_codes(asked, Hold::Throughout)?;
        Ok(held.expect("nothing is removed while the lock is held"))
    }

    /// Compares with all codes. [`Hold::Ends`] gives no answer if a vector among the best was removed meanwhile,
    /// because it may have excluded others.
    fn of_codes(&self, asked: &Asked<'_>, hold: Hold) -> Result<Option<Nearest>, Stopped> {
        let mut rows = self.rows();
        let segments = Arc::clone(rows.segments());
        let mut filter = CandidateFilter::new(asked.k, Margin::Bound);
        rows.write_buffer().scan(&asked.codes, &mut filter, |slot| asked.wants(slot) && rows.is_live(slot));
        match hold {
            Hold::Ends => {
                // The state in which the write buffer was scanned: a vector that is replaced from now on is among
                // the candidates by its old place, because nobody looks at its new one.
                let removed: Vec<Removed> = segments.iter().map(|segment| segment.removed()).collect();
                drop(rows);
                for (segment, removed) in segments.iter().zip(&removed) {
                    segment.scan_all(&asked.codes, asked.among, removed, asked.stop, &mut filter)?;
                }
                rows = self.rows();
            }
            Hold::Throughout => {
                for segment in segments.iter() {
                    asked.stop.check()?;
                    let wanted = |slot| asked.wants(slot) && rows.is_live(slot);
                    segment.scan(0..segment.nodes(), &asked.codes, &mut filter, wanted);
                }
            }
        }
        let mut candidates: Vec<_> = filter.candidates().collect();
        let all_live = candidates.iter().all(|candidate| rows.is_live(candidate.slot));
        Ok(all_live.then(|| best_of(&rows, asked.vector, asked.k, &mut candidates)))
    }

    /// Compares with the f32 rows of these slot indices.
    fn of_rows(&self, asked: &Asked<'_>, mut places: impl Iterator<Item = u32>) -> Result<Nearest, Stopped> {
        let mut best = Best::new(asked.k);
        let mut some: Vec<u32> = Vec::with_capacity(ROWS_PER_HOLD);
        loop {
            some.clear();
            some.extend(places.by_ref().take(ROWS_PER_HOLD));
            if some.is_empty() {
                return Ok(best.into_nearest());
            }
            asked.stop.check()?;
            let rows = self.rows();
            rows.at_indices(some.iter().copied()).for_each(|(slot, row)| best.push(slot, cosine(asked.vector, row)));
        }
    }
}

/// The time for which the rows are locked.
#[derive(Clone, Copy)]
enum Hold {
    /// Locked for the write buffer, and again for the comparison of candidates.
    Ends,
    /// Locked from the first row to the last.
    Throughout,
}
