//! What is done behind the searches' back: sealing what came, merging what is sealed.
//!
//! One thread at a time does it, in steps of about a millisecond, so that it can stop in time and serve several indexes in
//! turn; the last step of a segment takes longer, some twenty seconds for 100,000 vectors. It locks no rows while it works:
//! searches never wait for more than the moment in which a segment is put in place.
//!
//! The number of segments stays small: alike ones are merged, four of them while vectors come in, so that each is built
//! anew seldom, and any two when they have stopped. Segments that remain differ in size by more than [`ALIKE`] times.

use std::sync::{Arc, TryLockError};
use std::time::{Duration, Instant};

use super::Index;
use super::rows::{Rows, Slot};
use super::segment::{Building, Segment};

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
/// Vectors linked in a step.
const STEP: usize = 8;

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
struct Work {
    building: Building,
    instead_of: Vec<Arc<Segment>>,
}

/// What the maintaining thread remembers between two steps.
#[derive(Default)]
pub(super) struct Maintenance {
    work: Option<Work>,
}

impl Index {
    /// Whether there is work for [`Index::maintain_for`]. Becomes true with inserts and removals, and a
    /// while after them for the last merges: to be asked every second or so.
    pub fn needs_maintenance(&self) -> bool {
        let at_work = match self.maintenance.try_lock() {
            Ok(maintenance) => maintenance.work.is_some(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().work.is_some(),
            Err(TryLockError::WouldBlock) => true,
        };
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
    fn next_task(&self, rows: &Rows, settle: bool) -> Option<Task> {
        let mut segments: Vec<Arc<Segment>> = rows.segments().to_vec();
        // Half, so that a collection around the limit does not build graphs over and over.
        if !segments.is_empty() && rows.live() <= self.graph_above() / 2 {
            return Some(Task::GiveUp);
        }
        let quiet = settle || rows.inserted().is_none_or(|last| last.elapsed() >= QUIET);
        let seal_above = if quiet { self.seal_above() / QUIET_SHARE } else { self.seal_above() };
        if rows.live() > self.graph_above() && rows.tail_len() > seal_above {
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
        if let Some(mut work) = maintenance.work.take() {
            if work.building.link_some(STEP) {
                maintenance.work = Some(work);
            } else {
                let segment = Arc::new(work.building.finish(self.options.ef_construction, self.threads()));
                self.rows_mut().install(Some(segment), &work.instead_of);
            }
            return true;
        }
        let task = self.next_task(&self.rows(), settle);
        match task {
            None => return false,
            Some(Task::GiveUp) => {
                let mut rows = self.rows_mut();
                let all = rows.segments().to_vec();
                rows.install(None, &all);
            }
            Some(Task::Seal) => {
                let rows = self.rows();
                let vectors: Vec<_> = rows.unsealed().map(|(slot, row)| (slot, Arc::clone(row))).collect();
                drop(rows);
                maintenance.work = Some(self.begin(&vectors, Vec::new()));
            }
            Some(Task::Merge(segments)) => {
                let rows = self.rows();
                let slots = segments.iter().flat_map(|segment| segment.slots());
                let vectors: Vec<_> = slots.filter_map(|&slot| Some((slot, Arc::clone(rows.get(slot)?)))).collect();
                drop(rows);
                if vectors.is_empty() {
                    self.rows_mut().install(None, &segments);
                } else {
                    maintenance.work = Some(self.begin(&vectors, segments));
                }
            }
        }
        true
    }

    /// Half of the cores where nobody embeds documents, else one.
    fn threads(&self) -> usize {
        let quiet = self.rows().inserted().is_none_or(|last| last.elapsed() >= QUIET);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if quiet { (cores / 2).max(1) } else { 1 }
    }

    fn begin(&self, vectors: &[(Slot, Arc<[f32]>)], instead_of: Vec<Arc<Segment>>) -> Work {
        Work { building: Building::new(self.dimensions, vectors), instead_of }
    }
}
