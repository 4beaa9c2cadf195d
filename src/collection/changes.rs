//! The latest changes of a collection's documents, for filters that were evaluated before them.

use std::collections::VecDeque;

use roaring::RoaringBitmap;

/// Number of remembered changes. A search that catches up takes up to 4 µs for each.
pub(super) const REMEMBERED: usize = 4_096;

/// The latest changes of a collection's documents.
#[derive(Default)]
pub(super) struct Changes {
    /// Number of changes since the start.
    total: u64,
    /// The positions that the latest changes touched, oldest first.
    latest: VecDeque<u32>,
}

impl Changes {
    /// Notes that the document at this position changed or left.
    pub(super) fn note(&mut self, position: u32) {
        self.total += 1;
        if self.latest.len() == REMEMBERED {
            self.latest.pop_front();
        }
        self.latest.push_back(position);
    }

    /// Number of changes since the start.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// True if one of these positions may have changed after the first `seen` changes.
    pub(super) fn touched(&self, positions: &RoaringBitmap, seen: u64) -> bool {
        self.since(seen).is_none_or(|mut changed| changed.any(|position| positions.contains(position)))
    }

    /// The positions that changed after the first `seen` changes; `None` if they are no longer remembered.
    pub(super) fn since(&self, seen: u64) -> Option<impl Iterator<Item = u32>> {
        let new = usize::try_from(self.total.checked_sub(seen)?).ok()?;
        let known = self.latest.len().checked_sub(new)?;
        Some(self.latest.iter().skip(known).copied())
    }
}
