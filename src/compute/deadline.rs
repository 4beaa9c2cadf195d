//! When a caller stops waiting, and what a call does where there is no room.

use std::time::{Duration, Instant};

/// When a caller stops waiting; none for a caller that named no deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadline(Option<Instant>);

/// What a call does when there is no room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Fails at once, also where it could not be done by the deadline.
    Refuse(Deadline),
    /// Waits for its turn.
    Wait,
}

impl Deadline {
    /// The caller waits for as long as it takes.
    pub const NONE: Self = Self(None);

    /// The caller waits until `instant`.
    pub fn at(instant: Instant) -> Self {
        Self(Some(instant))
    }

    /// Time that is left; `None` without a deadline.
    pub fn left(self) -> Option<Duration> {
        self.0.map(|instant| instant.saturating_duration_since(Instant::now()))
    }

    /// Whether something that takes `needed` from now on ends too late.
    pub fn is_before(self, needed: Duration) -> bool {
        self.left().is_some_and(|left| left < needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_longer_than_is_left_ends_too_late() {
        let deadline = Deadline::at(Instant::now() + Duration::from_secs(60));
        assert!(deadline.is_before(Duration::from_secs(61)) && !deadline.is_before(Duration::from_secs(30)));
        assert!(!Deadline::NONE.is_before(Duration::MAX));
        assert_eq!(Deadline::at(Instant::now()).left(), Some(Duration::ZERO));
    }
}
