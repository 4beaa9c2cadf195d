//! The number by which the rest of the process names a vector of an index. [`row_table`](super::row_table) gives them out.

/// The number of a vector in its index. A removed slot never comes back: the place is used again,
/// with another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl Slot {
    /// A slot that is never live.
    pub(super) const NONE: Slot = Slot { index: u32::MAX, generation: u32::MAX };

    /// The place of the vector: below the largest number of vectors that were ever live at one time,
    /// and held by one live slot only. Fit to index a table, if the table remembers the whole slot.
    pub fn index(self) -> u32 {
        self.index
    }
}
