//! The allowances of callers: what a named caller may use of the models and of the calls in progress, together over all
//! its connections and keys.
//!
//! Invariant: what a caller uses beyond its allowance is refused or, for a stream, waits. Nobody else waits for it: the
//! locks here are held for a few instructions.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::caller::Caller;
use super::deadline::WhenFull;
use super::limits::{Limit, Limits};

/// The time whose tokens a caller may use at once.
const BURST: Duration = Duration::from_secs(1);

/// The time after which to try again when calls or tokens of the caller itself are in the way.
const RETRY: Duration = Duration::from_millis(100);

/// The shortest time after which to try again.
const LEAST_RETRY: Duration = Duration::from_millis(10);

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
    /// Tokens that the models were given since the start. Those of earlier limits are among them.
    submitted: Arc<AtomicU64>,
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
    fn new(name: &str, limits: Limits, submitted: Arc<AtomicU64>) -> Self {
        let most = limits.queue_tokens.map_or(0, NonZeroU32::get) as usize;
        let level = limits.tokens_per_second.map_or(0.0, |rate| f64::from(rate.get()) * BURST.as_secs_f64());
        Self {
            name: name.into(),
            limits,
            calls: AtomicU32::new(0),
            submitted,
            queue_tokens: Arc::new(Semaphore::new(most)),
            bucket: Mutex::new(Bucket { level, filled: Instant::now() }),
        }
    }

    /// The name of the caller.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Counts tokens that a model was given.
    pub fn count_submitted(&self, tokens: usize) {
        self.submitted.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    /// Tokens that the models were given since the start of the server.
    pub fn submitted(&self) -> u64 {
        self.submitted.load(Ordering::Relaxed)
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
        self.rate(Instant::now(), |_| {})
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
        while let Err(exceeded) = self.rate(Instant::now(), |bucket| bucket.level -= tokens as f64) {
            match when_full {
                WhenFull::Wait => sleep(exceeded.retry_after).await,
                WhenFull::Refuse(_) => return Err(exceeded),
            }
        }
        Ok(permit)
    }

    /// Fills the bucket up to `now`. If something is in it, takes from it.
    fn rate(&self, now: Instant, take: impl FnOnce(&mut Bucket)) -> Result<(), Exceeded> {
        let Some(most) = self.limits.tokens_per_second else { return Ok(()) };
        let rate = f64::from(most.get());
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

/// The allowances of all principals in the file of keys. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Allowances(Arc<RwLock<HashMap<Caller, Arc<Allowance>>>>);

impl Allowances {
    /// Sets the limits of all principals. The usage of a principal whose limits stay goes on to count.
    pub fn set<'a>(&self, all: impl IntoIterator<Item = (&'a str, Limits)>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = HashMap::new();
        for (name, limits) in all {
            let caller = Caller::of_principal(name);
            new.entry(caller).or_insert_with(|| match known.get(&caller) {
                Some(same) if same.limits == limits => Arc::clone(same),
                other => {
                    let submitted = other.map_or_else(Arc::default, |before| Arc::clone(&before.submitted));
                    Arc::new(Allowance::new(name, limits, submitted))
                }
            });
        }
        *known = new;
    }

    /// The allowance of a caller; `None`: it is no principal of the file of keys.
    pub fn of(&self, caller: Caller) -> Option<Arc<Allowance>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&caller).cloned()
    }

    /// The limits of a caller.
    pub fn limits_of(&self, caller: Caller) -> Limits {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&caller).map(|allowance| allowance.limits).unwrap_or_default()
    }

    /// The allowances of all principals, in no order.
    pub fn all(&self) -> Vec<Arc<Allowance>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::deadline::Deadline;
    use super::*;

    const REFUSE: WhenFull = WhenFull::Refuse(Deadline::NONE);

    fn limited(limit: Limit, value: u32) -> Arc<Allowance> {
        let mut limits = Limits::default();
        limits.set(limit, value.into()).unwrap();
        Arc::new(Allowance::new("a", limits, Arc::default()))
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

    #[test]
    fn the_tokens_of_a_second_are_bounded_and_a_larger_call_is_paid_for_later() {
        let allowance = limited(Limit::TokensPerSecond, 100);
        let begun = allowance.bucket.lock().unwrap().filled;
        let take = |tokens: f64, after_ms: u64| {
            allowance.rate(begun + Duration::from_millis(after_ms), |bucket| bucket.level -= tokens)
        };
        assert!(take(350.0, 0).is_ok());
        let refused = take(1.0, 0).unwrap_err();
        assert_eq!((refused.limit, refused.retry_after), (Limit::TokensPerSecond, Duration::from_millis(2_500)));
        assert!(take(1.0, 2_400).is_err());
        assert!(take(1.0, 2_600).is_ok());
        assert!(take(100.0, 60_000).is_ok());
        assert!(take(1.0, 60_000).is_err(), "the tokens of one second are saved up");
    }

    #[tokio::test]
    async fn a_stream_waits_for_the_rate_and_a_call_is_refused() {
        let allowance = limited(Limit::TokensPerSecond, 100);
        assert!(allowance.take_tokens(110, REFUSE).await.is_ok());
        let begun = Instant::now();
        let refused = allowance.take_tokens(1, REFUSE).await.unwrap_err();
        assert_eq!(refused.limit, Limit::TokensPerSecond);
        assert!(allowance.take_tokens(1, WhenFull::Wait).await.is_ok());
        assert!(begun.elapsed() >= refused.retry_after);
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
        assert!(of("a").is_some() && of("b").is_some() && allowances.of(Caller::of_connection(1)).is_none());
        let _call = of("a").unwrap().begin_call().unwrap();
        of("a").unwrap().count_submitted(7);
        allowances.set([("a", limits), ("b", limits)]);
        assert!(of("a").unwrap().begin_call().is_err() && of("b").unwrap().begin_call().is_ok());
        allowances.set([("a", Limits { queue_tokens: calls, ..limits })]);
        assert!(of("a").unwrap().begin_call().is_ok() && of("b").is_none());
        assert_eq!(of("a").unwrap().submitted(), 7, "tokens are counted from the start of the server");
        assert_eq!(allowances.limits_of(Caller::of_principal("b")), Limits::default());
    }
}
