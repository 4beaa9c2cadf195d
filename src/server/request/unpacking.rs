//! Where a compressed message is unpacked: at once if it is small, otherwise by a thread that may block.
//!
//! Invariants: memory for the largest message allowed is held before a thread unpacks one; few threads unpack at a
//! time, so that compressed messages do not take the processor from other calls. The encodings themselves are left to
//! `server/unpack.rs`.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::memory::{Memory, Share};
use crate::rpc::refusal::Refusal;
use crate::server::unpack::{AT_ONCE, Encoding};

/// A compressed message on its way back to what it was.
pub enum Unpacking {
    /// It was small, and is unpacked.
    Done(VecDeque<Bytes>),
    /// A thread unpacks it, or will when there is memory and it is its turn.
    Running(BoxFuture<'static, Result<Unpacked, Refusal>>),
}

/// A message that a thread has unpacked.
pub struct Unpacked {
    /// Its bytes.
    pub pieces: VecDeque<Bytes>,
    /// The memory that they hold.
    pub share: Share,
}

/// Unpacks a message that may have `limit` bytes, or starts to.
pub fn unpack(
    encoding: Encoding,
    pieces: VecDeque<Bytes>,
    limit: usize,
    memory: &Memory,
) -> Result<Unpacking, Refusal> {
    let packed: usize = pieces.iter().map(Bytes::len).sum();
    if packed <= AT_ONCE {
        match encoding.unpack(pieces.clone(), AT_ONCE.min(limit)) {
            Ok(pieces) => return Ok(Unpacking::Done(pieces)),
            // Small as it arrived, and large when unpacked: a thread does that.
            Err(Refusal::TooLarge { .. }) if limit > AT_ONCE => {}
            Err(Refusal::TooLarge { .. }) => return Err(Refusal::TooLarge { bytes: None, limit }),
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(Unpacking::Running(Box::pin(unpack_by_thread(encoding, pieces, limit, memory.clone()))))
}

/// Unpacks away from the threads that serve connections, a few messages at a time.
async fn unpack_by_thread(
    encoding: Encoding,
    pieces: VecDeque<Bytes>,
    limit: usize,
    memory: Memory,
) -> Result<Unpacked, Refusal> {
    let no_memory = || Refusal::NoMemory { bytes: limit };
    let mut share = memory.hold(None, limit).await.ok_or_else(no_memory)?;
    // The semaphore is never closed.
    let turn = Arc::clone(&memory.unpacking).acquire_owned().await.map_err(|_| no_memory())?;
    let unpacked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        encoding.unpack(pieces, limit)
    });
    let pieces = unpacked.await.map_err(|_| no_memory())??;
    share.shrink_to(pieces.iter().map(Bytes::len).sum());
    Ok(Unpacked { pieces, share })
}
