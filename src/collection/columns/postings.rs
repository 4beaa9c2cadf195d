//! Postings: sets of document positions, compact while they are small.
//!
//! Most values of a title or a time belong to one document, and most others to a few. A bitmap for each would take
//! a hundred times the memory.

use roaring::RoaringBitmap;

/// Most positions stored as a list.
const FEW: usize = 7;

/// Positions that are put into a bitmap together. Sorting them takes a millisecond.
const AT_ONCE: usize = 65_536;

/// A set of at least one position.
pub(super) enum Postings {
    One(u32),
    Few(Box<Few>),
    Many(Box<Many>),
}

/// Up to [`FEW`] positions in no order.
pub(super) struct Few {
    n: u8,
    positions: [u32; FEW],
}

/// Positions in a bitmap, with its bytes, measured from time to time.
pub(super) struct Many {
    positions: RoaringBitmap,
    bytes: u32,
    /// Changes left until the next measurement: an eighth of the positions at the last one.
    unmeasured: u32,
}

impl Few {
    fn get(&self) -> &[u32] {
        &self.positions[..usize::from(self.n)]
    }
}

impl Many {
    fn new(positions: RoaringBitmap) -> Self {
        let mut many = Self { positions, bytes: 0, unmeasured: 0 };
        many.measure();
        many
    }

    fn changed(&mut self) {
        match self.unmeasured.checked_sub(1) {
            Some(left) => self.unmeasured = left,
            None => self.measure(),
        }
    }

    fn measure(&mut self) {
        /// Bytes of a container beside its content; the vector of containers is two thirds full on average.
        const CONTAINER: u64 = 32 * 3 / 2;
        let taken = self.positions.statistics();
        // `roaring` counts four bytes for each position in an array, and takes two.
        let arrays = taken.n_bytes_array_containers / 2;
        // A bitset has one bit for each of 65,536 positions, regardless of `n_bytes_bitset_containers`.
        let bitsets = u64::from(taken.n_bitset_containers) * 8_192;
        let bytes = u64::from(taken.n_containers) * CONTAINER + arrays + bitsets + taken.n_bytes_run_containers;
        self.bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.unmeasured = u32::try_from(taken.cardinality / 8).unwrap_or(u32::MAX);
    }
}

impl Postings {
    /// Adds a position, which may be there already.
    pub(super) fn insert(&mut self, position: u32) {
        match self {
            Self::One(one) if *one == position => {}
            Self::One(one) => {
                let mut positions = [0; FEW];
                positions[..2].copy_from_slice(&[*one, position]);
                *self = Self::Few(Box::new(Few { n: 2, positions }));
            }
            Self::Few(few) if few.get().contains(&position) => {}
            Self::Few(few) if usize::from(few.n) < FEW => {
                few.positions[usize::from(few.n)] = position;
                few.n += 1;
            }
            Self::Few(few) => {
                let all = few.get().iter().copied().chain([position]).collect();
                *self = Self::Many(Box::new(Many::new(all)));
            }
            Self::Many(many) => {
                if many.positions.insert(position) {
                    many.changed();
                }
            }
        }
    }

    /// Removes a position, which may be absent. Returns false if the set would be empty: the caller drops it.
    pub(super) fn remove(&mut self, position: u32) -> bool {
        match self {
            Self::One(one) => *one != position,
            Self::Few(few) => {
                let Some(at) = few.get().iter().position(|&one| one == position) else { return true };
                few.n -= 1;
                few.positions[at] = few.positions[usize::from(few.n)];
                if let [one] = *few.get() {
                    *self = Self::One(one);
                }
                true
            }
            Self::Many(many) => {
                if many.positions.remove(position) {
                    many.changed();
                }
                if many.positions.len() <= FEW as u64 / 2 {
                    let mut few = Few { n: 0, positions: [0; FEW] };
                    for position in &many.positions {
                        few.positions[usize::from(few.n)] = position;
                        few.n += 1;
                    }
                    *self = Self::Few(Box::new(few));
                }
                true
            }
        }
    }

    /// Bytes of memory beside the enum itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Few(_) => size_of::<Few>(),
            Self::Many(many) => size_of::<Many>() + many.bytes as usize,
        }
    }

    /// Bytes that another position takes: mostly none, sometimes those of the next larger form.
    pub(super) fn cost_of_another(&self) -> usize {
        /// Bytes of a bitmap of eight positions that lie apart.
        const SMALLEST: usize = size_of::<Many>() + 8 * 56;
        match self {
            Self::One(_) => size_of::<Few>(),
            Self::Few(few) if usize::from(few.n) < FEW => 0,
            Self::Few(_) => SMALLEST,
            // Two bytes in an array, which grows by doubling.
            Self::Many(_) => 4,
        }
    }

    /// Cost of adding the set to a union, in units of one single position.
    pub(super) fn work(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Few(few) => few.get().len(),
            Self::Many(many) => 8 + many.bytes as usize / 32,
        }
    }

    /// Calls `see` with each position.
    pub(super) fn each(&self, see: impl FnMut(u32)) {
        match self {
            Self::One(one) => [*one].into_iter().for_each(see),
            Self::Few(few) => few.get().iter().copied().for_each(see),
            Self::Many(many) => many.positions.iter().for_each(see),
        }
    }

    /// Number of positions that are among some.
    pub(super) fn n_among(&self, among: &RoaringBitmap) -> u64 {
        let n = |positions: &[u32]| positions.iter().filter(|&&position| among.contains(position)).count() as u64;
        match self {
            Self::One(one) => n(&[*one]),
            Self::Few(few) => n(few.get()),
            Self::Many(many) => many.positions.intersection_len(among),
        }
    }

    pub(super) fn to_bitmap(&self) -> RoaringBitmap {
        match self {
            Self::One(one) => [*one].into_iter().collect(),
            Self::Few(few) => few.get().iter().copied().collect(),
            Self::Many(many) => many.positions.clone(),
        }
    }
}

/// A union that is being built.
#[derive(Default)]
pub(super) struct Union {
    found: RoaringBitmap,
    ones: Vec<u32>,
}

impl Union {
    /// Adds a set of positions.
    pub(super) fn add(&mut self, postings: &Postings) {
        match postings {
            Postings::Many(many) => self.found |= &many.positions,
            few => few.each(|position| self.ones.push(position)),
        }
        if self.ones.len() >= AT_ONCE {
            self.flush();
        }
    }

    /// Adds one position.
    pub(super) fn push(&mut self, position: u32) {
        self.ones.push(position);
        if self.ones.len() >= AT_ONCE {
            self.flush();
        }
    }

    /// Returns the union.
    pub(super) fn finish(mut self) -> RoaringBitmap {
        self.flush();
        self.found
    }

    fn flush(&mut self) {
        // Sorted, they are appended to a bitmap, which costs a tenth of inserting them in any order.
        self.ones.sort_unstable();
        self.ones.dedup();
        self.found |= RoaringBitmap::from_sorted_iter(self.ones.drain(..)).expect("they are in order, each once");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn postings_are_a_set_in_every_form(steps in prop::collection::vec((any::<bool>(), 0..20u32), 0..200)) {
            let (mut postings, mut plain) = (Postings::One(3), BTreeSet::from([3]));
            for (add, position) in steps {
                if add {
                    postings.insert(position);
                    plain.insert(position);
                } else {
                    plain.remove(&position);
                    prop_assert_eq!(postings.remove(position), !plain.is_empty());
                    if plain.is_empty() {
                        return Ok(());
                    }
                }
                prop_assert_eq!(postings.to_bitmap().into_iter().collect::<BTreeSet<_>>(), plain.clone());
                let mut union = Union::default();
                union.add(&postings);
                union.push(100);
                prop_assert_eq!(union.finish().len(), plain.len() as u64 + 1);
            }
        }
    }

    #[test]
    fn the_bytes_of_a_bitmap_are_counted_as_it_grows_and_shrinks() {
        let mut postings = Postings::One(0);
        assert_eq!(postings.heap_bytes(), 0);
        (1..4_000).for_each(|position| postings.insert(position * 16));
        let array = postings.heap_bytes();
        assert!((7_000..20_000).contains(&array), "{array}");
        (0..65_536).for_each(|position| postings.insert(position));
        let full = postings.heap_bytes();
        assert!((8_192..10_000).contains(&full), "{full}");
        (1..65_536).for_each(|position| assert!(postings.remove(position)));
        assert!(postings.heap_bytes() <= size_of::<Few>());
    }
}
