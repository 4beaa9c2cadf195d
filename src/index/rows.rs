//! Which vectors live, under which slot, and which of them a segment holds.
//!
//! Invariant: every live slot is either held by one of `segments` or named in `tail`. All of this is behind one
//! lock, so that a search sees the segments together with the tail that belongs to them.
//!
//! Rows are shared, not copied: whoever asked keeps a removed row alive as long as it needs it, while its slot is free
//! at once. A slot's generation tells its next user from its last.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::segment::Segment;

/// The number of a vector in its index. A removed slot never comes back: the place is used again,
/// with another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    place: u32,
    generation: u32,
}

impl Slot {
    /// The place of the vector: below the largest number of vectors that were ever live at one time,
    /// and held by one live slot only. Fit to index a table, if the table remembers the whole slot.
    pub fn place(self) -> u32 {
        self.place
    }
}

struct Place {
    /// `None`: free.
    row: Option<Arc<[f32]>>,
    generation: u32,
    /// Who holds the row; `None`: it is in the tail.
    segment: Option<Arc<Segment>>,
}

#[derive(Default)]
pub(super) struct Rows {
    places: Vec<Place>,
    free: Vec<u32>,
    live: usize,
    /// Slots that no segment holds, oldest first. May name removed ones.
    tail: VecDeque<Slot>,
    /// Live slots that segments hold.
    sealed: usize,
    segments: Arc<[Arc<Segment>]>,
    /// When a vector came last.
    inserted: Option<Instant>,
}

impl Rows {
    pub(super) fn insert(&mut self, row: Arc<[f32]>) -> Slot {
        let slot = match self.free.pop() {
            Some(place) => {
                let reused = &mut self.places[place as usize];
                reused.row = Some(row);
                Slot { place, generation: reused.generation }
            }
            None => {
                let place = u32::try_from(self.places.len()).expect("four billion rows do not fit into memory");
                self.places.push(Place { row: Some(row), generation: 0, segment: None });
                Slot { place, generation: 0 }
            }
        };
        self.live += 1;
        self.tail.push_back(slot);
        slot
    }

    /// False if the slot was not live.
    pub(super) fn remove(&mut self, slot: Slot) -> bool {
        if !self.is_live(slot) {
            return false;
        }
        let place = &mut self.places[slot.place as usize];
        place.row = None;
        place.generation = place.generation.wrapping_add(1);
        self.live -= 1;
        if let Some(segment) = place.segment.take() {
            segment.lost_one();
            self.sealed -= 1;
        }
        self.free.push(slot.place);
        // Replacing documents over and over must not make the tail grow; half of it may be stale, so
        // that a removal costs O(1) on average.
        if self.tail.len() > 2 * (self.live - self.sealed) + 64 {
            let places = &self.places;
            self.tail.retain(|&slot| live_row(places, slot).is_some());
        }
        true
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Arc<[f32]>> {
        live_row(&self.places, slot)
    }

    pub(super) fn is_live(&self, slot: Slot) -> bool {
        self.get(slot).is_some()
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Number of places, live and free.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }

    /// The live slots at some places, with their rows.
    pub(super) fn at_places(&self, places: impl Iterator<Item = u32>) -> impl Iterator<Item = (Slot, &Arc<[f32]>)> {
        places.filter_map(|number| {
            let place = self.places.get(number as usize)?;
            place.row.as_ref().map(|row| (Slot { place: number, generation: place.generation }, row))
        })
    }

    /// The live slots among the places of a range, with their rows.
    pub(super) fn in_places(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = (Slot, &Arc<[f32]>)> {
        // Never truncates: `insert` refuses a place that does not fit.
        self.at_places(range.start as u32..range.end as u32)
    }

    /// All live slots, with their rows.
    pub(super) fn all(&self) -> impl Iterator<Item = (Slot, &Arc<[f32]>)> {
        self.in_places(0..self.places.len())
    }

    /// The live slots that no segment holds, oldest first.
    pub(super) fn unsealed(&self) -> impl Iterator<Item = (Slot, &Arc<[f32]>)> {
        self.tail.iter().filter_map(|&slot| self.get(slot).map(|row| (slot, row)))
    }

    /// Slots that no segment holds; removed ones that are still listed are counted.
    pub(super) fn tail_len(&self) -> usize {
        self.tail.len()
    }

    pub(super) fn segments(&self) -> &Arc<[Arc<Segment>]> {
        &self.segments
    }

    /// Vectors came just now.
    pub(super) fn note_insert(&mut self) {
        self.inserted = Some(Instant::now());
    }

    /// When a vector came last.
    pub(super) fn inserted(&self) -> Option<Instant> {
        self.inserted
    }

    /// Puts a segment in the place of others, or of the tail's slots that it holds.
    pub(super) fn install(&mut self, segment: Option<Arc<Segment>>, instead_of: &[Arc<Segment>]) {
        for old in instead_of {
            for &slot in old.slots() {
                if live_row(&self.places, slot).is_some() {
                    self.places[slot.place as usize].segment = None;
                    self.sealed -= 1;
                    if segment.is_none() {
                        self.tail.push_back(slot);
                    }
                }
            }
        }
        let kept = self.segments.iter().filter(|held| !instead_of.iter().any(|old| Arc::ptr_eq(held, old)));
        self.segments = kept.chain(&segment).cloned().collect();
        let Some(segment) = segment else { return };
        for &slot in segment.slots() {
            if live_row(&self.places, slot).is_some() {
                self.places[slot.place as usize].segment = Some(Arc::clone(&segment));
                self.sealed += 1;
            } else {
                segment.lost_one();
            }
        }
        let places = &self.places;
        self.tail.retain(|slot| live_row(places, *slot).is_some() && places[slot.place as usize].segment.is_none());
    }
}

fn live_row(places: &[Place], slot: Slot) -> Option<&Arc<[f32]>> {
    places.get(slot.place as usize).filter(|place| place.generation == slot.generation)?.row.as_ref()
}

#[cfg(test)]
mod tests {
    use super::super::segment::Building;
    use super::*;

    fn row(x: f32) -> Arc<[f32]> {
        Arc::from([x, 0.0])
    }

    #[test]
    fn a_removed_slot_stays_removed_when_its_place_is_used_again() {
        let mut rows = Rows::default();
        let first = rows.insert(row(1.0));
        assert!(rows.remove(first));
        let second = rows.insert(row(2.0));
        assert_eq!(first.place(), second.place());
        assert!(rows.get(first).is_none() && !rows.remove(first));
        assert_eq!(rows.get(second).unwrap()[0], 2.0);
    }

    #[test]
    fn the_tail_does_not_grow_with_replacements() {
        let mut rows = Rows::default();
        let mut slot = rows.insert(row(1.0));
        for i in 0..10_000 {
            rows.remove(slot);
            slot = rows.insert(row(i as f32));
        }
        assert!(rows.tail_len() < 200, "{} entries for one vector", rows.tail_len());
        assert_eq!(rows.places(), 1);
        assert_eq!(rows.unsealed().map(|(slot, _)| slot).collect::<Vec<_>>(), [slot]);
    }

    #[test]
    fn what_was_removed_while_its_segment_was_built_is_not_counted_as_held() {
        let mut rows = Rows::default();
        let slots: Vec<Slot> = (0..4).map(|n| rows.insert(row(n as f32))).collect();
        let vectors: Vec<_> = rows.unsealed().map(|(slot, row)| (slot, Arc::clone(row))).collect();
        let mut building = Building::new(2, &vectors);
        while building.link_some(1) {}
        let segment = Arc::new(building.finish(8, 1));
        rows.remove(slots[1]);
        let reused = rows.insert(row(9.0));
        rows.install(Some(Arc::clone(&segment)), &[]);
        assert_eq!((segment.live(), rows.live(), rows.tail_len()), (3, 4, 1));
        assert_eq!(rows.unsealed().next().unwrap().0, reused);
        rows.remove(slots[0]);
        assert_eq!(segment.live(), 2);
        rows.install(None, &[segment]);
        assert_eq!((rows.segments().len(), rows.tail_len()), (0, 3), "what it held is in the tail again");
    }
}
