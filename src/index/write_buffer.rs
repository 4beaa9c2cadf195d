//! The vectors that no segment holds yet. They are few, and each query is compared with the codes of all of them.

use super::graph::codes::Codes;
use super::graph::query::OwnQuery;
use super::scan::CandidateFilter;
use super::slot::Slot;

/// Memory is given back when less than one part in this many is used.
const SPARSE: usize = 4;

/// Slots with their codes, oldest first. Some may be removed already.
pub(super) struct WriteBuffer {
    slots: Vec<Slot>,
    codes: Codes,
}

impl WriteBuffer {
    pub(super) fn new(dimensions: usize) -> WriteBuffer {
        WriteBuffer { slots: Vec::new(), codes: Codes::new(dimensions) }
    }

    /// Adds slots with their codes.
    pub(super) fn append(&mut self, slots: &[Slot], codes: &Codes) {
        self.slots.extend_from_slice(slots);
        self.codes.append(codes);
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.codes.bytes()
    }

    /// Keeps the chosen slots in their order, and gives back memory if few are left.
    pub(super) fn retain(&mut self, keep: impl Fn(Slot) -> bool) {
        let slots = &self.slots;
        self.codes.retain(|row| keep(slots[row as usize]));
        self.slots.retain(|&slot| keep(slot));
        if self.slots.len() < self.slots.capacity() / SPARSE {
            self.slots.shrink_to_fit();
            self.codes.shrink_to_fit();
        }
    }

    /// Offers the slots that are wanted and may be among the best to the candidate filter.
    pub(super) fn scan(&self, query: &OwnQuery, filter: &mut CandidateFilter, wanted: impl Fn(Slot) -> bool) {
        filter.scan(&self.codes, 0..self.codes.len() as u32, query, |row| [self.slots[row as usize]], wanted);
    }
}
