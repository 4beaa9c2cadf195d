//! The progress of a call, shared by its two directions and its limiter: the time when bytes last moved, the time it
//! has waited for its client, and the request to yield.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The progress of one call.
#[derive(Debug)]
pub struct Progress {
    begun: Instant,
    /// The time when bytes last moved, in milliseconds.
    moved_ms: AtomicU64,
    /// The time since when the call waits for its client, in milliseconds counted from 1; 0: it does not wait.
    waits_since_ms: AtomicU64,
    yields: Notify,
}

impl Progress {
    /// Progress of a call that begins now.
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            moved_ms: AtomicU64::new(0),
            waits_since_ms: AtomicU64::new(0),
            yields: Notify::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    /// Records that bytes moved, in either direction: the call no longer waits for its client.
    pub fn moved(&self) {
        self.moved_ms.store(self.now_ms(), Ordering::Relaxed);
        self.waits_since_ms.store(0, Ordering::Relaxed);
    }

    /// Records that the call waits for its client, unless it already does. The wait lasts until bytes move.
    pub fn waits(&self) {
        let since = self.now_ms() + 1;
        // Fails if the call already waits.
        let _ = self.waits_since_ms.compare_exchange(0, since, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The time when bytes last moved.
    pub fn last_moved(&self) -> Instant {
        self.begun + Duration::from_millis(self.moved_ms.load(Ordering::Relaxed))
    }

    /// The time that the call has waited for its client.
    pub fn waited(&self) -> Duration {
        match self.waits_since_ms.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis((self.now_ms() + 1).saturating_sub(since)),
        }
    }

    /// Asks the call to end, so that another call gets its permit.
    pub fn ask_to_yield(&self) {
        self.yields.notify_one();
    }

    /// Resolves when the call is asked to end.
    pub async fn asked_to_yield(&self) {
        self.yields.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_waited_for_until_bytes_move() {
        let pause = || std::thread::sleep(Duration::from_millis(20));
        let progress = Progress::new();
        pause();
        assert_eq!(progress.waited(), Duration::ZERO);
        progress.waits();
        pause();
        progress.waits();
        assert!(progress.waited() >= Duration::from_millis(20), "the wait goes on");
        let before = Instant::now();
        progress.moved();
        assert_eq!(progress.waited(), Duration::ZERO);
        assert!(progress.last_moved() + Duration::from_millis(1) > before);
    }
}
