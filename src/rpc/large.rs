//! Work on a message: small ones are processed at once, large ones away from the async threads.
//!
//! An async thread that computed for long would delay the health checks of all clients.

use super::Engine;
use super::status::Failure;
use crate::compute::{Place, WhenFull};

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
    Ok(place(engine, bytes, when_full).run(work).await?)
}

/// The place where such work is done.
pub fn place(engine: &Engine, bytes: usize, when_full: WhenFull) -> Place<'_> {
    match when_full {
        _ if bytes <= SMALL_BYTES => Place::Here,
        WhenFull::Refuse(_) => Place::In(&engine.pools.search, when_full),
        WhenFull::Wait => Place::In(&engine.pools.bulk, when_full),
    }
}
