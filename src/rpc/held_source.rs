//! Holds the data of a long answer while its client takes it.
//!
//! An export holds documents, and a backup holds a file, until the client has read the last message. A client that
//! keeps its connection open and reads nothing would hold them for ever. The answer cannot notice that, because an
//! answer that is not read is not polled. So each source has its own task, which drops the source when nothing was
//! taken for a time.
//!
//! Invariant: a source is dropped with its answer, or earlier when its client took nothing for the timeout. It is never
//! dropped on an async thread: freeing a million documents or a file of gigabytes takes a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::status::Failure;

/// Time in which a client must take a part of an answer.
pub(super) const TAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause before the next check if the time is over while a message is being made.
const RECHECK_PAUSE: Duration = Duration::from_millis(10);

/// The data from which several messages are made, one after the other.
pub(super) struct HeldSource<T: Send + 'static> {
    state: Arc<Mutex<State<T>>>,
    timeout: Duration,
    watch: AbortHandle,
}

struct State<T> {
    /// `None` while a message is made from it, and after it was dropped.
    source: Option<T>,
    /// The time when the client last took a message.
    taken: Instant,
}

impl<T: Send + 'static> HeldSource<T> {
    /// Holds `source`, and drops it after `timeout` without a message taken.
    pub(super) fn new(source: T, timeout: Duration) -> Self {
        let state = Arc::new(Mutex::new(State { source: Some(source), taken: Instant::now() }));
        let watch = tokio::spawn(watch(Arc::downgrade(&state), timeout)).abort_handle();
        Self { state, timeout, watch }
    }

    /// Takes the data out, to make a message from it.
    pub(super) fn take(&self) -> Result<T, Failure> {
        let mut state = lock(&self.state);
        state.taken = Instant::now();
        state.source.take().ok_or(Failure::NotTaken { timeout: self.timeout })
    }

    /// Puts the data back after a message was made.
    pub(super) fn put_back(&self, source: T) {
        let mut state = lock(&self.state);
        state.taken = Instant::now();
        state.source = Some(source);
    }
}

impl<T: Send + 'static> Drop for HeldSource<T> {
    fn drop(&mut self) {
        self.watch.abort();
        free(lock(&self.state).source.take());
    }
}

async fn watch<T: Send + 'static>(state: Weak<Mutex<State<T>>>, timeout: Duration) {
    loop {
        let Some(taken) = state.upgrade().map(|state| lock(&state).taken) else { return };
        sleep_until((taken + timeout).max(Instant::now() + RECHECK_PAUSE)).await;
        let Some(state) = state.upgrade() else { return };
        let mut state = lock(&state);
        if state.taken + timeout <= Instant::now() && state.source.is_some() {
            tracing::info!(seconds = timeout.as_secs(), "an answer is abandoned: its client takes none of it");
            return free(state.source.take());
        }
    }
}

/// Drops the data on a thread that may block.
fn free<T: Send + 'static>(source: Option<T>) {
    let Some(source) = source else { return };
    match tokio::runtime::Handle::try_current() {
        // No task waits for it.
        Ok(_) => drop(spawn_blocking(move || drop(source))),
        Err(_) => drop(source),
    }
}

/// A panic under this lock leaves the state valid: each change is an assignment.
fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source, and a handle that tells whether it is alive.
    fn source(timeout: Duration) -> (HeldSource<Arc<()>>, Weak<()>) {
        let held = Arc::new(());
        let lives = Arc::downgrade(&held);
        (HeldSource::new(held, timeout), lives)
    }

    async fn until_freed(lives: &Weak<()>) {
        while lives.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn data_that_is_not_taken_is_freed_while_its_answer_is_open() {
        let (source, lives) = source(Duration::ZERO);
        until_freed(&lives).await;
        let failed = source.take().err();
        assert_eq!(failed, Some(Failure::NotTaken { timeout: Duration::ZERO }));
    }

    #[tokio::test]
    async fn data_that_is_taken_is_kept_until_its_answer_ends() {
        let (source, lives) = source(TAKE_TIMEOUT);
        for _ in 0..3 {
            let taken = source.take().unwrap();
            source.put_back(taken);
        }
        assert_eq!(lives.strong_count(), 1);
        drop(source);
        until_freed(&lives).await;
    }
}
