//! Sets of places, small while they hold little.
//!
//! Most values of a field like a title or a time belong to one document, and most of the rest to a few: a bitmap for each
//! would take a hundred times what it holds.

use roaring::RoaringBitmap;

/// Places that are kept in a list.
const FEW: usize = 7;

/// Places that are put into a bitmap together. Sorting them takes a millisecond.
const AT_ONCE: usize = 65_536;

/// One place or more.
pub(super) enum Places {
    One(u32),
    Few(Box<Few>),
    Many(Box<Many>),
}

/// Up to [`FEW`] places in no order.
pub(super) struct Few {
    n: u8,
    places: [u32; FEW],
}

/// Places in a bitmap, with the bytes that it takes, measured from time to time.
pub(super) struct Many {
    places: RoaringBitmap,
    bytes: u32,
    /// Changes until it is measured again: an eighth of what it held.
    unmeasured: u32,
}

impl Few {
    fn get(&self) -> &[u32] {
        &self.places[..usize::from(self.n)]
    }
}

impl Many {
    fn new(places: RoaringBitmap) -> Self {
        let mut many = Self { places, bytes: 0, unmeasured: 0 };
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
        /// Bytes of a container beside what it holds; a vector of them is two thirds full on average.
        const CONTAINER: u64 = 32 * 3 / 2;
        let taken = self.places.statistics();
        // `roaring` counts four bytes for each place in an array, and takes two.
        let arrays = taken.n_bytes_array_containers / 2;
        // A bitset has a bit for each of 65,536 places, whatever `n_bytes_bitset_containers` says.
        let bitsets = u64::from(taken.n_bitset_containers) * 8_192;
        let bytes = u64::from(taken.n_containers) * CONTAINER + arrays + bitsets + taken.n_bytes_run_containers;
        self.bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.unmeasured = u32::try_from(taken.cardinality / 8).unwrap_or(u32::MAX);
    }
}

impl Places {
    /// Adds a place, which may be there already.
    pub(super) fn insert(&mut self, place: u32) {
        match self {
            Self::One(one) if *one == place => {}
            Self::One(one) => {
                let mut places = [0; FEW];
                places[..2].copy_from_slice(&[*one, place]);
                *self = Self::Few(Box::new(Few { n: 2, places }));
            }
            Self::Few(few) if few.get().contains(&place) => {}
            Self::Few(few) if usize::from(few.n) < FEW => {
                few.places[usize::from(few.n)] = place;
                few.n += 1;
            }
            Self::Few(few) => {
                let all = few.get().iter().copied().chain([place]).collect();
                *self = Self::Many(Box::new(Many::new(all)));
            }
            Self::Many(many) => {
                if many.places.insert(place) {
                    many.changed();
                }
            }
        }
    }

    /// Takes out a place, which may not be there. False if none is left.
    pub(super) fn remove(&mut self, place: u32) -> bool {
        match self {
            Self::One(one) => *one != place,
            Self::Few(few) => {
                let Some(at) = few.get().iter().position(|&one| one == place) else { return true };
                few.n -= 1;
                few.places[at] = few.places[usize::from(few.n)];
                if let [one] = *few.get() {
                    *self = Self::One(one);
                }
                true
            }
            Self::Many(many) => {
                if many.places.remove(place) {
                    many.changed();
                }
                if many.places.len() <= FEW as u64 / 2 {
                    let mut few = Few { n: 0, places: [0; FEW] };
                    for place in &many.places {
                        few.places[usize::from(few.n)] = place;
                        few.n += 1;
                    }
                    *self = Self::Few(Box::new(few));
                }
                true
            }
        }
    }

    /// Bytes taken beside the value itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Few(_) => size_of::<Few>(),
            Self::Many(many) => size_of::<Many>() + many.bytes as usize,
        }
    }

    /// Bytes that another place takes: most of the time none, and sometimes the next larger form.
    pub(super) fn cost_of_another(&self) -> usize {
        /// A bitmap of eight places that lie apart.
        const SMALLEST: usize = size_of::<Many>() + 8 * 56;
        match self {
            Self::One(_) => size_of::<Few>(),
            Self::Few(few) if usize::from(few.n) < FEW => 0,
            Self::Few(_) => SMALLEST,
            // Two in an array, which grows by doubling.
            Self::Many(_) => 4,
        }
    }

    /// How much work it is to add it to a set, in places that are added one by one.
    pub(super) fn work(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Few(few) => few.get().len(),
            Self::Many(many) => 8 + many.bytes as usize / 32,
        }
    }

    /// Calls `see` with each place.
    pub(super) fn each(&self, see: impl FnMut(u32)) {
        match self {
            Self::One(one) => [*one].into_iter().for_each(see),
            Self::Few(few) => few.get().iter().copied().for_each(see),
            Self::Many(many) => many.places.iter().for_each(see),
        }
    }

    pub(super) fn to_bitmap(&self) -> RoaringBitmap {
        match self {
            Self::One(one) => [*one].into_iter().collect(),
            Self::Few(few) => few.get().iter().copied().collect(),
            Self::Many(many) => many.places.clone(),
        }
    }
}

/// A union in the making.
#[derive(Default)]
pub(super) struct Union {
    found: RoaringBitmap,
    ones: Vec<u32>,
}

impl Union {
    /// Adds some places.
    pub(super) fn add(&mut self, places: &Places) {
        match places {
            Places::Many(many) => self.found |= &many.places,
            few => few.each(|place| self.ones.push(place)),
        }
        if self.ones.len() >= AT_ONCE {
            self.flush();
        }
    }

    /// Adds one place.
    pub(super) fn push(&mut self, place: u32) {
        self.ones.push(place);
        if self.ones.len() >= AT_ONCE {
            self.flush();
        }
    }

    /// All that was added.
    pub(super) fn finish(mut self) -> RoaringBitmap {
        self.flush();
        self.found
    }

    fn flush(&mut self) {
        // In order they go to the end of a bitmap, which costs a tenth of inserting them anywhere.
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
        fn places_are_a_set_in_every_form(steps in prop::collection::vec((any::<bool>(), 0..20u32), 0..200)) {
            let (mut places, mut plain) = (Places::One(3), BTreeSet::from([3]));
            for (add, place) in steps {
                if add {
                    places.insert(place);
                    plain.insert(place);
                } else {
                    plain.remove(&place);
                    prop_assert_eq!(places.remove(place), !plain.is_empty());
                    if plain.is_empty() {
                        return Ok(());
                    }
                }
                prop_assert_eq!(places.to_bitmap().into_iter().collect::<BTreeSet<_>>(), plain.clone());
                let mut union = Union::default();
                union.add(&places);
                union.push(100);
                prop_assert_eq!(union.finish().len(), plain.len() as u64 + 1);
            }
        }
    }

    #[test]
    fn the_bytes_of_a_bitmap_are_counted_as_it_grows_and_shrinks() {
        let mut places = Places::One(0);
        assert_eq!(places.heap_bytes(), 0);
        (1..4_000).for_each(|place| places.insert(place * 16));
        let array = places.heap_bytes();
        assert!((7_000..20_000).contains(&array), "{array}");
        (0..65_536).for_each(|place| places.insert(place));
        let full = places.heap_bytes();
        assert!((8_192..10_000).contains(&full), "{full}");
        (1..65_536).for_each(|place| assert!(places.remove(place)));
        assert!(places.heap_bytes() <= size_of::<Few>());
    }
}
