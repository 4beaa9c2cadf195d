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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_left_at_the_deadline_and_after_it() {
        assert_eq!(Deadline::NONE.left(), None);
        assert_eq!(Deadline::at(Instant::now()).left(), Some(Duration::ZERO));
    }
}
