//! The documents of a part, by their number in it: keys, positions, lengths.

use crate::machine::allocator::allocated;

/// The position of a document that an earlier process stored and this one has not inserted.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Documents of a part. Their keys ascend.
#[derive(Default)]
pub(super) struct Members {
    keys: Vec<u64>,
    /// The caller's position of each document.
    positions: Vec<u32>,
    /// The number of terms of each document, repeated ones included.
    lengths: Vec<u32>,
}

impl Members {
    /// Adds a document with a key that is greater than all others.
    pub(super) fn push(&mut self, key: u64, position: u32, length: u32) {
        debug_assert!(self.keys.last().is_none_or(|last| *last < key), "keys must ascend");
        self.keys.push(key);
        self.positions.push(position);
        self.lengths.push(length);
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The number of the document with this key.
    pub(super) fn find(&self, key: u64) -> Option<u32> {
        self.keys.binary_search(&key).ok().map(|number| number as u32)
    }

    pub(super) fn key(&self, number: u32) -> u64 {
        self.keys[number as usize]
    }

    /// The lowest and the highest key.
    pub(super) fn range(&self) -> Option<(u64, u64)> {
        Some((*self.keys.first()?, *self.keys.last()?))
    }

    pub(super) fn position(&self, number: u32) -> u32 {
        self.positions[number as usize]
    }

    /// Sets the position of a document.
    pub(super) fn place(&mut self, number: u32, position: u32) {
        self.positions[number as usize] = position;
    }

    /// Sets the positions of all documents by their keys.
    pub(super) fn place_all(&mut self, position: impl Fn(u64) -> u32) {
        self.positions = self.keys.iter().map(|&key| position(key)).collect();
    }

    pub(super) fn length(&self, number: u32) -> u32 {
        self.lengths[number as usize]
    }

    /// The number of terms of all documents.
    pub(super) fn total_length(&self) -> u64 {
        self.lengths.iter().map(|&length| u64::from(length)).sum()
    }

    /// Adds a document of another part, behind all that are here.
    pub(super) fn take(&mut self, other: &Members, number: u32) {
        self.push(other.key(number), other.position(number), other.length(number));
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        allocated(self.keys.capacity() * size_of::<u64>()) + 2 * allocated(self.lengths.capacity() * size_of::<u32>())
    }

    /// Frees capacity that is not used.
    pub(super) fn shrink(&mut self) {
        self.keys.shrink_to_fit();
        self.positions.shrink_to_fit();
        self.lengths.shrink_to_fit();
    }
}
