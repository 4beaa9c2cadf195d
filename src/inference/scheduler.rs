//! The scheduler between calls and workers: puts the batch queues behind a lock, and wakes workers.
//!
//! Several models may share the workers. Each has a batch queue of its own, so a batch is of one model, and [`Turns`]
//! tells which model is next. In everything below, a model is named by its number.
//!
//! A batch is formed when a worker becomes free and not before, so it is the best choice among the texts that wait at
//! that moment. `batch_queue` chooses its texts, and `token_budget` bounds the waiting tokens before a text gets here.
//! A worker without a batch helps one that has a batch, until something changes: a text arrives, or a batch is
//! finished. While all workers have a batch, a worker of its own serves the express lane.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::batch_queue::{Batch, BatchQueue, CallTexts, Standing};
use super::flight::Flight;
use super::lane::Lane;
use super::turns::{Charge, Turns};
use crate::compute::Terms;
use crate::machine::team::Team;

/// The batch queues and the workers that take from them.
pub struct Scheduler {
    state: Mutex<State>,
    changed: Condvar,
    /// Wakes the worker of the express lane.
    express: Condvar,
    /// Counts the changes at which a worker that helps must look for other work.
    changes: AtomicU64,
}

struct State {
    /// The queue of each model.
    queues: Vec<BatchQueue>,
    turns: Turns,
    /// The workers that have a batch.
    leading: Vec<Leading>,
    /// The number of workers, without that of the express lane.
    workers: usize,
    closed: bool,
}

impl State {
    /// True if a text of the express lane would wait for a batch to end.
    fn needs_express(&mut self) -> bool {
        self.leading.len() >= self.workers && self.queues.iter_mut().any(BatchQueue::has_express)
    }

    /// Takes the next batch by `next`, of the first model in the order of turns that has one.
    fn next(&mut self, next: impl Fn(&mut BatchQueue) -> Option<Batch>) -> Option<Turn> {
        let order = if self.queues.len() == 1 { vec![0] } else { self.turns.order() };
        order.into_iter().find_map(|model| {
            let batch = next(&mut self.queues[model])?;
            let charge = self.turns.begin(model, batch.tokens());
            Some(Turn { model, batch, charge })
        })
    }
}

/// A batch of a model that has its turn.
pub struct Turn {
    /// The model.
    pub model: usize,
    /// At least one job.
    pub batch: Batch,
    charge: Charge,
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
    /// A batch of its own.
    Batch(Turn),
    /// A share of another worker's batch, while [`Scheduler::changes`] is this; then [`Scheduler::stop_helping`].
    Help(Arc<Team>, u64),
}

impl Scheduler {
    /// Creates an empty scheduler. `batch_tokens`: the most tokens in one batch of each model, padding included.
    /// `workers`: the threads that call [`take`](Self::take).
    pub fn new(batch_tokens: &[usize], workers: usize) -> Self {
        let queues: Vec<BatchQueue> = batch_tokens.iter().map(|tokens| BatchQueue::new(*tokens, workers)).collect();
        let turns = Turns::new(queues.len());
        let state = State { queues, turns, leading: Vec::new(), workers: workers.max(1), closed: false };
        let (changed, express) = (Condvar::new(), Condvar::new());
        Self { state: Mutex::new(state), changed, express, changes: AtomicU64::new(0) }
    }

    /// Records that a caller asks for `tokens` (see [`BatchQueue::ask`]).
    pub fn ask(&self, model: usize, terms: Terms, tokens: usize) -> Standing {
        self.lock().queues[model].ask(terms, tokens)
    }

    /// Adds the texts of a call to a lane, in order (see [`BatchQueue::push`]).
    pub fn push<'a, I: IntoIterator<Item = &'a Arc<Flight>>>(&self, model: usize, lane: Lane, call: CallTexts<I>) {
        let CallTexts { terms, asked, flights } = call;
        let mut flights = flights.into_iter().peekable();
        if flights.peek().is_none() {
            return; // all texts of the call are complete: no worker needs to wake
        }
        let mut state = self.lock();
        state.turns.arrived(model);
        state.queues[model].push(lane, CallTexts { terms, asked, flights }, Instant::now());
        self.notify(state);
    }

    /// Waits for work; `None` once the scheduler is closed and empty. A worker has a team for each model. When it gets
    /// a batch, it leads the team of its model until it calls [`finish`](Self::finish).
    pub fn take(&self, teams: &[Arc<Team>]) -> Option<Work> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if let Some(turn) = state.next(|queue| queue.next_batch(now)) {
                state.leading.push(Leading { team: Arc::clone(&teams[turn.model]), helpers: 0 });
                let others = state.queues.iter_mut().enumerate().filter(|(model, _)| *model != turn.model);
                others.for_each(|(_, queue)| queue.another_served());
                self.notify(state);
                return Some(Work::Batch(turn));
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
    pub fn take_express(&self) -> Option<Turn> {
        let mut state = self.lock();
        while !state.closed {
            if state.needs_express()
                && let Some(turn) = state.next(BatchQueue::next_express)
            {
                return Some(turn);
            }
            state = self.express.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// Ends a batch that took this time, through which a team of `teams` was led.
    pub fn finish(&self, turn: &Turn, teams: &[Arc<Team>], took: Duration) {
        let mut state = self.lock();
        state.turns.end(turn.model, turn.charge, took);
        state.leading.retain(|leading| !Arc::ptr_eq(&leading.team, &teams[turn.model]));
        self.notify(state);
    }

    /// Ends a batch of the express lane that took this time.
    pub fn finish_express(&self, turn: &Turn, took: Duration) {
        self.lock().turns.end(turn.model, turn.charge, took);
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

    /// A worker, with a team for each of two models.
    #[derive(Default)]
    struct Worker {
        teams: [Arc<Team>; 2],
        turn: std::cell::RefCell<Option<Turn>>,
    }

    impl Worker {
        /// Takes a batch, and returns its model and the number of its texts.
        fn takes(&self, scheduler: &Scheduler) -> Option<(usize, usize)> {
            let Some(Work::Batch(turn)) = scheduler.take(&self.teams) else { return None };
            let taken = (turn.model, turn.batch.jobs.len());
            *self.turn.borrow_mut() = Some(turn);
            Some(taken)
        }

        fn finishes(&self, scheduler: &Scheduler, took: Duration) {
            let turn = self.turn.take().expect("it has a batch");
            scheduler.finish(&turn, &self.teams, took);
        }
    }

    const MOMENT: Duration = Duration::from_millis(1);

    fn alone(flight: &Arc<Flight>) -> CallTexts<[&Arc<Flight>; 1]> {
        CallTexts { terms: WhenFull::Refuse(Deadline::NONE).into(), asked: 0, flights: [flight] }
    }

    #[test]
    fn a_waiting_worker_is_woken_by_work() {
        let scheduler = Scheduler::new(&[1024], 1);
        let (caller, _) = flight(3);
        std::thread::scope(|threads| {
            let worker = threads.spawn(|| Worker::default().takes(&scheduler));
            scheduler.push(0, Lane::Interactive, alone(&caller));
            assert_eq!(worker.join().unwrap(), Some((0, 1)));
        });
    }

    #[test]
    fn a_worker_without_a_batch_helps_one_that_has_a_batch_until_something_changes() {
        let scheduler = Scheduler::new(&[1024], 2);
        let (leader, helper) = (Worker::default(), Worker::default());
        let (first, _) = flight(3);
        scheduler.push(0, Lane::Interactive, alone(&first));
        assert_eq!(leader.takes(&scheduler), Some((0, 1)));
        let Some(Work::Help(helped, seen)) = scheduler.take(&helper.teams) else { panic!("there is someone to help") };
        assert!(Arc::ptr_eq(&helped, &leader.teams[0]) && seen == scheduler.changes());
        let (second, _) = flight(3);
        scheduler.push(0, Lane::Interactive, alone(&second));
        assert_ne!(seen, scheduler.changes(), "work of its own");
        scheduler.stop_helping(&helped);
        assert_eq!(helper.takes(&scheduler), Some((0, 1)));
        leader.finishes(&scheduler, MOMENT);
        helper.finishes(&scheduler, MOMENT);
        scheduler.close();
        assert!(scheduler.take(&helper.teams).is_none(), "nobody is left to help");
    }

    #[test]
    fn the_express_lane_has_a_worker_of_its_own_while_all_others_have_a_batch() {
        let (scheduler, leader) = (Scheduler::new(&[1024], 1), Worker::default());
        let [(busy, _), (quiet, _), (later, _)] = [flight(3), flight(3), flight(3)];
        scheduler.push(0, Lane::Interactive, alone(&busy));
        assert_eq!(leader.takes(&scheduler), Some((0, 1)));
        scheduler.push(0, Lane::Express, alone(&quiet));
        assert_eq!(scheduler.take_express().map(|turn| turn.batch.jobs.len()), Some(1));
        leader.finishes(&scheduler, MOMENT);
        scheduler.push(0, Lane::Express, alone(&later));
        assert!(!scheduler.lock().needs_express(), "the other worker is faster");
        scheduler.close();
        assert!(scheduler.take_express().is_none());
        assert_eq!(leader.takes(&scheduler), Some((0, 1)));
    }

    #[test]
    fn a_batch_of_another_model_lets_the_express_worker_go_on() {
        let (scheduler, leader) = (Scheduler::new(&[8, 8], 1), Worker::default());
        let flights: Vec<_> = (0..4).map(|_| flight(3).0).collect();
        for of_both in flights.chunks(2) {
            scheduler.push(1, Lane::Interactive, alone(&of_both[0]));
            assert_eq!(leader.takes(&scheduler), Some((1, 1)));
            scheduler.push(0, Lane::Express, alone(&of_both[1]));
            assert!(scheduler.lock().needs_express());
            let express = scheduler.take_express().expect("all workers have a batch");
            scheduler.finish_express(&express, MOMENT);
            leader.finishes(&scheduler, MOMENT);
        }
    }

    #[test]
    fn the_only_caller_of_a_model_is_quiet_beside_the_load_of_another_model() {
        let (scheduler, leader) = (Scheduler::new(&[64, 64], 1), Worker::default());
        let terms = Terms::from(WhenFull::Refuse(Deadline::NONE));
        let flights: Vec<_> = (0..64).map(|_| flight(8).0).collect();
        for of_load in flights.chunks(2) {
            scheduler.push(1, Lane::Bulk, alone(&of_load[0]));
            assert_eq!(leader.takes(&scheduler), Some((1, 1)));
            let standing = scheduler.ask(0, terms, 8);
            assert!(standing.is_quiet);
            let call = CallTexts { terms, asked: standing.asked, flights: [&of_load[1]] };
            scheduler.push(0, Lane::Express, call);
            let express = scheduler.take_express().expect("all workers have a batch");
            scheduler.finish_express(&express, MOMENT);
            leader.finishes(&scheduler, MOMENT);
        }
    }

    #[test]
    fn closing_lets_workers_finish_the_queued_texts() {
        let (scheduler, team) = (Scheduler::new(&[1024], 1), Worker::default());
        let (caller, _) = flight(3);
        scheduler.push(0, Lane::Interactive, alone(&caller));
        scheduler.close();
        assert_eq!(team.takes(&scheduler), Some((0, 1)));
        team.finishes(&scheduler, MOMENT);
        assert!(scheduler.take(&team.teams).is_none());
    }

    #[test]
    fn batches_are_of_one_model_and_models_with_work_share_a_worker_evenly_in_time() {
        let (scheduler, worker) = (Scheduler::new(&[8, 8], 1), Worker::default());
        let flights: Vec<_> = (0..200).map(|_| flight(8).0).collect();
        let (of_slow, of_fast) = flights.split_at(100);
        for (slow, fast) in of_slow.iter().zip(of_fast) {
            scheduler.push(0, Lane::Bulk, alone(slow));
            scheduler.push(1, Lane::Interactive, alone(fast));
        }
        let mut taken = [0_u32; 2];
        for _ in 0..60 {
            let (model, texts) = worker.takes(&scheduler).expect("there is work");
            let took = [5 * MOMENT, MOMENT][model];
            worker.finishes(&scheduler, took);
            taken[model] += texts as u32;
        }
        assert!(taken[0].abs_diff(10) <= 1, "{taken:?}: a text of the first takes five times as long");
    }

    #[test]
    fn a_helper_helps_with_the_batch_of_any_model_and_the_express_lane_of_each_is_served() {
        let (scheduler, leader, helper) = (Scheduler::new(&[8, 8], 1), Worker::default(), Worker::default());
        let [(busy, _), (quiet, _)] = [flight(3), flight(3)];
        scheduler.push(1, Lane::Interactive, alone(&busy));
        assert_eq!(leader.takes(&scheduler), Some((1, 1)));
        let Some(Work::Help(helped, _)) = scheduler.take(&helper.teams) else { panic!("there is someone to help") };
        assert!(Arc::ptr_eq(&helped, &leader.teams[1]));
        scheduler.push(0, Lane::Express, alone(&quiet));
        let express = scheduler.take_express().expect("all workers have a batch");
        assert_eq!((express.model, express.batch.jobs.len()), (0, 1));
        scheduler.finish_express(&express, MOMENT);
    }
}
