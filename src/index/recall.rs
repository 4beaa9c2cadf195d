//! Recall that is known: some of the real queries are answered a second time, exactly, in the background.
//!
//! ```text
//! search ─► sample ─► queries that wait ─(Index::audit)─► as clients are answered, and exactly ─► recall
//!                                        └► by ever wider walks ─► the level that finds TARGET, for each kind of search
//! ```
//! A hit that is as near as the worst of the true ones is a true one. Where nobody names candidates, their number begins
//! with what the size of the index needs ([`ef_of_size`]), and is then what the collection's own queries
//! need. Kinds of searches are told apart, because they need different numbers: with a filter and without, in a crowd
//! (`graph/crowd.rs`) and outside. What was learned is kept over a restart (`learned.rs`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, TryLockError};

use roaring::RoaringBitmap;

use super::MAX_EF;
use super::learned::Learned;
use super::scan::Neighbour;
use super::search::Width;

/// Neighbours that are looked for: recall@10 is what others publish.
pub(super) const K: usize = 10;
/// Share of the true neighbours that is to be found, of [`FULL`].
const TARGET: usize = 980;
const FULL: usize = 1_000;
/// Queries that wait to be answered exactly; more are passed over.
const WAITING: usize = 16;
/// Of these, queries with a filter: each holds a bit for each vector.
const WAITING_FILTERED: usize = 4;
/// Latest queries that count.
const WINDOW: usize = 256;

/// Numbers of candidates that are tried: each is √2 times the one before, from [`ef_of_size`] to 64 times that.
pub(super) const LEVELS: usize = 13;
/// The level that searches in a crowd begin with: 16 times [`ef_of_size`], where a graph of 65,000 texts or less is scanned.
const CROWD_LEVEL: u8 = 8;
/// Queries of one kind that count for its level.
const KIND_WINDOW: usize = 64;
/// As many queries of a kind may raise its level. To lower it takes [`KIND_WINDOW`].
const FEW: usize = 8;
/// As many checked queries say that recall is good enough, so that one more each second will do.
const CONFIDENT: usize = 32;

/// How well an index finds, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Candidates of a search that names none: of most searches that were checked.
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

/// Candidates of a level, where level 0 has `least`.
pub(super) fn ef_of_level(least: usize, level: usize) -> usize {
    let whole = least << (level / 2).min(16);
    let ef = if level.is_multiple_of(2) { whole } else { (whole as f64 * std::f64::consts::SQRT_2) as usize };
    ef.min(MAX_EF).max(least)
}

/// A query that is to be answered again.
pub(super) struct Sample {
    pub(super) query: Box<[f32]>,
    /// The places that its filter left.
    pub(super) among: Option<RoaringBitmap>,
}

/// A kind of searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) filtered: bool,
    pub(super) in_crowd: bool,
}

impl Kind {
    /// How many there are.
    pub(super) const COUNT: usize = 4;

    fn number(self) -> usize {
        usize::from(self.filtered) + 2 * usize::from(self.in_crowd)
    }

    /// The level where nothing is known.
    fn first_level(number: usize) -> u8 {
        if number >= 2 { CROWD_LEVEL } else { 0 }
    }
}

/// What an answered query showed.
pub(super) struct Seen {
    pub(super) wanted: usize,
    pub(super) found: usize,
    /// Where walks answered it: which kind of search it was, and how many hits each level finds.
    pub(super) walked: Option<(Kind, [u8; LEVELS])>,
}

/// What is known of an index.
pub(super) struct Audit {
    waiting: Mutex<VecDeque<Sample>>,
    known: Mutex<Known>,
    /// The level of each kind, a byte each: searches wait for nobody.
    levels: AtomicU32,
}

struct Known {
    /// The latest queries: neighbours wanted and found, and whether in a crowd.
    latest: VecDeque<(usize, usize, bool)>,
    kinds: [VecDeque<(u8, [u8; LEVELS])>; Kind::COUNT],
    learned: Learned,
}

impl Known {
    /// Of [`FULL`].
    fn recall(&self) -> Option<usize> {
        let (wanted, found) = self.latest.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        (found * FULL).checked_div(wanted)
    }

    fn level(&self, kind: Kind) -> usize {
        usize::from(levels(&self.learned)[kind.number()])
    }

    /// The level that the latest queries of a kind need, if that is another one than it has.
    fn better_level(&self, kind: Kind) -> Option<u8> {
        let latest = &self.kinds[kind.number()];
        let wanted: usize = latest.iter().map(|(wanted, _)| usize::from(*wanted)).sum();
        let finds_enough = |level: &usize| {
            let found: usize = latest.iter().map(|(_, found)| usize::from(found[*level])).sum();
            found * FULL >= TARGET * wanted
        };
        let needed = (0..LEVELS).find(finds_enough).unwrap_or(LEVELS - 1);
        let enough = if needed > self.level(kind) { FEW } else { KIND_WINDOW };
        (needed != self.level(kind) && latest.len() >= enough).then_some(needed as u8)
    }
}

impl Audit {
    /// With what an earlier process learned.
    pub(super) fn new(learned: Learned) -> Audit {
        let known = Known { latest: VecDeque::new(), kinds: Default::default(), learned };
        let levels = AtomicU32::new(u32::from_le_bytes(levels(&learned)));
        Audit { waiting: Mutex::default(), known: Mutex::new(known), levels }
    }

    /// A query that is about to be answered with as many candidates as nobody named. Costs next to nothing, unless it is taken.
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

    /// A query to be answered again.
    pub(super) fn next(&self) -> Option<Sample> {
        super::lock(&self.waiting).pop_front()
    }

    /// What a query that was answered again showed. `may_learn`: the number of candidates is its own choice.
    /// Returns what was learned, if that is news.
    pub(super) fn note(&self, seen: &Seen, may_learn: bool) -> Option<Learned> {
        if seen.wanted == 0 {
            return None;
        }
        let mut known = super::lock(&self.known);
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
                    // What was found with fewer candidates says nothing any more.
                    known.latest.clear();
                }
                known.learned.levels[kind.number()] = Some(level);
                self.levels.store(u32::from_le_bytes(levels(&known.learned)), Ordering::Relaxed);
            }
        }
        (known.learned != before).then_some(known.learned)
    }

    /// Whether more than a query each second should be checked: too few were, or they found too little.
    pub(super) fn is_learning(&self) -> bool {
        let known = super::lock(&self.known);
        known.latest.len() < CONFIDENT || known.recall().is_some_and(|recall| recall < TARGET)
    }

    /// How wide walks are, with a filter or without, in an index that needs `least` candidates at least.
    pub(super) fn width(&self, least: usize, filtered: bool) -> Width {
        let levels = self.levels.load(Ordering::Relaxed).to_le_bytes();
        let ef = |in_crowd| ef_of_level(least, usize::from(levels[Kind { filtered, in_crowd }.number()]));
        Width { ef: ef(false), in_crowd: ef(true).max(ef(false)) }
    }

    /// With these widths.
    pub(super) fn quality(&self, width: Width) -> Quality {
        let known = super::lock(&self.known);
        Quality {
            ef_search: if known.learned.mostly_in_crowds { width.in_crowd } else { width.ef },
            recall: known.recall().map(|recall| recall as f32 / FULL as f32),
            checked: known.latest.len(),
        }
    }
}

/// By kind of search.
fn levels(learned: &Learned) -> [u8; Kind::COUNT] {
    std::array::from_fn(|number| learned.levels[number].unwrap_or(Kind::first_level(number)))
}

/// How many of the true nearest were found.
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

    /// A query of which each level below `needed` finds half.
    fn seen(audit: &Audit, kind: Kind, needed: usize) -> Seen {
        let found = std::array::from_fn(|level| if level < needed { 5 } else { 10 });
        let level = super::super::lock(&audit.known).level(kind);
        Seen { wanted: 10, found: usize::from(found[level]), walked: Some((kind, found)) }
    }

    #[test]
    fn hits_as_near_as_the_worst_of_the_true_ones_are_true() {
        assert_eq!(true_hits(&hits(&[0.9, 0.8, 0.8]), &hits(&[0.9, 0.8, 0.8])), 3);
        assert_eq!(true_hits(&hits(&[0.9, 0.7, 0.6]), &hits(&[0.9, 0.8, 0.7])), 2);
        assert_eq!(true_hits(&hits(&[0.9]), &[]), 0);
    }

    #[test]
    fn recall_is_of_the_latest_queries_and_an_empty_index_says_nothing() {
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
    fn a_few_queries_raise_the_candidates_to_what_they_need_and_many_lower_them() {
        let audit = audit();
        for n in 1..FEW {
            assert_eq!(audit.note(&seen(&audit, PLAIN, 6), true), None, "after {n}");
        }
        let learned = audit.note(&seen(&audit, PLAIN, 6), true).expect("enough were seen");
        assert_eq!(learned.levels, [Some(6), None, None, None]);
        assert_eq!((audit.width(64, false).ef, audit.width(64, true).ef), (512, 64));
        assert_eq!(audit.quality(Width::of(512)).recall, None, "what was found with fewer says nothing any more");
        let lowered = (0..2 * KIND_WINDOW).find_map(|_| audit.note(&seen(&audit, PLAIN, 0), true));
        assert_eq!(lowered.expect("they need fewer").levels[0], Some(0));
    }

    #[test]
    fn searches_in_crowds_have_a_number_of_their_own_and_are_told_of_where_they_are_most() {
        let audit = audit();
        assert_eq!(audit.width(64, false), Width { ef: 64, in_crowd: 1_024 });
        (0..KIND_WINDOW).for_each(|_| {
            audit.note(&seen(&audit, CROWD, 4), true);
        });
        assert_eq!(audit.width(64, false), Width { ef: 64, in_crowd: 256 });
        audit.note(&seen(&audit, CROWD, 4), true);
        assert_eq!(audit.quality(audit.width(64, false)).ef_search, 256);
    }

    #[test]
    fn an_index_that_was_told_its_candidates_learns_none() {
        let audit = audit();
        (0..WINDOW).for_each(|_| {
            audit.note(&seen(&audit, PLAIN, LEVELS), false);
        });
        assert_eq!(audit.width(64, false).ef, 64);
        assert_eq!(audit.quality(Width::of(64)).recall, Some(0.5));
    }

    #[test]
    fn what_no_level_finds_is_looked_for_with_the_most_candidates_and_is_not_forgotten() {
        let audit = audit();
        (0..FEW).for_each(|_| {
            audit.note(&seen(&audit, PLAIN, LEVELS), true);
        });
        assert_eq!(audit.width(64, false).ef, 4_096);
        (0..WINDOW).for_each(|_| {
            audit.note(&seen(&audit, PLAIN, LEVELS), true);
        });
        assert_eq!(audit.quality(Width::of(4_096)), Quality { ef_search: 4_096, recall: Some(0.5), checked: WINDOW });
    }

    #[test]
    fn queries_wait_up_to_a_bound_and_few_of_them_have_a_filter() {
        let (audit, all) = (audit(), RoaringBitmap::from_iter(0..100));
        (0..100).for_each(|n| audit.sample(&[n as f32], Some(&all)));
        (0..100).for_each(|n| audit.sample(&[n as f32], None));
        let waiting: Vec<Sample> = (0..100).map_while(|_| audit.next()).collect();
        assert_eq!(waiting.len(), WAITING);
        assert_eq!(waiting.iter().filter(|sample| sample.among.is_some()).count(), WAITING_FILTERED);
    }

    #[test]
    fn larger_indexes_take_more_candidates() {
        assert_eq!([1_000, 100_000, 1_000_000, 1 << 40].map(ef_of_size), [64, 128, 352, 1_024]);
        assert_eq!([0, 1, 2, 3, 12].map(|level| ef_of_level(64, level)), [64, 90, 128, 181, 4_096]);
        assert_eq!(ef_of_level(1_024, 12), MAX_EF);
    }
}
