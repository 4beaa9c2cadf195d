//! Between calls and workers: the lanes behind a lock, and a bell that wakes workers.
//!
//! A batch is cut when a worker becomes free and not before, so it holds the best of what is waiting
//! at that moment. What goes into it is decided in `lanes`; how much may wait, before a text gets
//! here (see `TokenBudget`). A worker for which nothing is left helps one that has a batch, until there is
//! news: a text arrives, a batch is finished.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::batch_queue::{Batch, BatchQueue, CallTexts};
use super::flight::Flight;
use super::lane::Lane;
use crate::machine::team::Team;

/// The lanes between calls and workers.
pub struct Scheduler {
    state: Mutex<State>,
    changed: Condvar,
    /// Counts what a worker that helps must look up for.
    news: AtomicU64,
}

struct State {
    queue: BatchQueue,
    /// The workers that have a batch.
    leading: Vec<Leading>,
    closed: bool,
}

struct Leading {
    team: Arc<Team>,
    helpers: usize,
}

/// Workers that help one other at most. A step of a short text is ten microseconds of work for one core: more threads
/// would wait for each other longer than they compute.
const MOST_HELPERS: usize = 3;

/// What a worker does next.
pub enum Work {
    /// One job or more, through the model together.
    Batch(Batch),
    /// Its share of another's batch, while the count of [`Scheduler::news`] is this; then [`Scheduler::stop_helping`].
    Help(Arc<Team>, u64),
}

impl Scheduler {
    /// `batch_tokens`: the most tokens in one batch, padding included. `workers`: threads that call [`take`](Self::take).
    pub fn new(batch_tokens: usize, workers: usize) -> Self {
        let state = State { queue: BatchQueue::new(batch_tokens, workers), leading: Vec::new(), closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), news: AtomicU64::new(0) }
    }

    /// Adds the texts of a call to a lane, in order (see [`BatchQueue::push`]).
    pub fn push<'a, I: IntoIterator<Item = &'a Arc<Flight>>>(&self, lane: Lane, call: CallTexts<I>) {
        let CallTexts { flights, has_deadline } = call;
        let mut flights = flights.into_iter().peekable();
        if flights.peek().is_none() {
            return; // all that the call asked for is kept: no worker is to wake for it
        }
        let mut state = self.lock();
        state.queue.push(lane, CallTexts { flights, has_deadline }, Instant::now());
        self.tell(state);
    }

    /// Waits for work. `None` once closed and empty. A worker that gets a batch leads `team` until it says
    /// [`finish`](Self::finish).
    pub fn take(&self, team: &Arc<Team>) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if let Some(batch) = state.queue.next_batch(Instant::now()) {
                state.leading.push(Leading { team: Arc::clone(team), helpers: 0 });
                self.tell(state);
                return Some(Work::Batch(batch));
            }
            if let Some(leading) = state.leading.iter_mut().find(|leading| leading.helpers < MOST_HELPERS) {
                leading.helpers += 1;
                return Some(Work::Help(Arc::clone(&leading.team), self.news()));
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The batch that `team` was led through is done.
    pub fn finish(&self, team: &Arc<Team>) {
        let mut state = self.lock();
        state.leading.retain(|leading| !Arc::ptr_eq(&leading.team, team));
        self.tell(state);
    }

    /// A worker that helped `team` does so no more.
    pub fn stop_helping(&self, team: &Arc<Team>) {
        let mut state = self.lock();
        // The batch may be finished, and another begun since, which nobody has come to help yet.
        if let Some(leading) = state.leading.iter_mut().find(|leading| Arc::ptr_eq(&leading.team, team)) {
            leading.helpers = leading.helpers.saturating_sub(1);
        }
    }

    /// Changes with everything that workers must look up for.
    pub fn news(&self) -> u64 {
        self.news.load(Ordering::Relaxed)
    }

    /// Lets workers finish what is queued and stop.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.tell(state);
    }

    /// Wakes whoever waits or helps, to look at what has changed.
    fn tell(&self, state: MutexGuard<'_, State>) {
        self.news.fetch_add(1, Ordering::Relaxed);
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; were it so, the queues themselves are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::flight::tests::flight;
    use super::*;

    fn batch(work: Option<Work>) -> Option<usize> {
        match work {
            Some(Work::Batch(batch)) => Some(batch.jobs.len()),
            _ => None,
        }
    }

    fn alone(flight: &Arc<Flight>) -> CallTexts<[&Arc<Flight>; 1]> {
        CallTexts { flights: [flight], has_deadline: false }
    }

    #[test]
    fn a_worker_that_waits_is_woken_by_work() {
        let scheduler = Scheduler::new(1024, 1);
        let (caller, _) = flight(3);
        std::thread::scope(|threads| {
            let worker = threads.spawn(|| batch(scheduler.take(&Arc::default())));
            scheduler.push(Lane::Interactive, alone(&caller));
            assert_eq!(worker.join().unwrap(), Some(1));
        });
    }

    #[test]
    fn a_worker_without_a_batch_helps_one_that_has_until_there_is_news() {
        let scheduler = Scheduler::new(1024, 2);
        let (leader, helper) = (Arc::default(), Arc::default());
        let (first, _) = flight(3);
        scheduler.push(Lane::Interactive, alone(&first));
        assert_eq!(batch(scheduler.take(&leader)), Some(1));
        let Some(Work::Help(helped, news)) = scheduler.take(&helper) else { panic!("there is someone to help") };
        assert!(Arc::ptr_eq(&helped, &leader) && news == scheduler.news());
        let (second, _) = flight(3);
        scheduler.push(Lane::Interactive, alone(&second));
        assert_ne!(news, scheduler.news(), "work of its own");
        scheduler.stop_helping(&helped);
        assert_eq!(batch(scheduler.take(&helper)), Some(1));
        scheduler.finish(&leader);
        scheduler.finish(&helper);
        scheduler.close();
        assert!(scheduler.take(&helper).is_none(), "nobody is left to help");
    }

    #[test]
    fn closing_lets_workers_finish_what_is_queued() {
        let (scheduler, team) = (Scheduler::new(1024, 1), Arc::default());
        let (caller, _) = flight(3);
        scheduler.push(Lane::Interactive, alone(&caller));
        scheduler.close();
        assert_eq!(batch(scheduler.take(&team)), Some(1));
        scheduler.finish(&team);
        assert!(scheduler.take(&team).is_none());
    }
}
