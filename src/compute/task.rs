//! One computation of a call, done in steps so that others have their turn between them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::queue::Service;
use super::stop::Stop;

/// Whether a task has steps left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There are more.
    More,
    /// That was the last.
    Done,
}

/// Does one step.
pub type Steps = Box<dyn FnMut(&Stop) -> Progress + Send>;

/// A computation of a call.
pub struct Task {
    pub call: Arc<Call>,
    /// What the next turn is expected to take.
    pub cost: Duration,
    pub steps: Steps,
}

/// What all tasks of one call share.
pub struct Call {
    pub stop: Stop,
    account: Mutex<Account>,
    is_long: AtomicBool,
}

/// What a call was served.
#[derive(Debug, Default)]
pub struct Account {
    /// On the clock of the queue that the call waits in.
    pub service: Service,
    /// Time of threads, in all.
    pub total: Duration,
}

impl Call {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { stop: Stop::never(), account: Mutex::default(), is_long: AtomicBool::new(false) })
    }

    pub fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on its tasks go to the pool for long work, whose queue has a clock of its own.
    pub fn becomes_long(&self) {
        if !self.is_long.swap(true, Ordering::Relaxed) {
            self.account().service = Service::default();
        }
    }
}
