//! The scheduler between calls and workers: puts the batch queue behind a lock, and wakes workers.
//!
//! A batch is formed when a worker becomes free and not before, so it is the best choice among the texts that wait at
//! that moment. `batch_queue` chooses its texts, and `token_budget` bounds the waiting tokens before a text gets here.
//! A worker without a batch helps one that has a batch, until something changes: a text arrives, or a batch is
//! finished. While all workers have a batch, a worker of its own serves the express lane.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::batch_queue::{Batch, BatchQueue, CallTexts, Standing};
use super::flight::Flight;
use super::lane::Lane;
use crate::compute::Terms;
use crate::machine::team::Team;

/// The batch queue and the workers that take from it.
pub struct Scheduler {
    state: Mutex<State>,
    changed: Condvar,
    /// Wakes the worker of the express lane.
    express: Condvar,
    /// Counts the changes at which a worker that helps must look for other work.
    changes: AtomicU64,
}

struct State {
    queue: BatchQueue,
    /// The workers that have a batch.
    leading: Vec<Leading>,
    /// The number of workers, without that of the express lane.
    workers: usize,
    closed: bool,
}

impl State {
    /// True if a text of the express lane would wait for a batch to end.
    fn needs_express(&mut self) -> bool {
        self.leading.len() >= self.workers && self.queue.has_express()
    }
}

struct Leading {
    team: Arc<Team>,
    helpers: usize,
}

/// The most workers that help another one. A step of a short text takes one core ten microseconds: more threads would
/// wait for each other longer than they compute.
const MOST_HELPERS: usize = 3;

/// The next work of a worker.
pub enum Work {
    /// A batch of at least one job.
    Batch(Batch),
    /// A share of another worker's batch, while [`Scheduler::changes`] is this; then [`Scheduler::stop_helping`].
    Help(Arc<Team>, u64),
}

impl Scheduler {
    /// Creates an empty scheduler. `batch_tokens`: the most tokens in one batch, padding included. `workers`: the
    /// threads that call [`take`](Self::take).
    pub fn new(batch_tokens: usize, workers: usize) -> Self {
        let queue = BatchQueue::new(batch_tokens, workers);
        let state = State { queue, leading: Vec::new(), workers: workers.max(1), closed: false };
        let (changed, express) = (Condvar::new(), Condvar::new());
        Self { state: Mutex::new(state), changed, express, changes: AtomicU64::new(0) }
    }

    /// Records that a caller asks for `tokens` (see [`BatchQueue::ask`]).
    pub fn ask(&self, terms: Terms, tokens: usize) -> Standing {
        self.lock().queue.ask(terms, tokens)
    }

    /// Adds the texts of a call to a lane, in order (see [`BatchQueue::push`]).
    pub fn push<'a, I: IntoIterator<Item = &'a Arc<Flight>>>(&self, lane: Lane, call: CallTexts<I>) {
        let CallTexts { terms, asked, flights } = call;
        let mut flights = flights.into_iter().peekable();
        if flights.peek().is_none() {
            return; // all texts of the call are complete: no worker needs to wake
        }
        let mut state = self.lock();
        state.queue.push(lane, CallTexts { terms, asked, flights }, Instant::now());
        self.notify(state);
    }

    /// Waits for work; `None` once the scheduler is closed and empty. A worker that gets a batch leads `team` until it
    /// calls [`finish`](Self::finish).
    pub fn take(&self, team: &Arc<Team>) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if let Some(batch) = state.queue.next_batch(Instant::now()) {
                state.leading.push(Leading { team: Arc::clone(team), helpers: 0 });
                self.notify(state);
                return Some(Work::Batch(batch));
            }
            if let Some(leading) = state.leading.iter_mut().find(|leading| leading.helpers < MOST_HELPERS) {
                leading.helpers += 1;
                return Some(Work::Help(Arc::clone(&leading.team), self.changes()));
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until all workers have a batch and a text of the express lane waits; `None` once the scheduler is closed.
    pub fn take_express(&self) -> Option<Batch> {
        let mut state = self.lock();
        while !state.closed {
            if state.needs_express()
                && let Some(batch) = state.queue.next_express()
            {
                return Some(batch);
            }
            state = self.express.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// Ends the batch through which `team` was led.
    pub fn finish(&self, team: &Arc<Team>) {
        let mut state = self.lock();
        state.leading.retain(|leading| !Arc::ptr_eq(&leading.team, team));
        self.notify(state);
    }

    /// Ends the help of one worker for `team`.
    pub fn stop_helping(&self, team: &Arc<Team>) {
        let mut state = self.lock();
        // The batch may be finished, and the next one begun, before anybody helps with it.
        if let Some(leading) = state.leading.iter_mut().find(|leading| Arc::ptr_eq(&leading.team, team)) {
            leading.helpers = leading.helpers.saturating_sub(1);
        }
    }

    /// A counter that grows with every change at which workers must look for other work.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Lets workers finish the queued texts and stop.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.express.notify_all();
        self.notify(state);
    }

    /// Wakes the workers that wait or help, so that they see the change.
    fn notify(&self, mut state: MutexGuard<'_, State>) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        if state.needs_express() {
            self.express.notify_one();
        }
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock. Even after a panic the queues themselves are whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::flight::tests::flight;
    use super::*;
    use crate::compute::{Deadline, WhenFull};

    fn batch(work: Option<Work>) -> Option<usize> {
        match work {
            Some(Work::Batch(batch)) => Some(batch.jobs.len()),
            _ => None,
        }
    }

    fn alone(flight: &Arc<Flight>) -> CallTexts<[&Arc<Flight>; 1]> {
        CallTexts { terms: WhenFull::Refuse(Deadline::NONE).into(), asked: 0, flights: [flight] }
    }

    #[test]
    fn a_waiting_worker_is_woken_by_work() {
        let scheduler = Scheduler::new(1024, 1);
        let (caller, _) = flight(3);
        std::thread::scope(|threads| {
            let worker = threads.spawn(|| batch(scheduler.take(&Arc::default())));
            scheduler.push(Lane::Interactive, alone(&caller));
            assert_eq!(worker.join().unwrap(), Some(1));
        });
    }

    #[test]
    fn a_worker_without_a_batch_helps_one_that_has_a_batch_until_something_changes() {
        let scheduler = Scheduler::new(1024, 2);
        let (leader, helper) = (Arc::default(), Arc::default());
        let (first, _) = flight(3);
        scheduler.push(Lane::Interactive, alone(&first));
        assert_eq!(batch(scheduler.take(&leader)), Some(1));
        let Some(Work::Help(helped, seen)) = scheduler.take(&helper) else { panic!("there is someone to help") };
        assert!(Arc::ptr_eq(&helped, &leader) && seen == scheduler.changes());
        let (second, _) = flight(3);
        scheduler.push(Lane::Interactive, alone(&second));
        assert_ne!(seen, scheduler.changes(), "work of its own");
        scheduler.stop_helping(&helped);
        assert_eq!(batch(scheduler.take(&helper)), Some(1));
        scheduler.finish(&leader);
        scheduler.finish(&helper);
        scheduler.close();
        assert!(scheduler.take(&helper).is_none(), "nobody is left to help");
    }

    #[test]
    fn the_express_lane_has_a_worker_of_its_own_while_all_others_have_a_batch() {
        let (scheduler, leader) = (Scheduler::new(1024, 1), Arc::default());
        let [(busy, _), (quiet, _), (later, _)] = [flight(3), flight(3), flight(3)];
        scheduler.push(Lane::Interactive, alone(&busy));
        assert_eq!(batch(scheduler.take(&leader)), Some(1));
        scheduler.push(Lane::Express, alone(&quiet));
        assert_eq!(scheduler.take_express().map(|batch| batch.jobs.len()), Some(1));
        scheduler.finish(&leader);
        scheduler.push(Lane::Express, alone(&later));
        assert!(!scheduler.lock().needs_express(), "the other worker is faster");
        scheduler.close();
        assert!(scheduler.take_express().is_none());
        assert_eq!(batch(scheduler.take(&leader)), Some(1));
    }

    #[test]
    fn closing_lets_workers_finish_the_queued_texts() {
        let (scheduler, team) = (Scheduler::new(1024, 1), Arc::default());
        let (caller, _) = flight(3);
        scheduler.push(Lane::Interactive, alone(&caller));
        scheduler.close();
        assert_eq!(batch(scheduler.take(&team)), Some(1));
        scheduler.finish(&team);
        assert!(scheduler.take(&team).is_none());
    }
}
