//! The best candidates of a search, over all parts: at most as many as are wanted, and the score that others must
//! exceed.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// The best candidates so far.
pub(super) struct Best {
    n: usize,
    /// The part that is searched now.
    pub(super) part: usize,
    /// The worst on top.
    candidates: BinaryHeap<Reverse<Candidate>>,
}

/// A document with the score by which it was found.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub(super) score: f32,
    pub(super) part: usize,
    pub(super) document: u32,
}

impl Best {
    pub(super) fn new(n: usize) -> Self {
        Self { n, part: 0, candidates: BinaryHeap::new() }
    }

    /// A candidate must have a higher score than this.
    pub(super) fn bar(&self) -> f32 {
        if self.candidates.len() < self.n {
            return 0.0;
        }
        self.candidates.peek().map_or(f32::INFINITY, |Reverse(worst)| worst.score)
    }

    /// Takes a document if its score is above the bar and it is wanted.
    pub(super) fn offer(&mut self, document: u32, score: f32, is_wanted: &dyn Fn(u32) -> bool) {
        if score <= self.bar() || !is_wanted(document) {
            return;
        }
        if self.candidates.len() == self.n {
            self.candidates.pop();
        }
        self.candidates.push(Reverse(Candidate { score, part: self.part, document }));
    }

    pub(super) fn into_candidates(self) -> Vec<Candidate> {
        self.candidates.into_iter().map(|Reverse(candidate)| candidate).collect()
    }
}

impl Ord for Candidate {
    /// Better candidates are greater: of a higher score, or earlier.
    fn cmp(&self, other: &Self) -> Ordering {
        let place = |candidate: &Self| (candidate.part, candidate.document);
        self.score.total_cmp(&other.score).then_with(|| place(other).cmp(&place(self)))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}
