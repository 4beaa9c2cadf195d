//! A query's way to its hits: through the graphs (`walks`), or past all codes (`scans`), and by the f32 rows of what is
//! left.
//!
//! Invariants: exactly min(k, live and at the places that are asked for) hits, with true scores, in order. A search
//! costs about as much as a scan at most, and a walk that may look no farther before it: a walk is given up where a
//! scan would have cost as much.
//!
//! A score is the cosine of two f32 vectors. Candidates are found by their codes and compared by their f32 rows, best
//! estimate first, until an estimate is so far below the k-th score that it cannot matter. In an exact scan that
//! distance is a bound which always holds. In a walk, and in a scan that takes the place of a walk, it is four standard
//! deviations.
//!
//! Vectors that tie with the last hit are returned beside the hits, so that equal scores cost one search. The caller
//! picks the lowest ids, which the index does not know.

mod scans;
mod walks;

use roaring::RoaringBitmap;

use super::graph::codes::OwnQuery;
use super::recall::{self, Kind, Sample, Seen, ef_of_size};
use super::row_table::RowTable;
use super::scan::{Best, Candidate, Nearest, Neighbour, cosine};
use super::slot::Slot;
use super::{Effort, Index};
use crate::compute::stop::{Stop, Stopped};

/// A walk for k hits keeps so many times k candidates at least: the far half of what it keeps is where it misses most.
const CANDIDATES_PER_HIT: usize = 2;

/// Candidates that are put in order at first. The last of them also tells whether the hits lie in a crowd (`walks`), so
/// that a search for fewer hits looks no less hard.
const FIRST: usize = 32;

/// What is looked for.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// Of length 1, `[dimensions]`.
    pub vector: &'a [f32],
    /// Hits wanted.
    pub k: usize,
    /// How hard to look.
    pub effort: Effort,
    /// Only vectors at these places; `None`: all. A place that changes hands meanwhile is one of these with its old
    /// vector or its new one.
    pub among: Option<&'a RoaringBitmap>,
}

/// A query on its way.
struct Asked<'a> {
    vector: &'a [f32],
    codes: OwnQuery,
    k: usize,
    among: Option<&'a RoaringBitmap>,
    stop: &'a Stop,
}

/// How many candidates walks keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Width {
    /// At first.
    pub(super) ef: usize,
    /// Where the walk ended in a crowd, of which it may have missed much.
    pub(super) in_crowd: usize,
}

/// What was found, and how.
pub(super) struct Answer {
    pub(super) nearest: Nearest,
    pub(super) how: How,
}

/// How a query was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Exactly.
    Scan,
    /// By walks. `in_crowd`: some hits are of a crowd.
    Walks { in_crowd: bool },
}

impl Width {
    /// The same wherever a walk ends.
    pub(super) fn of(ef: usize) -> Width {
        Width { ef, in_crowd: ef }
    }

    fn at_least(self, ef: usize) -> Width {
        Width { ef: self.ef.max(ef), in_crowd: self.in_crowd.max(ef) }
    }
}

impl Asked<'_> {
    fn wants(&self, slot: Slot) -> bool {
        self.among.is_none_or(|among| among.contains(slot.index()))
    }
}

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
        Ok(self.nearest(&Query { vector: query, k, effort, among: None }, stop)?.hits)
    }

    /// As [`Index::search`], among the vectors at some places: exactly min(k, live ones among them).
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
        Ok(self.nearest(&Query { vector: query, k, effort, among: Some(among) }, stop)?.hits)
    }

    /// The nearest live vectors, and those that are as near as the last of them: of equal scores, the caller may prefer
    /// others.
    ///
    /// # Panics
    /// If the query has not the index's number of dimensions.
    pub fn nearest(&self, query: &Query<'_>, stop: &Stop) -> Result<Nearest, Stopped> {
        let width = match query.effort {
            Effort::Exact => None,
            Effort::Graph { ef: Some(ef) } => Some(Width::of(ef.max(query.k))),
            Effort::Graph { ef: None } => Some(self.usual_width(query)),
        };
        Ok(self.answer(query, width, stop)?.nearest)
    }

    /// As [`Index::nearest`], by walks of some width, or exactly.
    pub(super) fn answer(&self, query: &Query<'_>, width: Option<Width>, stop: &Stop) -> Result<Answer, Stopped> {
        let &Query { vector, k, among, .. } = query;
        self.check(vector);
        if k == 0 {
            return Ok(Answer { nearest: Nearest::default(), how: How::Scan });
        }
        let asked = Asked { vector, codes: OwnQuery::new(vector), k, among, stop };
        if let Some(width) = width
            && let Some(answer) = self.by_walks(&asked, width)?
        {
            return Ok(answer);
        }
        Ok(Answer { nearest: self.by_scan(&asked)?, how: How::Scan })
    }

    /// Candidates of a query that names none.
    pub(super) fn usual_width(&self, query: &Query<'_>) -> Width {
        self.width(query.among.is_some()).at_least(CANDIDATES_PER_HIT.saturating_mul(query.k))
    }

    /// Candidates of a search for few hits that names none, with a filter or without.
    pub(super) fn width(&self, filtered: bool) -> Width {
        match self.options.ef_search {
            Some(ef) => Width::of(ef),
            None => self.audit.width(self.least_ef(), filtered),
        }
    }

    /// Candidates that are enough for texts, by the size of the largest graph.
    pub(super) fn least_ef(&self) -> usize {
        let largest = self.rows().segments().iter().map(|segment| segment.live()).max();
        ef_of_size(largest.unwrap_or(0))
    }

    /// Answers a sample as clients are answered, exactly, and by ever wider walks until all is found.
    pub(super) fn check_sample(&self, sample: &Sample, stop: &Stop) -> Result<Seen, Stopped> {
        let Sample { query, among } = sample;
        let query = Query { vector: query, k: recall::K, effort: Effort::Exact, among: among.as_ref() };
        let exact = self.answer(&query, None, stop)?.nearest.hits;
        let true_hits = |answer: &Answer| recall::true_hits(&answer.nearest.hits, &exact);
        let usual = self.answer(&query, Some(self.usual_width(&query)), stop)?;
        let (wanted, found) = (exact.len(), true_hits(&usual));
        let How::Walks { in_crowd } = usual.how else { return Ok(Seen { wanted, found, walked: None }) };
        let least = self.least_ef();
        let mut by_level = [wanted as u8; recall::LEVELS];
        for (level, by_level) in by_level.iter_mut().enumerate() {
            let answer = self.answer(&query, Some(Width::of(recall::ef_of_level(least, level))), stop)?;
            let found = true_hits(&answer);
            if found == wanted {
                break;
            }
            *by_level = found as u8;
        }
        let kind = Kind { filtered: among.is_some(), in_crowd };
        Ok(Seen { wanted, found, walked: Some((kind, by_level)) })
    }

    /// Whether a search with so many candidates compares with all vectors.
    pub fn scans(&self, ef: usize) -> bool {
        let rows = self.rows();
        rows.segments().is_empty() || rows.live() <= self.options.scan_rows_per_ef.saturating_mul(ef).max(ef)
    }
}

/// Puts the `count` candidates that may be nearest first, in order.
fn sort_first(candidates: &mut [Candidate], count: usize) {
    let by_reach = |a: &Candidate, b: &Candidate| b.reach().total_cmp(&a.reach());
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, by_reach);
    }
    candidates[..count].sort_unstable_by(by_reach);
}

/// The best `k` of candidates, by their f32 rows; those that do not live are passed over. Afterwards the first `k`, and
/// the first [`FIRST`], are in order of what they may be: most others are never compared.
fn best_of(rows: &RowTable, query: &[f32], k: usize, candidates: &mut [Candidate]) -> Nearest {
    let mut best = Best::new(k);
    let mut rest = candidates;
    let mut count = k.max(FIRST);
    while !rest.is_empty() {
        count = count.min(rest.len());
        sort_first(rest, count);
        let (first, others) = rest.split_at_mut(count);
        for candidate in first {
            // Those that follow are farther than k others, whatever their estimates are off by.
            if best.bar().is_some_and(|bar| candidate.reach() < bar) {
                return best.into_nearest();
            }
            if let Some(row) = rows.get(candidate.slot) {
                best.push(candidate.slot, cosine(query, row));
            }
        }
        rest = others;
        count = count.saturating_mul(2);
    }
    best.into_nearest()
}
