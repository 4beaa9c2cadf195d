//! The number that names a vector of an index in the rest of the process. [`row_table`](super::row_table) assigns it.

/// The number of a vector in its index. A removed slot never becomes live again: its index is reused with another
/// generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl Slot {
    /// A slot that is never live.
    pub(super) const NONE: Slot = Slot { index: u32::MAX, generation: u32::MAX };

    /// An index into tables: less than the largest number of vectors that were ever live at one time, and unique among
    /// live slots. A table that is indexed by it must also remember the whole slot.
    pub fn index(self) -> u32 {
        self.index
    }
}
