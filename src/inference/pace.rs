//! How long a call takes, from how fast the model was and how much waits before it.
//!
//! ```text
//! time = (tokens before it in its lane + its own) / tokens per second of all workers × slowdown of its lane
//! ```
//! The slowdown is measured: how much longer calls of the lane took than without it. It holds what the formula leaves
//! out: the share of the other lane, texts of later calls that fill batches, other work of the machine.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::lanes::Lane;

/// Tokens that replace what was measured before: a mean over some seconds.
const TOKENS_OF_MEMORY: f64 = 8_192.0;

/// How much of a difference one call teaches.
const LEARNING: f64 = 0.2;

/// After this long without calls, most of a slowdown is forgotten: it came from a load that may be over.
const SLOWDOWN_LASTS: Duration = Duration::from_secs(10);

/// Calls that should take less say more of the machine's moods than of the lane.
const WORTH_LEARNING: Duration = Duration::from_millis(20);

/// Bytes of a text for each of its tokens, until some were counted.
const BYTES_A_TOKEN: f64 = 4.0;

/// What was measured of a model.
pub struct Pace {
    measured: Mutex<Measured>,
    workers: usize,
    /// Tokens that wait or are computed, by lane.
    waiting: [AtomicUsize; 2],
}

struct Measured {
    /// Tokens per second of all workers; 0: nothing was computed yet.
    rate: f64,
    bytes_a_token: f64,
    slowdowns: [Slowdown; 2],
}

#[derive(Clone, Copy)]
struct Slowdown {
    factor: f64,
    learned: Instant,
}

/// A call on its way through a lane. What it took is learned when it is dropped.
pub struct Trip<'p> {
    pace: &'p Pace,
    lane: Lane,
    /// What it should take without the slowdown of its lane.
    expected: Duration,
    begun: Instant,
    has_arrived: bool,
}

impl Slowdown {
    fn now(self) -> f64 {
        let age = self.learned.elapsed().as_secs_f64() / SLOWDOWN_LASTS.as_secs_f64();
        1.0 + (self.factor - 1.0) * (-age).exp()
    }
}

impl Pace {
    /// Nothing was measured yet.
    pub fn new(workers: usize) -> Self {
        let slowdowns = [Slowdown { factor: 1.0, learned: Instant::now() }; 2];
        let measured = Measured { rate: 0.0, bytes_a_token: BYTES_A_TOKEN, slowdowns };
        Self { measured: Mutex::new(measured), workers: workers.max(1), waiting: Default::default() }
    }

    /// Tells that one worker put `tokens` through the model in `elapsed`.
    pub fn record(&self, tokens: usize, elapsed: Duration) {
        let rate = tokens as f64 / elapsed.as_secs_f64().max(1e-6) * self.workers as f64;
        let mut measured = self.lock();
        if measured.rate == 0.0 {
            measured.rate = rate;
        } else {
            measured.rate += (tokens as f64 / TOKENS_OF_MEMORY).min(0.5) * (rate - measured.rate);
        }
    }

    /// Tells how many tokens a text had, of which the model reads `tokens`.
    pub fn counted(&self, bytes: usize, tokens: usize) {
        let mut measured = self.lock();
        let of_these = bytes as f64 / tokens.max(1) as f64;
        measured.bytes_a_token += (tokens as f64 / TOKENS_OF_MEMORY).min(0.5) * (of_these - measured.bytes_a_token);
    }

    /// Tokens that so many bytes should have.
    pub fn tokens_of(&self, bytes: usize) -> usize {
        (bytes as f64 / self.lock().bytes_a_token.max(0.1)) as usize
    }

    /// Tokens per second of all workers, at least 1.
    pub fn rate(&self) -> f64 {
        self.lock().rate.max(1.0)
    }

    /// How long a call takes whose new texts have `tokens`. Nothing where it would be alone, or nothing was measured
    /// yet: such a call is tried.
    pub fn time_of(&self, tokens: usize, lane: Lane) -> Duration {
        let waiting = self.waiting(lane);
        if waiting == 0 && self.waiting(lane.other()) == 0 {
            return Duration::ZERO;
        }
        let measured = self.lock();
        seconds((waiting + tokens) as f64 / measured.rate * measured.slowdowns[lane as usize].now())
    }

    /// Tokens that wait in a lane or are computed from it.
    pub fn waiting(&self, lane: Lane) -> usize {
        self.waiting[lane as usize].load(Ordering::Relaxed)
    }

    /// Tokens have come into a lane.
    pub fn came(&self, tokens: usize, lane: Lane) {
        self.waiting[lane as usize].fetch_add(tokens, Ordering::Relaxed);
    }

    /// Tokens have left a lane: they were computed, or nobody waits for them any more.
    pub fn left(&self, tokens: usize, lane: Lane) {
        self.waiting[lane as usize].fetch_sub(tokens, Ordering::Relaxed);
    }

    /// A call of `tokens` sets out; they are among those that wait already.
    pub fn sets_out(&self, lane: Lane) -> Trip<'_> {
        let expected = seconds(self.waiting(lane) as f64 / self.lock().rate);
        Trip { pace: self, lane, expected, begun: Instant::now(), has_arrived: false }
    }

    fn learn(&self, lane: Lane, expected: Duration, taken: Duration, has_arrived: bool) {
        if expected < WORTH_LEARNING {
            return;
        }
        let ratio = (taken.as_secs_f64() / expected.as_secs_f64()).clamp(0.2, 20.0);
        let mut measured = self.lock();
        let slowdown = &mut measured.slowdowns[lane as usize];
        let now = slowdown.now();
        // One that was given up would have taken at least this long.
        if has_arrived || ratio > now {
            *slowdown = Slowdown { factor: now + LEARNING * (ratio - now), learned: Instant::now() };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Measured> {
        // Nothing panics while it holds the lock.
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trip<'_> {
    /// The call has all that it asked for.
    pub fn has_arrived(mut self) {
        self.has_arrived = true;
    }
}

impl Drop for Trip<'_> {
    fn drop(&mut self) {
        self.pace.learn(self.lane, self.expected, self.begun.elapsed(), self.has_arrived);
    }
}

/// Nothing for what is no number of seconds: what is divided by a rate that was not measured yet.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Pace {
        let pace = Pace::new(2);
        pace.record(500, Duration::from_secs(1));
        pace
    }

    #[test]
    fn a_call_takes_as_long_as_what_waits_before_it_in_its_lane() {
        let pace = busy();
        assert_eq!(pace.time_of(9_000, Lane::Bulk), Duration::ZERO, "alone, it is tried");
        pace.came(3_000, Lane::Interactive);
        assert_eq!(pace.time_of(1_000, Lane::Bulk).as_secs_f64().round(), 1.0);
        pace.came(5_000, Lane::Bulk);
        assert_eq!(pace.time_of(1_000, Lane::Bulk).as_secs_f64().round(), 6.0);
        assert_eq!(pace.time_of(1_000, Lane::Interactive).as_secs_f64().round(), 4.0);
        pace.left(5_000, Lane::Bulk);
        assert_eq!(pace.time_of(1_000, Lane::Bulk).as_secs_f64().round(), 1.0);
    }

    #[test]
    fn before_the_first_batch_nothing_is_too_late() {
        let pace = Pace::new(1);
        pace.came(1_000, Lane::Bulk);
        assert_eq!(pace.time_of(1_000, Lane::Bulk), Duration::ZERO);
    }

    #[test]
    fn a_lane_that_is_slower_than_expected_is_known_for_it_and_forgiven() {
        let pace = busy();
        pace.came(1_000, Lane::Bulk);
        for _ in 0..50 {
            pace.learn(Lane::Bulk, Duration::from_secs(1), Duration::from_secs(4), true);
        }
        assert_eq!(pace.time_of(1_000, Lane::Bulk).as_secs_f64().round(), 8.0);
        pace.learn(Lane::Bulk, Duration::from_secs(1), Duration::from_secs(1), false);
        assert_eq!(pace.time_of(1_000, Lane::Bulk).as_secs_f64().round(), 8.0, "who leaves early teaches nothing");
        let long_ago = Instant::now().checked_sub(10 * SLOWDOWN_LASTS);
        if let Some(learned) = long_ago {
            pace.lock().slowdowns[Lane::Bulk as usize].learned = learned;
            assert_eq!(pace.time_of(1_000, Lane::Bulk).as_secs_f64().round(), 2.0);
        }
    }

    #[test]
    fn tokens_are_foreseen_from_the_bytes_of_earlier_texts() {
        let pace = Pace::new(1);
        assert_eq!(pace.tokens_of(4_000), 1_000);
        (0..100).for_each(|_| pace.counted(2_000, 1_000));
        assert_eq!((pace.tokens_of(4_000) as f64 / 100.0).round(), 20.0);
    }
}
