//! Runs the work of calls in the pools: adds the expected cost, and turns refusals into failures.

use super::Engine;
use super::status::Failure;
use crate::compute::stop::Stop;
use crate::compute::{Pool, SHORT, WhenFull};

/// Computes `work` in one of the threads of `pool`. When the call is dropped, queued work is not started, and running
/// work is told to stop.
pub async fn compute<T: Send + 'static>(
    pool: &Pool,
    when_full: WhenFull,
    work: impl FnOnce(&Stop) -> T + Send + 'static,
) -> Result<T, Failure> {
    Ok(pool.run(when_full, SHORT, work).await?)
}

/// Runs work that must not stop halfway, for example a commit. When the call is dropped, queued work is not started,
/// and running work finishes. The part before its first change may still stop.
pub async fn commit<T: Send + 'static>(
    engine: &Engine,
    work: impl FnOnce(&Stop) -> T + Send + 'static,
) -> Result<T, Failure> {
    Ok(engine.pools.storage.run(WhenFull::Wait, SHORT, work).await?)
}
