//! The exact answer: all codes, or the f32 rows of those that match where they are few.
//!
//! Invariant: the lock on the rows is held for some thousand rows at a time, so that inserts and removals wait a
//! fraction of a millisecond.

use std::sync::Arc;

use super::super::Index;
use super::super::scan::{Best, CandidateFilter, Margin, Nearest, cosine};
use super::{Asked, best_of};
use crate::compute::stop::Stopped;

/// Rows that one hold of the lock covers in a long scan: a fraction of a millisecond, which is what an insert or
/// removal may have to wait.
const ROWS_PER_HOLD: usize = 8_192;
/// A scan whose hits were removed while it ran is repeated so often before it holds the lock throughout.
const SCANS: usize = 3;

/// Codes that are scanned in the time in which one f32 row is looked up and compared, about: 20 ns each, against 110 to
/// 320 ns among 100,000 vectors of 384 dimensions (benches/index.rs). Where those that match lie far from the query,
/// more rows pass the sieve, and the scan is slower than that.
const CODES_PER_ROW: usize = 6;

/// What an exact search among `matching` of `live` vectors costs, in codes that are scanned.
pub(super) fn cost(matching: usize, live: usize) -> usize {
    matching.saturating_mul(CODES_PER_ROW).min(live)
}

impl Index {
    /// The nearest, exactly, in the cheaper of two ways.
    pub(super) fn by_scan(&self, asked: &Asked<'_>) -> Result<Nearest, Stopped> {
        if let Some(among) = asked.among {
            let (matching, live) = (among.len() as usize, self.len());
            if cost(matching, live) < live {
                return self.of_rows(asked, among.iter());
            }
        }
        for _ in 0..SCANS {
            if let Some(nearest) = self.of_codes(asked, Hold::Batches)? {
                return Ok(nearest);
            }
        }
        let held = self.of_codes(asked, Hold::Throughout)?;
        Ok(held.expect("nothing is removed while the lock is held"))
    }

    /// Compares with all codes. With pauses there is no answer if a vector that was among the best was removed
    /// meanwhile, because it may have kept others out.
    fn of_codes(&self, asked: &Asked<'_>, hold: Hold) -> Result<Option<Nearest>, Stopped> {
        let mut rows = self.rows();
        let segments = Arc::clone(rows.segments());
        let mut filter = CandidateFilter::new(asked.k, Margin::Bound);
        rows.write_buffer().scan(&asked.codes, &mut filter, |slot| asked.wants(slot) && rows.is_live(slot));
        for segment in segments.iter() {
            for first in (0..segment.nodes()).step_by(ROWS_PER_HOLD) {
                asked.stop.check()?;
                if let Hold::Batches = hold {
                    drop(rows);
                    rows = self.rows();
                }
                let nodes = first..segment.nodes().min(first + ROWS_PER_HOLD as u32);
                segment.scan(nodes, &asked.codes, &mut filter, |slot| asked.wants(slot) && rows.is_live(slot));
            }
        }
        let mut candidates: Vec<_> = filter.candidates().collect();
        let all_live = candidates.iter().all(|candidate| rows.is_live(candidate.slot));
        Ok(all_live.then(|| best_of(&rows, asked.vector, asked.k, &mut candidates)))
    }

    /// Compares with the f32 rows at some places.
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

/// How long the lock on the rows is held.
#[derive(Clone, Copy)]
enum Hold {
    /// For some rows, and again for the next ones.
    Batches,
    /// From the first row to the last.
    Throughout,
}
