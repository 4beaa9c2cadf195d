//! The batch queue: holds the texts that wait for the model, and forms batches of them. It uses no locks, threads or
//! clock.
//!
//! There are three lanes by the size of calls. A small call overtakes larger ones, because it delays them little.
//! Before them is the express lane, for short calls of quiet callers: those that ask for less than their share
//! ([`Shares`]). A worker may serve the express lane alone, while all others are busy.
//!
//! Inside a lane callers share the batches evenly. Each text has a turn on the clock of the lane, and the texts of a
//! caller that asks for much have later turns. Equal callers are served in the order of arrival. A batch is the text
//! with the first turn and the texts nearest to it in length, up to a budget of tokens. The texts of a unary call have
//! one turn, and those of a stream one each. Larger calls with a deadline are taken call by call, so that few calls are
//! half done at their deadline.
//!
//! Every text gets its turn. The first text of a lane always leads the batch, so a text waits for at most one batch
//! for each text before it, whatever their lengths. A lane that has work is passed over at most [`MOST_PASSED_OVER`]
//! times, and once more for each other lane that is due too. Bulk also has a turn by time ([`BULK_PATIENCE`]).
//!
//! The cost of a batch is bounded by a constant and by the number of accounts, whatever the length of the queue:
//! entries are read from the front only. An entry whose callers have left is dropped when it is read. All of them are
//! dropped when they may be half of a lane. Their tokens went back to the token budget when the callers left (see
//! [`Flight`]).

mod lane_queue;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lane_queue::{Entry, Gone, LaneQueue};

use super::flight::{Flight, Job};
use super::lane::{LANES, Lane};
use super::shares::{Limits, Shares};
use crate::compute::{Caller, Deadline, Terms, WhenFull};

/// The number of batches of other lanes after which a lane that has work goes next. Small calls are answered first, and
/// a bulk load still keeps a quarter of the machine.
const MOST_PASSED_OVER: usize = 3;

/// The time without a batch after which the bulk lane goes next, whatever its share. It is counted from the lane's last
/// batch, not from the arrival of its oldest text: a long backlog is always old, and would go before every small call.
/// 500 ms: three batches of a busy core take longer than that. A stream that is answered twice a second is seen to
/// move, and small calls wait for one batch more, twice a second.
const BULK_PATIENCE: Duration = Duration::from_millis(500);

/// The least tokens of a batch that is divided between idle workers. Below it the fixed cost of a run of the model
/// outweighs the gain.
const LEAST_BATCH_TOKENS: usize = 128;

/// The tokens by which a caller may be ahead in a lane and still has its turn in the order of arrival, as a part of a
/// batch. Equal callers differ by the lengths of their texts.
const ALLOWED_LEAD: f64 = 1.0 / 16.0;

/// The most tokens by which a caller counts as behind its share, as a part of a batch. From half of them on it is
/// quiet.
/// In simulations, equal callers of texts of different lengths are quiet by turns at a quarter of a batch, and overtake
/// each other. At a whole batch, a caller of four texts a second is found too late beside a flood of calls of 16 texts.
const MOST_LAG: f64 = 1.0 / 2.0;

/// The price of a token of a quiet call. A caller that asks for all of its share does not stay quiet.
const QUIET_PRICE: f64 = 1.25;

/// The texts of a call, as they enter a lane.
pub struct CallTexts<I> {
    /// The caller, whose share of the lane the texts use, and the deadline. With a deadline, texts are wasted work
    /// unless all of them are done in time.
    pub terms: Terms,
    /// The tokens that the caller was charged when it asked ([`BatchQueue::ask`]).
    pub asked: usize,
    /// The texts, in order.
    pub flights: I,
}

/// The standing of a call that was asked for, among the calls that wait.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standing {
    /// The tokens that the caller was charged for the call.
    pub asked: usize,
    /// The caller asks for less than its share.
    pub is_quiet: bool,
    /// The most tokens of its lane that go to the model before it, by estimate; known for calls with a deadline.
    pub before: Option<usize>,
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
    /// The shares of all lanes together.
    shares: Shares,
    batch_tokens: usize,
    workers: usize,
    /// The batches of other lanes since the last one of each lane that has work.
    passed_over: [usize; LANES],
    /// The time of the last bulk batch.
    bulk_served: Option<Instant>,
    /// The number of texts so far.
    texts: u64,
    /// Tokens that the worker of the express lane may take until another worker takes a batch.
    express_tokens: usize,
}

impl BatchQueue {
    /// Creates an empty queue. `batch_tokens`: the most tokens in one batch, padding included. `workers`: the threads
    /// that share the waiting texts.
    pub fn new(batch_tokens: usize, workers: usize) -> Self {
        Self {
            lanes: std::array::from_fn(|_| LaneQueue::new()),
            shares: Shares::new(Limits { lag: batch_tokens as f64 * MOST_LAG, lead: batch_tokens as f64 }),
            batch_tokens,
            workers: workers.max(1),
            passed_over: [0; LANES],
            bulk_served: None,
            texts: 0,
            express_tokens: express_tokens(batch_tokens),
        }
    }

    /// Records that a caller asks for `tokens`, also if the call is refused afterwards: a caller that is refused a
    /// hundred times asks for more than its share.
    pub fn ask(&mut self, terms: Terms, tokens: usize) -> Standing {
        let (caller, is_stream) = account(terms);
        let (lead, of_call) = (self.shares.lead(caller), tokens as f64);
        let is_quiet = lead <= self.batch_tokens as f64 * MOST_LAG / -2.0 && lead + of_call <= 0.0;
        let charged = self.shares.charge(caller, if is_quiet { of_call * QUIET_PRICE } else { of_call });
        let lane = if is_stream { Lane::Bulk } else { Lane::of(tokens, self.batch_tokens, is_quiet) };
        let running = self.workers * self.batch_tokens;
        let before = has_deadline(terms).then(|| self.lanes[lane as usize].shares.before(caller, tokens) + running);
        Standing { asked: if is_quiet { tokens } else { charged as usize }, is_quiet, before }
    }

    /// Adds the texts of a call to a lane, in order. A flight that waits in a later lane enters this one too, and goes
    /// with the lane that is served first. A flight that is here already, or in an earlier lane, stays as it is.
    pub fn push<'a, I>(&mut self, lane: Lane, call: CallTexts<I>, now: Instant)
    where
        I: IntoIterator<Item = &'a Arc<Flight>>,
    {
        let CallTexts { terms, asked, flights } = call;
        let flights: Vec<_> = flights.into_iter().collect();
        let tokens_of =
            |flights: &[&Arc<Flight>]| flights.iter().map(|flight| flight.tokens.ids.len()).sum::<usize>() as f64;
        let total = tokens_of(&flights);
        let entering: Vec<_> = flights.into_iter().filter(|flight| flight.advance(lane.into())).collect();
        let (caller, is_stream) = account(terms);
        // The tokens that were asked for are an estimate, and charged up to a limit alone. Texts that wait already
        // do not wait twice.
        self.shares.add_waiting(caller, (total - asked as f64).min(tokens_of(&entering)));
        let part_ahead = self.shares.part_ahead(caller, total);

        let allowed = self.batch_tokens as f64 * ALLOWED_LEAD;
        let queue = &mut self.lanes[lane as usize];
        let of_call = (queue.shares.turn(caller, allowed), self.texts);
        let is_whole = has_deadline(terms) && !matches!(lane, Lane::Express | Lane::Short);
        for flight in entering {
            let tokens = flight.tokens.ids.len();
            let turn = if is_stream { queue.shares.turn(caller, allowed) } else { of_call.0 };
            let entry = Entry {
                flight: Arc::downgrade(flight),
                call: is_whole.then_some(of_call),
                tokens,
                ahead: part_ahead * tokens as f64,
                arrived: now,
            };
            queue.shares.charge(caller, tokens as f64);
            queue.push((turn, self.texts), entry);
            self.texts += 1;
        }
        self.settle(lane);
    }

    /// Moves the clocks for the tokens that wait no longer in a lane.
    fn settle(&mut self, lane: Lane) {
        let queue = &mut self.lanes[lane as usize];
        let Gone { tokens, ahead } = std::mem::take(&mut queue.gone);
        if tokens > 0 {
            queue.shares.advance(tokens as f64);
            self.shares.advance(ahead);
        }
    }

    /// Takes the next batch; `None` if nothing waits.
    pub fn next_batch(&mut self, now: Instant) -> Option<Batch> {
        loop {
            let Some(lane) = self.next_lane(now) else {
                self.shares.advance(self.batch_tokens as f64); // the model could have computed them
                return None;
            };
            let queue = &mut self.lanes[lane as usize];
            // The waiting tokens are shared between the workers, so that no worker is idle while another has a long
            // batch.
            let budget = queue.tokens.div_ceil(self.workers).max(LEAST_BATCH_TOKENS).min(self.batch_tokens);
            let jobs = queue.take_batch(budget);
            self.settle(lane);
            if jobs.is_empty() {
                continue; // all callers left just now, and their entries are gone
            }
            if lane == Lane::Bulk {
                self.bulk_served = Some(now);
            }
            self.allow_express();
            return Some(Batch { lane, jobs });
        }
    }

    /// Lets the worker of the express lane go on: another worker has taken a batch.
    fn allow_express(&mut self) {
        self.express_tokens = express_tokens(self.batch_tokens);
    }

    /// Records that a worker has taken a batch of another model. Its callers share the workers with those of this
    /// model, so who asks for little beside them is quiet, even if nobody else asks for this model.
    pub fn another_served(&mut self) {
        self.shares.advance_for_another(self.batch_tokens as f64);
        self.allow_express();
    }

    /// Takes a batch for the worker of the express lane. For each batch of another worker it gets a quarter of a batch:
    /// the other lanes keep most of the machine.
    pub fn next_express(&mut self) -> Option<Batch> {
        if self.express_tokens == 0 {
            return None;
        }
        let jobs = self.lanes[Lane::Express as usize].take_batch(self.express_tokens);
        self.settle(Lane::Express);
        let batch = Batch { lane: Lane::Express, jobs };
        self.express_tokens = self.express_tokens.saturating_sub(batch.tokens());
        (!batch.jobs.is_empty()).then_some(batch)
    }

    /// True if the worker of the express lane has work.
    pub fn has_express(&mut self) -> bool {
        let has_work = self.express_tokens > 0 && self.lanes[Lane::Express as usize].oldest().is_some();
        self.settle(Lane::Express);
        has_work
    }

    /// Returns the lane to serve next. Counts the batch for the other lanes that have work: it passes them over.
    fn next_lane(&mut self, now: Instant) -> Option<Lane> {
        let oldest = self.lanes.each_mut().map(LaneQueue::oldest);
        Lane::ALL.into_iter().for_each(|lane| self.settle(lane));
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

/// The account of a call, and whether it is a stream.
fn account(terms: Terms) -> (Caller, bool) {
    let is_stream = terms.when_full == WhenFull::Wait;
    (if is_stream { terms.caller.of_streams() } else { terms.caller }, is_stream)
}

fn has_deadline(terms: Terms) -> bool {
    matches!(terms.when_full, WhenFull::Refuse(deadline) if deadline != Deadline::NONE)
}

#[cfg(test)]
mod tests;
