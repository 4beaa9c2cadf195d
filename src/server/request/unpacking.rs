//! Selects where a message is unpacked and translated: at once if it is small, otherwise on a thread that may block.
//!
//! Invariants: memory for the largest allowed message is held before a thread unpacks one, and memory for a translation
//! before it begins. Few threads unpack at a time, so large messages do not take the processor from other calls. The
//! encodings themselves are left to `server/unpack.rs`, the forms to [`Translation`].

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::memory::{FREE, Memory, Share};
use crate::rpc::refusal::Refusal;
use crate::rpc::status::Failure;
use crate::server::http::translation::{MEMORY_FACTOR, Translation};
use crate::server::unpack::{Encoding, INLINE};

/// A message as it arrived.
pub struct Packed {
    /// Its compression.
    pub encoding: Option<Encoding>,
    /// The translation into a message of the rpc.
    pub translation: Option<Arc<dyn Translation>>,
    /// Its bytes.
    pub pieces: VecDeque<Bytes>,
    /// Bytes of a message at most, in each of its forms.
    pub limit: usize,
}

/// A message that is being unpacked.
pub enum Unpacking {
    /// It was small, and is already unpacked.
    Done(VecDeque<Bytes>),
    /// A thread unpacks it, or will when there is memory and a free thread.
    Running(BoxFuture<'static, Result<Unpacked, Failure>>),
}

/// A message that a thread has unpacked.
pub struct Unpacked {
    /// Its bytes.
    pub pieces: VecDeque<Bytes>,
    /// The memory that they hold.
    pub share: Share,
}

impl Packed {
    /// Unpacks and translates the message, or starts to.
    pub fn unpack(mut self, memory: &Memory) -> Result<Unpacking, Failure> {
        let limit = self.limit;
        if let Some(encoding) = self.encoding
            && bytes_of(&self.pieces) <= INLINE
        {
            match encoding.unpack(self.pieces.clone(), INLINE.min(limit)) {
                Ok(pieces) => (self.pieces, self.encoding) = (pieces, None),
                // The message is small as it arrived and large when unpacked: a thread unpacks it.
                Err(Refusal::TooLarge { .. }) if limit > INLINE => {}
                Err(Refusal::TooLarge { .. }) => return Err(Refusal::TooLarge { bytes: None, limit }.into()),
                Err(refusal) => return Err(refusal.into()),
            }
        }
        match (self.encoding, &self.translation) {
            (None, None) => return Ok(Unpacking::Done(self.pieces)),
            (None, Some(translation)) if bytes_of(&self.pieces) <= FREE => {
                return translate(&**translation, self.pieces, limit).map(Unpacking::Done);
            }
            _ => {}
        }
        let memory = memory.clone();
        Ok(Unpacking::Running(Box::pin(async move {
            let mut share = None;
            if let Some(encoding) = self.encoding {
                let pieces = self.pieces;
                let unpacked = by_thread(&memory, limit, move || Ok(encoding.unpack(pieces, limit)?)).await?;
                (self.pieces, share) = (unpacked.pieces, Some(unpacked.share));
            }
            let Some(translation) = self.translation else {
                // Without a translation there was an encoding.
                let share = share.ok_or(Failure::Internal)?;
                return Ok(Unpacked { pieces: self.pieces, share });
            };
            let bytes = bytes_of(&self.pieces);
            // A copy in one piece and the translation; and never more than there can be.
            let needed = bytes.saturating_mul(MEMORY_FACTOR).min(limit.saturating_mul(2));
            let pieces = self.pieces;
            by_thread(&memory, needed, move || translate(&*translation, pieces, limit)).await
        })))
    }
}

fn bytes_of(pieces: &VecDeque<Bytes>) -> usize {
    pieces.iter().map(Bytes::len).sum()
}

/// Translates a message.
fn translate(
    translation: &dyn Translation,
    mut pieces: VecDeque<Bytes>,
    limit: usize,
) -> Result<VecDeque<Bytes>, Failure> {
    let body = match pieces.len() {
        0 | 1 => pieces.pop_front().unwrap_or_default(),
        _ => {
            let mut whole = Vec::with_capacity(bytes_of(&pieces));
            pieces.drain(..).for_each(|piece| whole.extend_from_slice(&piece));
            Bytes::from(whole)
        }
    };
    Ok([Bytes::from(translation.request(&body, limit)?)].into())
}

/// Works on a blocking thread, a few messages at a time, when `needed` bytes are held.
async fn by_thread(
    memory: &Memory,
    needed: usize,
    work: impl FnOnce() -> Result<VecDeque<Bytes>, Failure> + Send + 'static,
) -> Result<Unpacked, Failure> {
    let no_memory = || Failure::from(Refusal::NoMemory { bytes: needed });
    let mut share = memory.hold(None, needed).await.ok_or_else(no_memory)?;
    // The semaphore is never closed.
    let turn = Arc::clone(&memory.unpacking).acquire_owned().await.map_err(|_| no_memory())?;
    let worked = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        work()
    });
    let pieces = worked.await.map_err(|_| no_memory())??;
    share.shrink_to(bytes_of(&pieces));
    Ok(Unpacked { pieces, share })
}
