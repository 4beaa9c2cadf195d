//! The deadline of a call, and the choice that a call makes when a pool is full.

use std::time::{Duration, Instant};

/// The time until which a caller waits. May be empty: then the caller named no deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadline(Option<Instant>);

/// The choice of a call when the pool is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Fails at once: when the pool is full, and when the call cannot be done by the deadline.
    Refuse(Deadline),
    /// Waits for a permit.
    Wait,
}

impl Deadline {
    /// No deadline: the caller waits as long as it takes.
    pub const NONE: Self = Self(None);

    /// A deadline at `instant`.
    pub fn at(instant: Instant) -> Self {
        Self(Some(instant))
    }

    /// The time that is left; `None` without a deadline.
    pub fn left(self) -> Option<Duration> {
        self.0.map(|instant| instant.saturating_duration_since(Instant::now()))
    }

    /// Returns true if something that starts now and takes `needed` ends too late.
    pub fn is_before(self, needed: Duration) -> bool {
        self.left().is_some_and(|left| left < needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_longer_than_the_time_left_misses_the_deadline() {
        let deadline = Deadline::at(Instant::now() + Duration::from_secs(60));
        assert!(deadline.is_before(Duration::from_secs(61)) && !deadline.is_before(Duration::from_secs(30)));
        assert!(!Deadline::NONE.is_before(Duration::MAX));
        assert_eq!(Deadline::at(Instant::now()).left(), Some(Duration::ZERO));
    }
}
