//! How a computation learns that its caller has gone.
//!
//! Invariant: work that may take more than a few milliseconds asks [`Stop::check`] at least that often, and holds no
//! lock that others wait for in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that the caller raises and the computation reads. Clones share the flag.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

/// The caller has gone: the computation ended without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the caller has gone")]
pub struct Stopped;

/// Raises its flag when it is dropped: whoever waits for a computation holds it.
#[derive(Debug)]
pub struct StopOnDrop(Stop);

impl Stop {
    /// A flag that nobody raises: for computations without a caller.
    pub fn never() -> Self {
        Self::default()
    }

    /// Tells the computation to stop.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the computation is to stop.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error if the computation is to stop. Costs a load.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.is_raised() { Err(Stopped) } else { Ok(()) }
    }

    /// Raises this flag when the guard is dropped.
    pub fn on_drop(&self) -> StopOnDrop {
        StopOnDrop(self.clone())
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.raise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_the_guard_stops_every_clone() {
        let stop = Stop::never();
        let seen = stop.clone();
        let guard = stop.on_drop();
        assert_eq!(seen.check(), Ok(()));
        drop(guard);
        assert_eq!(seen.check(), Err(Stopped));
    }
}
