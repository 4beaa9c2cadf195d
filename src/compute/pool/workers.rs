//! The threads of a pool and the queue that they share.
//!
//! Invariants: no lock is held while a task runs or is dropped, and nothing panics while it holds the lock. A
//! thread that holds the lock of an account takes no other lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::compute::deadline::Deadline;
use crate::compute::queue::Queue;
use crate::compute::refused::Refused;
use crate::compute::task::{Call, Progress, Task};
use crate::machine::priority;

/// The time that a task runs while others wait. 2 ms: a dozen searches through a graph, and the longest that a short
/// call waits for an earlier one.
pub const SLICE: Duration = Duration::from_millis(2);

/// The weight of one call when the ratio of measured to estimated cost is updated.
const LEARNING: f64 = 0.05;

/// The settings of the threads; see [`super::Options`].
pub(super) struct Settings {
    pub name: &'static str,
    pub threads: usize,
    pub calls: usize,
    pub nice: i32,
    /// The time after which a task moves to the workers for long work.
    pub long: Option<(Duration, Arc<Workers>)>,
}

/// The threads of a pool, and the state that they share.
pub(super) struct Workers {
    pub settings: Settings,
    state: Mutex<State>,
    woken: Condvar,
    /// One permit for each call that the pool accepts.
    pub permits: Arc<Semaphore>,
}

struct State {
    queue: Queue<Task>,
    threads: usize,
    idle: usize,
    running: usize,
    closed: bool,
    /// The measured cost of a call, divided by its estimate; averaged over the last calls.
    cost_ratio: f64,
}

impl Workers {
    pub fn new(settings: Settings) -> Arc<Self> {
        let calls = settings.calls.clamp(1, Semaphore::MAX_PERMITS);
        let state = State { queue: Queue::default(), threads: 0, idle: 0, running: 0, closed: false, cost_ratio: 1.0 };
        let settings = Settings { calls, threads: settings.threads.max(1), ..settings };
        Arc::new(Self {
            settings,
            state: Mutex::new(state),
            woken: Condvar::new(),
            permits: Arc::new(Semaphore::new(calls)),
        })
    }

    /// Ends the threads and drops the queued tasks.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let left = state.queue.clear();
        drop(state);
        self.woken.notify_all();
        drop(left);
    }

    /// Calls that run or wait.
    pub fn calls(&self) -> usize {
        self.settings.calls - self.permits.available_permits()
    }

    /// Refuses a call that would end after its deadline.
    pub fn check(&self, deadline: Deadline, cost: Duration) -> Result<(), Refused> {
        let Some(left) = deadline.left() else { return Ok(()) };
        let calls = self.calls();
        let needed = self.expected_time(cost, calls + 1);
        // A call that is alone is tried: only a measurement can correct a wrong estimate.
        if calls == 0 || needed <= left { Ok(()) } else { Err(Refused::TooLate { calls, needed, left }) }
    }

    /// The expected time until a call with the estimate `cost` is done, while `calls` calls share the threads.
    pub fn expected_time(&self, cost: Duration, calls: usize) -> Duration {
        let ratio = self.lock().cost_ratio;
        let calls_per_thread = (calls as f64 / self.settings.threads as f64).max(1.0);
        Duration::from_secs_f64((cost.as_secs_f64() * ratio * calls_per_thread).clamp(0.001, 3600.0))
    }

    /// Adjusts the ratio of measured to estimated cost.
    pub fn learn(&self, estimated: Duration, measured: Duration) {
        if measured.is_zero() {
            return; // The call never started.
        }
        let ratio = measured.as_secs_f64() / estimated.as_secs_f64().max(1e-6);
        let mut state = self.lock();
        state.cost_ratio += LEARNING * (ratio - state.cost_ratio);
    }

    /// Queues a task, and starts a thread if all are busy.
    pub fn push(self: &Arc<Self>, task: Task) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let cost = task.cost.min(SLICE);
        let call = Arc::clone(&task.call);
        state.queue.push(task, &mut call.account().service, cost);
        if state.queue.len() > state.idle && state.threads < self.settings.threads {
            state.threads += 1;
            let name = format!("{}-{}", self.settings.name, state.threads - 1);
            let workers = Arc::clone(self);
            if let Err(error) = std::thread::Builder::new().name(name).spawn(move || workers.work()) {
                state.threads -= 1;
                tracing::error!(%error, pool = self.settings.name, "cannot start a thread");
                // Without any thread, the queued tasks would wait for ever.
                let left = if state.threads == 0 { state.queue.clear() } else { Vec::new() };
                drop(state);
                drop(left);
            }
        } else {
            drop(state);
            self.woken.notify_one();
        }
    }

    /// Removes the queued tasks of a call.
    pub fn forget(&self, call: &Arc<Call>) {
        let mut state = self.lock();
        if state.queue.len() == 0 {
            return;
        }
        let left = state.queue.remove(|task| Arc::ptr_eq(&task.call, call));
        drop(state);
        drop(left);
    }

    /// Runs tasks until the pool closes: the body of each thread.
    fn work(self: Arc<Self>) {
        if self.settings.nice > 0 {
            priority::lower(self.settings.nice);
        }
        let mut state = self.lock();
        loop {
            if state.closed {
                return;
            }
            let Some(task) = state.queue.pop() else {
                state.idle += 1;
                state = self.woken.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            state.running += 1;
            drop(state);
            let (call, cost) = (Arc::clone(&task.call), task.cost.min(SLICE));
            let begun = Instant::now();
            let unfinished = self.turn(task, begun);
            let elapsed = begun.elapsed();
            state = self.lock();
            let running = state.running;
            {
                let mut account = call.account();
                account.total += elapsed;
                state.queue.served(&mut account.service, cost, elapsed, running);
            }
            state.running -= 1;
            if let Some(task) = unfinished {
                drop(state);
                self.requeue(task);
                state = self.lock();
            }
        }
    }

    /// Runs steps of a task until it is done, or until its slice is over and others wait. Returns the task if it is not
    /// done.
    fn turn(&self, mut task: Task, begun: Instant) -> Option<Task> {
        let stop = task.call.stop.clone();
        while !stop.is_raised() {
            match catch_unwind(AssertUnwindSafe(|| (task.steps)(&stop))) {
                Ok(Progress::Done) => return None,
                Ok(Progress::More) if begun.elapsed() < SLICE => {}
                Ok(Progress::More) => return Some(task),
                Err(_) => {
                    tracing::error!(pool = self.settings.name, "a computation panicked");
                    return None;
                }
            }
        }
        None
    }

    /// Queues a task again: here, or in the pool for long work.
    fn requeue(self: &Arc<Self>, task: Task) {
        if let Some((most, long)) = &self.settings.long
            && task.call.account().total > *most
        {
            task.call.becomes_long();
            return long.push(task);
        }
        self.push(task);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
