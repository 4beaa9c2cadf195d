//! Measured recall: a sample of the real queries is answered a second time, exactly, in the background.
//!
//! ```text
//! search ─► sample ─► queries that wait ─(Index::audit)─► answered as for a client, and exactly ─► recall
//!                                        └► by walks of increasing ef ─► the level that finds TARGET, by kind
//! ```
//! A hit is true if it is as near as the worst of the true hits. If no caller sets `ef`, it begins with the value for
//! the size of the index ([`ef_of_size`](super::ef::ef_of_size)), and then follows the needs of the collection's own
//! queries. Kinds of searches need different values and are kept apart: with a filter and without, in a crowd
//! (`graph/crowd.rs`) and outside. The result survives a restart (`learned.rs`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, TryLockError};

use roaring::RoaringBitmap;

use super::ef::{Kind, LEVELS, Width, ef_of_level};
use super::learned::Learned;
use super::lock::lock;
use super::scan::Neighbour;

/// The k of checked searches: recall@10 is the usual measure.
pub(super) const K: usize = 10;
/// The share of the true neighbours that should be found, in parts of [`FULL`].
const TARGET: usize = 980;
/// The share that a smaller `ef` must find to be chosen. The recall of a full window has a standard error of 3 to 4.
const SAFE: usize = 985;
/// The share that it must find in fewer queries: all of the 320 neighbours of 32. With a recall of 980 that is chance
/// once in 600 times if misses are independent; further queries may raise `ef` again.
const NEARLY_ALL: usize = 998;
/// Fewer queries than a full window raise `ef` only if they find less than this: the recall of 8 has a standard error
/// of 20, and that of 64 one of 7.
const LOW: [usize; 2] = [960, 970];
const FULL: usize = 1_000;
/// The most queries that wait to be checked. Further ones are not recorded.
const WAITING: usize = 16;
/// The most queries with a filter among them: each holds one bit for each vector.
const WAITING_FILTERED: usize = 4;
/// The number of latest queries that recall is computed from.
const WINDOW: usize = 256;

/// The number of latest queries of a kind that decide its level.
const KIND_WINDOW: usize = 256;
/// The numbers of queries of a kind that may raise its level, with the limits of [`LOW`].
const FEW: [usize; 2] = [8, 64];
/// The number of queries of a kind that may lower its level. The first level in a crowd is a cautious one, 16 times the
/// usual `ef`; with a full window alone, queries that need less would take some milliseconds for minutes.
const SOME: usize = 32;
/// The number of checked queries after which a good recall is trusted, and one check each second is enough.
const CONFIDENT: usize = 32;

/// The measured recall of an index.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// The `ef` of a search that sets none: that of most checked searches.
    pub ef_search: usize,
    /// The share of the true 10 nearest that these searches found, 0 to 1; `None`: none was checked yet.
    pub recall: Option<f32>,
    /// The number of searches that were checked for it: at most the latest 256.
    pub checked: usize,
}

/// A recorded query, to be answered again.
pub(super) struct Sample {
    pub(super) query: Box<[f32]>,
    /// The slot indices that pass its filter.
    pub(super) among: Option<RoaringBitmap>,
}

/// The result of a checked query.
pub(super) struct Seen {
    pub(super) wanted: usize,
    pub(super) found: usize,
    /// The kind of search and the hits that each level finds, if walks answered the query.
    pub(super) walked: Option<(Kind, [u8; LEVELS])>,
}

/// The check of searches: waiting queries and results.
pub(super) struct Audit {
    waiting: Mutex<VecDeque<Sample>>,
    known: Mutex<Known>,
    /// The level of each kind, one byte each. Searches read it without a lock.
    levels: AtomicU32,
}

struct Known {
    /// The latest queries: neighbours wanted, neighbours found, and true if in a crowd.
    latest: VecDeque<(usize, usize, bool)>,
    kinds: [VecDeque<(u8, [u8; LEVELS])>; Kind::COUNT],
    learned: Learned,
}

impl Known {
    /// Recall in parts of [`FULL`].
    fn recall(&self) -> Option<usize> {
        let (wanted, found) = self.latest.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (found * FULL).checked_div(wanted)
    }

    fn level(&self, kind: Kind) -> usize {
        usize::from(levels(&self.learned)[kind.number()])
    }

    /// The level that the latest queries of a kind need, if it differs from the present one. A few queries raise it if
    /// they find far too little. [`KIND_WINDOW`] queries raise it if they find too little, and lower it if a lower
    /// level finds more than is wanted. [`SOME`] queries lower it if a lower level finds nearly all.
    fn better_level(&self, kind: Kind) -> Option<u8> {
        let latest = &self.kinds[kind.number()];
        let wanted: usize = latest.iter().map(|(wanted, _)| usize::from(*wanted)).sum();
        let finds = |level: usize, share: usize| {
            let found: usize = latest.iter().map(|(_, found)| usize::from(found[level])).sum();
            found * FULL >= share * wanted
        };
        let (level, is_full) = (self.level(kind), latest.len() >= KIND_WINDOW);
        let is_too_low = match FEW.map(|few| latest.len() >= few) {
            [false, _] => false,
            [true, false] => !finds(level, LOW[0]),
            [true, true] => !finds(level, if is_full { TARGET } else { LOW[1] }),
        };
        let enough = match latest.len() {
            KIND_WINDOW.. => Some(SAFE),
            SOME.. => Some(NEARLY_ALL),
            _ => None,
        };
        let better = match (is_too_low, enough) {
            (true, _) => (level + 1..LEVELS).find(|&more| finds(more, TARGET)).unwrap_or(LEVELS - 1),
            (false, Some(share)) => (0..level).find(|&fewer| finds(fewer, share)).unwrap_or(level),
            (false, None) => level,
        };
        (better != level).then_some(better as u8)
    }
}

impl Audit {
    /// A check that begins with the settings of an earlier process.
    pub(super) fn new(learned: Learned) -> Audit {
        let known = Known { latest: VecDeque::new(), kinds: Default::default(), learned };
        let levels = AtomicU32::new(u32::from_le_bytes(levels(&learned)));
        Audit { waiting: Mutex::default(), known: Mutex::new(known), levels }
    }

    /// Records a query that sets no `ef`, if there is space for it. Otherwise it costs next to nothing.
    pub(super) fn sample(&self, query: &[f32], among: Option<&RoaringBitmap>) {
        let mut waiting = match self.waiting.try_lock() {
            Ok(waiting) => waiting,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let is_full = waiting.len() >= WAITING
            || among.is_some() && waiting.iter().filter(|other| other.among.is_some()).count() >= WAITING_FILTERED;
        if !is_full {
            waiting.push_back(Sample { query: query.into(), among: among.cloned() });
        }
    }

    /// Takes the next query to be answered again.
    pub(super) fn next(&self) -> Option<Sample> {
        lock(&self.waiting).pop_front()
    }

    /// Records the result of a checked query. `may_learn`: the index may choose `ef`. Returns the learned settings if
    /// they changed.
    pub(super) fn note(&self, seen: &Seen, may_learn: bool) -> Option<Learned> {
        if seen.wanted == 0 {
            return None;
        }
        let mut known = lock(&self.known);
        let before = known.learned;
        let in_crowd = seen.walked.is_some_and(|(kind, _)| kind.in_crowd);
        known.latest.push_back((seen.wanted, seen.found.min(seen.wanted), in_crowd));
        if known.latest.len() > WINDOW {
            known.latest.pop_front();
        }
        let in_crowds = known.latest.iter().filter(|one| one.2).count();
        known.learned.mostly_in_crowds = in_crowds * 2 > known.latest.len();
        if let Some((kind, found)) = seen.walked.filter(|_| may_learn) {
            let latest = &mut known.kinds[kind.number()];
            latest.push_back((seen.wanted as u8, found));
            if latest.len() > KIND_WINDOW {
                latest.pop_front();
            }
            if let Some(level) = known.better_level(kind) {
                if usize::from(level) > known.level(kind) {
                    // Results with a smaller `ef` no longer count.
                    known.latest.clear();
                }
                known.learned.levels[kind.number()] = Some(level);
                self.levels.store(u32::from_le_bytes(levels(&known.learned)), Ordering::Relaxed);
            }
        }
        (known.learned != before).then_some(known.learned)
    }

    /// True if more than one query each second should be checked: too few were, or they found too little.
    pub(super) fn is_learning(&self) -> bool {
        let known = lock(&self.known);
        known.latest.len() < CONFIDENT || known.recall().is_some_and(|recall| recall < TARGET)
    }

    /// The width of walks, with a filter or without, in an index whose size asks for an `ef` of `usual`.
    pub(super) fn width(&self, usual: usize, filtered: bool) -> Width {
        let levels = self.levels.load(Ordering::Relaxed).to_le_bytes();
        let ef = |in_crowd| ef_of_level(usual, usize::from(levels[Kind { filtered, in_crowd }.number()]));
        Width { ef: ef(false), in_crowd: ef(true).max(ef(false)) }
    }

    /// The measured recall, with the `ef` from this width.
    pub(super) fn quality(&self, width: Width) -> Quality {
        let known = lock(&self.known);
        Quality {
            ef_search: if known.learned.mostly_in_crowds { width.in_crowd } else { width.ef },
            recall: known.recall().map(|recall| recall as f32 / FULL as f32),
            checked: known.latest.len(),
        }
    }
}

/// The level of each kind of search.
fn levels(learned: &Learned) -> [u8; Kind::COUNT] {
    std::array::from_fn(|number| learned.levels[number].unwrap_or(Kind::first_level(number)))
}

/// The number of true nearest neighbours among the hits.
pub(super) fn true_hits(hits: &[Neighbour], exact: &[Neighbour]) -> usize {
    let Some(worst) = exact.last() else { return 0 };
    hits.iter().filter(|hit| hit.score >= worst.score).count().min(exact.len())
}

#[cfg(test)]
mod tests {
    use super::super::slot::Slot;
    use super::*;

    const PLAIN: Kind = Kind { filtered: false, in_crowd: false };
    const CROWD: Kind = Kind { filtered: false, in_crowd: true };

    fn hits(scores: &[f32]) -> Vec<Neighbour> {
        scores.iter().map(|&score| Neighbour { slot: Slot::NONE, score }).collect()
    }

    fn audit() -> Audit {
        Audit::new(Learned::default())
    }

    /// A result in which each level below `needed` finds half.
    fn seen(audit: &Audit, kind: Kind, needed: usize) -> Seen {
        let found = std::array::from_fn(|level| if level < needed { 5 } else { 10 });
        let level = lock(&audit.known).level(kind);
        Seen { wanted: 10, found: usize::from(found[level]), walked: Some((kind, found)) }
    }

    #[test]
    fn hits_as_near_as_the_worst_of_the_true_ones_are_true() {
        assert_eq!(true_hits(&hits(&[0.9, 0.8, 0.8]), &hits(&[0.9, 0.8, 0.8])), 3);
        assert_eq!(true_hits(&hits(&[0.9, 0.7, 0.6]), &hits(&[0.9, 0.8, 0.7])), 2);
        assert_eq!(true_hits(&hits(&[0.9]), &[]), 0);
    }

    #[test]
    fn recall_is_that_of_the_latest_queries_and_an_empty_index_does_not_count() {
        let audit = audit();
        let width = Width::of(64);
        assert_eq!(audit.quality(width), Quality { ef_search: 64, recall: None, checked: 0 });
        audit.note(&Seen { wanted: 3, found: 3, walked: None }, true);
        audit.note(&Seen { wanted: 3, found: 2, walked: None }, true);
        audit.note(&Seen { wanted: 0, found: 0, walked: None }, true);
        assert_eq!(audit.quality(width), Quality { ef_search: 64, recall: Some(0.833), checked: 2 });
        (0..300).for_each(|_| {
            audit.note(&Seen { wanted: 1, found: 1, walked: None }, true);
        });
        assert_eq!(audit.quality(width), Quality { ef_search: 64, recall: Some(1.0), checked: WINDOW });
    }

    #[test]
    fn a_few_queries_raise_ef_to_the_level_they_need_and_many_lower_it() {
        let audit = audit();
        for n in 1..FEW[0] {
            assert_eq!(audit.note(&seen(&audit, PLAIN, 8), true), None, "after {n}");
        }
        let learned = audit.note(&seen(&audit, PLAIN, 8), true).expect("enough were seen");
        assert_eq!(learned.levels, [Some(8), None, None, None]);
        assert_eq!((audit.width(64, false).ef, audit.width(64, true).ef), (512, 64));
        assert_eq!(audit.quality(Width::of(512)).recall, None, "results with a smaller ef no longer count");
        let lowered = (0..2 * KIND_WINDOW).find_map(|_| audit.note(&seen(&audit, PLAIN, 0), true));
        assert_eq!(lowered.expect("they need fewer").levels[0], Some(0));
        assert_eq!(audit.width(64, false).ef, 32, "half of what the size asks for");
    }

    #[test]
    fn a_smaller_ef_is_chosen_only_if_it_finds_more_than_is_wanted() {
        let audit = audit();
        // One level finds 982 of 1,000, and the next one 990.
        let seen = |n: usize| {
            let misses = |of: usize| u8::from(n * of / FULL != (n + 1) * of / FULL);
            let found = [5, 10 - misses(180), 10 - misses(100)];
            let found = std::array::from_fn(|level| *found.get(level).unwrap_or(&10));
            Seen { wanted: 10, found: 10, walked: Some((PLAIN, found)) }
        };
        (0..4 * KIND_WINDOW).for_each(|n| {
            audit.note(&seen(n), true);
        });
        assert_eq!(audit.width(64, false).ef, 64, "level 2, the first one, finds enough, and level 1 hardly");
    }

    #[test]
    fn searches_in_crowds_have_their_own_ef_which_is_reported_if_they_are_the_majority() {
        let audit = audit();
        assert_eq!(audit.width(64, false), Width { ef: 64, in_crowd: 1_024 });
        (0..KIND_WINDOW).for_each(|_| {
            audit.note(&seen(&audit, CROWD, 6), true);
        });
        assert_eq!(audit.width(64, false), Width { ef: 64, in_crowd: 256 });
        audit.note(&seen(&audit, CROWD, 6), true);
        assert_eq!(audit.quality(audit.width(64, false)).ef_search, 256);
    }

    #[test]
    fn some_queries_lower_ef_if_a_smaller_one_finds_nearly_all_of_their_neighbours() {
        let audit = audit();
        for n in 1..=SOME {
            assert_eq!(audit.width(64, false).in_crowd, 1_024, "before query {n}");
            audit.note(&seen(&audit, CROWD, 4), true);
        }
        assert_eq!(audit.width(64, false), Width { ef: 64, in_crowd: 128 });
    }

    #[test]
    fn some_queries_do_not_lower_ef_if_a_smaller_one_misses_a_neighbour_of_each_tenth() {
        let audit = audit();
        for n in 1..KIND_WINDOW {
            let found = std::array::from_fn(|level| if level < 10 && n % 10 == 0 { 9 } else { 10 });
            audit.note(&Seen { wanted: 10, found: 10, walked: Some((CROWD, found)) }, true);
            assert_eq!(audit.width(64, false).in_crowd, 1_024, "after query {n}");
        }
    }

    #[test]
    fn an_index_with_a_fixed_ef_learns_none() {
        let audit = audit();
        (0..WINDOW).for_each(|_| {
            audit.note(&seen(&audit, PLAIN, LEVELS), false);
        });
        assert_eq!(audit.width(64, false).ef, 64);
        assert_eq!(audit.quality(Width::of(64)).recall, Some(0.5));
    }

    #[test]
    fn queries_that_no_level_satisfies_get_the_largest_ef_and_still_count() {
        let audit = audit();
        (0..FEW[0]).for_each(|_| {
            audit.note(&seen(&audit, PLAIN, LEVELS), true);
        });
        assert_eq!(audit.width(64, false).ef, 4_096);
        (0..WINDOW).for_each(|_| {
            audit.note(&seen(&audit, PLAIN, LEVELS), true);
        });
        assert_eq!(audit.quality(Width::of(4_096)), Quality { ef_search: 4_096, recall: Some(0.5), checked: WINDOW });
    }

    #[test]
    fn a_bounded_number_of_queries_waits_and_few_of_them_have_a_filter() {
        let (audit, all) = (audit(), RoaringBitmap::from_iter(0..100));
        (0..100).for_each(|n| audit.sample(&[n as f32], Some(&all)));
        (0..100).for_each(|n| audit.sample(&[n as f32], None));
        let waiting: Vec<Sample> = (0..100).map_while(|_| audit.next()).collect();
        assert_eq!(waiting.len(), WAITING);
        assert_eq!(waiting.iter().filter(|sample| sample.among.is_some()).count(), WAITING_FILTERED);
    }
}
