//! Work on a message: done at once where the message is small, away from the async threads where it is large.
//!
//! An async thread that computed for long would delay the health checks of all clients.

use super::status::Failure;
use super::{Engine, compute};
use crate::compute::WhenFull;

/// Bytes of a message that is worked on where it is. Decoding the smallest items takes 10 ns a byte, so this is two
/// thirds of a millisecond at worst, and for texts and vectors a twentieth of that, which is what handing work over and
/// back takes.
const SMALL_BYTES: usize = 64 * 1024;

/// Runs `work` on a message of `bytes`: in the pool for searches for a caller who waits, in that for bulk work for a
/// stream.
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
