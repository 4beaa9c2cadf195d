//! What a long answer is made of, for as long as its client takes it.
//!
//! An export holds documents and a backup holds a file until the client has read the last message. A client that reads
//! nothing, with a connection that stays open, would hold them for ever, and an answer that is not read is not polled, so
//! the answer cannot notice. So each source has a task beside it, which gives the source up after a time in which nothing
//! was taken.
//!
//! Invariant: a source is dropped when its answer is, or when its client took nothing for its patience, whichever comes
//! first, and never on an async thread: freeing a million documents or a file of gigabytes takes a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::status::Failure;

/// How long a client may take nothing of an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait where the time is over and a message is just being made.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A source that several messages are made of, one after the other.
pub(super) struct Source<T: Send + 'static> {
    state: Arc<Mutex<State<T>>>,
    patience: Duration,
    watch: AbortHandle,
}

struct State<T> {
    /// `None` while a message is made of it, and after it was given up.
    source: Option<T>,
    /// When the client took something last.
    taken: Instant,
}

impl<T: Send + 'static> Source<T> {
    /// Gives `source` up after `patience` in which nothing was taken.
    pub(super) fn new(source: T, patience: Duration) -> Self {
        let state = Arc::new(Mutex::new(State { source: Some(source), taken: Instant::now() }));
        let watch = tokio::spawn(watch(Arc::downgrade(&state), patience)).abort_handle();
        Self { state, patience, watch }
    }

    /// Takes the source, to make a message of it.
    pub(super) fn take(&self) -> Result<T, Failure> {
        let mut state = lock(&self.state);
        state.taken = Instant::now();
        state.source.take().ok_or(Failure::NotTaken { patience: self.patience })
    }

    /// Puts the source back when a message was made.
    pub(super) fn put_back(&self, source: T) {
        let mut state = lock(&self.state);
        state.taken = Instant::now();
        state.source = Some(source);
    }
}

impl<T: Send + 'static> Drop for Source<T> {
    fn drop(&mut self) {
        self.watch.abort();
        free(lock(&self.state).source.take());
    }
}

async fn watch<T: Send + 'static>(state: Weak<Mutex<State<T>>>, patience: Duration) {
    loop {
        let Some(taken) = state.upgrade().map(|state| lock(&state).taken) else { return };
        sleep_until((taken + patience).max(Instant::now() + LOOK_AGAIN)).await;
        let Some(state) = state.upgrade() else { return };
        let mut state = lock(&state);
        if state.taken + patience <= Instant::now() && state.source.is_some() {
            tracing::info!(seconds = patience.as_secs(), "an answer is given up: its client takes none of it");
            return free(state.source.take());
        }
    }
}

/// Drops a source where that may take its time.
fn free<T: Send + 'static>(source: Option<T>) {
    let Some(source) = source else { return };
    match tokio::runtime::Handle::try_current() {
        // Nobody waits for it.
        Ok(_) => drop(spawn_blocking(move || drop(source))),
        Err(_) => drop(source),
    }
}

/// A panic under this lock leaves what it guards usable: each change is an assignment.
fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source, and whether it lives.
    fn source(patience: Duration) -> (Source<Arc<()>>, Weak<()>) {
        let held = Arc::new(());
        let lives = Arc::downgrade(&held);
        (Source::new(held, patience), lives)
    }

    async fn until_freed(lives: &Weak<()>) {
        while lives.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_nobody_takes_is_freed_while_its_answer_is_still_open() {
        let (source, lives) = source(Duration::ZERO);
        until_freed(&lives).await;
        let failed = source.take().err();
        assert_eq!(failed, Some(Failure::NotTaken { patience: Duration::ZERO }));
    }

    #[tokio::test]
    async fn what_is_taken_is_kept_until_its_answer_ends() {
        let (source, lives) = source(PATIENCE);
        for _ in 0..3 {
            let taken = source.take().unwrap();
            source.put_back(taken);
        }
        assert_eq!(lives.strong_count(), 1);
        drop(source);
        until_freed(&lives).await;
    }
}
