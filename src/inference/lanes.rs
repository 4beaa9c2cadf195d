//! Which texts go through the model next, and together; without locks, threads or a clock.
//!
//! A batch is the oldest text of a lane with those nearest to it in length, up to a budget of tokens.
//!
//! Nobody is passed over for ever. Inside a lane the oldest always leads the batch, so a text waits
//! for no more batches than texts stood before it, whatever their lengths. Between the lanes bulk
//! has its share of the batches and, by time, its turn ([`BULK_PATIENCE`]).
//!
//! The cost of a batch is bounded by [`WINDOW`], not by what waits: entries are looked at from the
//! front only. Those whose callers have left are dropped when they are met, and all of them when
//! they may be half of a lane; their tokens and their room were free when the caller left (see
//! [`Flight`]).

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::flight::{Flight, Job, Stage};

/// Interactive batches that are cut for one bulk batch while both lanes have work: small calls are
/// answered first, and a bulk load still keeps a quarter of the machine.
const INTERACTIVE_SHARE: usize = 3;

/// Bulk work that saw no batch of its lane for so long goes next, whatever its share. Counted from
/// its lane's last batch and not from its arrival: a long backlog is always old, and would go before
/// every small call. 500 ms: three batches of a busy core take longer than that, and a stream that
/// is answered twice a second is seen to move; a small call waits for one batch more, twice a second.
const BULK_PATIENCE: Duration = Duration::from_millis(500);

/// How far behind the oldest text of a lane others of like length are looked for.
const WINDOW: usize = 512;

/// Below so many tokens a batch is not divided between idle workers: the fixed cost of a pass
/// through the model outweighs what is gained.
const LEAST_BATCH_TOKENS: usize = 128;

/// Entries below which a lane is not swept: they are a few tens of kilobytes.
const LEAST_SWEEP: usize = 1024;

/// Who is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Someone waits for the answer of a small call.
    Interactive,
    /// Streams, uploads and large calls.
    Bulk,
}

impl Lane {
    /// The lane beside it.
    pub fn other(self) -> Self {
        match self {
            Self::Interactive => Self::Bulk,
            Self::Bulk => Self::Interactive,
        }
    }
}

/// What waits, in two lanes.
pub struct Lanes {
    interactive: Queue,
    bulk: Queue,
    batch_tokens: usize,
    workers: usize,
    /// Interactive batches since the last bulk batch.
    since_bulk: usize,
    /// When the last bulk batch was cut.
    bulk_served: Option<Instant>,
}

impl Lanes {
    /// `batch_tokens`: the most tokens in one batch, padding included. `workers`: how many share out what waits.
    pub fn new(batch_tokens: usize, workers: usize) -> Self {
        let (interactive, bulk) = (Queue::default(), Queue::default());
        Self { interactive, bulk, batch_tokens, workers: workers.max(1), since_bulk: 0, bulk_served: None }
    }

    /// Adds flights to a lane, in order. A flight that waits in the bulk lane is entered into the
    /// interactive lane too, and goes with whichever comes first; other repetitions change nothing.
    pub fn push<'a>(&mut self, lane: Lane, flights: impl IntoIterator<Item = &'a Arc<Flight>>, now: Instant) {
        let (queue, stage) = match lane {
            Lane::Interactive => (&mut self.interactive, Stage::Interactive),
            Lane::Bulk => (&mut self.bulk, Stage::Bulk),
        };
        for flight in flights.into_iter().filter(|flight| flight.advance(stage)) {
            queue.push(Entry { flight: Arc::downgrade(flight), tokens: flight.tokens.ids.len(), arrived: now });
        }
    }

    /// The next batch, of one job or more; `None` if nothing waits.
    pub fn cut(&mut self, now: Instant) -> Option<Vec<Job>> {
        loop {
            let lane = self.next(now)?;
            let queue = match lane {
                Lane::Interactive => &mut self.interactive,
                Lane::Bulk => &mut self.bulk,
            };
            // What is there is shared out between the workers, so that none is idle while another has a long batch.
            let budget = queue.tokens.div_ceil(self.workers).max(LEAST_BATCH_TOKENS).min(self.batch_tokens);
            let batch = queue.cut(budget);
            if batch.is_empty() {
                continue; // all callers left just now, and their entries are gone
            }
            match lane {
                Lane::Interactive => self.since_bulk += 1,
                Lane::Bulk => (self.since_bulk, self.bulk_served) = (0, Some(now)),
            }
            return Some(batch);
        }
    }

    fn next(&mut self, now: Instant) -> Option<Lane> {
        match (self.interactive.oldest(), self.bulk.oldest()) {
            (None, None) => None,
            (Some(_), None) => Some(Lane::Interactive),
            (None, Some(_)) => Some(Lane::Bulk),
            (Some(_), Some(arrived)) => {
                let unserved_since = self.bulk_served.map_or(arrived, |served| served.max(arrived));
                let patience_ends = now.saturating_duration_since(unserved_since) >= BULK_PATIENCE;
                let bulk = patience_ends || self.since_bulk >= INTERACTIVE_SHARE;
                Some(if bulk { Lane::Bulk } else { Lane::Interactive })
            }
        }
    }
}

/// One lane, oldest first.
#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// Tokens of all entries. Those of callers who left, or that went with the other lane, count until
    /// their entry is met: a batch may be too large for an even share, and never larger than a batch
    /// may be.
    tokens: usize,
    /// The number of entries at which those without a caller are swept out. Twice what was left
    /// the last time, so that a sweep costs each entry a constant and memory stays within twice
    /// what the room lets in, even if calls come and leave faster than batches are cut.
    sweep_at: usize,
}

struct Entry {
    flight: Weak<Flight>,
    /// Here too, for when the flight is gone.
    tokens: usize,
    arrived: Instant,
}

impl Entry {
    /// The flight, if somebody waits for it and no worker has it.
    fn waiting(&self) -> Option<Arc<Flight>> {
        self.flight.upgrade().filter(|flight| !flight.is_taken())
    }
}

impl Queue {
    fn push(&mut self, entry: Entry) {
        if self.entries.len() >= self.sweep_at.max(LEAST_SWEEP) {
            self.entries.retain(|entry| entry.waiting().is_some());
            self.tokens = self.entries.iter().map(|entry| entry.tokens).sum();
            self.sweep_at = 2 * self.entries.len();
        }
        self.tokens += entry.tokens;
        self.entries.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.tokens -= entry.tokens;
        Some(entry)
    }

    fn put_back(&mut self, entry: Entry) {
        self.tokens += entry.tokens;
        self.entries.push_front(entry);
    }

    /// When the oldest that somebody waits for arrived.
    fn oldest(&mut self) -> Option<Instant> {
        while let Some(entry) = self.entries.front() {
            if entry.waiting().is_some() {
                return Some(entry.arrived);
            }
            self.pop();
        }
        None
    }

    /// Takes the oldest and those nearest to it in length, while the padded batch, its longest
    /// length times its size, fits `budget`. The oldest goes even if it is larger alone.
    fn cut(&mut self, budget: usize) -> Vec<Job> {
        let mut window: Vec<(Entry, Arc<Flight>)> = Vec::new();
        while window.len() < WINDOW
            && let Some(entry) = self.pop()
        {
            if let Some(flight) = entry.waiting() {
                window.push((entry, flight));
            }
        }
        let lengths: Vec<usize> = window.iter().map(|(entry, _)| entry.tokens).collect();
        let chosen = like_lengths(&lengths, budget);
        let mut batch = Vec::new();
        for ((entry, flight), chosen) in window.into_iter().zip(chosen).rev() {
            if chosen {
                flight.advance(Stage::Taken);
                batch.push(Job::new(flight));
            } else {
                self.put_back(entry);
            }
        }
        batch.reverse();
        batch
    }
}

/// Which of `lengths` go together: the first, and those nearest to it that fit with it.
fn like_lengths(lengths: &[usize], budget: usize) -> Vec<bool> {
    let mut chosen = vec![false; lengths.len()];
    let Some(&oldest) = lengths.first() else { return chosen };
    let mut by_likeness: Vec<usize> = (0..lengths.len()).collect();
    by_likeness.sort_by_key(|&at| lengths[at].abs_diff(oldest)); // stable: the oldest stays first
    let mut longest = 0;
    for (size, at) in by_likeness.into_iter().enumerate() {
        longest = longest.max(lengths[at]);
        if size > 0 && longest * (size + 1) > budget {
            break;
        }
        chosen[at] = true;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::super::flight::tests::flight;
    use super::*;

    fn fill(lanes: &mut Lanes, lane: Lane, lengths: &[usize], now: Instant) -> Vec<Arc<Flight>> {
        let flights: Vec<_> = lengths.iter().map(|&n| flight(n).0).collect();
        lanes.push(lane, &flights, now);
        flights
    }

    fn lengths(batch: Option<Vec<Job>>) -> Vec<usize> {
        batch.into_iter().flatten().map(|job| job.ids().len()).collect()
    }

    #[test]
    fn like_lengths_go_together_and_the_oldest_goes_first() {
        let (mut lanes, now) = (Lanes::new(300, 1), Instant::now());
        let _callers = fill(&mut lanes, Lane::Bulk, &[100, 5, 101, 6, 99, 4], now);
        assert_eq!(lengths(lanes.cut(now)), [100, 101]);
        assert_eq!(lengths(lanes.cut(now)), [5, 6, 4]);
        assert_eq!(lengths(lanes.cut(now)), [99]);
    }

    #[test]
    fn a_text_unlike_all_others_is_not_passed_over() {
        let (mut lanes, now) = (Lanes::new(100, 1), Instant::now());
        let mut callers = fill(&mut lanes, Lane::Bulk, &[50, 50, 3], now);
        let mut batches = 0;
        // Texts of the popular length keep coming.
        while !callers[2].is_taken() {
            callers.extend(fill(&mut lanes, Lane::Bulk, &[50, 50, 50, 50], now));
            assert!(lanes.cut(now).is_some());
            batches += 1;
        }
        assert_eq!(batches, 2);
    }

    #[test]
    fn a_batch_keeps_to_the_budget_with_its_padding_unless_one_text_alone_is_larger() {
        let (mut lanes, now) = (Lanes::new(256, 1), Instant::now());
        let mut lengths_in = vec![512, 30, 200, 31, 90, 90, 90, 1, 64, 64, 64, 64, 64];
        let _callers = fill(&mut lanes, Lane::Bulk, &lengths_in, now);
        let mut seen = Vec::new();
        while let Some(batch) = lanes.cut(now) {
            let sizes = lengths(Some(batch));
            let padded = sizes.iter().max().unwrap() * sizes.len();
            assert!(padded <= 256 || sizes.len() == 1, "{sizes:?}");
            seen.extend(sizes);
        }
        seen.sort_unstable();
        lengths_in.sort_unstable();
        assert_eq!(seen, lengths_in);
        assert_eq!(lanes.bulk.tokens, 0);
    }

    #[test]
    fn waiting_work_is_shared_out_between_idle_workers() {
        let (mut lanes, now) = (Lanes::new(4096, 2), Instant::now());
        let _callers = fill(&mut lanes, Lane::Interactive, &[64; 16], now);
        assert_eq!(lengths(lanes.cut(now)).len(), 8);
    }

    #[test]
    fn small_calls_go_first_and_bulk_has_every_fourth_batch() {
        let (mut lanes, now) = (Lanes::new(10, 1), Instant::now());
        let _bulk = fill(&mut lanes, Lane::Bulk, &[71; 2], now);
        let _interactive = fill(&mut lanes, Lane::Interactive, &[70; 6], now);
        let order: Vec<usize> = (0..8).flat_map(|_| lengths(lanes.cut(now))).collect();
        assert_eq!(order, [70, 70, 70, 71, 70, 70, 70, 71]);
    }

    #[test]
    fn bulk_goes_next_when_its_patience_ends_and_then_waits_again() {
        let (mut lanes, begun) = (Lanes::new(10, 1), Instant::now());
        let at = |ms: u64| begun + Duration::from_millis(ms);
        let _bulk = fill(&mut lanes, Lane::Bulk, &[71; 9], begun);
        let _interactive = fill(&mut lanes, Lane::Interactive, &[70; 9], begun);
        // One worker whose batches take 300 ms each.
        let order: Vec<usize> = (0..6).flat_map(|n| lengths(lanes.cut(at(300 * n)))).collect();
        assert_eq!(order, [70, 70, 71, 70, 71, 70]);
        // A backlog that is older than the patience does not keep small calls waiting.
        assert_eq!(lengths(lanes.cut(at(60_000))), [71]);
        assert_eq!(lengths(lanes.cut(at(60_001))), [70]);
    }

    #[test]
    fn work_that_nobody_waits_for_is_not_done() {
        let (mut lanes, now) = (Lanes::new(1024, 1), Instant::now());
        let mut callers = fill(&mut lanes, Lane::Bulk, &[20, 21, 22, 23], now);
        callers.remove(2);
        callers.remove(0);
        assert_eq!(lengths(lanes.cut(now)), [21, 23]);
        drop(fill(&mut lanes, Lane::Interactive, &[5; 3], now));
        assert!(lanes.cut(now).is_none());
        assert_eq!((lanes.interactive.tokens, lanes.bulk.tokens), (0, 0));
    }

    #[test]
    fn a_caller_who_leaves_frees_the_room_at_once_however_deep_in_the_queue() {
        let (mut lanes, now) = (Lanes::new(64, 1), Instant::now());
        let _before = fill(&mut lanes, Lane::Bulk, &[60; 2000], now);
        let (deep, rooms) = flight(60);
        lanes.push(Lane::Bulk, [&deep], now);
        assert_eq!(rooms.available_permits(), 0);
        drop(deep);
        assert_eq!(rooms.available_permits(), 60);
    }

    #[test]
    fn what_callers_who_left_leave_behind_is_bounded() {
        let (mut lanes, now) = (Lanes::new(64, 1), Instant::now());
        let _waiting = fill(&mut lanes, Lane::Bulk, &[9; 3000], now);
        for _ in 0..100 {
            drop(fill(&mut lanes, Lane::Bulk, &[7; 1000], now));
            // 1000 of those that leave were there when it was swept.
            assert!(lanes.bulk.entries.len() <= 2 * (3000 + 1000), "{} entries", lanes.bulk.entries.len());
        }
        let counted: usize = lanes.bulk.entries.iter().map(|entry| entry.tokens).sum();
        assert_eq!(lanes.bulk.tokens, counted);
    }

    #[test]
    fn a_bulk_text_that_a_small_call_wants_too_overtakes_and_is_computed_once() {
        let (mut lanes, now) = (Lanes::new(10, 1), Instant::now());
        let bulk = fill(&mut lanes, Lane::Bulk, &[50, 51, 52], now);
        lanes.push(Lane::Interactive, [&bulk[2]], now);
        lanes.push(Lane::Interactive, [&bulk[2]], now);
        lanes.push(Lane::Bulk, [&bulk[2]], now);
        assert_eq!((lanes.interactive.entries.len(), lanes.bulk.entries.len()), (1, 3));
        let order: Vec<usize> = std::iter::from_fn(|| lanes.cut(now)).flat_map(|batch| lengths(Some(batch))).collect();
        assert_eq!(order, [52, 50, 51]);
        lanes.push(Lane::Interactive, &bulk, now);
        assert!(lanes.cut(now).is_none(), "what a worker has is not queued again");
    }
}
