//! A histogram of fixed buckets that many threads fill: durations in nanoseconds, or sizes.
//!
//! Invariant: to record costs two additions to atomics and no lock. A distribution that is read meanwhile may lack the
//! sum of a value that it counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of buckets for the time of a call, in nanoseconds: 0.5 ms to 60 s.
pub const CALL_TIMES: &[u64] = &[
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];

/// Upper bounds of buckets for numbers of things: powers of four up to 65,536.
pub const SIZES: &[u64] = &[1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536];

/// A histogram that is filled.
#[derive(Debug)]
pub struct Histogram {
    /// The upper bounds of the buckets, inclusive, ascending.
    bounds: &'static [u64],
    /// One counter for each bound, and one for all above.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// The values of a histogram at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// The upper bounds of the buckets, inclusive, ascending.
    pub bounds: &'static [u64],
    /// The number of values in each bucket, and of those above all bounds.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

impl Histogram {
    /// An empty histogram of buckets with these upper bounds, which ascend.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Records a value.
    pub fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Records a time, in nanoseconds.
    pub fn record_time(&self, time: Duration) {
        self.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The values so far.
    pub fn distribution(&self) -> Distribution {
        Distribution {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect(),
            sum: self.sum.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::new(&[1, 10]);
        [0, 1, 2, 10, 11, 1_000].into_iter().for_each(|value| histogram.record(value));
        let Distribution { counts, sum, .. } = histogram.distribution();
        assert_eq!((counts, sum), (vec![2, 2, 2], 1_024));
    }

    #[test]
    fn the_bounds_ascend() {
        for bounds in [CALL_TIMES, SIZES] {
            assert!(bounds.is_sorted_by(|one, next| one < next));
        }
    }
}
