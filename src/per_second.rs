//! A limit of events in each second, for lines of the log that clients cause. It needs no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Admits a number of events in each second of the clock.
#[derive(Debug)]
pub struct PerSecond {
    limit: u64,
    /// The current second in the upper half, and the number of its events in the lower half.
    second: AtomicU64,
}

impl PerSecond {
    /// Creates a limit of `limit` events.
    pub const fn new(limit: u64) -> Self {
        Self { limit, second: AtomicU64::new(0) }
    }

    /// Counts an event now. Returns true if it is among the first ones of its second.
    pub fn admits(&self) -> bool {
        self.admits_in(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    fn admits_in(&self, second: u64) -> bool {
        let next = |seen: u64| {
            let events = if seen >> 32 == second { seen & u64::from(u32::MAX) } else { 0 };
            (second << 32) | (events + 1).min(u64::from(u32::MAX))
        };
        // Never fails: the closure always returns a next value.
        let seen = self.second.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |seen| Some(next(seen)));
        next(seen.unwrap_or_default()) & u64::from(u32::MAX) <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_events_of_each_second_are_admitted() {
        let limit = PerSecond::new(10);
        let admitted = |second| (0..1_000).filter(|_| limit.admits_in(second)).count();
        assert_eq!((admitted(5), admitted(5), admitted(6)), (10, 0, 10));
    }
}
