//! The best candidates of a walk, in order, and a mark on those that were expanded.
//!
//! One sorted array replaces the two heaps of the HNSW paper. A candidate that is not kept is never expanded, so the
//! candidate queue is a part of the result list. An insertion moves some hundred bytes in the first
//! cache.

/// A candidate as bits, highest first: 32 for the score, best = least; 31 for the node; 1 for "expanded".
pub(super) type Key = u64;

/// The limit of node numbers: a key has 31 bits for them.
pub const MAX_NODES: usize = 1 << 31;

#[derive(Default)]
pub(super) struct Beam {
    keys: Vec<Key>,
    /// The most keys that are kept.
    capacity: usize,
    /// All keys before this one are expanded.
    next: usize,
}

impl Beam {
    /// Empties the beam, which then keeps this many.
    pub(super) fn reset(&mut self, capacity: usize) {
        self.keys.clear();
        self.keys.reserve(capacity + 1);
        (self.capacity, self.next) = (capacity, 0);
    }

    /// Raises the number of candidates that are kept.
    pub(super) fn widen(&mut self, capacity: usize) {
        self.keys.reserve((capacity + 1).saturating_sub(self.keys.len()));
        self.capacity = capacity;
    }

    /// Takes a node if it is among the best. It must not have been offered before.
    #[inline]
    pub(super) fn offer(&mut self, node: u32, score: f32) {
        let key = key(node, score);
        let len = self.keys.len();
        if len == self.capacity {
            match self.keys.last() {
                Some(&worst) if key < worst => self.keys.pop(),
                _ => return,
            };
        }
        let at = self.keys.partition_point(|&other| other < key);
        self.keys.insert(at, key);
        self.next = self.next.min(at);
    }

    /// The best node that is not expanded. It is marked as expanded.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(u32, f32)> {
        while let Some(key) = self.keys.get_mut(self.next) {
            self.next += 1;
            if *key & 1 == 0 {
                *key |= 1;
                return Some((node(*key), score(*key)));
            }
        }
        None
    }

    /// The nodes that [`Beam::pop`] would return now and after that.
    #[inline]
    pub(super) fn peek(&self) -> [Option<u32>; 2] {
        let rest = &self.keys[self.next.min(self.keys.len())..];
        let mut open = rest.iter().filter(|&key| key & 1 == 0).map(|&key| node(key));
        [open.next(), open.next()]
    }

    /// Replaces the scores of all kept nodes, in their order, and sorts them again.
    pub(super) fn rescore(&mut self, scores: &[f32]) {
        self.keys.iter_mut().zip(scores).for_each(|(old, &score)| *old = key(node(*old), score) | 1);
        self.keys.sort_unstable();
    }

    /// The score at this position, 0 for the best.
    #[inline]
    pub(super) fn score_at(&self, position: usize) -> Option<f32> {
        self.keys.get(position).map(|&key| score(key))
    }

    /// Drops all after the first `kept` that are worse than the one at this position by more than `margin`.
    pub(super) fn cut(&mut self, position: usize, margin: f32, kept: usize) {
        if let Some(least) = self.score_at(position).map(|score| score - margin) {
            self.keys.truncate(self.keys.partition_point(|&key| score(key) >= least).max(kept));
        }
    }

    /// True if the beam is full and the last three quarters of it differ by less than `least`.
    pub(super) fn is_even(&self, least: f32) -> bool {
        self.last().is_some_and(|last| score(self.keys[self.keys.len() / 4]) - score(last) < least)
    }

    /// The last of the kept, if the beam is full.
    #[inline]
    pub(super) fn last(&self) -> Option<Key> {
        self.keys.last().copied().filter(|_| self.keys.len() >= self.capacity)
    }

    /// All kept nodes with their scores, best first.
    pub(super) fn kept(&self) -> impl Iterator<Item = (u32, f32)> {
        self.keys.iter().map(|&key| (node(key), score(key)))
    }
}

/// The key of a node that is not expanded.
#[inline]
pub(super) fn key(node: u32, score: f32) -> Key {
    let bits = score.to_bits();
    // Integers ascend as floats descend.
    let rank = if bits >> 31 == 0 { bits ^ 0x7fff_ffff } else { bits };
    u64::from(rank) << 32 | u64::from(node) << 1
}

/// The node of a key.
pub(super) fn node(key: Key) -> u32 {
    (key as u32) >> 1
}

/// The score of a key.
pub(super) fn score(key: Key) -> f32 {
    let rank = (key >> 32) as u32;
    f32::from_bits(if rank >> 31 == 0 { rank ^ 0x7fff_ffff } else { rank })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_best_are_kept_in_order_and_each_is_expanded_once(
            (scores, ef) in (prop::collection::vec(-1.5f32..1.5, 0..100), 1usize..40),
        ) {
            let mut beam = Beam::default();
            beam.reset(ef);
            let mut popped = Vec::new();
            for (node, &score) in scores.iter().enumerate() {
                beam.offer(node as u32, score);
                if node % 3 == 0 {
                    let [first, second] = beam.peek();
                    let node = beam.pop().map(|best| best.0);
                    prop_assert_eq!((first, second), (node, beam.peek()[0]));
                    popped.extend(node);
                }
            }
            popped.extend(std::iter::from_fn(|| beam.pop().map(|best| best.0)));
            let mut expected: Vec<(u32, f32)> = (0..).zip(scores).collect();
            expected.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            expected.truncate(ef);
            prop_assert_eq!(beam.kept().collect::<Vec<_>>(), expected.clone());
            prop_assert!(expected.iter().all(|(node, _)| popped.iter().filter(|&p| p == node).count() == 1));
        }
    }

    #[test]
    fn a_cut_drops_what_is_much_worse_and_nothing_if_there_are_too_few() {
        let mut beam = Beam::default();
        beam.reset(8);
        [0.9, 0.8, 0.75, 0.6].into_iter().zip(0..).for_each(|(score, node)| beam.offer(node, score));
        beam.cut(4, 0.0, 0);
        beam.cut(1, 0.1, 4);
        assert_eq!(beam.kept().count(), 4);
        beam.cut(1, 0.1, 2);
        assert_eq!(beam.kept().map(|(node, _)| node).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
