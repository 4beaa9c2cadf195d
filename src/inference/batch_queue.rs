//! The batch queue: holds the texts that wait for the model, and forms batches of them. It uses no locks, threads or
//! clock.
//!
//! There are three lanes by the size of calls. A small call overtakes larger ones, because it delays them little.
//! Before them is the express lane, for short calls of callers that ask for little while others ask for much
//! ([`Shares`]). A worker may serve the express lane alone, while all others are busy. Calls keep their order inside a
//! lane. A batch is the oldest text of a lane with the texts nearest to it in length, up to a budget of tokens. Larger
//! calls with a deadline are an exception: their texts are taken call by call, so that few calls are half done at
//! their deadline.
//!
//! Every text gets its turn. The oldest text of a lane always leads the batch, so a text waits for at most one batch
//! for each text before it, whatever their lengths. A lane that has work is passed over at most [`MOST_PASSED_OVER`]
//! times, and once more for each other lane that is due too. Bulk also has a turn by time ([`BULK_PATIENCE`]).
//!
//! The cost of a batch is bounded by [`WINDOW`], whatever the length of the queue: entries are read from the front
//! only. An entry whose callers have left is dropped when it is read. All of them are dropped when they may be half of
//! a lane. Their tokens went back to the token budget when the callers left (see [`Flight`]).

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::flight::{Flight, Job, Stage};
use super::lane::{LANES, Lane};
use super::shares::Shares;
use crate::compute::Caller;

/// The number of batches of other lanes after which a lane that has work goes next. Small calls are answered first, and
/// a bulk load still keeps a quarter of the machine.
const MOST_PASSED_OVER: usize = 3;

/// The time without a batch after which the bulk lane goes next, whatever its share. It is counted from the lane's last
/// batch, not from the arrival of its oldest text: a long backlog is always old, and would go before every small call.
/// 500 ms: three batches of a busy core take longer than that. A stream that is answered twice a second is seen to
/// move, and small calls wait for one batch more, twice a second.
const BULK_PATIENCE: Duration = Duration::from_millis(500);

/// The number of entries from the front of a lane that are candidates for a batch.
const WINDOW: usize = 512;

/// The least tokens of a batch that is divided between idle workers. Below it the fixed cost of a run of the model
/// outweighs the gain.
const LEAST_BATCH_TOKENS: usize = 128;

/// The least entries of a lane that is swept. Fewer take a few tens of kilobytes at most.
const LEAST_SWEEP: usize = 1024;

/// The texts of a call, as they enter a lane.
pub struct CallTexts<I> {
    /// The texts, in order.
    pub flights: I,
    /// The call has a deadline: its texts are wasted work unless all of them are done in time.
    pub has_deadline: bool,
}

/// Texts that go through the model together.
pub struct Batch {
    /// The lane that they waited in.
    pub lane: Lane,
    /// The texts; at least one.
    pub jobs: Vec<Job>,
}

impl Batch {
    /// The tokens of its texts.
    pub fn tokens(&self) -> usize {
        self.jobs.iter().map(|job| job.sequence().ids.len()).sum()
    }
}

/// The tokens that the worker of the express lane takes for each batch of another worker.
fn express_tokens(batch_tokens: usize) -> usize {
    (batch_tokens / 4).max(1)
}

/// The texts that wait for the model, by lane.
pub struct BatchQueue {
    lanes: [LaneQueue; LANES],
    batch_tokens: usize,
    workers: usize,
    /// The batches of other lanes since the last one of each lane that has work.
    passed_over: [usize; LANES],
    /// The time of the last bulk batch.
    bulk_served: Option<Instant>,
    /// The number of calls so far.
    calls: u64,
    shares: Shares,
    /// Tokens that the worker of the express lane may take until another worker takes a batch.
    express_tokens: usize,
}

impl BatchQueue {
    /// Creates an empty queue. `batch_tokens`: the most tokens in one batch, padding included. `workers`: the threads
    /// that share the waiting texts.
    pub fn new(batch_tokens: usize, workers: usize) -> Self {
        Self {
            lanes: Default::default(),
            batch_tokens,
            workers: workers.max(1),
            passed_over: [0; LANES],
            bulk_served: None,
            calls: 0,
            shares: Shares::new(batch_tokens),
            express_tokens: express_tokens(batch_tokens),
        }
    }

    /// Records that a caller asks for `tokens`. Tells if it asks for little while others ask for much.
    pub fn ask(&mut self, caller: Caller, tokens: usize) -> bool {
        self.shares.ask(caller, tokens)
    }

    /// Adds the texts of a call to a lane, in order. A flight that waits in a later lane enters this one too, and goes
    /// with the lane that is served first. A flight that is here already, or in an earlier lane, stays as it is.
    pub fn push<'a, I>(&mut self, lane: Lane, call: CallTexts<I>, now: Instant)
    where
        I: IntoIterator<Item = &'a Arc<Flight>>,
    {
        self.calls += 1;
        let number = (call.has_deadline && !matches!(lane, Lane::Express | Lane::Short)).then_some(self.calls);
        for flight in call.flights.into_iter().filter(|flight| flight.advance(lane.into())) {
            let tokens = flight.tokens.ids.len();
            self.lanes[lane as usize].push(Entry {
                flight: Arc::downgrade(flight),
                call: number,
                tokens,
                arrived: now,
            });
        }
    }

    /// Takes the next batch; `None` if nothing waits.
    pub fn next_batch(&mut self, now: Instant) -> Option<Batch> {
        loop {
            let lane = self.next_lane(now);
            self.shares.waiting(lane.is_some(), now);
            let lane = lane?;
            let queue = &mut self.lanes[lane as usize];
            // The waiting tokens are shared between the workers, so that no worker is idle while another has a long
            // batch.
            let budget = queue.tokens.div_ceil(self.workers).max(LEAST_BATCH_TOKENS).min(self.batch_tokens);
            let jobs = queue.take_batch(budget);
            if jobs.is_empty() {
                continue; // all callers left just now, and their entries are gone
            }
            if lane == Lane::Bulk {
                self.bulk_served = Some(now);
            }
            let batch = Batch { lane, jobs };
            self.shares.served(batch.tokens());
            self.express_tokens = express_tokens(self.batch_tokens);
            return Some(batch);
        }
    }

    /// Takes a batch for the worker of the express lane. For each batch of another worker it gets a quarter of a batch:
    /// the other lanes keep most of the machine.
    pub fn next_express(&mut self) -> Option<Batch> {
        if self.express_tokens == 0 {
            return None;
        }
        let jobs = self.lanes[Lane::Express as usize].take_batch(self.express_tokens);
        let batch = Batch { lane: Lane::Express, jobs };
        self.shares.served(batch.tokens());
        self.express_tokens = self.express_tokens.saturating_sub(batch.tokens());
        (!batch.jobs.is_empty()).then_some(batch)
    }

    /// True if the worker of the express lane has work.
    pub fn has_express(&mut self) -> bool {
        self.express_tokens > 0 && self.lanes[Lane::Express as usize].oldest().is_some()
    }

    /// Returns the lane to serve next. Counts the batch for the other lanes that have work: it passes them over.
    fn next_lane(&mut self, now: Instant) -> Option<Lane> {
        let oldest = self.lanes.each_mut().map(LaneQueue::oldest);
        let has_work = |lane: &Lane| oldest[*lane as usize].is_some();
        let first = Lane::ALL.into_iter().find(has_work)?;
        let bulk_patience_ends = oldest[Lane::Bulk as usize].is_some_and(|arrived| {
            let unserved_since = self.bulk_served.map_or(arrived, |served| served.max(arrived));
            now.saturating_duration_since(unserved_since) >= BULK_PATIENCE
        });
        let is_due = |lane: &Lane| {
            self.passed_over[*lane as usize] >= MOST_PASSED_OVER || (*lane == Lane::Bulk && bulk_patience_ends)
        };
        let next = Lane::ALL.into_iter().rev().filter(has_work).find(is_due).unwrap_or(first);
        for lane in Lane::ALL {
            let passed_over = &mut self.passed_over[lane as usize];
            *passed_over = if has_work(&lane) && lane != next { *passed_over + 1 } else { 0 };
        }
        Some(next)
    }
}

/// The entries of one lane, oldest first.
#[derive(Default)]
struct LaneQueue {
    entries: VecDeque<Entry>,
    /// Tokens of all entries. An entry whose callers left, or whose text went with another lane, counts until it is
    /// read. So a batch may be larger than an even share, and never larger than `batch_tokens` allows.
    tokens: usize,
    /// The number of entries at which those without a caller are dropped. It is twice the number left by the last
    /// sweep, so a sweep costs a constant for each entry. Memory stays within twice what the token budget admits, even
    /// if calls come and leave faster than batches are formed.
    sweep_at: usize,
}

struct Entry {
    flight: Weak<Flight>,
    /// The number of the call, if that call is finished before the next one begins.
    call: Option<u64>,
    /// Tokens of the text. The entry has them too, because the flight may be gone.
    tokens: usize,
    arrived: Instant,
}

impl Entry {
    /// Returns the flight, if a caller waits for it and no worker has it.
    fn waiting(&self) -> Option<Arc<Flight>> {
        self.flight.upgrade().filter(|flight| !flight.is_taken())
    }
}

impl LaneQueue {
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

    /// Returns the arrival of the oldest text that a caller waits for.
    fn oldest(&mut self) -> Option<Instant> {
        while let Some(entry) = self.entries.front() {
            if entry.waiting().is_some() {
                return Some(entry.arrived);
            }
            self.pop();
        }
        None
    }

    /// Takes the oldest text and those nearest to it in length, while the padded batch (its longest length times its
    /// size) fits `budget`. Calls that are finished one after another are taken call by call. The oldest text goes even
    /// if it alone exceeds the budget.
    fn take_batch(&mut self, budget: usize) -> Vec<Job> {
        let mut window: Vec<(Entry, Arc<Flight>)> = Vec::new();
        while window.len() < WINDOW
            && let Some(entry) = self.pop()
        {
            if let Some(flight) = entry.waiting() {
                window.push((entry, flight));
            }
        }
        let candidates: Vec<_> = window.iter().map(|(entry, _)| (entry.call, entry.tokens)).collect();
        let chosen = choose_batch(&candidates, budget);
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

/// Marks the members of a batch among `candidates` (calls and tokens): the first, and those nearest to it in length
/// that fit with it. If the call of the first is to be finished first, its texts come before those of the next call,
/// and so on.
fn choose_batch(candidates: &[(Option<u64>, usize)], budget: usize) -> Vec<bool> {
    let mut chosen = vec![false; candidates.len()];
    let Some(&(first_call, first_tokens)) = candidates.first() else { return chosen };
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&at| {
        let (call, tokens) = candidates[at];
        let turn = first_call.map(|_| call.unwrap_or(u64::MAX));
        (turn, tokens.abs_diff(first_tokens)) // stable: the oldest stays first
    });
    let mut longest = 0;
    for (size, at) in order.into_iter().enumerate() {
        longest = longest.max(candidates[at].1);
        if size > 0 && longest * (size + 1) > budget {
            break;
        }
        chosen[at] = true;
    }
    chosen
}

#[cfg(test)]
mod tests;
