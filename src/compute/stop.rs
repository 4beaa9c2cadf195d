//! Cancellation: a flag that tells a computation that its caller has left.
//!
//! Invariant: work that may take more than a few milliseconds calls [`Stop::check`] at least that often. It holds no
//! lock between two checks that other threads wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A cancellation flag: the caller raises it and the computation reads it. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

/// The error of a computation that ended without a result because its caller has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the caller has left")]
pub struct Stopped;

impl Stop {
    /// A flag that is never raised, for computations without a caller.
    pub fn never() -> Self {
        Self::default()
    }

    /// Tells the computation to stop.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns true if the computation must stop.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Fails if the computation must stop. The cost is one atomic load.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.is_raised() { Err(Stopped) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_flag_stops_every_clone() {
        let stop = Stop::never();
        let seen = stop.clone();
        assert_eq!(seen.check(), Ok(()));
        stop.raise();
        assert_eq!(seen.check(), Err(Stopped));
    }
}
