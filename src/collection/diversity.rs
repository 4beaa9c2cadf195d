//! Hits that differ from each other: maximal marginal relevance (Carbonell and Goldstein, 1998).
//!
//! ```text
//! next = argmax over c of (1 - λ) · score(c) - λ · max over chosen s of cosine(c, s)
//! ```
//! The best by score is chosen first. This module knows scores and vectors, and nothing of documents.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::compute::stop::{Stop, Stopped};
use crate::kernel::dot;

/// Weight of diversity against score: λ, above 0 and at most 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Diversity(f32);

/// Candidates per hit. With fewer, a text that has a few near copies leaves no choice. With more, candidates have
/// less and less to do with the query.
const POOL_PER_HIT: usize = 4;

/// Least number of candidates. A graph walk keeps twice as many in any case (`ef_search` of the index).
const POOL_AT_LEAST: usize = 64;

impl Diversity {
    /// Checks λ; `None` if it is not above 0 and at most 1.
    pub fn new(lambda: f32) -> Option<Self> {
        (lambda > 0.0 && lambda <= 1.0).then_some(Self(lambda))
    }

    /// Number of candidates, best by score, that `k` hits are chosen from.
    pub fn pool(self, k: usize) -> usize {
        k.saturating_mul(POOL_PER_HIT).max(POOL_AT_LEAST)
    }

    /// Indexes of at most `k` candidates in the order in which they are chosen. A candidate is a score with a unit
    /// vector, `[dimensions]`; they come best first. If two have equal worth, the earlier is chosen.
    ///
    /// The worth of a candidate only falls as more are chosen. So its former worth is an upper bound, and only the
    /// candidate with the highest bound is compared with those chosen since (lazy greedy: Minoux, 1978). The result
    /// is that of the formula, with a fraction of the dot products.
    pub fn choose(self, candidates: &[(f32, &[f32])], k: usize, stop: &Stop) -> Result<Vec<usize>, Stopped> {
        let Self(lambda) = self;
        let mut chosen: Vec<usize> = Vec::with_capacity(k.min(candidates.len()));
        let bound = |(index, (score, _)): (usize, &(f32, &[f32]))| Candidate::new(lambda, index, *score);
        let mut left: BinaryHeap<Candidate> = candidates.iter().enumerate().skip(1).map(bound).collect();
        if k > 0 && !candidates.is_empty() {
            chosen.push(0);
        }
        while chosen.len() < k
            && let Some(mut best) = left.peek_mut()
        {
            stop.check()?;
            if best.compared == chosen.len() {
                chosen.push(PeekMut::pop(best).index);
                continue;
            }
            let (score, vector) = candidates[best.index];
            let since = chosen[best.compared..].iter().map(|&other| cosine(vector, candidates[other].1));
            let likeness = since.fold(best.likeness, f32::max);
            let compared = chosen.len();
            *best = Candidate { likeness, compared, ..Candidate::new(lambda, best.index, score) }.worth(lambda, score);
        }
        Ok(chosen)
    }
}

/// A candidate that is not chosen yet.
struct Candidate {
    /// Worth after comparison with the first `compared` of the chosen ones. An upper bound of the present worth.
    worth: f32,
    index: usize,
    compared: usize,
    /// Greatest cosine to those `compared`.
    likeness: f32,
}

impl Candidate {
    /// Makes a candidate that was compared with nothing yet.
    fn new(lambda: f32, index: usize, score: f32) -> Self {
        Self { worth: 0.0, index, compared: 0, likeness: -1.0 }.worth(lambda, score)
    }

    fn worth(mut self, lambda: f32, score: f32) -> Self {
        // Adding zero makes a negative zero a positive one, so that they compare as equal.
        self.worth = (1.0 - lambda) * score - lambda * self.likeness + 0.0;
        self
    }
}

/// Orders by worth; of two with equal worth, the earlier candidate is greater.
impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.worth.total_cmp(&other.worth).then_with(|| other.index.cmp(&self.index))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

/// Dot product of two unit vectors. Rounding may leave it a little outside of -1 to 1, so it is clamped.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    dot(a, b).clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::embedding::Embedding;

    /// The formula, taken literally: each step compares all candidates with all chosen ones.
    fn plain(lambda: f32, candidates: &[(f32, &[f32])], k: usize) -> Vec<usize> {
        let mut chosen: Vec<usize> = Vec::new();
        while chosen.len() < k.min(candidates.len()) {
            let worth = |c: usize| {
                let likeness = chosen.iter().map(|&s| cosine(candidates[c].1, candidates[s].1));
                (1.0 - lambda) * candidates[c].0 - lambda * likeness.fold(-1.0, f32::max)
            };
            let left = (0..candidates.len()).filter(|c| !chosen.contains(c));
            // `max_by` takes the last of equals, so the reversed order takes the first.
            let best = left.rev().max_by(|&a, &b| worth(a).total_cmp(&worth(b)));
            chosen.push(if chosen.is_empty() { 0 } else { best.expect("one is left") });
        }
        chosen
    }

    #[test]
    fn a_weight_that_is_none_is_refused() {
        for wrong in [0.0, -0.0, -0.1, 1.000_001, f32::NAN, f32::INFINITY] {
            assert_eq!(Diversity::new(wrong), None, "{wrong}");
        }
        assert!(Diversity::new(1.0).is_some() && Diversity::new(f32::MIN_POSITIVE).is_some());
    }

    #[test]
    fn a_copy_gives_way_to_what_is_farther_and_new() {
        let candidates: [(f32, &[f32]); 4] =
            [(0.8, &[0.8, 0.6]), (0.8, &[0.8, 0.6]), (0.6, &[0.6, -0.8]), (-0.8, &[-0.8, -0.6])];
        let choose = |lambda, k| Diversity::new(lambda).unwrap().choose(&candidates, k, &Stop::never()).unwrap();
        assert_eq!(choose(0.001, 4), [0, 1, 2, 3]);
        assert_eq!(choose(0.5, 2), [0, 2]);
        assert_eq!(choose(1.0, 2), [0, 3], "what is unlike the first, whatever it has to do with the query");
        assert_eq!(choose(0.5, 9).len(), 4);
        assert_eq!(Diversity::new(0.5).unwrap().choose(&[], 3, &Stop::never()), Ok(vec![]));
    }

    proptest! {
        /// Uses few directions, so that vectors are alike and have equal worth.
        #[test]
        fn the_choice_follows_the_formula(
            vectors in prop::collection::vec(prop::collection::vec(-2i8..=2, 3), 0..40),
            query in prop::collection::vec(-1.0f32..1.0, 3),
            lambda in prop_oneof![Just(1.0f32), Just(0.5), 0.001f32..1.0],
            k in 0usize..45,
        ) {
            let unit = |values: Vec<f32>| Embedding::normalized(values).ok();
            let Some(query) = unit(query) else { return Ok(()) };
            let floats = |vector: &Vec<i8>| vector.iter().copied().map(f32::from).collect();
            let vectors: Vec<_> = vectors.iter().filter_map(|vector| unit(floats(vector))).collect();
            let mut candidates: Vec<_> = vectors.iter().map(|v| (query.cosine(v), v.values())).collect();
            candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
            let chosen = Diversity::new(lambda).unwrap().choose(&candidates, k, &Stop::never()).unwrap();
            prop_assert_eq!(chosen, plain(lambda, &candidates, k));
        }
    }
}
