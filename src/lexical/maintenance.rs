//! Background work beside the searches: sealing batches into segments, and merging segments.
//!
//! One thread at a time does it. A step writes a segment whole: 30 ms for the 4,096 short texts of a seal, up to a few
//! seconds for the largest merge. No lock is held meanwhile, so searches and commits go on.
//!
//! The number of segments stays small. Neighbours of similar size are merged: four of them while documents are
//! inserted, and any two when inserts have stopped. The order of documents never changes, so keys ascend in every part.

use std::time::{Duration, Instant};

use roaring::RoaringBitmap;
use tantivy::TantivyError;

use super::index::{LexicalIndex, batches, lock};
use super::segment::{Place, Segment};
use super::state::{LivePart, Part, State};

/// Batches are sealed when they have more documents than this.
const SEAL_DOCUMENTS: usize = 4_096;
/// Batches are sealed when they take more bytes than this.
const SEAL_BYTES: usize = 4 << 20;
/// A segment is written anew when one in this many of its documents is removed.
const DEAD_SHARE: usize = 5;
/// Segments are of similar size if none is more than this many times larger than the smallest.
const ALIKE: usize = 8;
/// The number of similar segments that are merged while documents are inserted.
const FAN: usize = 4;
/// Inserts have stopped when none came for this time.
const QUIET: Duration = Duration::from_secs(1);
/// The most terms of a segment that a merge makes: a few seconds of work, in which nothing else is maintained.
const MOST_MERGED_LENGTH: u64 = 32_000_000;

/// The next piece of work: parts that stand beside each other.
enum Task {
    Seal(Vec<LivePart>),
    Merge(Vec<LivePart>),
}

impl LexicalIndex {
    /// Does maintenance for about this time, or until no work is left; true if there is more. To be called from one
    /// background thread; a second caller waits for the first.
    pub fn maintain_for(&self, budget: Duration) -> bool {
        let until = Instant::now() + budget;
        let _turn = lock(&self.maintenance);
        while self.step(false) {
            if Instant::now() >= until {
                return true;
            }
        }
        false
    }

    /// Does all maintenance, including the last merges. Blocks until it is done.
    pub fn maintain(&self) {
        let _turn = lock(&self.maintenance);
        while self.step(true) {}
    }

    /// Seals batches as long as they are too large. For a load of many documents, which must not pile up.
    pub fn seal_if_large(&self) {
        let _turn = lock(&self.maintenance);
        while to_seal(&self.state()).is_some_and(|parts| self.seal(&parts)) {}
    }

    /// Seals all batches, however small.
    #[cfg(test)]
    pub(super) fn seal_all(&self) {
        let _turn = lock(&self.maintenance);
        let is_batch = |live: &LivePart| live.part.as_batch().is_some();
        while let Some(first) = self.state().parts.iter().find(|live| is_batch(live)) {
            self.seal(std::slice::from_ref(first));
        }
    }

    /// Does one piece of work; false if no work is left, or if it failed.
    fn step(&self, settle: bool) -> bool {
        match self.next_task(settle) {
            None => false,
            Some(Task::Seal(parts)) => self.seal(&parts),
            Some(Task::Merge(parts)) => self.merge(&parts),
        }
    }

    fn next_task(&self, settle: bool) -> Option<Task> {
        if self.files.as_ref().is_some_and(|files| files.are_discarded()) {
            return None;
        }
        let state = self.state();
        let quiet = settle || self.last_insert().is_none_or(|last| last.elapsed() >= QUIET);
        to_seal(&state).map(Task::Seal).or_else(|| to_merge(&state, quiet).map(Task::Merge))
    }

    fn seal(&self, parts: &[LivePart]) -> bool {
        self.mark(parts);
        let (bytes, of) = (bytes_of(parts), batches(parts));
        let has_some = parts.iter().any(|live| live.live() > 0);
        let segment = has_some.then(|| self.written(bytes, |place| Segment::of_batches(&of, place)));
        let installed = self.install(parts, segment);
        self.mark(&[]);
        installed
    }

    fn merge(&self, parts: &[LivePart]) -> bool {
        let of: Vec<(&Segment, &RoaringBitmap)> =
            parts.iter().filter_map(|live| Some((live.part.as_segment()?, &*live.removed))).collect();
        let bytes = of.iter().map(|(segment, _)| segment.file_bytes()).sum();
        let has_some = parts.iter().any(|live| live.live() > 0);
        self.install(parts, has_some.then(|| self.written(bytes, |place| Segment::merged(&of, place))))
    }

    /// Writes a segment into files if the index has files and that succeeds, otherwise into memory.
    fn written(&self, bytes: usize, write: impl Fn(Place) -> tantivy::Result<Segment>) -> tantivy::Result<Segment> {
        if let Some(files) = &self.files {
            let begun = files.begin(bytes).map_err(TantivyError::from);
            let written = begun.and_then(|files| write(Place::Files(files)));
            match written {
                Err(error) if !files.are_discarded() => {
                    tracing::warn!(%error, "a segment of words stays in memory: it cannot be written");
                }
                Err(_) => {}
                written => return written,
            }
        }
        write(Place::in_memory())
    }

    /// Replaces parts by a segment; `None`: nothing is left of them. False if there is no segment.
    fn install(&self, parts: &[LivePart], segment: Option<tantivy::Result<Segment>>) -> bool {
        let segment = match segment.transpose() {
            Ok(segment) => segment,
            Err(error) => {
                tracing::error!(%error, "a segment of words cannot be built");
                return false;
            }
        };
        let installed = self.replace(parts, segment.map(Part::Segment), true);
        if installed {
            parts.iter().filter_map(|live| live.part.as_segment()).for_each(Segment::make_obsolete);
        }
        installed
    }
}

/// Neighbouring batches that are large enough for a segment.
fn to_seal(state: &State) -> Option<Vec<LivePart>> {
    let is_batch = |live: &LivePart| live.part.as_batch().is_some();
    let runs = state.parts.chunk_by(|a, b| is_batch(a) && is_batch(b)).filter(|run| is_batch(&run[0]));
    let is_large = |run: &&[LivePart]| {
        let documents: usize = run.iter().map(|live| live.part.members().len()).sum();
        documents > SEAL_DOCUMENTS || bytes_of(run) > SEAL_BYTES
    };
    runs.filter(is_large).map(<[LivePart]>::to_vec).next()
}

/// A segment with many removed documents, or neighbours of similar size.
fn to_merge(state: &State, quiet: bool) -> Option<Vec<LivePart>> {
    let is_segment = |live: &LivePart| live.part.as_segment().is_some();
    let is_spoiled = |live: &&LivePart| live.removed.len() as usize * DEAD_SHARE >= live.part.members().len();
    if let Some(live) = state.parts.iter().filter(|live| is_segment(live)).find(is_spoiled) {
        return Some(vec![live.clone()]);
    }
    let fan = if quiet { 2 } else { FAN };
    let similar = |first: usize| {
        let mut alike: Vec<LivePart> = Vec::new();
        for live in state.parts[first..].iter().take_while(|live| is_segment(live)) {
            let ascends = alike.last().is_none_or(|last| last.part.members().range() < live.part.members().range());
            let sizes = alike.iter().chain([live]).map(LivePart::live);
            let (least, most) = sizes.fold((usize::MAX, 0), |(least, most), size| (least.min(size), most.max(size)));
            let length: u64 = alike.iter().chain([live]).map(|live| live.total_length).sum();
            if !ascends || most > ALIKE * least || length > MOST_MERGED_LENGTH {
                break;
            }
            alike.push(live.clone());
        }
        (alike.len() >= fan).then_some(alike)
    };
    (0..state.parts.len()).find_map(similar)
}

fn bytes_of(parts: &[LivePart]) -> usize {
    parts.iter().map(|live| live.part.bytes()).sum()
}
