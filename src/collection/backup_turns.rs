//! The turn of a backup: one at a time is made or read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Lets one backup at a time be made or read.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<AtomicBool>);

/// Guard: a backup is being made or read.
pub(super) struct Turn(Arc<AtomicBool>);

impl Turns {
    /// Takes the turn; `None`: another backup has it.
    pub(super) fn take(&self) -> Option<Turn> {
        let was_taken = self.0.swap(true, Ordering::Acquire);
        (!was_taken).then(|| Turn(Arc::clone(&self.0)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
