//! The token budget: bounds the tokens that wait for the model, and admits calls.
//!
//! Unary calls and streams have separate budgets, so a bulk load never makes a small call fail. A unary call that finds
//! no free tokens is refused, with the time after which there should be some. A short call of a quiet caller has a
//! reserve, so that it is not refused because others have taken all tokens. A stream waits, and HTTP/2 flow control
//! makes its client wait too. A unary call that cannot be done by its deadline is refused as well: its work would take
//! time from calls that can be done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lane::Lane;
use super::pace::{Pace, Position};
use crate::compute::{Deadline, Exceeded, Refused, WhenFull};

/// The reasons why a call is not admitted. The client may try again later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Overloaded {
    /// The token budget has no free tokens for the call.
    #[error("{queued} tokens are waiting for the model and {wanted} more exceed the limit of {limit}")]
    Full {
        /// Tokens of unary calls that wait or are computed.
        queued: usize,
        /// Tokens of the refused call.
        wanted: usize,
        /// `queue_tokens`.
        limit: usize,
        /// The time until there should be free tokens, by the measured speed of the model.
        retry_after: Duration,
    },
    /// The call would end after its deadline.
    #[error(
        "the deadline is in {left:?}, and with {queued} tokens waiting for the model {wanted} more need about \
         {needed:?}: send fewer texts at a time, or try again later"
    )]
    TooLate {
        /// Tokens that wait before the call.
        queued: usize,
        /// Tokens of the call.
        wanted: usize,
        /// The estimated time of the call.
        needed: Duration,
        /// The time until the deadline.
        left: Duration,
    },
    /// The texts cannot be tokenised now.
    #[error(transparent)]
    Tokenising(#[from] Refused),
    /// The caller has used up its own allowance.
    #[error(transparent)]
    Allowance(#[from] Exceeded),
}

impl Overloaded {
    /// The time after which to try again, if that may help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full { retry_after, .. } => Some(*retry_after),
            Self::TooLate { needed, left, .. } => Some(needed.saturating_sub(*left).max(LEAST_RETRY)),
            Self::Tokenising(refused) => refused.retry_after(),
            Self::Allowance(exceeded) => Some(exceeded.retry_after),
        }
    }
}

/// The shortest time after which to try again.
const LEAST_RETRY: Duration = Duration::from_millis(50);

/// The part of the estimated tokens that a call is judged by before its tokens are counted. It allows for languages,
/// which differ in the bytes of a token.
const SURE_TOKENS: f64 = 0.75;

/// The reserve of the express lane, as a part of the tokens of unary calls. By default it is 16,384 tokens: hundreds of
/// short calls.
const RESERVE: usize = 16;

/// The tokens that may wait for the model, and the speed at which they are computed.
pub struct TokenBudget {
    limit: usize,
    unary: Arc<Semaphore>,
    /// Tokens for the express lane when no others are free.
    reserve: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    pace: Arc<Pace>,
}

/// A permit for the tokens of a call, or of one of its texts. Dropping it gives them back.
pub struct TokenPermit {
    permit: OwnedSemaphorePermit,
    /// The part of it that counts for the caller's own limit, if it has one.
    of_caller: Option<OwnedSemaphorePermit>,
    /// The tokens that wait because of it; `None` if nobody counts them.
    waiting: Option<WaitingTokens>,
}

struct WaitingTokens {
    pace: Arc<Pace>,
    lane: Lane,
    tokens: usize,
}

impl TokenPermit {
    /// Adds the permit of the caller's own limit.
    pub fn with_caller(self, of_caller: Option<OwnedSemaphorePermit>) -> Self {
        Self { of_caller, ..self }
    }

    /// Splits off the permit of a text of `tokens`, or the rest if that is less.
    pub fn split(&mut self, tokens: usize) -> Option<Self> {
        let permit = self.permit.split(tokens.min(self.permit.num_permits()))?;
        let waiting = self.waiting.as_mut().map(|waiting| {
            let tokens = tokens.min(waiting.tokens);
            waiting.tokens -= tokens;
            WaitingTokens { pace: Arc::clone(&waiting.pace), lane: waiting.lane, tokens }
        });
        let of_caller = self.of_caller.as_mut().and_then(|permit| permit.split(tokens.min(permit.num_permits())));
        Some(Self { permit, of_caller, waiting })
    }
}

impl From<OwnedSemaphorePermit> for TokenPermit {
    fn from(permit: OwnedSemaphorePermit) -> Self {
        Self { permit, of_caller: None, waiting: None }
    }
}

impl Drop for WaitingTokens {
    fn drop(&mut self) {
        self.pace.remove_waiting(self.tokens, self.lane);
    }
}

impl TokenBudget {
    /// Creates a budget of `queue_tokens` for unary calls, and another of the same size for streams.
    pub fn new(queue_tokens: usize, pace: Pace) -> Self {
        let limit = queue_tokens.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self {
            limit,
            unary: Arc::new(Semaphore::new(limit)),
            reserve: Arc::new(Semaphore::new(limit.div_ceil(RESERVE))),
            streams: Arc::new(Semaphore::new(limit)),
            pace: Arc::new(pace),
        }
    }

    /// The measured speed of the model, and the tokens that wait.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Refuses a call that will be too late, before its texts of `bytes` are tokenised.
    pub fn precheck(&self, bytes: usize, position: Position, when_full: WhenFull) -> Result<(), Overloaded> {
        let tokens = (self.pace.estimate_tokens(bytes) as f64 * SURE_TOKENS) as usize;
        self.check(tokens, position, when_full)
    }

    /// Takes a permit for a call of `tokens`. A call that exceeds the whole budget is admitted when it is alone.
    pub async fn acquire(
        &self,
        tokens: usize,
        position: impl Into<Position>,
        when_full: WhenFull,
    ) -> Result<TokenPermit, Overloaded> {
        let position = position.into();
        let lane = position.lane;
        self.check(tokens, position, when_full)?;
        let permits = u32::try_from(tokens.clamp(1, self.limit)).unwrap_or(u32::MAX);
        let permit = match when_full {
            WhenFull::Refuse(_) => {
                let take = |from: &Arc<Semaphore>| Arc::clone(from).try_acquire_many_owned(permits);
                let reserve = |full| if lane == Lane::Express { take(&self.reserve) } else { Err(full) };
                take(&self.unary).or_else(reserve).map_err(|_| self.full(tokens))?
            }
            WhenFull::Wait => {
                let permit = Arc::clone(&self.streams).acquire_many_owned(permits).await;
                permit.expect("the semaphore is never closed")
            }
        };
        self.pace.add_waiting(tokens, lane);
        Ok(TokenPermit {
            permit,
            of_caller: None,
            waiting: Some(WaitingTokens { pace: Arc::clone(&self.pace), lane, tokens }),
        })
    }

    /// Refuses to continue a call that would be too late even if the model computed nothing else. `tokens` of it are
    /// still to be computed. Other calls get the time.
    pub fn check_remaining(&self, tokens: usize, deadline: Deadline) -> Result<(), Overloaded> {
        let Some(left) = deadline.left() else { return Ok(()) };
        let needed = self.pace.estimate_time_alone(tokens);
        if needed <= left {
            return Ok(());
        }
        Err(Overloaded::TooLate { queued: 0, wanted: tokens, needed, left })
    }

    /// Refuses a call that would end after its deadline.
    fn check(&self, wanted: usize, position: Position, when_full: WhenFull) -> Result<(), Overloaded> {
        let WhenFull::Refuse(deadline) = when_full else { return Ok(()) };
        let Some(left) = deadline.left() else { return Ok(()) };
        let needed = self.pace.estimate_time(wanted, position, Instant::now());
        if Pace::is_in_time(needed, left) {
            return Ok(());
        }
        Err(Overloaded::TooLate { queued: self.pace.waiting_before(position), wanted, needed, left })
    }

    fn full(&self, wanted: usize) -> Overloaded {
        let queued = self.limit - self.unary.available_permits();
        let excess = (queued + wanted).saturating_sub(self.limit).min(queued);
        let retry_after = Duration::from_secs_f64((excess as f64 / self.pace.rate()).clamp(0.05, 60.0));
        Overloaded::Full { queued, wanted, limit: self.limit, retry_after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(queue_tokens: usize) -> TokenBudget {
        TokenBudget::new(queue_tokens, Pace::new(Instant::now()))
    }

    const REFUSE: WhenFull = WhenFull::Refuse(Deadline::NONE);

    #[tokio::test]
    async fn a_full_budget_refuses_with_a_time_from_the_measured_rate() {
        let budget = budget(1000);
        budget.pace().set_rate(100.0);
        let _inside = budget.acquire(900, Lane::Interactive, REFUSE).await.unwrap();
        let refused = budget.acquire(300, Lane::Interactive, REFUSE).await.err();
        let retry_after = Duration::from_secs(2);
        assert_eq!(refused, Some(Overloaded::Full { queued: 900, wanted: 300, limit: 1000, retry_after }));
        assert!(budget.acquire(100, Lane::Interactive, REFUSE).await.is_ok());
    }

    #[tokio::test]
    async fn a_call_larger_than_the_budget_is_admitted_alone() {
        let budget = budget(1000);
        let alone = budget.acquire(5000, Lane::Interactive, REFUSE).await.unwrap();
        assert!(budget.acquire(1, Lane::Interactive, REFUSE).await.is_err());
        drop(alone);
        let _small = budget.acquire(1, Lane::Interactive, REFUSE).await.unwrap();
        assert!(budget.acquire(5000, Lane::Interactive, REFUSE).await.is_err());
    }

    #[tokio::test]
    async fn a_short_call_of_a_quiet_caller_is_admitted_when_others_have_taken_all_tokens() {
        let budget = budget(1600);
        let _others = budget.acquire(1600, Lane::Short, REFUSE).await.unwrap();
        assert!(budget.acquire(60, Lane::Short, REFUSE).await.is_err());
        let quiet = budget.acquire(60, Lane::Express, REFUSE).await.unwrap();
        assert!(budget.acquire(60, Lane::Express, REFUSE).await.is_err(), "the reserve has a bound");
        drop(quiet);
        assert!(budget.acquire(60, Lane::Express, REFUSE).await.is_ok());
    }

    #[tokio::test]
    async fn streams_wait_and_never_take_the_tokens_of_unary_calls() {
        let budget = budget(10);
        let stream = budget.acquire(10, Lane::Interactive, WhenFull::Wait).await.unwrap();
        assert!(budget.acquire(10, Lane::Interactive, REFUSE).await.is_ok());
        let mut waiting = std::pin::pin!(budget.acquire(1, Lane::Interactive, WhenFull::Wait));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(stream);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn a_call_that_cannot_be_done_by_its_deadline_is_refused_at_once() {
        let budget = budget(100_000);
        budget.pace().set_rate(1_000.0);
        let within = |seconds| WhenFull::Refuse(Deadline::at(Instant::now() + Duration::from_secs(seconds)));
        let before = budget.acquire(8_000, Lane::Bulk, REFUSE).await.unwrap();
        let refused = budget.acquire(2_000, Lane::Bulk, within(5)).await.err();
        assert!(matches!(refused, Some(Overloaded::TooLate { queued: 8_000, wanted: 2_000, .. })), "{refused:?}");
        let retry_after = refused.and_then(|refused| refused.retry_after()).unwrap();
        assert!(retry_after > Duration::from_secs(4) && retry_after < Duration::from_secs(6), "{retry_after:?}");
        assert!(
            budget.precheck(8_000, Lane::Bulk.into(), within(5)).is_err(),
            "it is refused before it is tokenised, too"
        );
        assert!(budget.acquire(2_000, Lane::Bulk, within(60)).await.is_ok());
        assert!(budget.acquire(2_000, Lane::Interactive, within(5)).await.is_ok(), "the other lane is free");
        assert!(budget.acquire(2_000, Lane::Bulk, REFUSE).await.is_ok(), "without a deadline it waits");
        drop(before);
        assert!(budget.acquire(2_000, Lane::Bulk, within(5)).await.is_ok(), "the calls before it have left");
    }

    #[tokio::test]
    async fn a_call_is_given_up_when_its_rest_alone_would_be_too_late() {
        let budget = budget(100_000);
        let within = |seconds| Deadline::at(Instant::now() + Duration::from_secs(seconds));
        assert_eq!(budget.check_remaining(1_000_000, within(1)), Ok(()), "nothing was measured yet");
        budget.pace().set_rate(1_000.0);
        assert_eq!(budget.check_remaining(2_000, within(3)), Ok(()));
        assert_eq!(budget.check_remaining(1_000_000, Deadline::NONE), Ok(()));
        let given_up = budget.check_remaining(4_000, within(3)).unwrap_err();
        assert!(matches!(given_up, Overloaded::TooLate { wanted: 4_000, .. }), "{given_up:?}");
    }

    #[tokio::test]
    async fn tokens_that_a_text_gives_back_no_longer_count_as_waiting() {
        let budget = budget(100);
        let mut call = budget.acquire(90, Lane::Bulk, REFUSE).await.unwrap();
        let texts: Vec<_> = (0..3).filter_map(|_| call.split(30)).collect();
        assert_eq!((texts.len(), budget.pace().waiting(Lane::Bulk)), (3, 90));
        drop(texts);
        assert_eq!((budget.pace().waiting(Lane::Bulk), budget.unary.available_permits()), (0, 100));
    }
}
