//! The pace of a model: measures its speed, and estimates the time of a call.
//!
//! ```text
//! time = (tokens before it in its lane + its own) / tokens per second of its lane
//! tokens per second of a lane = those of the model − those that other lanes were given in the last second,
//!                               but at least the guaranteed share of the lane;
//!                               divided by the models that have work, if several share the workers
//! ```
//! The model's tokens per second are counted by wall-clock time in which at least one worker has a batch. So they
//! include effects that a count of cores misses: other programs on the machine, and threads that share a core. Time in
//! which workers have batches of several models is divided between these by their workers. Inside a lane a call waits
//! only for the texts that have their turn before it (`batch_queue.rs`): tokens of a caller that asks for much are not
//! before a call of one that asks for little. A later call of another caller may go first.
//!
//! The time comes from the caller, so that tests need no clock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::lane::{GUARANTEED_SHARE, LANES, Lane};

/// The tokens after which older measurements are replaced: a mean over some seconds.
const MEAN_TOKENS: f64 = 8_192.0;

/// The seconds after which most of what lanes were given is forgotten.
const DECAY_SECONDS: f64 = 1.0;

/// The bytes of a token, until some texts were counted.
const BYTES_PER_TOKEN: f64 = 4.0;

/// The part of the time to its deadline that a call may need by estimate. A shared machine may slow down while a call
/// waits. In simulations with speeds between a third and all of the measured one, 95 % to 99 % of the work is useful at
/// 0.7, and about 90 % at 0.9.
const USABLE_TIME: f64 = 0.7;

/// The position of a call in the queue.
#[derive(Debug, Clone, Copy)]
pub struct Position {
    /// Its lane.
    pub lane: Lane,
    /// The most tokens of the lane that go before it, if they are known.
    pub before: Option<usize>,
}

/// The end of a lane.
impl From<Lane> for Position {
    fn from(lane: Lane) -> Self {
        Self { lane, before: None }
    }
}

/// The speed of a model, and the tokens that wait for it.
pub struct Pace {
    /// The number of the model among those that share the workers.
    model: usize,
    shared: Arc<Shared>,
}

/// The measurements of models that share workers.
struct Shared {
    measured: Mutex<AllMeasured>,
    /// Tokens that wait or are computed, by model and lane.
    waiting: Box<[[AtomicUsize; LANES]]>,
}

struct AllMeasured {
    models: Vec<Measured>,
    /// The time until which seconds are counted.
    counted: Instant,
}

#[derive(Clone)]
struct Measured {
    /// Tokens that were computed. Older ones count less.
    tokens: f64,
    /// Seconds in which at least one worker had a batch. Older ones count less.
    seconds: f64,
    /// Such seconds since the last batch ended.
    seconds_since: f64,
    /// The number of workers that have a batch.
    busy: usize,
    /// Tokens per second that each lane was given lately, as of `given_at`.
    given: [f64; LANES],
    given_at: Instant,
    bytes_per_token: f64,
}

impl AllMeasured {
    fn count_seconds(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.counted).as_secs_f64();
        let busy: usize = self.models.iter().map(|model| model.busy).sum();
        for model in self.models.iter_mut().filter(|model| model.busy > 0) {
            model.seconds_since += seconds * (model.busy as f64 / busy as f64);
        }
        self.counted = now;
    }
}

impl Measured {
    /// Tokens per second of all workers; 0 before the first batch.
    fn rate(&self) -> f64 {
        if self.tokens == 0.0 { 0.0 } else { self.tokens / self.seconds.max(1e-6) }
    }

    fn lane_rate(&self, lane: Lane, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.given_at).as_secs_f64();
        let others = self.given.iter().sum::<f64>() - self.given[lane as usize];
        let left = self.rate() - others * (-age / DECAY_SECONDS).exp();
        left.max(self.rate() * GUARANTEED_SHARE)
    }
}

impl Pace {
    /// Creates the paces of some models that share workers, without measurements.
    pub fn of_models(models: usize, now: Instant) -> Vec<Self> {
        let measured = Measured {
            tokens: 0.0,
            seconds: 0.0,
            seconds_since: 0.0,
            busy: 0,
            given: [0.0; LANES],
            given_at: now,
            bytes_per_token: BYTES_PER_TOKEN,
        };
        let measured = Mutex::new(AllMeasured { models: vec![measured; models], counted: now });
        let shared = Arc::new(Shared { measured, waiting: (0..models).map(|_| Default::default()).collect() });
        (0..models).map(|model| Self { model, shared: Arc::clone(&shared) }).collect()
    }

    /// Records that a worker begins a batch.
    pub fn batch_started(&self, now: Instant) {
        let mut all = self.lock();
        all.count_seconds(now);
        all.models[self.model].busy += 1;
    }

    /// Records that a worker has put a batch of `tokens` from `lane` through the model.
    pub fn batch_finished(&self, tokens: usize, lane: Lane, now: Instant) {
        let tokens = tokens as f64;
        let mut all = self.lock();
        all.count_seconds(now);
        let measured = &mut all.models[self.model];
        measured.busy = measured.busy.saturating_sub(1);
        let kept = 1.0 - (tokens / MEAN_TOKENS).min(0.5);
        measured.tokens = measured.tokens * kept + tokens;
        measured.seconds = measured.seconds * kept + std::mem::take(&mut measured.seconds_since);
        let age = now.saturating_duration_since(measured.given_at).as_secs_f64();
        measured.given = measured.given.map(|given| given * (-age / DECAY_SECONDS).exp());
        measured.given[lane as usize] += tokens / DECAY_SECONDS;
        measured.given_at = now;
    }

    /// Records that texts of `bytes` have `tokens`.
    pub fn record_tokens(&self, bytes: usize, tokens: usize) {
        let mut all = self.lock();
        let measured = &mut all.models[self.model];
        let bytes_per_token = bytes as f64 / tokens.max(1) as f64;
        measured.bytes_per_token +=
            (tokens as f64 / MEAN_TOKENS).min(0.5) * (bytes_per_token - measured.bytes_per_token);
    }

    /// Estimates the tokens of `bytes`.
    pub fn estimate_tokens(&self, bytes: usize) -> usize {
        (bytes as f64 / self.lock().models[self.model].bytes_per_token.max(0.1)) as usize
    }

    /// Tokens per second of the model's share of the workers, at least 1.
    pub fn rate(&self) -> f64 {
        let rate = self.lock().models[self.model].rate();
        (rate / self.models_with_work()).max(1.0)
    }

    /// The number of models that have work now, and this one. They share the workers evenly (`turns.rs`).
    fn models_with_work(&self) -> f64 {
        let others = self.shared.waiting.iter().enumerate().filter(|(model, _)| *model != self.model);
        1.0 + others.filter(|(_, waiting)| has_tokens(waiting)).count() as f64
    }

    /// Estimates the time of a call whose new texts have `tokens`. It is zero if no other call waits, or if nothing was
    /// measured yet: the call is tried.
    pub fn estimate_time(&self, tokens: usize, position: Position, now: Instant) -> Duration {
        if !has_tokens(&self.shared.waiting[self.model]) {
            return Duration::ZERO;
        }
        let rate = self.lock().models[self.model].lane_rate(position.lane, now) / self.models_with_work();
        seconds((self.waiting_before(position) + tokens) as f64 / rate)
    }

    /// The tokens that wait or are computed before a call.
    pub fn waiting_before(&self, position: Position) -> usize {
        self.waiting(position.lane).min(position.before.unwrap_or(usize::MAX))
    }

    /// Tells if a call that takes `needed` should begin when `left` remains to its deadline.
    pub fn is_in_time(needed: Duration, left: Duration) -> bool {
        needed <= left.mul_f64(USABLE_TIME)
    }

    /// Estimates the time of `tokens` if all workers compute nothing else.
    pub fn estimate_time_alone(&self, tokens: usize) -> Duration {
        seconds(tokens as f64 / self.lock().models[self.model].rate())
    }

    /// The tokens of a lane that wait or are computed.
    pub fn waiting(&self, lane: Lane) -> usize {
        self.lane(lane).load(Ordering::Relaxed)
    }

    /// Adds tokens to a lane.
    pub fn add_waiting(&self, tokens: usize, lane: Lane) {
        self.lane(lane).fetch_add(tokens, Ordering::Relaxed);
    }

    /// Removes tokens from a lane: they were computed, or nobody waits for them any more.
    pub fn remove_waiting(&self, tokens: usize, lane: Lane) {
        self.lane(lane).fetch_sub(tokens, Ordering::Relaxed);
    }

    fn lane(&self, lane: Lane) -> &AtomicUsize {
        &self.shared.waiting[self.model][lane as usize]
    }

    fn lock(&self) -> MutexGuard<'_, AllMeasured> {
        // Nothing panics while it holds the lock.
        self.shared.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_tokens(waiting: &[AtomicUsize; LANES]) -> bool {
    waiting.iter().any(|tokens| tokens.load(Ordering::Relaxed) > 0)
}

/// Converts a number of seconds. The result is zero if there is no such duration, as after a division by an unknown
/// rate.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    impl Pace {
        /// Creates the pace of a model that has workers of its own.
        pub fn new(now: Instant) -> Self {
            Self::of_models(1, now).remove(0)
        }

        /// Sets the measured tokens per second, without tokens of any lane.
        pub fn set_rate(&self, rate: f64) {
            let mut all = self.lock();
            let measured = &mut all.models[self.model];
            (measured.tokens, measured.seconds) = (rate, 1.0);
        }

        /// The number of workers that have a batch.
        pub fn busy(&self) -> usize {
            self.lock().models[self.model].busy
        }
    }

    /// A pace of 1,000 tokens per second, and a time.
    fn idle() -> (Pace, Instant) {
        let now = Instant::now();
        let pace = Pace::new(now);
        pace.set_rate(1_000.0);
        (pace, now)
    }

    fn rounded(time: Duration) -> f64 {
        (time.as_secs_f64() * 10.0).round() / 10.0
    }

    #[test]
    fn a_call_takes_as_long_as_its_tokens_and_those_before_it_in_its_lane() {
        let (pace, now) = idle();
        assert_eq!(pace.estimate_time(9_000, Lane::Bulk.into(), now), Duration::ZERO, "a call alone is tried");
        pace.add_waiting(3_000, Lane::Interactive);
        assert_eq!(rounded(pace.estimate_time(1_000, Lane::Bulk.into(), now)), 1.0);
        pace.add_waiting(5_000, Lane::Bulk);
        assert_eq!(rounded(pace.estimate_time(1_000, Lane::Bulk.into(), now)), 6.0);
        assert_eq!(rounded(pace.estimate_time(1_000, Lane::Interactive.into(), now)), 4.0);
        assert_eq!(rounded(pace.estimate_time(1_000, Lane::Short.into(), now)), 1.0);
        pace.remove_waiting(5_000, Lane::Bulk);
        assert_eq!(rounded(pace.estimate_time(1_000, Lane::Bulk.into(), now)), 1.0);
    }

    #[test]
    fn before_the_first_batch_nothing_is_too_late() {
        let now = Instant::now();
        let pace = Pace::new(now);
        pace.add_waiting(1_000, Lane::Bulk);
        assert_eq!(pace.estimate_time(1_000, Lane::Bulk.into(), now), Duration::ZERO);
        assert_eq!(pace.estimate_time_alone(1_000), Duration::ZERO);
    }

    #[test]
    fn batches_of_several_workers_at_a_time_are_measured_as_one_speed() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let pace = Pace::new(begun);
        // Two workers, each with 500 tokens per second; then a minute without work.
        for second in 0..100 {
            (0..2).for_each(|_| pace.batch_started(at(1_000 * second)));
            (0..2).for_each(|_| pace.batch_finished(500, Lane::Short, at(1_000 * second + 1_000)));
        }
        pace.batch_started(at(160_000));
        pace.batch_finished(1_000, Lane::Short, at(161_000));
        assert!((pace.rate() / 1_000.0 - 1.0).abs() < 0.07, "{}", pace.rate());
    }

    #[test]
    fn batches_of_two_models_at_a_time_are_measured_as_the_speed_that_each_has_alone() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let paces = Pace::of_models(2, begun);
        // Each has one of two workers for a second at a time, in which it computes 500 and 50 tokens.
        for second in 0..400 {
            for (pace, tokens) in paces.iter().zip([500, 50]) {
                if second > 0 {
                    pace.batch_finished(tokens, Lane::Short, at(1_000 * second));
                }
                pace.batch_started(at(1_000 * second));
            }
        }
        for (pace, alone) in paces.iter().zip([1_000.0, 100.0]) {
            assert!((pace.rate() / alone - 1.0).abs() < 0.07, "{} and not {alone}", pace.rate());
        }
    }

    #[test]
    fn an_estimate_counts_on_an_even_share_beside_other_models_with_work() {
        let now = Instant::now();
        let paces = Pace::of_models(3, now);
        paces[0].set_rate(1_000.0);
        paces[0].add_waiting(1_000, Lane::Bulk);
        let estimate = || rounded(paces[0].estimate_time(1_000, Lane::Bulk.into(), now));
        assert_eq!(estimate(), 2.0);
        paces[1].add_waiting(1, Lane::Short);
        assert_eq!((estimate(), paces[0].rate()), (4.0, 500.0));
        assert_eq!(rounded(paces[0].estimate_time_alone(1_000)), 1.0, "the others may be done soon");
        paces[1].remove_waiting(1, Lane::Short);
        assert_eq!(estimate(), 2.0);
    }

    #[test]
    fn an_estimate_subtracts_the_rate_of_other_lanes_down_to_the_guaranteed_share() {
        let (pace, now) = idle();
        pace.add_waiting(1_000, Lane::Bulk);
        pace.batch_finished(400, Lane::Short, now);
        pace.set_rate(1_000.0);
        assert_eq!(rounded(pace.estimate_time(1_000, Lane::Bulk.into(), now)), 3.3, "600 tokens per second are left");
        pace.batch_finished(9_000, Lane::Short, now);
        pace.set_rate(1_000.0);
        assert_eq!(
            rounded(pace.estimate_time(1_000, Lane::Bulk.into(), now)),
            8.0,
            "a quarter of the rate is guaranteed"
        );
        assert_eq!(
            rounded(pace.estimate_time(1_000, Lane::Short.into(), now)),
            1.0,
            "the lane's own tokens are not subtracted"
        );
        let later = now + Duration::from_secs(60);
        assert_eq!(
            rounded(pace.estimate_time(1_000, Lane::Bulk.into(), later)),
            2.0,
            "tokens of a minute ago are forgotten"
        );
    }

    #[test]
    fn tokens_are_estimated_from_the_bytes_of_earlier_texts() {
        let pace = Pace::new(Instant::now());
        assert_eq!(pace.estimate_tokens(4_000), 1_000);
        (0..100).for_each(|_| pace.record_tokens(2_000, 1_000));
        assert_eq!((pace.estimate_tokens(4_000) as f64 / 100.0).round(), 20.0);
    }
}
