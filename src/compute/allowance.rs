//! The allowances of callers: what a named caller may use of the models and of the calls in progress, together over all
//! its connections and keys.
//!
//! Invariant: what a caller uses beyond its allowance is refused or, for a stream, waits. Nobody else waits for it: the
//! locks here are held for a few instructions.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::caller::{Caller, Terms};
use super::deadline::WhenFull;

/// The time whose tokens a caller may use at once.
const BURST: Duration = Duration::from_secs(1);

/// The time after which to try again when calls or tokens of the caller itself are in the way.
const RETRY: Duration = Duration::from_millis(100);

/// The shortest time after which to try again.
const LEAST_RETRY: Duration = Duration::from_millis(10);

/// The limits of a caller. `None`: those of the server alone apply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls in progress.
    pub calls: Option<NonZeroU32>,
    /// Tokens that wait for models or are computed.
    pub queue_tokens: Option<NonZeroU32>,
    /// Tokens that are computed each second, with those of one second in advance.
    pub tokens_per_second: Option<NonZeroU32>,
}

/// The name of a limit, as in the file of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::calls`].
    Calls,
    /// [`Limits::queue_tokens`].
    QueueTokens,
    /// [`Limits::tokens_per_second`].
    TokensPerSecond,
}

impl Limit {
    /// All limits.
    pub const ALL: [Self; 3] = [Self::Calls, Self::QueueTokens, Self::TokensPerSecond];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::QueueTokens => "queue_tokens",
            Self::TokensPerSecond => "tokens_per_second",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Limits {
    /// The value of a limit.
    pub fn get(&self, limit: Limit) -> Option<NonZeroU32> {
        match limit {
            Limit::Calls => self.calls,
            Limit::QueueTokens => self.queue_tokens,
            Limit::TokensPerSecond => self.tokens_per_second,
        }
    }

    /// Sets a limit.
    pub fn set(&mut self, limit: Limit, value: NonZeroU32) {
        let field = match limit {
            Limit::Calls => &mut self.calls,
            Limit::QueueTokens => &mut self.queue_tokens,
            Limit::TokensPerSecond => &mut self.tokens_per_second,
        };
        *field = Some(value);
    }
}

/// The limits that there are: `calls = 4, tokens_per_second = 1000`.
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = Limit::ALL.into_iter().filter_map(|limit| Some(format!("{limit} = {}", self.get(limit)?)));
        f.write_str(&some.collect::<Vec<_>>().join(", "))
    }
}

/// A caller has used up its allowance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} has the limit {limit} = {most}, which it has used up{}: try again later", self.by_this_call())]
pub struct Exceeded {
    /// The name of the caller.
    pub name: Arc<str>,
    /// The limit.
    pub limit: Limit,
    /// Its value.
    pub most: u32,
    /// The tokens of the call, if they exceed what is left.
    pub wanted: Option<usize>,
    /// The time after which to try again.
    pub retry_after: Duration,
}

impl Exceeded {
    fn by_this_call(&self) -> String {
        self.wanted.map(|tokens| format!(" with the {tokens} tokens of this call")).unwrap_or_default()
    }
}

/// The limits of a caller, and its use of them.
#[derive(Debug)]
pub struct Allowance {
    name: Arc<str>,
    limits: Limits,
    calls: AtomicU32,
    /// As many permits as `queue_tokens`.
    queue_tokens: Arc<Semaphore>,
    bucket: Mutex<Bucket>,
}

/// A token bucket. A call may take more than it holds, and the next one waits until it is full again.
#[derive(Debug)]
struct Bucket {
    level: f64,
    filled: Instant,
}

/// A call of a caller, in progress until it is dropped.
#[derive(Debug)]
pub struct CallInProgress(Arc<Allowance>);

impl Drop for CallInProgress {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Allowance {
    fn new(name: &str, limits: Limits) -> Self {
        let most = limits.queue_tokens.map_or(0, NonZeroU32::get) as usize;
        let level = limits.tokens_per_second.map_or(0.0, |rate| f64::from(rate.get()) * BURST.as_secs_f64());
        Self {
            name: name.into(),
            limits,
            calls: AtomicU32::new(0),
            queue_tokens: Arc::new(Semaphore::new(most)),
            bucket: Mutex::new(Bucket { level, filled: Instant::now() }),
        }
    }

    /// Begins a call, if the caller may have another one in progress.
    pub fn begin_call(self: &Arc<Self>) -> Result<CallInProgress, Exceeded> {
        let most = self.limits.calls.map_or(u32::MAX, NonZeroU32::get);
        let more = |calls: u32| (calls < most).then(|| calls + 1);
        match self.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(CallInProgress(Arc::clone(self))),
            Err(_) => Err(self.exceeded(Limit::Calls, most, None, RETRY)),
        }
    }

    /// Checks that there is something left of the rate, before work is done for a call.
    pub fn check_rate(&self) -> Result<(), Exceeded> {
        self.rate(|_| {})
    }

    /// Takes `tokens`. A unary call is refused if the caller has used up its allowance, and a stream waits. A call that
    /// exceeds the limit by itself is admitted when it is alone.
    pub async fn take_tokens(
        &self,
        tokens: usize,
        when_full: WhenFull,
    ) -> Result<Option<OwnedSemaphorePermit>, Exceeded> {
        let permit = match self.limits.queue_tokens {
            None => None,
            Some(most) => {
                let permits = u32::try_from(tokens).unwrap_or(u32::MAX).clamp(1, most.get());
                let semaphore = Arc::clone(&self.queue_tokens);
                Some(match when_full {
                    WhenFull::Wait => semaphore.acquire_many_owned(permits).await.expect("it is never closed"),
                    WhenFull::Refuse(_) => semaphore
                        .try_acquire_many_owned(permits)
                        .map_err(|_| self.exceeded(Limit::QueueTokens, most.get(), Some(tokens), RETRY))?,
                })
            }
        };
        while let Err(exceeded) = self.rate(|bucket| bucket.level -= tokens as f64) {
            match when_full {
                WhenFull::Wait => sleep(exceeded.retry_after).await,
                WhenFull::Refuse(_) => return Err(exceeded),
            }
        }
        Ok(permit)
    }

    /// Fills the bucket up to now. If something is in it, takes from it.
    fn rate(&self, take: impl FnOnce(&mut Bucket)) -> Result<(), Exceeded> {
        let Some(most) = self.limits.tokens_per_second else { return Ok(()) };
        let (rate, now) = (f64::from(most.get()), Instant::now());
        // Nothing panics while it holds the lock.
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let more = rate * now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.level = (bucket.level + more).min(rate * BURST.as_secs_f64());
        bucket.filled = now;
        if bucket.level > 0.0 {
            take(&mut bucket);
            return Ok(());
        }
        let after = Duration::try_from_secs_f64(-bucket.level / rate).unwrap_or(Duration::MAX);
        Err(self.exceeded(Limit::TokensPerSecond, most.get(), None, after.max(LEAST_RETRY)))
    }

    fn exceeded(&self, limit: Limit, most: u32, wanted: Option<usize>, retry_after: Duration) -> Exceeded {
        Exceeded { name: Arc::clone(&self.name), limit, most, wanted, retry_after }
    }
}

/// The allowances of all callers that have limits. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Allowances(Arc<RwLock<HashMap<Caller, Arc<Allowance>>>>);

impl Allowances {
    /// Sets the limits of all principals. What a principal uses goes on to count if its limits stay.
    pub fn set<'a>(&self, all: impl IntoIterator<Item = (&'a str, Limits)>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let limited = all.into_iter().filter(|(_, limits)| *limits != Limits::default());
        let new = limited.map(|(name, limits)| {
            let caller = Caller::of_principal(name);
            let same = known.get(&caller).filter(|allowance| allowance.limits == limits);
            (caller, same.map_or_else(|| Arc::new(Allowance::new(name, limits)), Arc::clone))
        });
        *known = new.collect();
    }

    /// The allowance of a caller; `None`: the limits of the server alone apply.
    pub fn of(&self, caller: Caller) -> Option<Arc<Allowance>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&caller).cloned()
    }

    /// Takes tokens for a call (see [`Allowance::take_tokens`]).
    pub async fn take_tokens(&self, tokens: usize, terms: Terms) -> Result<Option<OwnedSemaphorePermit>, Exceeded> {
        match self.of(terms.caller) {
            Some(allowance) => allowance.take_tokens(tokens, terms.when_full).await,
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::deadline::Deadline;
    use super::*;

    const REFUSE: WhenFull = WhenFull::Refuse(Deadline::NONE);

    fn limited(limit: Limit, value: u32) -> Arc<Allowance> {
        let mut limits = Limits::default();
        limits.set(limit, NonZeroU32::new(value).unwrap());
        Arc::new(Allowance::new("a", limits))
    }

    #[test]
    fn a_caller_has_as_many_calls_in_progress_as_its_limit() {
        let allowance = limited(Limit::Calls, 2);
        let first = allowance.begin_call().unwrap();
        let _second = allowance.begin_call().unwrap();
        let refused = allowance.begin_call().unwrap_err();
        assert_eq!(refused.to_string(), "a has the limit calls = 2, which it has used up: try again later");
        drop(first);
        assert!(allowance.begin_call().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_tokens_of_a_second_are_bounded_and_a_larger_call_is_paid_for_later() {
        let allowance = limited(Limit::TokensPerSecond, 100);
        assert!(allowance.take_tokens(350, REFUSE).await.is_ok());
        let refused = allowance.take_tokens(1, REFUSE).await.unwrap_err();
        assert_eq!((refused.limit, refused.retry_after), (Limit::TokensPerSecond, Duration::from_millis(2_500)));
        assert!(allowance.check_rate().is_err());
        let begun = Instant::now();
        assert!(allowance.take_tokens(1, WhenFull::Wait).await.is_ok());
        assert!(begun.elapsed() >= Duration::from_millis(2_500), "a stream waits");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(allowance.take_tokens(100, REFUSE).await.is_ok());
        assert!(allowance.take_tokens(1, REFUSE).await.is_err(), "the tokens of one second are saved up");
    }

    #[tokio::test]
    async fn the_tokens_that_wait_are_bounded_until_they_are_computed() {
        let allowance = limited(Limit::QueueTokens, 100);
        let first = allowance.take_tokens(80, REFUSE).await.unwrap();
        let refused = allowance.take_tokens(30, REFUSE).await.unwrap_err();
        assert_eq!((refused.limit, refused.most, refused.wanted), (Limit::QueueTokens, 100, Some(30)));
        let mut waiting = std::pin::pin!(allowance.take_tokens(30, WhenFull::Wait));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(first);
        assert!(waiting.await.unwrap().is_some());
        assert!(allowance.take_tokens(5_000, REFUSE).await.is_ok(), "a larger call is admitted alone");
    }

    #[test]
    fn what_is_in_use_goes_on_to_count_while_the_limits_stay() {
        let (allowances, calls) = (Allowances::default(), NonZeroU32::new(1));
        let limits = Limits { calls, ..Limits::default() };
        let of = |name| allowances.of(Caller::of_principal(name));
        allowances.set([("a", limits), ("b", Limits::default())]);
        assert!(of("a").is_some() && of("b").is_none() && allowances.of(Caller::of_connection(1)).is_none());
        let _call = of("a").unwrap().begin_call().unwrap();
        allowances.set([("a", limits), ("b", limits)]);
        assert!(of("a").unwrap().begin_call().is_err() && of("b").unwrap().begin_call().is_ok());
        allowances.set([("a", Limits { queue_tokens: calls, ..limits })]);
        assert!(of("a").unwrap().begin_call().is_ok() && of("b").is_none());
    }
}
