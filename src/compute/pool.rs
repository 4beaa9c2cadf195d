//! Threads that compute for calls: a fixed number of them, fair between calls.
//!
//! A call takes one of a bounded number of places, or is refused. Its tasks are done in steps: after [`SLICE`] a task
//! gives way to those that wait. A call that has taken long goes on in the pool for long work, so that it never holds
//! the threads that short ones need.
//!
//! Invariants: dropping the future of a call takes its tasks out of the queue and raises the [`Stop`] of those that
//! run; a panic ends a task and not a thread. Threads are started when they are needed first.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::deadline::{Deadline, WhenFull};
use super::queue::Queue;
use super::stop::Stop;
use super::task::{Call, Progress, Steps, Task};
use crate::kernel::priority;

/// How long a task goes on while others wait. 2 ms: a dozen searches through a graph, and the longest that a short call
/// waits for one that came before.
const SLICE: Duration = Duration::from_millis(2);

/// Items that are worth a thread of their own: four exact searches among 9,000 documents take 2 ms, by far more than
/// waking one does, and a call of a few queries stays in one place.
const ITEMS_PER_THREAD: usize = 4;

/// How much of the difference between a call's cost and its estimate is learned from one call.
const LEARNING: f64 = 0.05;

/// How a pool runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// What its threads are called.
    pub name: &'static str,
    /// The most threads.
    pub threads: usize,
    /// Calls that are computed or wait at one time; more are refused.
    pub calls: usize,
    /// How much its threads give way to others (nice(2)).
    pub nice: i32,
    /// Where calls go on that have taken longer than this; `None`: they stay.
    pub long: Option<(Duration, Pool)>,
}

/// A pool of threads. Clones are the same pool; the threads end with the last of them.
#[derive(Clone)]
pub struct Pool(Arc<Handle>);

/// Why there is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// All places are taken.
    #[error("{limit} calls are being computed or wait for it: try again later")]
    Full {
        /// Calls that the pool takes at one time.
        limit: usize,
        /// When there should be room.
        retry_after: Duration,
    },
    /// It would end after the caller's deadline.
    #[error(
        "the deadline is in {left:?}, and with {calls} other calls to compute this one needs about {needed:?}: \
         ask for less, or try again later"
    )]
    TooLate {
        /// Calls before it.
        calls: usize,
        /// Time that it would need.
        needed: Duration,
        /// Time that its caller waits.
        left: Duration,
    },
    /// The computation has a mistake; it is in the log.
    #[error("the computation panicked")]
    Panicked,
}

impl Refused {
    /// When to try again, where that may help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full { retry_after, .. } => Some(*retry_after),
            Self::TooLate { needed, left, .. } => Some(needed.saturating_sub(*left)),
            Self::Panicked => None,
        }
    }
}

/// Closes the pool when the last clone is gone.
struct Handle(Arc<Shared>);

struct Shared {
    options: Options,
    state: Mutex<State>,
    woken: Condvar,
    places: Arc<Semaphore>,
}

struct State {
    queue: Queue<Task>,
    threads: usize,
    idle: usize,
    running: usize,
    closed: bool,
    /// Measured cost of a call for each second that was estimated.
    cost_ratio: f64,
}

/// A call's place in a pool. Dropping it stops what the call has there.
struct Ticket {
    shared: Arc<Shared>,
    call: Arc<Call>,
    cost: Duration,
    _place: OwnedSemaphorePermit,
}

impl Pool {
    /// A pool without threads: they are started when there is work for them.
    pub fn new(options: Options) -> Self {
        let calls = options.calls.clamp(1, Semaphore::MAX_PERMITS);
        let state = State { queue: Queue::default(), threads: 0, idle: 0, running: 0, closed: false, cost_ratio: 1.0 };
        let options = Options { calls, threads: options.threads.max(1), ..options };
        Self(Arc::new(Handle(Arc::new(Shared {
            options,
            state: Mutex::new(state),
            woken: Condvar::new(),
            places: Arc::new(Semaphore::new(calls)),
        }))))
    }

    /// Computes `work`, whose cost is estimated at `cost`, in one of the threads. Dropping the future tells it to stop.
    pub async fn run<T: Send + 'static>(
        &self,
        when_full: WhenFull,
        cost: Duration,
        work: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let ticket = self.enter(when_full, cost).await?;
        let (done, result) = oneshot::channel();
        let mut once = Some((work, done));
        ticket.begin(cost, move |stop| {
            if let Some((work, done)) = once.take() {
                // An error means that the caller has gone.
                let _ = done.send(work(stop));
            }
            Progress::Done
        });
        result.await.map_err(|_| Refused::Panicked)
    }

    /// [`Pool::run`] for each item, results in the order of the items. Many items are shared out among the threads.
    /// `cost`: of one item.
    pub async fn run_each<I, T>(
        &self,
        when_full: WhenFull,
        cost: Duration,
        items: Vec<I>,
        work: impl Fn(I, &Stop) -> T + Send + Sync + 'static,
    ) -> Result<Vec<T>, Refused>
    where
        I: Send + 'static,
        T: Send + 'static,
    {
        let n_items = items.len();
        let of_items = |n: usize| cost.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX));
        let ticket = self.enter(when_full, of_items(n_items)).await?;
        let work = Arc::new(work);
        let parts = shared_out(items, self.0.0.options.threads).into_iter().map(|part| {
            let (done, result) = oneshot::channel();
            let (work, cost) = (Arc::clone(&work), of_items(part.len()));
            let mut results = Vec::with_capacity(part.len());
            let (mut items, mut done) = (part.into_iter(), Some(done));
            ticket.begin(cost, move |stop| {
                results.extend(items.next().map(|item| work(item, stop)));
                if items.len() > 0 {
                    return Progress::More;
                }
                let _ = done.take().map(|done| done.send(std::mem::take(&mut results)));
                Progress::Done
            });
            result
        });
        let parts: Vec<oneshot::Receiver<Vec<T>>> = parts.collect();
        let mut all = Vec::with_capacity(n_items);
        for part in parts {
            all.extend(part.await.map_err(|_| Refused::Panicked)?);
        }
        Ok(all)
    }

    /// Calls that are computed or wait.
    pub fn calls(&self) -> usize {
        self.0.0.calls()
    }

    async fn enter(&self, when_full: WhenFull, cost: Duration) -> Result<Ticket, Refused> {
        let shared = &self.0.0;
        let places = Arc::clone(&shared.places);
        let place = match when_full {
            WhenFull::Refuse(deadline) => {
                shared.check(deadline, cost)?;
                let limit = shared.options.calls;
                let full = |_| Refused::Full { limit, retry_after: shared.share_of(cost, limit) };
                places.try_acquire_owned().map_err(full)?
            }
            WhenFull::Wait => places.acquire_owned().await.expect("the semaphore is never closed"),
        };
        Ok(Ticket { shared: Arc::clone(shared), call: Call::new(), cost, _place: place })
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pool").field(&self.0.0.options.name).finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        let left = state.queue.clear();
        drop(state);
        self.0.woken.notify_all();
        drop(left);
    }
}

impl Ticket {
    /// Queues a task of the call.
    fn begin(&self, cost: Duration, steps: impl FnMut(&Stop) -> Progress + Send + 'static) {
        let steps: Steps = Box::new(steps);
        self.shared.push(Task { call: Arc::clone(&self.call), cost, steps });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.call.stop.raise();
        self.shared.forget(&self.call);
        if let Some((_, long)) = &self.shared.options.long {
            long.0.0.forget(&self.call);
        }
        self.shared.learn(self.cost, self.call.account().total);
    }
}

impl Shared {
    fn calls(&self) -> usize {
        self.options.calls - self.places.available_permits()
    }

    /// Refuses a call that would end after its deadline.
    fn check(&self, deadline: Deadline, cost: Duration) -> Result<(), Refused> {
        let Some(left) = deadline.left() else { return Ok(()) };
        let calls = self.calls();
        let needed = self.share_of(cost, calls + 1);
        // A call that is alone is tried: only so is it learned what it costs.
        if calls == 0 || needed <= left { Ok(()) } else { Err(Refused::TooLate { calls, needed, left }) }
    }

    /// Time until a call is done that was estimated at `cost`, where so many `calls` share the threads.
    fn share_of(&self, cost: Duration, calls: usize) -> Duration {
        let ratio = self.lock().cost_ratio;
        let sharers = (calls as f64 / self.options.threads as f64).max(1.0);
        Duration::from_secs_f64((cost.as_secs_f64() * ratio * sharers).clamp(0.001, 3600.0))
    }

    fn learn(&self, estimated: Duration, measured: Duration) {
        if measured.is_zero() {
            return; // It was never begun.
        }
        let ratio = measured.as_secs_f64() / estimated.as_secs_f64().max(1e-6);
        let mut state = self.lock();
        state.cost_ratio += LEARNING * (ratio - state.cost_ratio);
    }

    fn push(self: &Arc<Self>, task: Task) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let cost = task.cost.min(SLICE);
        let call = Arc::clone(&task.call);
        state.queue.push(task, &mut call.account().service, cost);
        if state.queue.len() > state.idle && state.threads < self.options.threads {
            state.threads += 1;
            let name = format!("{}-{}", self.options.name, state.threads - 1);
            let shared = Arc::clone(self);
            if let Err(error) = std::thread::Builder::new().name(name).spawn(move || shared.work()) {
                state.threads -= 1;
                tracing::error!(%error, pool = self.options.name, "cannot start a thread");
                // Without any thread its tasks would wait for ever.
                let left = if state.threads == 0 { state.queue.clear() } else { Vec::new() };
                drop(state);
                drop(left);
            }
        } else {
            drop(state);
            self.woken.notify_one();
        }
    }

    /// Takes what a call has here out of the queue.
    fn forget(&self, call: &Arc<Call>) {
        let mut state = self.lock();
        if state.queue.len() == 0 {
            return;
        }
        let left = state.queue.remove(|task| Arc::ptr_eq(&task.call, call));
        drop(state);
        drop(left);
    }

    /// What a thread does until the pool closes.
    fn work(self: Arc<Self>) {
        if self.options.nice > 0 {
            priority::give_way(self.options.nice);
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
                self.go_on(task);
                state = self.lock();
            }
        }
    }

    /// Does steps of a task until it is done, or others wait and its slice is over: then it is returned.
    fn turn(&self, mut task: Task, begun: Instant) -> Option<Task> {
        let stop = task.call.stop.clone();
        while !stop.is_raised() {
            match catch_unwind(AssertUnwindSafe(|| (task.steps)(&stop))) {
                Ok(Progress::Done) => return None,
                Ok(Progress::More) if begun.elapsed() < SLICE => {}
                Ok(Progress::More) => return Some(task),
                Err(_) => {
                    tracing::error!(pool = self.options.name, "a computation panicked");
                    return None;
                }
            }
        }
        None
    }

    /// Queues a task again, here or where long ones are done.
    fn go_on(self: &Arc<Self>, task: Task) {
        if let Some((most, long)) = &self.options.long
            && task.call.account().total > *most
        {
            task.call.becomes_long();
            return long.0.0.push(task);
        }
        self.push(task);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parts of like size, in order: as many as there are threads, if each gets enough.
fn shared_out<I>(items: Vec<I>, threads: usize) -> Vec<Vec<I>> {
    let n_parts = (items.len() / ITEMS_PER_THREAD).clamp(1, threads);
    let n_items = items.len();
    let mut items = items.into_iter();
    // Where they do not divide evenly, the first parts get one more.
    let size = |part: usize| n_items / n_parts + usize::from(part < n_items % n_parts);
    (0..n_parts).map(|part| items.by_ref().take(size(part)).collect()).collect()
}

#[cfg(test)]
mod tests;
