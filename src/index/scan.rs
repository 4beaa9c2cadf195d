//! The exact answer: compare with every vector, keep the best.
//!
//! Also the one place that says what a score is and how hits are ordered.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::rows::Slot;
use crate::kernel::dot;

/// A vector that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    pub slot: Slot,
    /// Cosine similarity to the query, -1 to 1.
    pub score: f32,
}

/// Cosine of two unit vectors. Rounding may leave their dot product a little outside of -1 to 1.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b).clamp(-1.0, 1.0)
}

/// Best first: score descending, then slot ascending. A total order, also for a NaN that a caller's
/// broken query would make.
pub(super) fn best_first(a: &Neighbour, b: &Neighbour) -> Ordering {
    b.score.total_cmp(&a.score).then(a.slot.cmp(&b.slot))
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

/// The best `k` of what is pushed. Each slot is to be pushed once.
pub(super) struct Best {
    k: usize,
    /// The worst of the kept on top.
    kept: BinaryHeap<ByRank>,
}

impl Best {
    pub(super) fn new(k: usize) -> Best {
        Best { k, kept: BinaryHeap::new() }
    }

    pub(super) fn push(&mut self, slot: Slot, score: f32) {
        let hit = ByRank(Neighbour { slot, score });
        if self.kept.len() < self.k {
            self.kept.push(hit);
        } else if let Some(mut worst) = self.kept.peek_mut()
            && hit < *worst
        {
            *worst = hit;
        }
    }

    /// The score of the worst, if there are `k`.
    pub(super) fn bar(&self) -> Option<f32> {
        self.kept.peek().filter(|_| self.kept.len() == self.k).map(|worst| worst.0.score)
    }

    /// What was kept, in no order.
    pub(super) fn into_hits(self) -> Vec<Neighbour> {
        self.kept.into_iter().map(|hit| hit.0).collect()
    }
}

/// The best `k` of hits that may name a slot twice (with one score), best first.
pub(super) fn ranked(mut hits: Vec<Neighbour>, k: usize) -> Vec<Neighbour> {
    hits.sort_unstable_by(best_first);
    hits.dedup_by_key(|hit| hit.slot);
    hits.truncate(k);
    hits
}
