//! Work on a message: small ones are processed at once, large ones away from the async threads.
//!
//! An async thread that computed for long would delay the health checks of all clients.

use super::status::Failure;
use super::{Engine, compute};
use crate::compute::WhenFull;

/// Bytes of a message that is processed on the async thread. Decoding the smallest items takes 10 ns for each byte,
/// which is at most two thirds of a millisecond. Texts and vectors take a twentieth of that, about as long as handing
/// work to another thread and back.
const SMALL_BYTES: usize = 64 * 1024;

/// Runs `work` on a message of `bytes`. A large one runs in the pool for searches if a caller waits, and in the pool
/// for bulk work if it belongs to a stream.
pub async fn compute_if_large<T: Send + 'static>(
    engine: &Engine,
    bytes: usize,
    when_full: WhenFull,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    if bytes <= SMALL_BYTES {
        return Ok(work());
    }
    let pool = match when_full {
        WhenFull::Refuse(_) => &engine.pools.search,
        WhenFull::Wait => &engine.pools.bulk,
    };
    compute(pool, when_full, |_| work()).await
}
