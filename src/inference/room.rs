//! How many tokens may wait for the model.
//!
//! Unary calls and streams have separate room, so that a bulk load never makes a small call fail:
//! a unary call that finds no room is refused with the time after which there should be some; a
//! stream waits, and HTTP/2 flow control makes its client wait too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::compute::{Refused, WhenFull};

/// A call that is not let in: try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overloaded {
    /// There is no room for its tokens.
    #[error("{queued} tokens are waiting for the model and {wanted} more exceed the limit of {limit}")]
    Full {
        /// Tokens of unary calls that wait or are computed.
        queued: usize,
        /// Tokens of the refused call.
        wanted: usize,
        /// `queue_tokens`.
        limit: usize,
        /// When there should be room, from the measured speed of the model.
        retry_after: Duration,
    },
    /// Its texts cannot be tokenised now.
    #[error(transparent)]
    Tokenising(#[from] Refused),
}

impl Overloaded {
    /// When to try again, where that may help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full { retry_after, .. } => Some(*retry_after),
            Self::Tokenising(refused) => refused.retry_after(),
        }
    }
}

/// The room for tokens, and how fast it empties.
pub struct Room {
    limit: usize,
    unary: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// Tokens per second of all workers together, as the bits of an f64; an exponential mean.
    rate: AtomicU64,
    workers: usize,
}

impl Room {
    /// Room for `queue_tokens` of unary calls and as much for streams.
    pub fn new(queue_tokens: usize, workers: usize) -> Self {
        let limit = queue_tokens.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            limit,
            unary: Arc::new(Semaphore::new(limit)),
            streams: Arc::new(Semaphore::new(limit)),
            rate: AtomicU64::new(0),
            workers,
        }
    }

    /// Takes room for a call of `tokens`. A call larger than all the room there is gets in when it is alone.
    pub async fn enter(&self, tokens: usize, when_full: WhenFull) -> Result<OwnedSemaphorePermit, Overloaded> {
        let permits = u32::try_from(tokens.clamp(1, self.limit)).unwrap_or(u32::MAX);
        match when_full {
            WhenFull::Refuse(_) => {
                Arc::clone(&self.unary).try_acquire_many_owned(permits).map_err(|_| self.overloaded(tokens))
            }
            WhenFull::Wait => {
                let entered = Arc::clone(&self.streams).acquire_many_owned(permits).await;
                Ok(entered.expect("the semaphore is never closed"))
            }
        }
    }

    /// Tells that one worker put `tokens` through the model in `elapsed`.
    pub fn record(&self, tokens: usize, elapsed: Duration) {
        let measured = tokens as f64 / elapsed.as_secs_f64().max(1e-6) * self.workers as f64;
        // Racing workers may lose one sample to the other: it is an estimate.
        let before = f64::from_bits(self.rate.load(Ordering::Relaxed));
        let rate = if before == 0.0 { measured } else { before + 0.1 * (measured - before) };
        self.rate.store(rate.to_bits(), Ordering::Relaxed);
    }

    fn overloaded(&self, wanted: usize) -> Overloaded {
        let queued = self.limit - self.unary.available_permits();
        let rate = f64::from_bits(self.rate.load(Ordering::Relaxed)).max(1.0);
        let excess = (queued + wanted).saturating_sub(self.limit).min(queued);
        let retry_after = Duration::from_secs_f64((excess as f64 / rate).clamp(0.05, 60.0));
        Overloaded::Full { queued, wanted, limit: self.limit, retry_after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::Deadline;

    const REFUSE: WhenFull = WhenFull::Refuse(Deadline::NONE);

    #[tokio::test]
    async fn a_full_room_refuses_with_a_time_from_the_measured_rate() {
        let room = Room::new(1000, 1);
        room.record(100, Duration::from_secs(1));
        let _inside = room.enter(900, REFUSE).await.unwrap();
        let refused = room.enter(300, REFUSE).await.unwrap_err();
        let retry_after = Duration::from_secs(2);
        assert_eq!(refused, Overloaded::Full { queued: 900, wanted: 300, limit: 1000, retry_after });
        assert!(room.enter(100, REFUSE).await.is_ok());
    }

    #[tokio::test]
    async fn a_call_larger_than_the_room_gets_in_alone() {
        let room = Room::new(1000, 1);
        let alone = room.enter(5000, REFUSE).await.unwrap();
        assert!(room.enter(1, REFUSE).await.is_err());
        drop(alone);
        let _small = room.enter(1, REFUSE).await.unwrap();
        assert!(room.enter(5000, REFUSE).await.is_err());
    }

    #[tokio::test]
    async fn streams_wait_and_never_take_the_room_of_unary_calls() {
        let room = Room::new(10, 1);
        let stream = room.enter(10, WhenFull::Wait).await.unwrap();
        assert!(room.enter(10, REFUSE).await.is_ok());
        let mut waiting = std::pin::pin!(room.enter(1, WhenFull::Wait));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(stream);
        assert!(waiting.await.is_ok());
    }
}
