//! Recall that is known: some of the real queries are answered a second time, exactly, in the background.
//!
//! ```text
//! search ─► sample ─► queries that wait ─(Index::audit)─► by graph and exactly ─► share of the true K that was found
//!                                                          below TARGET: more candidates from now on
//! ```
//! A hit that is as near as the worst of the true ones is a true one. Where nobody names candidates, their number begins
//! with what the size of the index needs ([`ef_of_size`]) and only grows: the texts of some collections are harder to
//! tell apart than those that it was measured with.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, TryLockError};

use super::MAX_EF;
use super::scan::Neighbour;

/// Neighbours that are looked for: recall@10 is what others publish.
pub(super) const K: usize = 10;
/// Share of the true neighbours that is to be found, of [`FULL`].
const TARGET: usize = 980;
const FULL: usize = 1_000;
/// Queries that wait to be answered exactly; more are passed over.
const WAITING: usize = 16;
/// Latest queries that count.
const WINDOW: usize = 256;
/// So many say enough about the number of candidates: their mean is off by 0.005 or so.
const ENOUGH: usize = 100;

/// How well an index finds, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Candidates of a search that names none.
    pub ef_search: usize,
    /// Share of the true 10 nearest that such searches found, 0 to 1; `None`: none was checked yet.
    pub recall: Option<f32>,
    /// Searches that were checked for it: the latest 256.
    pub checked: usize,
}

/// Candidates with which 98 of 100 true neighbours are found, by the size of a part of the index that has one graph: 128 for 100,000 texts as
/// MiniLM embeds them, about 370 for a million that were made of them (docs/performance.md).
pub(super) fn ef_of_size(vectors: usize) -> usize {
    let hundred_thousands = vectors as f64 / 1e5;
    (128.0 * hundred_thousands.powf(0.44)).clamp(64.0, 1_024.0) as usize
}

/// What is known of an index.
#[derive(Default)]
pub(super) struct Audit {
    waiting: Mutex<VecDeque<Box<[f32]>>>,
    known: Mutex<Known>,
    /// Candidates at least, since recall was once too low.
    raised: AtomicUsize,
}

#[derive(Default)]
struct Known {
    /// Neighbours wanted and found, of the latest queries.
    latest: VecDeque<(usize, usize)>,
}

impl Known {
    /// Of [`FULL`].
    fn recall(&self) -> Option<usize> {
        let (wanted, found) = self.latest.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (found * FULL).checked_div(wanted)
    }
}

impl Audit {
    /// A query that is about to be answered with as many candidates as nobody named. Costs next to nothing.
    pub(super) fn sample(&self, query: &[f32]) {
        let mut waiting = match self.waiting.try_lock() {
            Ok(waiting) => waiting,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if waiting.len() < WAITING {
            waiting.push_back(query.into());
        }
    }

    /// A query to be answered again.
    pub(super) fn next(&self) -> Option<Box<[f32]>> {
        super::lock(&self.waiting).pop_front()
    }

    /// What a query found, and what it should have.
    pub(super) fn note(&self, hits: &[Neighbour], exact: &[Neighbour]) {
        let Some(worst) = exact.last() else { return };
        let found = hits.iter().filter(|hit| hit.score >= worst.score).count();
        let mut known = super::lock(&self.known);
        known.latest.push_back((exact.len(), found.min(exact.len())));
        if known.latest.len() > WINDOW {
            known.latest.pop_front();
        }
    }

    /// More candidates than these `ef` from now on, if the latest queries found too little with them. What they found says nothing
    /// any more then; where there are no more to be had, it still does.
    pub(super) fn look_harder_than(&self, ef: usize) {
        let mut known = super::lock(&self.known);
        let too_little = known.latest.len() >= ENOUGH && known.recall().is_some_and(|recall| recall < TARGET);
        let more = (ef + ef / 4 + 1).min(MAX_EF);
        if too_little && self.raised.fetch_max(more, Ordering::Relaxed) < more {
            known.latest.clear();
        }
    }

    /// Candidates at least.
    pub(super) fn raised(&self) -> usize {
        self.raised.load(Ordering::Relaxed)
    }

    /// With so many candidates.
    pub(super) fn quality(&self, ef_search: usize) -> Quality {
        let known = super::lock(&self.known);
        Quality {
            ef_search,
            recall: known.recall().map(|recall| recall as f32 / FULL as f32),
            checked: known.latest.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::Slot;
    use super::*;

    fn hits(scores: &[f32]) -> Vec<Neighbour> {
        scores.iter().map(|&score| Neighbour { slot: Slot::NONE, score }).collect()
    }

    #[test]
    fn hits_as_near_as_the_worst_of_the_true_ones_are_true() {
        let audit = Audit::default();
        assert_eq!(audit.quality(64), Quality { ef_search: 64, recall: None, checked: 0 });
        audit.note(&hits(&[0.9, 0.8, 0.8]), &hits(&[0.9, 0.8, 0.8]));
        assert_eq!(audit.quality(64).recall, Some(1.0));
        audit.note(&hits(&[0.9, 0.7, 0.6]), &hits(&[0.9, 0.8, 0.7]));
        assert_eq!(audit.quality(64), Quality { ef_search: 64, recall: Some(0.833), checked: 2 });
        audit.note(&[], &[]);
        assert_eq!(audit.quality(64).checked, 2, "an empty index says nothing");
    }

    /// As an index does whose number of candidates is its own choice.
    fn check(audit: &Audit, ef: usize, hits: &[Neighbour], exact: &[Neighbour]) {
        audit.note(hits, exact);
        audit.look_harder_than(ef);
    }

    #[test]
    fn candidates_grow_only_when_enough_queries_found_too_little() {
        let audit = Audit::default();
        let (all, most) = (hits(&[0.9, 0.8]), hits(&[0.9, 0.7]));
        (0..ENOUGH - 1).for_each(|_| check(&audit, 128, &most, &all));
        assert_eq!(audit.raised(), 0);
        check(&audit, 128, &most, &all);
        assert_eq!(audit.raised(), 161);
        assert_eq!(audit.quality(161).recall, None, "what was found with fewer candidates says nothing any more");
        (0..WINDOW + 50).for_each(|_| check(&audit, 161, &all, &all));
        assert_eq!((audit.raised(), audit.quality(161).checked), (161, WINDOW));
    }

    #[test]
    fn what_was_found_with_the_most_candidates_is_not_forgotten() {
        let audit = Audit::default();
        let (all, most) = (hits(&[0.9, 0.8]), hits(&[0.9, 0.7]));
        (0..ENOUGH).for_each(|_| check(&audit, MAX_EF - 1, &most, &all));
        assert_eq!((audit.raised(), audit.quality(MAX_EF).recall), (MAX_EF, None));
        (0..WINDOW).for_each(|_| check(&audit, MAX_EF, &most, &all));
        assert_eq!(audit.quality(MAX_EF), Quality { ef_search: MAX_EF, recall: Some(0.5), checked: WINDOW });
    }

    #[test]
    fn queries_wait_up_to_a_bound() {
        let audit = Audit::default();
        (0..100).for_each(|n| audit.sample(&[n as f32]));
        assert_eq!((0..100).map_while(|_| audit.next()).count(), WAITING);
    }

    #[test]
    fn larger_indexes_take_more_candidates() {
        assert_eq!([1_000, 100_000, 1_000_000, 1 << 40].map(ef_of_size), [64, 128, 352, 1_024]);
    }
}
