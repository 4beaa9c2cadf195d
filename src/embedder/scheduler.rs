//! Which texts go through the model next, and together.
//!
//! Texts wait in two lanes. A batch is cut when a worker becomes free and not before, so it holds
//! the best of what is waiting at that moment: the oldest text of a lane, with those nearest to it
//! in length, up to a budget of tokens. Work that nobody waits for any more is dropped here, before
//! it costs anything. How much may wait is decided before a text gets here (see `Room`).

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Interactive batches that are cut for one bulk batch while both lanes have work: small calls are
/// answered first, and a bulk load still keeps a quarter of the machine.
const INTERACTIVE_SHARE: usize = 3;

/// How far behind the oldest text of a lane others of like length are looked for.
const WINDOW: usize = 512;

/// Below so many tokens a batch is not divided between idle workers: the fixed cost of a pass
/// through the model outweighs what is gained.
const LEAST_BATCH_TOKENS: usize = 128;

/// Who is served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Someone waits for the answer of a small call.
    Interactive,
    /// Streams, uploads and large calls.
    Bulk,
}

/// One text on its way to the model.
pub struct Job {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// Where the pooled vector, `[dimensions]`, goes. Closed when nobody waits any more.
    pub reply: oneshot::Sender<Result<Vec<f32>, EncodeFailed>>,
    /// The room in the queue that the call holds until its last text has left.
    pub _room: Arc<OwnedSemaphorePermit>,
}

/// The model failed on a batch; the cause is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the model failed")]
pub struct EncodeFailed;

/// The lanes between calls and workers.
pub struct Scheduler {
    lanes: Mutex<Lanes>,
    arrived: Condvar,
    batch_tokens: usize,
    workers: usize,
}

#[derive(Default)]
struct Lanes {
    interactive: VecDeque<Job>,
    bulk: VecDeque<Job>,
    /// Interactive batches since the last bulk batch.
    since_bulk: usize,
    closed: bool,
}

impl Scheduler {
    /// `batch_tokens`: the most tokens in one batch, padding included. `workers`: threads that call [`take`](Self::take).
    pub fn new(batch_tokens: usize, workers: usize) -> Self {
        Self { lanes: Mutex::default(), arrived: Condvar::new(), batch_tokens, workers: workers.max(1) }
    }

    /// Adds jobs to a lane, in order.
    pub fn push(&self, lane: Lane, jobs: impl IntoIterator<Item = Job>) {
        let mut lanes = self.lock();
        match lane {
            Lane::Interactive => lanes.interactive.extend(jobs),
            Lane::Bulk => lanes.bulk.extend(jobs),
        }
        drop(lanes);
        self.arrived.notify_all();
    }

    /// Waits for work and cuts a batch of one job or more. `None` once closed and empty.
    pub fn take(&self) -> Option<Vec<Job>> {
        let mut lanes = self.lock();
        loop {
            if let Some(batch) = lanes.cut(self.batch_tokens, self.workers) {
                return Some(batch);
            }
            if lanes.closed {
                return None;
            }
            lanes = self.arrived.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets workers finish what is queued and stop.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // Nothing panics while it holds the lock; were it so, the queues themselves are still whole.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    fn cut(&mut self, batch_tokens: usize, workers: usize) -> Option<Vec<Job>> {
        self.interactive.retain(|job| !job.reply.is_closed());
        self.bulk.retain(|job| !job.reply.is_closed());
        let bulk_is_next =
            !self.bulk.is_empty() && (self.interactive.is_empty() || self.since_bulk >= INTERACTIVE_SHARE);
        let lane = if bulk_is_next {
            self.since_bulk = 0;
            &mut self.bulk
        } else {
            self.since_bulk += 1;
            &mut self.interactive
        };
        // What is there is shared out between the workers, so that none is idle while another has a long batch.
        let waiting: usize = lane.iter().map(|job| job.ids.len()).sum();
        let budget = waiting.div_ceil(workers).max(LEAST_BATCH_TOKENS).min(batch_tokens);
        cut_like_lengths(lane, budget)
    }
}

/// Takes the oldest job and those nearest to it in length, while the padded batch, its longest
/// length times its size, fits `budget`. The oldest goes even if it is larger alone.
fn cut_like_lengths(lane: &mut VecDeque<Job>, budget: usize) -> Option<Vec<Job>> {
    let oldest = lane.front()?.ids.len();
    let mut by_likeness: Vec<usize> = (0..lane.len().min(WINDOW)).collect();
    by_likeness.sort_by_key(|&at| lane[at].ids.len().abs_diff(oldest)); // stable: the oldest stays first
    let mut longest = 0;
    let mut chosen = Vec::new();
    for at in by_likeness {
        longest = longest.max(lane[at].ids.len());
        if !chosen.is_empty() && longest * (chosen.len() + 1) > budget {
            break;
        }
        chosen.push(at);
    }
    chosen.sort_unstable();
    let mut batch: Vec<Job> = chosen.iter().rev().filter_map(|&at| lane.remove(at)).collect();
    batch.reverse();
    Some(batch)
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    type Reply = oneshot::Receiver<Result<Vec<f32>, EncodeFailed>>;

    fn job(tokens: usize) -> (Job, Reply) {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a new semaphore is free");
        let (reply, receiver) = oneshot::channel();
        (Job { ids: vec![7; tokens], reply, _room: Arc::new(room) }, receiver)
    }

    fn fill(scheduler: &Scheduler, lane: Lane, lengths: &[usize]) -> Vec<Reply> {
        let (jobs, replies): (Vec<_>, Vec<_>) = lengths.iter().map(|&n| job(n)).unzip();
        scheduler.push(lane, jobs);
        replies
    }

    fn lengths(batch: &[Job]) -> Vec<usize> {
        batch.iter().map(|job| job.ids.len()).collect()
    }

    #[test]
    fn like_lengths_go_together_and_the_oldest_goes_first() {
        let scheduler = Scheduler::new(300, 1);
        let _replies = fill(&scheduler, Lane::Bulk, &[100, 5, 101, 6, 99, 4]);
        assert_eq!(lengths(&scheduler.take().unwrap()), [100, 101]);
        assert_eq!(lengths(&scheduler.take().unwrap()), [5, 6, 4]);
        assert_eq!(lengths(&scheduler.take().unwrap()), [99]);
    }

    #[test]
    fn a_batch_keeps_to_the_budget_with_its_padding_unless_one_text_alone_is_larger() {
        let scheduler = Scheduler::new(256, 1);
        let lengths_in = [512, 30, 200, 31, 90, 90, 90, 1, 64, 64, 64, 64, 64];
        let _replies = fill(&scheduler, Lane::Bulk, &lengths_in);
        scheduler.close();
        let mut seen = Vec::new();
        while let Some(batch) = scheduler.take() {
            let sizes = lengths(&batch);
            let padded = sizes.iter().max().unwrap() * sizes.len();
            assert!(padded <= 256 || sizes.len() == 1, "{sizes:?}");
            seen.extend(sizes);
        }
        seen.sort_unstable();
        let mut expected = lengths_in.to_vec();
        expected.sort_unstable();
        assert_eq!(seen, expected);
    }

    #[test]
    fn waiting_work_is_shared_out_between_idle_workers() {
        let scheduler = Scheduler::new(4096, 2);
        let _replies = fill(&scheduler, Lane::Interactive, &[64; 16]);
        assert_eq!(scheduler.take().unwrap().len(), 8);
    }

    #[test]
    fn small_calls_go_first_and_bulk_still_moves() {
        let scheduler = Scheduler::new(10, 1);
        let _bulk = fill(&scheduler, Lane::Bulk, &[11; 2]);
        let _interactive = fill(&scheduler, Lane::Interactive, &[10; 6]);
        let order: Vec<usize> = (0..8).map(|_| scheduler.take().unwrap()[0].ids.len()).collect();
        assert_eq!(order, [10, 10, 10, 11, 10, 10, 10, 11]);
    }

    #[test]
    fn work_that_nobody_waits_for_is_dropped_and_its_room_is_free_again() {
        let scheduler = Scheduler::new(1024, 1);
        let rooms = Arc::new(Semaphore::new(1));
        let (mut abandoned, reply) = job(10);
        abandoned._room = Arc::new(Arc::clone(&rooms).try_acquire_owned().unwrap());
        scheduler.push(Lane::Bulk, [abandoned]);
        drop(reply);
        let _replies = fill(&scheduler, Lane::Bulk, &[20]);
        assert_eq!(lengths(&scheduler.take().unwrap()), [20]);
        assert_eq!(rooms.available_permits(), 1);
    }

    #[test]
    fn closing_lets_workers_finish_what_is_queued() {
        let scheduler = Scheduler::new(1024, 1);
        let _replies = fill(&scheduler, Lane::Interactive, &[3]);
        scheduler.close();
        assert!(scheduler.take().is_some());
        assert!(scheduler.take().is_none());
    }
}
