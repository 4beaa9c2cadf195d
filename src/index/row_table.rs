//! The live vectors, the slot of each, and the segment that holds it.
//!
//! Invariant: every live slot is either held by one of `segments` or listed in `write_buffer`, exactly once. One lock
//! guards all of this, so a search sees the segments together with the write buffer that belongs to them.
//!
//! Rows are shared and never copied: a caller may keep a removed row as long as it needs it, while its slot is free at
//! once. The generation of a slot tells its next user from its last.

use std::ops::Range;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Instant;

use super::graph::codes::Codes;
use super::parts::Member;
use super::segment::Segment;
use super::slot::Slot;
use super::vector::Vector;
use super::write_buffer::WriteBuffer;
use crate::kernel::dot_i8::prefetch;

struct RowEntry {
    /// The vector; `None`: the entry is free.
    row: Option<Vector>,
    /// The caller's key.
    key: u64,
    generation: u32,
    /// The number of the vector in its segment.
    vector: u32,
    /// The segment that holds the row; `None`: the row is in the write buffer.
    segment: Option<Arc<Segment>>,
}

pub(super) struct RowTable {
    dimensions: usize,
    entries: Vec<RowEntry>,
    free: Vec<u32>,
    live: usize,
    write_buffer: WriteBuffer,
    /// Live slots that are in segments and not in the write buffer. The number is a little too small while a new
    /// segment takes over its vectors, if some of them are removed meanwhile: they are counted when it is installed.
    sealed: usize,
    /// The number of rows that have memory of their own.
    in_memory: usize,
    segments: Arc<[Arc<Segment>]>,
    /// The time of the last insert.
    inserted: Option<Instant>,
}

impl RowTable {
    pub(super) fn new(dimensions: usize) -> RowTable {
        RowTable {
            dimensions,
            entries: Vec::new(),
            free: Vec::new(),
            live: 0,
            write_buffer: WriteBuffer::new(dimensions),
            sealed: 0,
            in_memory: 0,
            segments: Arc::default(),
            inserted: None,
        }
    }

    /// Makes a slot for a row, which the caller then adds to the write buffer or to a segment.
    pub(super) fn insert(&mut self, key: u64, row: Vector) -> Slot {
        self.live += 1;
        self.in_memory += usize::from(row.is_in_memory());
        if let Some(index) = self.free.pop() {
            let reused = &mut self.entries[index as usize];
            (reused.row, reused.key) = (Some(row), key);
            return Slot { index, generation: reused.generation };
        }
        let index = u32::try_from(self.entries.len()).ok().filter(|&index| index != Slot::NONE.index);
        let index = index.expect("four billion rows do not fit into memory");
        self.entries.push(RowEntry { row: Some(row), key, generation: 0, vector: 0, segment: None });
        Slot { index, generation: 0 }
    }

    /// Adds new slots with their codes to the write buffer.
    pub(super) fn add_to_write_buffer(&mut self, slots: &[Slot], codes: &Codes) {
        self.inserted = Some(Instant::now());
        self.write_buffer.append(slots, codes);
    }

    /// Removes a slot; false if it was not live.
    pub(super) fn remove(&mut self, slot: Slot) -> bool {
        if !self.is_live(slot) {
            return false;
        }
        let entry = &mut self.entries[slot.index as usize];
        let row = entry.row.take();
        entry.generation = entry.generation.wrapping_add(1);
        self.live -= 1;
        self.in_memory -= usize::from(row.is_some_and(|row| row.is_in_memory()));
        if let Some(segment) = entry.segment.take() {
            segment.mark_removed(entry.vector as usize);
            self.sealed = self.sealed.saturating_sub(1);
        }
        self.free.push(slot.index);
        // Replacing documents again and again must not make the write buffer grow. Half of it may be stale, so that
        // a removal costs O(1) on average.
        if self.write_buffer.slots().len() > 2 * self.live.saturating_sub(self.sealed) + 64 {
            let entries = &self.entries;
            self.write_buffer.retain(|slot| live_row(entries, slot).is_some());
        }
        true
    }

    /// Prefetches what [`RowTable::get`] reads beside the row itself. The slot may be one of a table that was cleared.
    pub(super) fn prefetch(&self, slot: Slot) {
        if let Some(entry) = self.entries.get(slot.index as usize) {
            prefetch(from_ref(entry));
        }
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Vector> {
        live_row(&self.entries, slot)
    }

    pub(super) fn is_live(&self, slot: Slot) -> bool {
        self.get(slot).is_some()
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// The live slots with these indices, and their rows.
    pub(super) fn at_indices(&self, indices: impl Iterator<Item = u32>) -> impl Iterator<Item = (Slot, &Vector)> {
        indices.filter_map(|index| {
            let entry = self.entries.get(index as usize)?;
            entry.row.as_ref().map(|row| (Slot { index, generation: entry.generation }, row))
        })
    }

    /// The live ones of these slots, as members of a new segment.
    pub(super) fn members(&self, slots: &[Slot]) -> impl Iterator<Item = Member> {
        slots.iter().filter_map(|&slot| {
            let vector = self.get(slot)?.clone();
            Some(Member { slot, key: self.entries[slot.index as usize].key, vector })
        })
    }

    /// The slots that no segment holds, oldest first. Some may be removed already.
    pub(super) fn write_buffer(&self) -> &WriteBuffer {
        &self.write_buffer
    }

    pub(super) fn segments(&self) -> &Arc<[Arc<Segment>]> {
        &self.segments
    }

    /// The time of the last insert.
    pub(super) fn inserted(&self) -> Option<Instant> {
        self.inserted
    }

    /// The number of rows that have memory of their own.
    pub(super) fn in_memory(&self) -> usize {
        self.in_memory
    }

    /// The memory in bytes, without the segments, estimated.
    pub(super) fn bytes(&self) -> usize {
        /// Bytes of a row beside its components: two counters, and the allocator's own.
        const ROW_OVERHEAD: usize = 16 + 16;
        self.entries.capacity() * size_of::<RowEntry>()
            + self.in_memory * (self.dimensions * size_of::<f32>() + ROW_OVERHEAD)
            + self.write_buffer.bytes()
    }

    /// Moves vectors to a segment from the write buffer or from other segments. To be called for all vectors of the
    /// segment, in pieces, before [`RowTable::install`].
    pub(super) fn hold(&mut self, segment: &Arc<Segment>, vectors: Range<usize>) {
        for vector in vectors {
            let slot = segment.slots()[vector];
            if !self.is_live(slot) {
                segment.mark_removed(vector);
                continue;
            }
            let entry = &mut self.entries[slot.index as usize];
            entry.segment = Some(Arc::clone(segment));
            entry.vector = vector as u32;
            if let Some(rows) = segment.rows() {
                self.in_memory -= usize::from(entry.row.as_ref().is_some_and(Vector::is_in_memory));
                entry.row = Some(Vector::stored(rows, vector));
            }
        }
    }

    /// Adds segments, which already hold their vectors, removes those they replace, and removes their slots from the
    /// write buffer.
    pub(super) fn install(&mut self, new: &[Arc<Segment>], instead_of: &[Arc<Segment>]) {
        let kept = self.segments.iter().filter(|held| !instead_of.iter().any(|old| Arc::ptr_eq(held, old)));
        self.segments = kept.chain(new).cloned().collect();
        let entries = &self.entries;
        self.write_buffer
            .retain(|slot| live_row(entries, slot).is_some() && entries[slot.index as usize].segment.is_none());
        self.sealed = self.live - self.write_buffer.slots().len();
    }

    /// Moves all live slots to the write buffer, with their rows in memory. Afterwards there is no segment, and no row
    /// is read from a file.
    pub(super) fn give_up_segments(&mut self) {
        let mut codes = Codes::new(self.dimensions);
        let mut slots = Vec::new();
        for (index, entry) in (0..).zip(&mut self.entries) {
            if entry.segment.take().is_some()
                && let Some(row) = &mut entry.row
            {
                slots.push(Slot { index, generation: entry.generation });
                codes.push(row);
                if !row.is_in_memory() {
                    *row = Arc::<[f32]>::from(&row[..]).into();
                    self.in_memory += 1;
                }
            }
        }
        self.write_buffer.append(&slots, &codes);
        self.sealed = 0;
        self.segments = Arc::default();
    }
}

fn live_row(entries: &[RowEntry], slot: Slot) -> Option<&Vector> {
    entries.get(slot.index as usize).filter(|entry| entry.generation == slot.generation)?.row.as_ref()
}

#[cfg(test)]
mod tests {
    use super::super::building::Building;
    use super::super::options::Options;
    use super::*;

    fn rows() -> RowTable {
        RowTable::new(2)
    }

    fn insert(rows: &mut RowTable, x: f32) -> Slot {
        let row: Arc<[f32]> = Arc::from([x, 0.0]);
        let mut codes = Codes::new(2);
        codes.push(&row);
        let slot = rows.insert(0, row.into());
        rows.add_to_write_buffer(&[slot], &codes);
        slot
    }

    fn live_buffered(rows: &RowTable) -> Vec<Slot> {
        rows.write_buffer().slots().iter().copied().filter(|&slot| rows.is_live(slot)).collect()
    }

    #[test]
    fn a_removed_slot_stays_removed_when_its_index_is_reused() {
        let mut rows = rows();
        let first = insert(&mut rows, 1.0);
        assert!(rows.remove(first));
        let second = insert(&mut rows, 2.0);
        assert_eq!(first.index(), second.index());
        assert!(rows.get(first).is_none() && !rows.remove(first));
        assert_eq!(rows.get(second).unwrap()[0], 2.0);
    }

    #[test]
    fn a_slot_of_a_table_that_was_cleared_has_no_row() {
        let mut rows = rows();
        let slot = insert(&mut rows, 1.0);
        let cleared = RowTable::new(2);
        cleared.prefetch(slot);
        assert!(cleared.get(slot).is_none());
    }

    #[test]
    fn the_write_buffer_does_not_grow_with_replacements() {
        let mut rows = rows();
        let mut slot = insert(&mut rows, 1.0);
        for i in 0..10_000 {
            rows.remove(slot);
            slot = insert(&mut rows, i as f32);
        }
        let listed = rows.write_buffer().slots().len();
        assert!(listed < 200, "{listed} entries for one vector");
        assert_eq!(rows.entries.len(), 1);
        assert_eq!(live_buffered(&rows), [slot]);
    }

    /// A segment of these slots that holds none of them yet.
    fn segment_of(rows: &RowTable, slots: &[Slot]) -> Arc<Segment> {
        let options = Options { ef_construction: 8, ..Options::default() };
        let (parts, members) = Building::new(2, &options, rows.members(slots).collect()).finish();
        Arc::new(Segment::new(parts, members.iter().map(|member| member.slot).collect(), None))
    }

    #[test]
    fn removals_while_a_segment_takes_over_do_not_each_scan_the_write_buffer() {
        let mut rows = rows();
        let slots: Vec<Slot> = (0..1_000).map(|n| insert(&mut rows, n as f32)).collect();
        let segment = segment_of(&rows, &slots);
        rows.hold(&segment, 0..900);
        // Half of the write buffer may be stale before it is scanned, taken over or not.
        for slot in segment.slots().iter().step_by(3) {
            rows.remove(*slot);
            assert_eq!(rows.write_buffer().slots().len(), 1_000);
        }
        rows.hold(&segment, 900..1_000);
        rows.install(&[Arc::clone(&segment)], &[]);
        assert_eq!((rows.live(), rows.sealed, segment.live(), rows.write_buffer().slots().len()), (666, 666, 666, 0));
        let late: Vec<Slot> = (0..10).map(|n| insert(&mut rows, n as f32)).collect();
        segment.slots().iter().chain(&late[..5]).for_each(|slot| {
            rows.remove(*slot);
        });
        assert_eq!((rows.live(), rows.sealed, segment.live(), live_buffered(&rows)), (5, 0, 0, late[5..].to_vec()));
    }

    #[test]
    fn vectors_removed_while_their_segment_was_built_are_not_counted_as_held() {
        let mut rows = rows();
        let slots: Vec<Slot> = (0..4).map(|n| insert(&mut rows, n as f32)).collect();
        let segment = segment_of(&rows, &slots);
        rows.remove(slots[1]);
        let reused = insert(&mut rows, 9.0);
        rows.hold(&segment, 0..2);
        rows.remove(segment.slots()[0]);
        rows.remove(segment.slots()[3]);
        rows.hold(&segment, 2..4);
        rows.install(&[Arc::clone(&segment)], &[]);
        let live = slots.iter().filter(|&&slot| rows.is_live(slot)).count();
        assert_eq!((segment.live(), rows.live(), live_buffered(&rows)), (live, live + 1, vec![reused]));
        rows.give_up_segments();
        assert_eq!(
            (rows.segments().len(), live_buffered(&rows).len()),
            (0, live + 1),
            "the segment's vectors are in the write buffer again"
        );
    }
}
