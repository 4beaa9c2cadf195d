//! Background work beside the searches: sealing the write buffer and merging segments.
//!
//! One thread at a time does it, in steps of some milliseconds, so that it can stop in time and serve several indexes
//! in turn. Some steps are not divided, and take longer for larger segments: the codes at the beginning, the steps that
//! `building` names, and at the end writing the file, 2 KB a vector, which is synced and checked. The rows are locked
//! for some thousand of them at a time: searches and inserts never wait for more.
//!
//! The number of segments stays small. Segments of similar size are merged: four of them while vectors are inserted, so
//! that each vector is seldom linked again, and any two when inserts have stopped. Segments that remain differ in size
//! by more than [`ALIKE`] times.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Index;
use super::building::{Building, SegmentJob};
use super::file::Stored;
use super::lock::lock;
use super::parts::{Member, SegmentParts};
use super::row_table::RowTable;
use super::segment::Segment;
use super::slot::Slot;
use crate::machine::priority::CAN_LOWER;

/// A segment is built again when one in this many of its vectors is removed: dead nodes cost each walk their share of
/// the time.
const DEAD_SHARE: usize = 5;
/// Segments are of similar size if none is more than this many times larger than the smallest.
const ALIKE: usize = 8;
/// The number of similar segments that are merged while vectors are inserted.
const FAN: usize = 4;
/// Inserts have stopped when none came for this time.
const QUIET: Duration = Duration::from_secs(1);
/// When inserts have stopped, the write buffer is sealed at this fraction of its usual size.
const QUIET_SHARE: usize = 4;
/// Rows for which the lock is held at one time: a fraction of a millisecond.
const ROWS_PER_HOLD: usize = 4_096;

/// The next piece of work.
enum Task {
    /// Drop the segments: too few vectors are left for a graph to pay.
    GiveUp,
    /// Build a segment from the write buffer.
    Seal,
    /// Build one segment from these.
    Merge(Vec<Arc<Segment>>),
}

impl Index {
    /// True if there is work for [`Index::maintain_for`].
    #[cfg(test)]
    pub(super) fn needs_maintenance(&self) -> bool {
        let at_work = lock(&self.segment_job).is_some();
        at_work || self.next_task(&self.rows(), false).is_some()
    }

    /// Does maintenance for about this time, or until no work is left; true if there is more. To be called from one
    /// background thread; a second caller waits for the first.
    pub fn maintain_for(&self, budget: Duration) -> bool {
        let until = Instant::now() + budget;
        let mut job = lock(&self.segment_job);
        while self.step(&mut job, false) {
            if Instant::now() >= until {
                return true;
            }
        }
        false
    }

    /// Does all maintenance, including the last merges. Blocks until it is done: about half a minute for 100,000 new
    /// vectors.
    pub fn maintain(&self) {
        let mut job = lock(&self.segment_job);
        while self.step(&mut job, true) {}
    }

    /// The next task. `settle`: no more inserts are expected.
    fn next_task(&self, rows: &RowTable, settle: bool) -> Option<Task> {
        let mut segments: Vec<Arc<Segment>> = rows.segments().to_vec();
        // Half, so that a collection near the limit does not build graphs again and again.
        if !segments.is_empty() && rows.live() <= self.graph_above() / 2 {
            return Some(Task::GiveUp);
        }
        let quiet = settle || rows.inserted().is_none_or(|last| last.elapsed() >= QUIET);
        let seal_above = if quiet { self.seal_above() / QUIET_SHARE } else { self.seal_above() };
        if rows.live() > self.graph_above() && rows.write_buffer().slots().len() > seal_above {
            return Some(Task::Seal);
        }
        let spoiled = |segment: &&Arc<Segment>| {
            let all = segment.slots().len();
            (all - segment.live()) * DEAD_SHARE >= all
        };
        if let Some(segment) = segments.iter().find(spoiled) {
            return Some(Task::Merge(vec![Arc::clone(segment)]));
        }
        segments.sort_by_key(|segment| segment.live());
        let smallest = segments.first()?.live();
        let alike = segments.iter().take_while(|segment| segment.live() <= ALIKE * smallest).count();
        segments.truncate(alike);
        (alike >= if quiet { 2 } else { FAN }).then_some(Task::Merge(segments))
    }

    /// Does one step of work; false if no work is left.
    fn step(&self, current: &mut Option<SegmentJob>, settle: bool) -> bool {
        if let Some(mut job) = current.take() {
            if job.building.step(self.threads()) {
                *current = Some(job);
            } else {
                let (parts, members) = job.building.finish();
                let segment = Arc::new(self.segment(parts, members));
                self.install(&[segment], &job.instead_of);
            }
            return true;
        }
        let task = self.next_task(&self.rows(), settle);
        match task {
            None => return false,
            Some(Task::GiveUp) => {
                let segments = Arc::clone(self.rows().segments());
                self.rows_mut().give_up_segments();
                forget(&segments);
            }
            Some(Task::Seal) => {
                let slots = self.rows().write_buffer().slots().to_vec();
                self.begin(current, [&*slots], Vec::new());
            }
            Some(Task::Merge(segments)) => {
                self.begin(current, segments.iter().map(|segment| segment.slots()), segments.clone());
            }
        }
        true
    }

    /// The number of threads to use: one while documents are embedded; otherwise all that the
    /// options allow if the priority can be lowered, or half of them.
    fn threads(&self) -> usize {
        let quiet = self.rows().inserted().is_none_or(|last| last.elapsed() >= QUIET);
        let most = self.options.threads.max(1);
        match (quiet, CAN_LOWER) {
            (true, true) => most,
            (true, false) => (most / 2).max(1),
            (false, _) => 1,
        }
    }

    /// Begins a segment of the live slots. If none is live, installs an empty result at once.
    fn begin<'s>(
        &self,
        current: &mut Option<SegmentJob>,
        of: impl IntoIterator<Item = &'s [Slot]>,
        instead_of: Vec<Arc<Segment>>,
    ) {
        let mut members: Vec<Member> = Vec::new();
        for some in of.into_iter().flat_map(|slots| slots.chunks(ROWS_PER_HOLD)) {
            members.extend(self.rows().members(some));
        }
        if members.is_empty() {
            self.install(&[], &instead_of);
        } else {
            let building = Building::new(self.dimensions, &self.options, members);
            *current = Some(SegmentJob { building, instead_of });
        }
    }

    /// The finished segment: in a file if the index has files and writing succeeds, otherwise in memory.
    fn segment(&self, parts: SegmentParts, members: Vec<Member>) -> Segment {
        let slots = members.iter().map(|member| member.slot).collect();
        let Some(files) = self.files.as_ref().filter(|files| !files.are_discarded()) else {
            return Segment::new(parts, slots, None);
        };
        match files.write(&parts, &members) {
            Ok(Stored { parts, rows, .. }) => Segment::new(parts, slots, Some(rows)),
            Err(error) => {
                if !files.are_discarded() {
                    tracing::warn!(%error, "a segment of the index stays in memory: it cannot be written");
                }
                Segment::new(parts, slots, None)
            }
        }
    }

    /// Replaces segments, or the slots of the write buffer, by new segments.
    pub(super) fn install(&self, new: &[Arc<Segment>], instead_of: &[Arc<Segment>]) {
        for segment in new {
            let all = segment.slots().len();
            for first in (0..all).step_by(ROWS_PER_HOLD) {
                self.rows_mut().hold(segment, first..all.min(first + ROWS_PER_HOLD));
            }
        }
        self.rows_mut().install(new, instead_of);
        forget(instead_of);
    }
}

/// Lets the files of replaced segments be deleted.
fn forget(segments: &[Arc<Segment>]) {
    segments.iter().filter_map(|segment| segment.rows()).for_each(|rows| rows.make_obsolete());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Options;

    #[test]
    fn a_quiet_index_builds_with_the_threads_of_its_options_and_a_busy_one_with_one() {
        let index = Index::new(2, Options { threads: 6, ..Options::default() });
        assert_eq!(index.threads(), if CAN_LOWER { 6 } else { 3 });
        index.insert(&[[1.0, 0.0].into()]);
        assert_eq!(index.threads(), 1);
    }
}
