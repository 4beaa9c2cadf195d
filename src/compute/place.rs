//! The place where a call does a piece of work: its own thread for small work, a pool for other.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::deadline::WhenFull;
use super::pool::Pool;
use super::pools::SHORT;
use super::refused::Refused;

/// The place where a call does a piece of work.
#[derive(Debug, Clone, Copy)]
pub enum Place<'p> {
    /// The thread that the call is on: the work takes less than a millisecond.
    Here,
    /// A pool.
    In(&'p Pool, WhenFull),
}

impl Place<'_> {
    /// Does the work there. Work in a pool that has not begun when the future is dropped is not started.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
        match self {
            Self::Here => catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
                tracing::error!("a computation panicked");
                Refused::Panicked
            }),
            Self::In(pool, when_full) => pool.run(when_full, SHORT, |_| work()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_on_the_thread_of_a_call_is_an_error_as_in_a_pool() {
        fn broken() -> u32 {
            panic!("a test of panics")
        }
        assert!(matches!(Place::Here.run(broken).await, Err(Refused::Panicked)));
        assert!(matches!(Place::Here.run(|| 7).await, Ok(7)));
    }
}
