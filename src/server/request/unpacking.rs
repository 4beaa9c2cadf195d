//! Selects where a compressed message is unpacked: at once if it is small, otherwise on a thread that may block.
//!
//! Invariants: memory for the largest allowed message is held before a thread unpacks one. Few threads unpack at a
//! time, so compressed messages do not take the processor from other calls. The encodings themselves are left to
//! `server/unpack.rs`.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::memory::{Memory, Share};
use crate::rpc::refusal::Refusal;
use crate::server::unpack::{Encoding, INLINE};

/// A compressed message that is being unpacked.
pub enum Unpacking {
    /// It was small, and is already unpacked.
    Done(VecDeque<Bytes>),
    /// A thread unpacks it, or will when there is memory and a free thread.
    Running(BoxFuture<'static, Result<Unpacked, Refusal>>),
}

/// A message that a thread has unpacked.
pub struct Unpacked {
    /// Its bytes.
    pub pieces: VecDeque<Bytes>,
    /// The memory that they hold.
    pub share: Share,
}

/// Unpacks a message of up to `limit` bytes, or starts to.
pub fn unpack(
    encoding: Encoding,
    pieces: VecDeque<Bytes>,
    limit: usize,
    memory: &Memory,
) -> Result<Unpacking, Refusal> {
    let packed: usize = pieces.iter().map(Bytes::len).sum();
    if packed <= INLINE {
        match encoding.unpack(pieces.clone(), INLINE.min(limit)) {
            Ok(pieces) => return Ok(Unpacking::Done(pieces)),
            // The message is small as it arrived and large when unpacked: a thread unpacks it.
            Err(Refusal::TooLarge { .. }) if limit > INLINE => {}
            Err(Refusal::TooLarge { .. }) => return Err(Refusal::TooLarge { bytes: None, limit }),
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(Unpacking::Running(Box::pin(unpack_by_thread(encoding, pieces, limit, memory.clone()))))
}

/// Unpacks on a blocking thread, a few messages at a time.
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
