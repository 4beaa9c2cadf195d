//! The approximate answer: a scan of the write buffer's codes, and a walk through each segment, or a scan if a walk
//! would cost more.
//!
//! ```text
//! each segment: few nodes, or few of them match ─► scan
//!               else walk of width ef ─► expanded too many nodes ─► scan
//! hits in a crowd of a segment ─► wider walk, or scan, of all segments with something near
//! ```
//! Invariant: each segment contributes. The hits of one segment tell nothing about another.
//!
//! Invariant: of two searches with the same width and k up to [`FIRST`](super::FIRST), the one with the smaller k finds
//! no fewer of the nearest. Both judge the candidate of the same rank. The search with the smaller k has a part of the
//! other's candidates, so its judged candidate is at least as far, and it detects a crowd if the other one does.

use std::sync::Arc;

use super::super::Index;
use super::super::ef::Width;
use super::super::graph::bounds::Bounds;
use super::super::graph::crowd::{Surroundings, is_crowd, least_cosine};
use super::super::scan::{Candidate, CandidateFilter, Margin, Nearest};
use super::super::segment::{Segment, Walk, Walked};
use super::{Answer, Asked, How, best_of, scans};
use crate::compute::stop::Stopped;

/// The state of one search of the segments.
struct Pass<'a> {
    index: &'a Index,
    asked: &'a Asked<'a>,
    /// One in this many live vectors matches.
    one_of: usize,
    /// The best of the scanned vectors.
    filter: CandidateFilter,
    /// The segments that were walked through.
    walked: Vec<WalkedSegment<'a>>,
}

/// The result of a walk through a segment.
struct WalkedSegment<'a> {
    segment: &'a Segment,
    found: Vec<Candidate>,
    surroundings: Option<Surroundings>,
}

/// The result of a search up to now.
struct BestSoFar {
    nearest: Nearest,
    /// True if there are as many hits as possible.
    is_complete: bool,
    /// The estimated cosine that the test for a crowd uses: of the last sure hit, or of the last of
    /// [`FIRST`](super::FIRST) candidates if these are fewer. `None`: there are fewer candidates.
    judged: Option<f32>,
}

impl Index {
    /// Answers by walks. `None`: an exact scan is cheaper, or vectors were removed meanwhile and too few are left.
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
        // The write buffer is scanned under the lock that gave the segments: each vector is in one of them.
        let mut filter = CandidateFilter::new(asked.k, Margin::Likely);
        rows.write_buffer().scan(&asked.codes, &mut filter, |slot| asked.wants(slot) && rows.is_live(slot));
        drop(rows);

        let mut pass = Pass { index: self, asked, one_of, filter, walked: Vec::with_capacity(segments.len()) };
        for segment in segments.iter() {
            pass.search_segment(segment, width.ef)?;
        }
        let mut best = pass.best();
        let in_crowd = best.judged.is_some_and(|cosine| pass.is_in_crowd(cosine));
        if let Some(cosine) = best.judged.filter(|_| in_crowd && width.in_crowd > width.ef) {
            for segment in pass.take_near(cosine) {
                pass.search_segment(segment, width.in_crowd)?;
            }
            best = pass.best();
        }
        let BestSoFar { nearest, is_complete, .. } = best;
        Ok(is_complete.then_some(Answer { nearest, how: How::Walks { in_crowd } }))
    }
}

impl<'a> Pass<'a> {
    /// Walks through a segment, or scans it if that is cheaper.
    fn search_segment(&mut self, segment: &'a Segment, ef: usize) -> Result<(), Stopped> {
        let Asked { codes, k, sure, among, stop, .. } = self.asked;
        let nodes = segment.nodes() as usize;
        let max_expansions = nodes.checked_div(self.index.options.scan_rows_per_ef).unwrap_or(usize::MAX);
        if ef.saturating_mul(self.one_of) < max_expansions {
            let wanted = self.asked.judged().max(*k);
            let bounds = Bounds { ef, hits: *k, sure: *sure, wanted, max_expansions, stop };
            let walk = Walk { query: codes, among: *among, bounds };
            let mut found = Vec::with_capacity(wanted.min(ef));
            if let Walked::Complete(surroundings) = segment.walk(&walk, &mut found)? {
                self.walked.push(WalkedSegment { segment, found, surroundings });
                return Ok(());
            }
        }
        segment.scan_all(codes, *among, &segment.removed(), stop, &mut self.filter)
    }

    /// The best of all that was found up to now.
    fn best(&self) -> BestSoFar {
        let Asked { vector, k, among, .. } = *self.asked;
        let mut candidates: Vec<Candidate> = self.filter.candidates().collect();
        self.walked.iter().for_each(|walked| candidates.extend_from_slice(&walked.found));
        let rows = self.index.rows();
        let nearest = best_of(&rows, vector, k, &mut candidates);
        let most = among.map_or(rows.live(), |among| rows.live().min(among.len() as usize));
        let judged = candidates.get(self.asked.judged() - 1).map(|candidate| candidate.estimate);
        BestSoFar { is_complete: nearest.hits.len() == k.min(most), nearest, judged }
    }

    /// True if walks may have missed hits of this cosine.
    fn is_in_crowd(&self, cosine: f32) -> bool {
        is_crowd(self.walked.iter().filter_map(|walked| walked.surroundings.as_ref()), cosine)
    }

    /// Removes and returns the segments in which a walk found something of about this cosine and may have missed more.
    fn take_near(&mut self, cosine: f32) -> Vec<&'a Segment> {
        let least = least_cosine(cosine);
        let is_near = |walked: &mut WalkedSegment<'_>| {
            walked.surroundings.is_some() && walked.found.iter().any(|one| one.estimate >= least)
        };
        self.walked.extract_if(.., is_near).map(|walked| walked.segment).collect()
    }
}
