//! One computation of a call, in steps: between two steps other calls get their turn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::queue::Service;
use super::stop::Stop;

/// The state of a task after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The task has more steps.
    More,
    /// That was the last step.
    Done,
}

/// Runs one step.
pub type Steps = Box<dyn FnMut(&Stop) -> Progress + Send>;

/// A computation of a call.
pub struct Task {
    pub call: Arc<Call>,
    /// The expected time of the next turn.
    pub cost: Duration,
    pub steps: Steps,
}

/// The state that all tasks of one call share.
pub struct Call {
    pub stop: Stop,
    account: Mutex<Account>,
    is_long: AtomicBool,
}

/// The service that a call has received.
#[derive(Debug, Default)]
pub struct Account {
    /// The service on the clock of the queue where the call waits.
    pub service: Service,
    /// The time of all its tasks on threads, in all.
    pub total: Duration,
}

impl Call {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { stop: Stop::never(), account: Mutex::default(), is_long: AtomicBool::new(false) })
    }

    pub fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the call as long: its next tasks go to the pool for long work, whose queue has its own clock.
    pub fn becomes_long(&self) {
        if !self.is_long.swap(true, Ordering::Relaxed) {
            self.account().service = Service::default();
        }
    }
}
