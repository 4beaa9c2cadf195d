//! The answer by graph: the tail's codes, and of each segment what a walk finds, or a scan where a walk would cost more.
//!
//! ```text
//! each segment: few nodes, or few of them match ─► scan
//!               else walk of width ef ─► looked at too many nodes ─► scan
//!                                     ─► in a crowd, and its hits count ─► wider walk, or scan
//! ```
//! Invariant: each segment brings its share. Hits of one say nothing of what another holds.

use std::ops::Range;
use std::sync::Arc;

use super::super::Index;
use super::super::graph::filtered::Bounds;
use super::super::scan::{Candidate, Margin, Sieve};
use super::super::segment::{Segment, Walk, Walked};
use super::{Answer, Asked, How, Width, best_of, scans};
use crate::compute::stop::Stopped;

/// One search, on its way through the segments.
struct Pass<'a> {
    index: &'a Index,
    asked: &'a Asked<'a>,
    /// One of so many live vectors is asked for.
    one_of: usize,
    /// What was scanned.
    sieve: Sieve,
    /// What was walked to.
    found: Vec<Candidate>,
}

/// Candidates of a segment that are of a crowd.
struct Crowd<'a> {
    segment: &'a Segment,
    found: Range<usize>,
}

impl Index {
    /// `None`: the exact scan is cheaper, or vectors were removed meanwhile and too few are left.
    pub(super) fn by_walks(&self, asked: &Asked<'_>, width: Width) -> Result<Option<Answer>, Stopped> {
        let rows = self.rows();
        let segments = Arc::clone(rows.segments());
        let live = rows.live();
        let matching = asked.among.map_or(live, |among| live.min(among.len() as usize));
        let one_of = live.div_ceil(matching.max(1));
        let scan = asked.among.map_or(live, |_| scans::cost(matching, live));
        let walk = self.options.scan_rows_per_ef.saturating_mul(width.ef.saturating_mul(one_of));
        if segments.is_empty() || scan <= walk.max(width.ef) {
            return Ok(None);
        }
        // The tail before the segments, under the lock that names both: a vector is in one of them.
        let mut sieve = Sieve::new(asked.k, Margin::Likely);
        rows.tail().scan(&asked.codes, &mut sieve, |slot| asked.wants(slot) && rows.is_live(slot));
        drop(rows);

        let mut pass = Pass { index: self, asked, one_of, sieve, found: Vec::new() };
        let mut crowds = Vec::new();
        for segment in segments.iter() {
            let first = pass.found.len();
            if pass.look(segment, width.ef)? == (Walked::Complete { in_crowd: true }) {
                crowds.push(Crowd { segment, found: first..pass.found.len() });
            }
        }
        pass.keep_those_that_count(&mut crowds);
        let in_crowd = !crowds.is_empty();
        if width.in_crowd > width.ef {
            // The last first: what is before it stays where it is.
            for crowd in crowds.into_iter().rev() {
                pass.found.drain(crowd.found);
                pass.look(crowd.segment, width.in_crowd)?;
            }
        }
        let mut candidates = pass.sieve.into_candidates();
        candidates.append(&mut pass.found);
        let rows = self.rows();
        let nearest = best_of(&rows, asked.vector, asked.k, candidates);
        let most = asked.among.map_or(rows.live(), |among| rows.live().min(among.len() as usize));
        Ok((nearest.hits.len() == asked.k.min(most)).then_some(Answer { nearest, how: How::Walks { in_crowd } }))
    }
}

impl Pass<'_> {
    /// Walks through a segment, or scans it where that is cheaper.
    fn look(&mut self, segment: &Segment, ef: usize) -> Result<Walked, Stopped> {
        let Asked { codes, among, stop, .. } = self.asked;
        let nodes = segment.nodes() as usize;
        let looks = nodes.checked_div(self.index.options.scan_rows_per_ef).unwrap_or(usize::MAX);
        if ef.saturating_mul(self.one_of) < looks {
            let walk = Walk { query: codes, among: *among, bounds: Bounds { ef, looks, stop } };
            let walked = segment.walk(&walk, &mut self.found)?;
            if walked != Walked::OutOfLooks {
                return Ok(walked);
            }
        }
        segment.scan_all(codes, *among, stop, &mut self.sieve)?;
        Ok(Walked::OutOfLooks)
    }

    /// Passes over crowds of which no candidate is among the best k.
    fn keep_those_that_count(&self, crowds: &mut Vec<Crowd<'_>>) {
        let walked = self.found.iter().map(|one| one.estimate);
        let mut estimates: Vec<f32> =
            if crowds.is_empty() { Vec::new() } else { walked.chain(self.sieve.estimates()).collect() };
        if estimates.is_empty() {
            return crowds.clear();
        }
        let kth = self.asked.k.min(estimates.len()) - 1;
        let (_, bar, _) = estimates.select_nth_unstable_by(kth, |a, b| b.total_cmp(a));
        crowds.retain(|crowd| self.found[crowd.found.clone()].iter().any(|one| one.estimate >= *bar));
    }
}
