//! How many tokens may wait for the model.
//!
//! Unary calls and streams have separate room, so that a bulk load never makes a small call fail:
//! a unary call that finds no room is refused with the time after which there should be some; a
//! stream waits, and HTTP/2 flow control makes its client wait too. A unary call that could not be done by its deadline
//! is refused too: work for it would be taken from calls that can.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lane::Lane;
use super::pace::Pace;
use crate::compute::{Deadline, Refused, WhenFull};

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
    /// It would end after the caller's deadline.
    #[error(
        "the deadline is in {left:?}, and with {queued} tokens waiting for the model {wanted} more need about {needed:?}: \
         send fewer texts at a time, or try again later"
    )]
    TooLate {
        /// Tokens that wait before it.
        queued: usize,
        /// Its own.
        wanted: usize,
        /// How long it would take.
        needed: Duration,
        /// How long its caller waits.
        left: Duration,
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
            Self::TooLate { needed, left, .. } => Some(needed.saturating_sub(*left).max(LEAST_RETRY)),
            Self::Tokenising(refused) => refused.retry_after(),
        }
    }
}

/// The soonest that it is worth trying again.
const LEAST_RETRY: Duration = Duration::from_millis(50);

/// The part of the tokens that a call should have by its bytes, which it is judged by before they are counted: languages
/// differ in the bytes of a token.
const SURE_TOKENS: f64 = 0.75;

/// The room for tokens, and how fast it empties.
pub struct TokenBudget {
    limit: usize,
    unary: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    pace: Arc<Pace>,
}

/// TokenBudget that a call, or one of its texts, takes until it is dropped.
pub struct TokenPermit {
    permit: OwnedSemaphorePermit,
    /// Tokens that wait because of it; `None` where nobody counts them.
    counted: Option<Counted>,
}

struct Counted {
    pace: Arc<Pace>,
    lane: Lane,
    tokens: usize,
}

impl TokenPermit {
    /// Takes the room of a text of `tokens`, or what is left, out of it.
    pub fn split(&mut self, tokens: usize) -> Option<Self> {
        let permit = self.permit.split(tokens.min(self.permit.num_permits()))?;
        let counted = self.counted.as_mut().map(|counted| {
            let tokens = tokens.min(counted.tokens);
            counted.tokens -= tokens;
            Counted { pace: Arc::clone(&counted.pace), lane: counted.lane, tokens }
        });
        Some(Self { permit, counted })
    }
}

impl From<OwnedSemaphorePermit> for TokenPermit {
    fn from(permit: OwnedSemaphorePermit) -> Self {
        Self { permit, counted: None }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.pace.remove_waiting(self.tokens, self.lane);
    }
}

impl TokenBudget {
    /// TokenBudget for `queue_tokens` of unary calls and as much for streams.
    pub fn new(queue_tokens: usize) -> Self {
        let limit = queue_tokens.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            limit,
            unary: Arc::new(Semaphore::new(limit)),
            streams: Arc::new(Semaphore::new(limit)),
            pace: Arc::new(Pace::new(Instant::now())),
        }
    }

    /// What was measured of the model.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Refuses a call that will be too late, before its texts of `bytes` are tokenised.
    pub fn precheck(&self, bytes: usize, lane: Lane, when_full: WhenFull) -> Result<(), Overloaded> {
        let tokens = (self.pace.estimate_tokens(bytes) as f64 * SURE_TOKENS) as usize;
        self.check(tokens, lane, when_full)
    }

    /// Takes room for a call of `tokens`. A call larger than all the room there is gets in when it is alone.
    pub async fn acquire(&self, tokens: usize, lane: Lane, when_full: WhenFull) -> Result<TokenPermit, Overloaded> {
        self.check(tokens, lane, when_full)?;
        let permits = u32::try_from(tokens.clamp(1, self.limit)).unwrap_or(u32::MAX);
        let permit = match when_full {
            WhenFull::Refuse(_) => {
                Arc::clone(&self.unary).try_acquire_many_owned(permits).map_err(|_| self.overloaded(tokens))?
            }
            WhenFull::Wait => {
                let entered = Arc::clone(&self.streams).acquire_many_owned(permits).await;
                entered.expect("the semaphore is never closed")
            }
        };
        self.pace.add_waiting(tokens, lane);
        Ok(TokenPermit { permit, counted: Some(Counted { pace: Arc::clone(&self.pace), lane, tokens }) })
    }

    /// Refuses to go on with a call of which `tokens` are still to be computed, where they could not be in time even if
    /// the model had nothing else to do. Others get its time.
    pub fn check_remaining(&self, tokens: usize, deadline: Deadline) -> Result<(), Overloaded> {
        let Some(left) = deadline.left() else { return Ok(()) };
        let needed = self.pace.estimate_time_alone(tokens);
        if needed <= left {
            return Ok(());
        }
        Err(Overloaded::TooLate { queued: 0, wanted: tokens, needed, left })
    }

    /// Refuses a call that would end after its deadline.
    fn check(&self, wanted: usize, lane: Lane, when_full: WhenFull) -> Result<(), Overloaded> {
        let WhenFull::Refuse(deadline) = when_full else { return Ok(()) };
        let Some(left) = deadline.left() else { return Ok(()) };
        let needed = self.pace.estimate_time(wanted, lane, Instant::now());
        if Pace::is_in_time(needed, left) {
            return Ok(());
        }
        Err(Overloaded::TooLate { queued: self.pace.waiting(lane), wanted, needed, left })
    }

    fn overloaded(&self, wanted: usize) -> Overloaded {
        let queued = self.limit - self.unary.available_permits();
        let excess = (queued + wanted).saturating_sub(self.limit).min(queued);
        let retry_after = Duration::from_secs_f64((excess as f64 / self.pace.rate()).clamp(0.05, 60.0));
        Overloaded::Full { queued, wanted, limit: self.limit, retry_after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSE: WhenFull = WhenFull::Refuse(Deadline::NONE);

    #[tokio::test]
    async fn a_full_room_refuses_with_a_time_from_the_measured_rate() {
        let budget = TokenBudget::new(1000);
        budget.pace().set_rate(100.0);
        let _inside = budget.acquire(900, Lane::Interactive, REFUSE).await.unwrap();
        let refused = budget.acquire(300, Lane::Interactive, REFUSE).await.err();
        let retry_after = Duration::from_secs(2);
        assert_eq!(refused, Some(Overloaded::Full { queued: 900, wanted: 300, limit: 1000, retry_after }));
        assert!(budget.acquire(100, Lane::Interactive, REFUSE).await.is_ok());
    }

    #[tokio::test]
    async fn a_call_larger_than_the_room_gets_in_alone() {
        let budget = TokenBudget::new(1000);
        let alone = budget.acquire(5000, Lane::Interactive, REFUSE).await.unwrap();
        assert!(budget.acquire(1, Lane::Interactive, REFUSE).await.is_err());
        drop(alone);
        let _small = budget.acquire(1, Lane::Interactive, REFUSE).await.unwrap();
        assert!(budget.acquire(5000, Lane::Interactive, REFUSE).await.is_err());
    }

    #[tokio::test]
    async fn streams_wait_and_never_take_the_room_of_unary_calls() {
        let budget = TokenBudget::new(10);
        let stream = budget.acquire(10, Lane::Interactive, WhenFull::Wait).await.unwrap();
        assert!(budget.acquire(10, Lane::Interactive, REFUSE).await.is_ok());
        let mut waiting = std::pin::pin!(budget.acquire(1, Lane::Interactive, WhenFull::Wait));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(stream);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn what_cannot_be_done_by_its_deadline_is_refused_at_once() {
        let budget = TokenBudget::new(100_000);
        budget.pace().set_rate(1_000.0);
        let within = |seconds| WhenFull::Refuse(Deadline::at(Instant::now() + Duration::from_secs(seconds)));
        let before = budget.acquire(8_000, Lane::Bulk, REFUSE).await.unwrap();
        let refused = budget.acquire(2_000, Lane::Bulk, within(5)).await.err();
        assert!(matches!(refused, Some(Overloaded::TooLate { queued: 8_000, wanted: 2_000, .. })), "{refused:?}");
        let retry_after = refused.and_then(|refused| refused.retry_after()).unwrap();
        assert!(retry_after > Duration::from_secs(4) && retry_after < Duration::from_secs(6), "{retry_after:?}");
        assert!(budget.precheck(8_000, Lane::Bulk, within(5)).is_err(), "before it is tokenised too");
        assert!(budget.acquire(2_000, Lane::Bulk, within(60)).await.is_ok());
        assert!(budget.acquire(2_000, Lane::Interactive, within(5)).await.is_ok(), "the other lane is free");
        assert!(budget.acquire(2_000, Lane::Bulk, REFUSE).await.is_ok(), "without a deadline it waits");
        drop(before);
        assert!(budget.acquire(2_000, Lane::Bulk, within(5)).await.is_ok(), "those before it have left");
    }

    #[tokio::test]
    async fn a_call_is_given_up_when_its_rest_alone_would_be_too_late() {
        let budget = TokenBudget::new(100_000);
        let within = |seconds| Deadline::at(Instant::now() + Duration::from_secs(seconds));
        assert_eq!(budget.check_remaining(1_000_000, within(1)), Ok(()), "nothing was measured yet");
        budget.pace().set_rate(1_000.0);
        assert_eq!(budget.check_remaining(2_000, within(3)), Ok(()));
        assert_eq!(budget.check_remaining(1_000_000, Deadline::NONE), Ok(()));
        let given_up = budget.check_remaining(4_000, within(3)).unwrap_err();
        assert!(matches!(given_up, Overloaded::TooLate { wanted: 4_000, .. }), "{given_up:?}");
    }

    #[tokio::test]
    async fn room_that_a_text_frees_is_no_longer_waited_for() {
        let budget = TokenBudget::new(100);
        let mut call = budget.acquire(90, Lane::Bulk, REFUSE).await.unwrap();
        let texts: Vec<_> = (0..3).filter_map(|_| call.split(30)).collect();
        assert_eq!((texts.len(), budget.pace().waiting(Lane::Bulk)), (3, 90));
        drop(texts);
        assert_eq!((budget.pace().waiting(Lane::Bulk), budget.unary.available_permits()), (0, 100));
    }
}
