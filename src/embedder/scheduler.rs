//! Between calls and workers: the lanes behind a lock, and a bell that wakes workers.
//!
//! A batch is cut when a worker becomes free and not before, so it holds the best of what is waiting
//! at that moment. What goes into it is decided in `lanes`; how much may wait, before a text gets
//! here (see `Room`).

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::flight::{Flight, Job};
use super::lanes::{Lane, Lanes};

/// The lanes between calls and workers.
pub struct Scheduler {
    state: Mutex<State>,
    arrived: Condvar,
}

struct State {
    lanes: Lanes,
    closed: bool,
}

impl Scheduler {
    /// `batch_tokens`: the most tokens in one batch, padding included. `workers`: threads that call [`take`](Self::take).
    pub fn new(batch_tokens: usize, workers: usize) -> Self {
        let state = State { lanes: Lanes::new(batch_tokens, workers), closed: false };
        Self { state: Mutex::new(state), arrived: Condvar::new() }
    }

    /// Adds flights to a lane, in order (see [`Lanes::push`]).
    pub fn push<'a>(&self, lane: Lane, flights: impl IntoIterator<Item = &'a Arc<Flight>>) {
        self.lock().lanes.push(lane, flights, Instant::now());
        self.arrived.notify_all();
    }

    /// Waits for work and cuts a batch of one job or more. `None` once closed and empty.
    pub fn take(&self) -> Option<Vec<Job>> {
        let mut state = self.lock();
        loop {
            if let Some(batch) = state.lanes.cut(Instant::now()) {
                return Some(batch);
            }
            if state.closed {
                return None;
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets workers finish what is queued and stop.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
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

    #[test]
    fn a_worker_that_waits_is_woken_by_work() {
        let scheduler = Scheduler::new(1024, 1);
        let (caller, _) = flight(3);
        std::thread::scope(|threads| {
            let worker = threads.spawn(|| scheduler.take().map(|batch| batch.len()));
            scheduler.push(Lane::Interactive, [&caller]);
            assert_eq!(worker.join().unwrap(), Some(1));
        });
    }

    #[test]
    fn closing_lets_workers_finish_what_is_queued() {
        let scheduler = Scheduler::new(1024, 1);
        let (caller, _) = flight(3);
        scheduler.push(Lane::Interactive, [&caller]);
        scheduler.close();
        assert!(scheduler.take().is_some());
        assert!(scheduler.take().is_none());
    }
}
