//! A pool with a fixed number of threads that compute for calls and share their time fairly.
//!
//! A call takes one of a bounded number of permits, or is refused. Its tasks run in steps: after
//! [`workers::SLICE`] a task yields to those that wait. A long call moves to the pool for long work, so it never holds
//! the threads that short calls need.
//!
//! Invariants: dropping the future of a call removes its queued tasks and raises the [`Stop`] of its running ones. A
//! panic ends a task and not a thread. Threads start when they are first needed. The threads and the queue are in
//! [`workers`].

mod workers;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::deadline::WhenFull;
use super::refused::Refused;
use super::stop::Stop;
use super::task::{Call, Progress, Steps, Task};
use workers::{Settings, Workers};

/// Items that are worth a thread of their own. Four exact searches among 9,000 documents take 2 ms, which is far more
/// than waking a thread costs. A call of a few queries stays on one thread.
const ITEMS_PER_THREAD: usize = 4;

/// The settings of a pool.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of its threads.
    pub name: &'static str,
    /// The number of threads at most.
    pub threads: usize,
    /// Calls that run or wait at one time; further calls are refused.
    pub calls: usize,
    /// The nice value of its threads (nice(2)); higher: other threads come first.
    pub nice: i32,
    /// The time after which a call moves to another pool, and that pool. `None`: calls stay.
    pub long: Option<(Duration, Pool)>,
}

/// A pool of threads. Clones share the pool; its threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Pool(Arc<Handle>);

/// Closes the pool when the last clone is dropped.
struct Handle {
    workers: Arc<Workers>,
    /// Keeps the pool for long work open.
    _long: Option<Pool>,
}

/// The permit of a call. Dropping it stops the tasks of the call.
struct RunningCall {
    workers: Arc<Workers>,
    call: Arc<Call>,
    cost: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// A pool without threads; they start when there is work.
    pub fn new(options: Options) -> Self {
        let Options { name, threads, calls, nice, long } = options;
        let kept = long.as_ref().map(|(_, pool)| pool.clone());
        let long = long.map(|(after, pool)| (after, Arc::clone(&pool.0.workers)));
        let workers = Workers::new(Settings { name, threads, calls, nice, long });
        Self(Arc::new(Handle { workers, _long: kept }))
    }

    /// Computes `work` in one of the threads; `cost` is its estimated time. Dropping the future tells the work to stop.
    pub async fn run<T: Send + 'static>(
        &self,
        when_full: WhenFull,
        cost: Duration,
        work: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let call = self.admit(when_full, cost).await?;
        let (done, result) = oneshot::channel();
        let mut once = Some((work, done));
        call.begin(cost, move |stop| {
            if let Some((work, done)) = once.take() {
                // An error means that the caller has left.
                let _ = done.send(work(stop));
            }
            Progress::Done
        });
        result.await.map_err(|_| Refused::Panicked)
    }

    /// Runs `work` for each item, as [`Pool::run`] does; the results are in the order of the items. The threads share
    /// many items. `cost` is the estimated time of one item.
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
        let call = self.admit(when_full, of_items(n_items)).await?;
        let work = Arc::new(work);
        let parts = split(items, self.0.workers.settings.threads).into_iter().map(|part| {
            let (done, result) = oneshot::channel();
            let (work, cost) = (Arc::clone(&work), of_items(part.len()));
            let mut results = Vec::with_capacity(part.len());
            let (mut items, mut done) = (part.into_iter(), Some(done));
            call.begin(cost, move |stop| {
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

    /// Calls that run or wait.
    pub fn calls(&self) -> usize {
        self.0.workers.calls()
    }

    async fn admit(&self, when_full: WhenFull, cost: Duration) -> Result<RunningCall, Refused> {
        let workers = &self.0.workers;
        let permits = Arc::clone(&workers.permits);
        let permit = match when_full {
            WhenFull::Refuse(deadline) => {
                workers.check(deadline, cost)?;
                let limit = workers.settings.calls;
                let full = |_| Refused::Full { limit, retry_after: workers.expected_time(cost, limit) };
                permits.try_acquire_owned().map_err(full)?
            }
            WhenFull::Wait => permits.acquire_owned().await.expect("the semaphore is never closed"),
        };
        Ok(RunningCall { workers: Arc::clone(workers), call: Call::new(), cost, _permit: permit })
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pool").field(&self.0.workers.settings.name).finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.workers.close();
    }
}

impl RunningCall {
    /// Queues a task of the call. Its steps run in the span of the call, on whatever thread.
    fn begin(&self, cost: Duration, mut steps: impl FnMut(&Stop) -> Progress + Send + 'static) {
        let span = tracing::Span::current();
        let steps: Steps = Box::new(move |stop| span.in_scope(|| steps(stop)));
        self.workers.push(Task { call: Arc::clone(&self.call), cost, steps });
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.call.stop.raise();
        self.workers.forget(&self.call);
        if let Some((_, long)) = &self.workers.settings.long {
            long.forget(&self.call);
        }
        // A statement of its own: a thread that ends a task takes the lock of the pool first, then that of the account.
        let total = self.call.account().total;
        self.workers.learn(self.cost, total);
    }
}

/// Splits `items` into parts of similar size, in order: one for each thread, if each part has enough items.
fn split<I>(items: Vec<I>, threads: usize) -> Vec<Vec<I>> {
    let n_parts = (items.len() / ITEMS_PER_THREAD).clamp(1, threads);
    let n_items = items.len();
    let mut items = items.into_iter();
    // If they do not divide evenly, the first parts get one more.
    let size = |part: usize| n_items / n_parts + usize::from(part < n_items % n_parts);
    (0..n_parts).map(|part| items.by_ref().take(size(part)).collect()).collect()
}

#[cfg(test)]
mod tests;
