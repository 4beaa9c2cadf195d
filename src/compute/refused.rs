//! The answer of a pool that does not compute a call.

use std::time::Duration;

/// The reason why a call has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The pool has no permit left.
    #[error("{limit} calls run or wait, which is the most here: try again later")]
    Full {
        /// Calls that the pool accepts at one time.
        limit: usize,
        /// The time after which a permit should be free.
        retry_after: Duration,
    },
    /// The call would end after its deadline.
    #[error(
        "the deadline is in {left:?}, but behind {calls} other calls this one needs about {needed:?}: \
         ask for less, or try again later"
    )]
    TooLate {
        /// Calls before this one.
        calls: usize,
        /// The time that this call would need.
        needed: Duration,
        /// The time that is left until its deadline.
        left: Duration,
    },
    /// The computation has a bug; the log has the details.
    #[error("the computation panicked")]
    Panicked,
}

impl Refused {
    /// The time after which a retry may succeed; `None` if a retry does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Full { retry_after, .. } => Some(*retry_after),
            Self::TooLate { needed, left, .. } => Some(needed.saturating_sub(*left)),
            Self::Panicked => None,
        }
    }
}
