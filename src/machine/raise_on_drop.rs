//! The end of the threads of a test that fails.

use std::sync::atomic::{AtomicBool, Ordering};

/// Raises a flag when it is dropped, so that the threads of a test end also if an assertion of the test fails.
pub(crate) struct RaiseOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for RaiseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
