//! The end of a walk by sketches: early where hits stand out from the open nodes, late where many are about as near.
//!
//! ```text
//! gap = score of the kept node of rank r - score of the best open node      n = expanded nodes
//! the walk ends when  n ≥ ef · (4.5 · error / gap)²,  n ≥ ef / 3 and ef nodes are kept;  or when  n = 2 · ef
//! ```
//! An open node is kept and not expanded; `error` is the usual error of a sketch. If ten nodes are much better than all
//! open ones, hardly anything behind these is better still. If open nodes are about as good, others like them are near.
//! So the same recall needs about two thirds of the work of a walk that expands its best `ef` in any case
//! (docs/performance.md). The distance-adaptive beam search of Al-Jazzazi et al. (2025) ends by the gap alone.
//!
//! Invariant: for up to 43 hits the end does not depend on their number. So a search for fewer hits finds no fewer of
//! the nearest.

use super::beam::Beam;
use super::bounds::Bounds;

/// A walk expands `ef` nodes if the gap has this many errors of a sketch.
const GAP: f32 = 4.5;
/// A walk expands at least `ef` divided by this.
const LEAST: usize = 3;
/// A walk expands at most this multiple of `ef`.
const MOST: usize = 2;
/// The lowest rank that is compared with open nodes.
const RANK: usize = 10;
/// One in this many sure hits must stand out, if they are more than 43. With all of them a walk for 100 hits expands
/// twice as many nodes.
const PART: usize = 4;

/// The rule by which a walk ends.
#[derive(Clone, Copy)]
pub(super) struct Ending {
    ef: usize,
    /// The position of the kept node that is compared.
    position: usize,
    least: usize,
    most: usize,
    /// The gap at which `ef` nodes are enough.
    gap: f32,
}

impl Ending {
    /// The end of a walk within these bounds, by sketches with this error.
    pub(super) fn new(bounds: Bounds<'_>, error: f32) -> Ending {
        let Bounds { ef, sure, max_expansions, .. } = bounds;
        let most = ef.saturating_mul(MOST).min(max_expansions.max(ef));
        Ending { ef, position: (sure / PART).max(RANK) - 1, least: ef.div_ceil(LEAST), most, gap: GAP * error }
    }

    /// The number of nodes that the walk keeps: all that it may expand.
    pub(super) fn kept(self) -> usize {
        self.most
    }

    /// True if the walk ends before it expands the best open node, whose score is `open`.
    #[inline]
    pub(super) fn is_reached(self, beam: &Beam, expanded: usize, open: f32) -> bool {
        let stands_out = |score: f32| {
            let gap = (score - open).max(0.0) / self.gap;
            expanded as f32 * gap * gap >= self.ef as f32
        };
        let keeps_enough = expanded >= self.least && beam.score_at(self.ef - 1).is_some();
        expanded >= self.most || keeps_enough && beam.score_at(self.position).is_some_and(stands_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::stop::Stop;

    /// The expanded nodes at the end of a walk whose ten best have this gap to all open nodes.
    fn expanded(ef: usize, sure: usize, max_expansions: usize, gap: f32) -> usize {
        let ending =
            Ending::new(Bounds { ef, hits: sure, sure, wanted: sure, max_expansions, stop: &Stop::never() }, 0.01);
        let mut beam = Beam::default();
        beam.reset(ending.kept());
        (0..10).for_each(|node| beam.offer(node, 0.5 + gap));
        (10..ef as u32).for_each(|node| beam.offer(node, 0.5));
        (0..).find(|&expanded| ending.is_reached(&beam, expanded, 0.5)).unwrap()
    }

    #[test]
    fn a_walk_ends_early_if_ten_nodes_stand_out_and_late_if_none_does() {
        let ends = |gap| expanded(96, 10, usize::MAX, gap);
        assert_eq!([0.0, 0.02, 0.04, 0.045, 0.05, 0.06, 0.2].map(ends), [192, 192, 122, 96, 78, 54, 32]);
        assert_eq!([1, 10, 43].map(|sure| expanded(96, sure, usize::MAX, 0.05)), [78; 3]);
        assert_eq!(expanded(96, 44, usize::MAX, 0.05), 192, "the eleventh does not stand out");
    }

    #[test]
    fn a_walk_expands_no_more_than_it_may_and_at_least_ef_if_it_needs_them() {
        assert_eq!(expanded(96, 10, 130, 0.0), 130);
        assert_eq!(expanded(96, 10, 20, 0.0), 96);
    }

    #[test]
    fn a_walk_goes_on_until_it_keeps_ef_nodes() {
        let bounds =
            Bounds { ef: 20, hits: 10, sure: 10, wanted: 10, max_expansions: usize::MAX, stop: &Stop::never() };
        let ending = Ending::new(bounds, 0.01);
        let mut beam = Beam::default();
        beam.reset(ending.kept());
        (0..19).for_each(|node| beam.offer(node, 0.9));
        assert!(!ending.is_reached(&beam, 30, 0.1));
        beam.offer(19, 0.2);
        assert!(ending.is_reached(&beam, 30, 0.1));
    }
}
