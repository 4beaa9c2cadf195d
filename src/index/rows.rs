//! Which vectors live, under which slot, and which of them the graph holds.
//!
//! Invariant: every live slot is either held by `graph` or named in `tail`. All of this is behind one
//! lock, so that a search sees a graph together with the tail that belongs to it.
//!
//! Rows are shared, not copied: the graph and whoever asked keep a removed row alive as long as they
//! need it, while its slot is free at once. A slot's generation tells its next user from its last.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::graph::{SharedGraph, Size};

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
    /// The current graph holds the row.
    linked: bool,
}

#[derive(Default)]
pub(super) struct Rows {
    places: Vec<Place>,
    free: Vec<u32>,
    live: usize,
    /// Slots that the graph does not hold, oldest first. May name removed ones.
    tail: VecDeque<Slot>,
    /// Live slots that the graph holds.
    linked_live: usize,
    pub(super) graph: Option<Arc<SharedGraph>>,
    /// Size of `graph` when it last changed: to be had without waiting for its lock.
    pub(super) graph_size: Size,
    /// Not before then is the graph audited for a few points only.
    pub(super) next_audit: Option<Instant>,
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
                self.places.push(Place { row: Some(row), generation: 0, linked: false });
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
        let place = &mut self.places[slot.place() as usize];
        place.row = None;
        place.generation = place.generation.wrapping_add(1);
        self.live -= 1;
        if std::mem::take(&mut place.linked) {
            self.linked_live -= 1;
        }
        self.free.push(slot.place);
        // Replacing documents over and over must not make the tail grow; half of it may be stale, so
        // that a removal costs O(1) on average.
        if self.tail.len() > 2 * (self.live - self.linked_live) + 64 {
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

    pub(super) fn linked_live(&self) -> usize {
        self.linked_live
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
        self.places[range.clone()].iter().zip(range).filter_map(|(place, number)| {
            // Never truncates: `insert` refuses a place that does not fit.
            let slot = Slot { place: number as u32, generation: place.generation };
            place.row.as_ref().map(|row| (slot, row))
        })
    }

    /// All live slots, with their rows.
    pub(super) fn all(&self) -> impl Iterator<Item = (Slot, &Arc<[f32]>)> {
        self.in_places(0..self.places.len())
    }

    /// The live slots that the graph does not hold, oldest first.
    pub(super) fn unlinked(&self) -> impl Iterator<Item = (Slot, &Arc<[f32]>)> {
        self.tail.iter().filter_map(|&slot| self.get(slot).map(|row| (slot, row)))
    }

    /// Slots of the graph that were removed.
    pub(super) fn linked_dead(&self) -> usize {
        self.graph_size.slots - self.linked_live
    }

    /// Slots that the graph does not hold; removed ones that are still listed are counted.
    pub(super) fn tail_len(&self) -> usize {
        self.tail.len()
    }

    /// The oldest live slot that the graph does not hold.
    pub(super) fn next_unlinked(&mut self) -> Option<(Slot, Arc<[f32]>)> {
        while let Some(&slot) = self.tail.front() {
            if let Some(row) = live_row(&self.places, slot) {
                return Some((slot, Arc::clone(row)));
            }
            self.tail.pop_front();
        }
        None
    }

    /// Takes the slot off the tail: the current graph holds it now. It is at the front, unless it was
    /// removed meanwhile.
    pub(super) fn mark_linked(&mut self, slot: Slot, graph_size: Size) {
        self.graph_size = graph_size;
        if self.tail.front() == Some(&slot) {
            self.tail.pop_front();
        }
        if self.is_live(slot) {
            self.places[slot.place() as usize].linked = true;
            self.linked_live += 1;
        }
    }

    /// Puts another graph in the place of the current one, or none, and returns the current one. `held`:
    /// the slots that the new graph holds.
    pub(super) fn swap_graph(&mut self, graph: Option<Arc<SharedGraph>>, held: &[Slot]) -> Option<Arc<SharedGraph>> {
        self.places.iter_mut().for_each(|place| place.linked = false);
        self.linked_live = 0;
        for &slot in held {
            if self.is_live(slot) {
                self.places[slot.place() as usize].linked = true;
                self.linked_live += 1;
            }
        }
        // Oldest first is lost where a graph is given up, and does not matter: all are linked alike.
        let unlinked = self.all().map(|(slot, _)| slot).filter(|slot| !self.places[slot.place() as usize].linked);
        self.tail = unlinked.collect();
        self.graph_size = graph.as_ref().map_or(Size::default(), |graph| graph.size());
        std::mem::replace(&mut self.graph, graph)
    }
}

fn live_row(places: &[Place], slot: Slot) -> Option<&Arc<[f32]>> {
    places.get(slot.place() as usize).filter(|place| place.generation == slot.generation)?.row.as_ref()
}

#[cfg(test)]
mod tests {
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
        assert_eq!(rows.next_unlinked().unwrap().0, slot);
    }

    #[test]
    fn a_slot_removed_while_it_was_being_linked_is_not_counted_as_held() {
        let mut rows = Rows::default();
        rows.insert(row(1.0));
        let (slot, _) = rows.next_unlinked().unwrap();
        rows.remove(slot);
        let reused = rows.insert(row(2.0));
        rows.mark_linked(slot, Size::default());
        assert_eq!(rows.linked_live(), 0);
        assert_eq!(rows.next_unlinked().unwrap().0, reused);
    }
}
