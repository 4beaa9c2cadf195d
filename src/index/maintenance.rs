//! What is done behind the searches' back: sealing what came, merging what is sealed.
//!
//! One thread at a time does it, in steps of some milliseconds, so that it can stop in time and serve several indexes in
//! turn. Some steps are one piece and take longer, with the size of the segment: its codes at the beginning, what
//! `building` names, and at the end the writing of its file, 2 KB a vector, synced and checked. It locks rows for moments only, some thousand of them at a time: searches and inserts never wait for more.
//!
//! The number of segments stays small: alike ones are merged, four of them while vectors come in, so that each is built
//! anew seldom, and any two when they have stopped. Segments that remain differ in size by more than [`ALIKE`] times.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Index;
use super::building::Building;
use super::file::Stored;
use super::parts::{Member, SegmentParts};
use super::row_table::RowTable;
use super::segment::Segment;
use super::slot::Slot;
use crate::machine::priority::CAN_LOWER;

/// A segment is built anew when one of so many of its vectors was removed: dead points cost each walk their
/// share of the time.
const DEAD_SHARE: usize = 5;
/// Segments of which none is so many times larger than the smallest are alike.
const ALIKE: usize = 8;
/// So many alike segments are merged while vectors come in.
const FAN: usize = 4;
/// No vector came for so long: they have stopped.
const QUIET: Duration = Duration::from_secs(1);
/// Then a tail of one of so many of what is sealed otherwise is sealed too.
const QUIET_SHARE: usize = 4;
/// Rows that one hold of the lock covers: a fraction of a millisecond.
const ROWS_PER_HOLD: usize = 4_096;

/// What is to be done next.
enum Task {
    /// Too few vectors are left for a graph to pay.
    GiveUp,
    /// A new segment of the tail.
    Seal,
    /// One segment of these.
    Merge(Vec<Arc<Segment>>),
}

/// A segment in the making, which nobody searches yet.
struct SegmentJob {
    building: Building,
    instead_of: Vec<Arc<Segment>>,
}

/// What the maintaining thread remembers between two steps.
#[derive(Default)]
pub(super) struct Maintenance {
    job: Option<SegmentJob>,
}

impl Index {
    /// Whether there is work for [`Index::maintain_for`].
    #[cfg(test)]
    pub(super) fn needs_maintenance(&self) -> bool {
        let at_work = super::lock(&self.maintenance).job.is_some();
        at_work || self.next_task(&self.rows(), false).is_some()
    }

    /// Does maintenance for about so long, or until there is none; true if there is more. To be called
    /// from one background thread; a second caller waits for the first.
    pub fn maintain_for(&self, budget: Duration) -> bool {
        let until = Instant::now() + budget;
        let mut maintenance = super::lock(&self.maintenance);
        while self.step(&mut maintenance, false) {
            if Instant::now() >= until {
                return true;
            }
        }
        false
    }

    /// Does all maintenance there is, the last merges at once. Blocks for as long as it takes: half a minute or so
    /// for 100,000 new vectors.
    pub fn maintain(&self) {
        let mut maintenance = super::lock(&self.maintenance);
        while self.step(&mut maintenance, true) {}
    }

    /// `settle`: nothing more is awaited.
    fn next_task(&self, rows: &RowTable, settle: bool) -> Option<Task> {
        let mut segments: Vec<Arc<Segment>> = rows.segments().to_vec();
        // Half, so that a collection around the limit does not build graphs over and over.
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

    /// Does one piece of work; false if there is none.
    fn step(&self, maintenance: &mut Maintenance, settle: bool) -> bool {
        if let Some(mut job) = maintenance.job.take() {
            if job.building.step(self.threads()) {
                maintenance.job = Some(job);
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
                self.begin(maintenance, [&*slots], Vec::new());
            }
            Some(Task::Merge(segments)) => {
                self.begin(maintenance, segments.iter().map(|segment| segment.slots()), segments.clone());
            }
        }
        true
    }

    /// One while documents are embedded. Else all cores, if that holds nobody up, or half of them.
    fn threads(&self) -> usize {
        let quiet = self.rows().inserted().is_none_or(|last| last.elapsed() >= QUIET);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match (quiet, CAN_LOWER) {
            (true, true) => cores,
            (true, false) => (cores / 2).max(1),
            (false, _) => 1,
        }
    }

    /// A segment of the slots that live; if none does, what named them goes at once.
    fn begin<'s>(
        &self,
        maintenance: &mut Maintenance,
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
            let building = Building::new(self.dimensions, self.options.ef_construction, members);
            maintenance.job = Some(SegmentJob { building, instead_of });
        }
    }

    /// In a file if this index has some and it can be written, else in memory.
    fn segment(&self, parts: SegmentParts, members: Vec<Member>) -> Segment {
        let slots = members.iter().map(|member| member.slot).collect();
        let Some(files) = self.files.as_ref().filter(|files| !files.are_discarded()) else {
            return Segment::new(parts, slots, None);
        };
        match files.write(&parts, &members) {
            Ok(Stored { parts, rows, .. }) => Segment::new(parts, slots, Some(rows)),
            Err(error) => {
                if !files.are_discarded() {
                    tracing::warn!(%error, "a part of the index stays in memory: it cannot be written");
                }
                Segment::new(parts, slots, None)
            }
        }
    }

    /// Puts segments in the place of others, or of what the tail names.
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

/// Nobody will search them.
fn forget(segments: &[Arc<Segment>]) {
    segments.iter().filter_map(|segment| segment.rows()).for_each(|rows| rows.make_obsolete());
}
