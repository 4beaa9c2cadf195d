//! The path of a query to its hits: through the graphs (`walks`) or through all codes (`scans`), and then a comparison
//! of the candidates by their f32 rows.
//!
//! Invariants: a search returns exactly min(k, live vectors in `among`) hits, with true scores, in order. It costs at
//! most about a scan, plus a walk that reached its limit before: a walk ends when a scan would have cost as much.
//!
//! A score is the cosine of two f32 vectors. Candidates are found by their codes and compared by their f32 rows, best
//! estimate first. The comparison ends when the next estimate is too far below the k-th score. In an exact scan this
//! distance is a bound that always holds. In a walk, and in a scan that replaces a walk, it is four standard
//! deviations.
//!
//! Vectors that tie with the last hit are returned beside the hits, so equal scores need only one search. The caller
//! picks the lowest ids, which the index does not know.

mod scans;
mod walks;

use roaring::RoaringBitmap;

use super::ef::{Kind, LEVELS, Width, ef_of_level, ef_of_size};
use super::graph::query::OwnQuery;
use super::recall::{self, Sample, Seen};
use super::row_table::RowTable;
use super::scan::{Best, Candidate, Nearest, Neighbour, cosine};
use super::slot::Slot;
use super::stats::Way;
use super::{Effort, Index};
use crate::compute::stop::{Stop, Stopped};

/// A walk keeps at least this many candidates for each sure hit: it misses most in the far half of its candidates.
const CANDIDATES_PER_HIT: usize = 2;

/// Further candidates for two sure hits beyond the 10 that `ef` is chosen for. With 100,000 vectors of MiniLM an `ef`
/// of 96 finds 0.985 of 10 hits, 126 finds 0.980 of 30, and 240 finds 0.983 of 100.
const CANDIDATES_PER_TWO_HITS: usize = 3;

/// Candidates that are sorted at first. The last of them also tells if the hits lie in a crowd (`walks`), so that a
/// search for fewer hits makes no less effort.
const FIRST: usize = 32;

/// A search.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// The query vector of length 1, `[dimensions]`.
    pub vector: &'a [f32],
    /// The number of hits wanted.
    pub k: usize,
    /// The number of the nearest hits for which a walk makes its effort. It may miss more of the others, which cost
    /// little beside these. More than `k` means `k`.
    pub sure: usize,
    /// The effort of the search.
    pub effort: Effort,
    /// The slot indices of the vectors to search; `None`: all. If the vector of an index is replaced during the search,
    /// the search sees its old vector or its new one.
    pub among: Option<&'a RoaringBitmap>,
}

/// A query with its codes, during a search.
struct Asked<'a> {
    vector: &'a [f32],
    codes: OwnQuery,
    k: usize,
    sure: usize,
    among: Option<&'a RoaringBitmap>,
    stop: &'a Stop,
}

/// The hits, and the way they were found.
pub(super) struct Answer {
    pub(super) nearest: Nearest,
    pub(super) how: How,
}

/// The way in which a query was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// By an exact scan.
    Scan,
    /// By walks. `in_crowd`: some hits lie in a crowd.
    Walks { in_crowd: bool },
}

impl Asked<'_> {
    /// The rank of the candidate that tells if the hits lie in a crowd (`walks`).
    fn judged(&self) -> usize {
        self.sure.max(FIRST)
    }

    fn wants(&self, slot: Slot) -> bool {
        self.among.is_none_or(|among| among.contains(slot.index()))
    }
}

impl Index {
    /// Finds the live vectors nearest to a query of length 1, best first: exactly min(k, live). Hits of equal score are
    /// in the order of their slots.
    ///
    /// A hit may be removed before the caller uses it. Its slot then has no vector, and never another one.
    ///
    /// # Panics
    /// If the query has another number of dimensions than the index.
    pub fn search(&self, query: &[f32], k: usize, effort: Effort, stop: &Stop) -> Result<Vec<Neighbour>, Stopped> {
        Ok(self.nearest(&Query { vector: query, k, sure: k, effort, among: None }, stop)?.hits)
    }

    /// Like [`Index::search`], for vectors with these slot indices: exactly min(k, live ones among them).
    ///
    /// # Panics
    /// If the query has another number of dimensions than the index.
    pub fn search_among(
        &self,
        query: &[f32],
        k: usize,
        effort: Effort,
        among: &RoaringBitmap,
        stop: &Stop,
    ) -> Result<Vec<Neighbour>, Stopped> {
        Ok(self.nearest(&Query { vector: query, k, sure: k, effort, among: Some(among) }, stop)?.hits)
    }

    /// Finds the nearest live vectors, and those that tie with the last of them, from which the caller may choose by
    /// its own order.
    ///
    /// # Panics
    /// If the query has another number of dimensions than the index.
    pub fn nearest(&self, query: &Query<'_>, stop: &Stop) -> Result<Nearest, Stopped> {
        let width = match query.effort {
            Effort::Exact => None,
            Effort::Graph { ef: Some(ef) } => Some(Width::of(ef.max(query.k))),
            Effort::Graph { ef: None } => Some(self.usual_width(query)),
        };
        let Answer { nearest, how } = self.answer(query, width, stop)?;
        let (way, ef) = match (how, width) {
            (How::Scan, None) => (Way::Exact, 0),
            (How::Scan, Some(_)) => (Way::Scan, 0),
            (How::Walks { in_crowd }, width) => {
                (Way::Walk, width.map_or(0, |width| if in_crowd { width.in_crowd } else { width.ef }))
            }
        };
        self.counters.count(way, ef, &nearest);
        Ok(nearest)
    }

    /// Like [`Index::nearest`], by walks of this width, or exactly.
    pub(super) fn answer(&self, query: &Query<'_>, width: Option<Width>, stop: &Stop) -> Result<Answer, Stopped> {
        let &Query { vector, k, sure, among, .. } = query;
        self.check(vector);
        if k == 0 {
            return Ok(Answer { nearest: Nearest::default(), how: How::Scan });
        }
        let asked = Asked { vector, codes: OwnQuery::new(vector), k, sure: sure.min(k), among, stop };
        if let Some(width) = width
            && let Some(answer) = self.by_walks(&asked, width)?
        {
            return Ok(answer);
        }
        Ok(Answer { nearest: self.by_scan(&asked)?, how: How::Scan })
    }

    /// The width for a query that sets no `ef`.
    pub(super) fn usual_width(&self, query: &Query<'_>) -> Width {
        let sure = query.sure.min(query.k);
        let beyond = if self.options.ef_search.is_none() { sure.saturating_sub(recall::K) } else { 0 };
        let more = CANDIDATES_PER_TWO_HITS.saturating_mul(beyond) / 2;
        let least = CANDIDATES_PER_HIT.saturating_mul(sure).max(query.k);
        self.width(query.among.is_some()).plus(more).at_least(least)
    }

    /// The width for a search of few hits that sets no `ef`, with a filter or without.
    pub(super) fn width(&self, filtered: bool) -> Width {
        match self.options.ef_search {
            Some(ef) => Width::of(ef),
            None => self.audit.width(self.usual_ef(), filtered),
        }
    }

    /// The `ef` that is enough for texts, from the size of the largest graph.
    pub(super) fn usual_ef(&self) -> usize {
        let largest = self.rows().segments().iter().map(|segment| segment.live()).max();
        ef_of_size(largest.unwrap_or(0))
    }

    /// Answers a recorded query as for a client, exactly, and by walks with increasing `ef` until all hits are found.
    pub(super) fn check_sample(&self, sample: &Sample, stop: &Stop) -> Result<Seen, Stopped> {
        let Sample { query, among } = sample;
        let query =
            Query { vector: query, k: recall::K, sure: recall::K, effort: Effort::Exact, among: among.as_ref() };
        let exact = self.answer(&query, None, stop)?.nearest.hits;
        let true_hits = |answer: &Answer| recall::true_hits(&answer.nearest.hits, &exact);
        let usual = self.answer(&query, Some(self.usual_width(&query)), stop)?;
        let (wanted, found) = (exact.len(), true_hits(&usual));
        let How::Walks { in_crowd } = usual.how else { return Ok(Seen { wanted, found, walked: None }) };
        let usual_ef = self.usual_ef();
        let mut by_level = [wanted as u8; LEVELS];
        for (level, by_level) in by_level.iter_mut().enumerate() {
            let answer = self.answer(&query, Some(Width::of(ef_of_level(usual_ef, level))), stop)?;
            let found = true_hits(&answer);
            if found == wanted {
                break;
            }
            *by_level = found as u8;
        }
        let kind = Kind { filtered: among.is_some(), in_crowd };
        Ok(Seen { wanted, found, walked: Some((kind, by_level)) })
    }

    /// True if a search with this `ef` compares with all vectors.
    pub fn scans(&self, ef: usize) -> bool {
        let rows = self.rows();
        rows.segments().is_empty() || rows.live() <= self.options.scan_rows_per_ef.saturating_mul(ef).max(ef)
    }
}

/// Moves the `count` candidates of the highest possible cosine to the front, sorted.
fn sort_first(candidates: &mut [Candidate], count: usize) {
    let by_reach = |a: &Candidate, b: &Candidate| b.reach().total_cmp(&a.reach());
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, by_reach);
    }
    candidates[..count].sort_unstable_by(by_reach);
}

/// The best `k` of the candidates by their f32 rows. Removed vectors are skipped. Afterwards the first `k`, and the
/// first [`FIRST`], are sorted by their highest possible cosine. Most others are never compared.
fn best_of(rows: &RowTable, query: &[f32], k: usize, candidates: &mut [Candidate]) -> Nearest {
    let _span = tracing::info_span!("rescore", candidates = candidates.len()).entered();
    let (mut best, n_candidates) = (Best::new(k), candidates.len());
    candidates.iter().take(FIRST).for_each(|candidate| rows.prefetch(candidate.slot));
    let nearest = |best: Best| Nearest { candidates: n_candidates, ..best.into_nearest() };
    let mut rest = candidates;
    let mut count = k.max(FIRST);
    while !rest.is_empty() {
        count = count.min(rest.len());
        sort_first(rest, count);
        let (first, others) = rest.split_at_mut(count);
        for candidate in first {
            // All that follow are farther than k others, even with the errors of their estimates.
            if best.bar().is_some_and(|bar| candidate.reach() < bar) {
                return nearest(best);
            }
            if let Some(row) = rows.get(candidate.slot) {
                best.push(candidate.slot, cosine(query, row));
            }
        }
        rest = others;
        count = count.saturating_mul(2);
    }
    nearest(best)
}
