//! Segments of an earlier process, whose vectors are inserted one by one until
//! [`Index::restored`](super::Index::restored).

use std::collections::HashMap;
use std::sync::Arc;

use super::file::Stored;
use super::segment::Segment;
use super::slot::Slot;
use super::vector::Vector;

/// Segments that wait for their vectors.
pub(super) struct Restoring {
    segments: Vec<(Stored, Vec<Slot>)>,
    /// The segment and the row of each key.
    by_key: HashMap<u64, (usize, usize)>,
}

impl Restoring {
    /// Takes segments, newest first. Two of them have the same key if a crash came before the older one was deleted.
    pub(super) fn new(stored: Vec<Stored>) -> Restoring {
        let mut by_key = HashMap::with_capacity(stored.iter().map(|stored| stored.keys.len()).sum());
        for (segment, stored) in stored.iter().enumerate() {
            for (vector, &key) in stored.keys.iter().enumerate() {
                by_key.entry(key).or_insert((segment, vector));
            }
        }
        let without_slots = |stored: Stored| {
            let slots = vec![Slot::NONE; stored.keys.len()];
            (stored, slots)
        };
        Restoring { segments: stored.into_iter().map(without_slots).collect(), by_key }
    }

    /// Finds a vector by its key, if the segment's row is equal bit for bit. Each row is found once.
    pub(super) fn find(&mut self, key: u64, vector: &[f32]) -> Option<(Vector, SegmentRow)> {
        let (segment, number) = self.by_key.remove(&key)?;
        let rows = &self.segments[segment].0.rows;
        let is_same = rows.row(number).iter().zip(vector).all(|(a, b)| a.to_bits() == b.to_bits());
        is_same.then(|| (Vector::stored(rows, number), SegmentRow { segment, number }))
    }

    /// Assigns a slot to a row that [`Restoring::find`] returned.
    pub(super) fn assign(&mut self, row: &SegmentRow, slot: Slot) {
        self.segments[row.segment].1[row.number] = slot;
    }

    /// The segments that have at least one slot. Deletes the files of the others.
    pub(super) fn into_segments(self) -> Vec<Arc<Segment>> {
        let is_of_use = |slots: &[Slot]| slots.iter().any(|slot| *slot != Slot::NONE);
        let mut of_use = Vec::new();
        for (Stored { parts, rows, .. }, slots) in self.segments {
            if is_of_use(&slots) {
                // Each row was compared, and searches read few of them.
                rows.release();
                of_use.push(Arc::new(Segment::new(parts, slots, Some(rows))));
            } else {
                rows.make_obsolete();
            }
        }
        of_use
    }
}

/// A row of one of the segments.
pub(super) struct SegmentRow {
    segment: usize,
    number: usize,
}
