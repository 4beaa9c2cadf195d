//! The door from calls to the pools: costs of work in, failures out.

use std::time::Duration;

use super::Engine;
use super::status::Failure;
use crate::compute::stop::Stop;
use crate::compute::{Pool, WhenFull};

/// What a search is expected to cost; the pool learns how far that is off.
pub const SEARCH_COST: Duration = Duration::from_micros(200);

/// Computes `work` in one of the threads of `pool`. When the call is dropped, work that has not begun is not done, and
/// work that has begun is told to stop.
pub async fn compute<T: Send + 'static>(
    pool: &Pool,
    when_full: WhenFull,
    work: impl FnOnce(&Stop) -> T + Send + 'static,
) -> Result<T, Failure> {
    Ok(pool.run(when_full, SEARCH_COST, work).await?)
}

/// Does what must not be abandoned halfway, a commit: it is dropped with its caller if it has not begun, and else
/// finished. What comes before the first change may be stopped.
pub async fn commit<T: Send + 'static>(
    engine: &Engine,
    work: impl FnOnce(&Stop) -> T + Send + 'static,
) -> Result<T, Failure> {
    Ok(engine.pools.storage.run(WhenFull::Wait, SEARCH_COST, work).await?)
}
