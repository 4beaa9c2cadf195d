//! The exact answer: compare with every vector and keep the best. Only this file defines the score and the order of
//! hits.
//!
//! ```text
//! all codes ─► candidate filter: estimate + bound reaches the k-th best estimate - bound ─► f32 rows ─► best k
//! ```
//! The codes of a row are a quarter of its f32 values, and few rows pass the filter. In an exact search the bound
//! always holds ([`OwnQuery::bound`]), so the answer equals that of a scan of all f32 rows.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::ops::Range;

use super::graph::codes::Codes;
use super::graph::query::OwnQuery;
use super::slot::Slot;
use crate::kernel::dot;

/// Rows scored in one call.
const BATCH: usize = 64;

/// A vector found by a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// The vector that was found.
    pub slot: Slot,
    /// Cosine similarity to the query, -1 to 1.
    pub score: f32,
}

/// The result of a search.
#[derive(Debug, Clone, Default)]
pub struct Nearest {
    /// The hits, best first; hits of equal score by slot, ascending.
    pub hits: Vec<Neighbour>,
    /// Other vectors with exactly the score of the last hit, in no order.
    pub tied: Vec<Slot>,
    /// The number of candidates that were found by their codes.
    pub candidates: usize,
    /// The number of vectors that were compared by their f32 rows.
    pub rescored: usize,
}

/// A vector that may be among the best.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) slot: Slot,
    /// Its cosine to the query, estimated from codes.
    pub(super) estimate: f32,
    /// The largest error of the estimate: always, or nearly always ([`Margin`]).
    pub(super) error: f32,
}

impl Candidate {
    /// The largest cosine that it may have.
    pub(super) fn reach(&self) -> f32 {
        self.estimate + self.error
    }
}

/// The cosine of two unit vectors. Rounding may put their dot product a little outside -1 to 1.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    #[cfg(test)]
    COMPARED.set(COMPARED.get() + 1);
    dot(a, b).clamp(-1.0, 1.0)
}

#[cfg(test)]
thread_local! {
    /// The number of rows that this thread compared with a query.
    pub(crate) static COMPARED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Orders hits, best first: score descending, then slot ascending. It is a total order even for a NaN from an invalid
/// query.
pub(super) fn best_first(a: &Neighbour, b: &Neighbour) -> Ordering {
    b.score.total_cmp(&a.score).then(a.slot.cmp(&b.slot))
}

/// The error that is assumed of estimates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Margin {
    /// The largest possible error.
    Bound,
    /// Four standard deviations. Far from the query, thousands of vectors have nearly the same score; few of them pass.
    Likely,
}

/// A filter that keeps the vectors that may be among the best `k`, by their estimates. Each must be offered once.
pub(super) struct CandidateFilter {
    k: usize,
    margin: Margin,
    /// The best `k` lower bounds, the worst of them on top.
    least: BinaryHeap<Reverse<Least>>,
    kept: Vec<Candidate>,
}

#[derive(PartialEq)]
struct Least(f32);

impl Eq for Least {}

impl Ord for Least {
    fn cmp(&self, other: &Least) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Least {
    fn partial_cmp(&self, other: &Least) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl CandidateFilter {
    pub(super) fn new(k: usize, margin: Margin) -> CandidateFilter {
        CandidateFilter { k, margin, least: BinaryHeap::new(), kept: Vec::new() }
    }

    /// The score that `k` vectors are known to reach.
    fn floor(&self) -> f32 {
        match self.least.peek() {
            Some(Reverse(Least(floor))) if self.least.len() == self.k => *floor,
            _ => f32::NEG_INFINITY,
        }
    }

    fn offer(&mut self, candidate: Candidate) {
        self.kept.push(candidate);
        let least = Reverse(Least(candidate.estimate - candidate.error));
        if self.least.len() < self.k {
            self.least.push(least);
        } else if let Some(mut worst) = self.least.peek_mut()
            && least < *worst
        {
            *worst = least;
        }
    }

    /// Offers the rows of a range that may be among the best. For each row it offers those of its `slots` that are
    /// `wanted`.
    pub(super) fn scan<S: IntoIterator<Item = Slot>>(
        &mut self,
        codes: &Codes,
        range: Range<u32>,
        query: &OwnQuery,
        slots: impl Fn(u32) -> S,
        wanted: impl Fn(Slot) -> bool,
    ) {
        let (mut rows, mut estimates) = ([0u32; BATCH], [0.0f32; BATCH]);
        for first in range.clone().step_by(BATCH) {
            let count = (range.end - first).min(BATCH as u32) as usize;
            rows.iter_mut().zip(first..).for_each(|(row, number)| *row = number);
            codes.score(query.query(), &rows[..count], &mut estimates[..count]);
            let mut floor = self.floor();
            for (&row, &estimate) in rows[..count].iter().zip(&estimates) {
                let error = match self.margin {
                    Margin::Bound => query.bound(codes.scale(row)),
                    Margin::Likely => query.error(codes.scale(row)),
                };
                if estimate + error < floor {
                    continue;
                }
                slots(row).into_iter().filter(|&slot| wanted(slot)).for_each(|slot| {
                    self.offer(Candidate { slot, estimate, error });
                });
                floor = self.floor();
            }
        }
    }

    /// The vectors that passed and may still be among the best, in no order.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Candidate> {
        let floor = self.floor();
        self.kept.iter().copied().filter(move |candidate| candidate.reach() >= floor)
    }
}

struct ByRank(Neighbour);

impl Ord for ByRank {
    fn cmp(&self, other: &ByRank) -> Ordering {
        best_first(&self.0, &other.0)
    }
}

impl PartialOrd for ByRank {
    fn partial_cmp(&self, other: &ByRank) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByRank {
    fn eq(&self, other: &ByRank) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ByRank {}

/// The best `k` hits. Each slot must be pushed once.
pub(super) struct Best {
    k: usize,
    /// The kept hits, the worst on top.
    kept: BinaryHeap<ByRank>,
    /// Other slots with the score of the worst kept hit.
    tied: Vec<Slot>,
    /// The number of slots that were pushed.
    pushed: usize,
}

impl Best {
    pub(super) fn new(k: usize) -> Best {
        Best { k, kept: BinaryHeap::new(), tied: Vec::new(), pushed: 0 }
    }

    pub(super) fn push(&mut self, slot: Slot, score: f32) {
        self.pushed += 1;
        let hit = ByRank(Neighbour { slot, score });
        if self.kept.len() < self.k {
            self.kept.push(hit);
            return;
        }
        let Some(mut worst) = self.kept.peek_mut() else { return };
        if hit < *worst {
            let out = std::mem::replace(&mut *worst, hit).0;
            drop(worst);
            if self.bar() > Some(out.score) {
                self.tied.clear();
            } else {
                self.tied.push(out.slot);
            }
        } else if score >= worst.0.score {
            self.tied.push(slot);
        }
    }

    /// The score of the worst kept hit, if there are `k`.
    pub(super) fn bar(&self) -> Option<f32> {
        self.kept.peek().filter(|_| self.kept.len() == self.k).map(|worst| worst.0.score)
    }

    /// The kept hits, best first, and the slots that tie with the last.
    pub(super) fn into_nearest(self) -> Nearest {
        let hits = self.kept.into_sorted_vec().into_iter().map(|hit| hit.0).collect();
        Nearest { hits, tied: self.tied, candidates: 0, rescored: self.pushed }
    }
}
