//! One message of a request as it arrives: a head of five bytes, then the payload.
//!
//! The head is a flag and a length: the framing of gRPC over HTTP/2.
//!
//! Invariants: a head whose flag or length is not allowed is refused before any of its payload is kept; pieces of a
//! payload grow with what has arrived, because the length in the head is only a promise. Paying for the pieces is left
//! to [`super::memory`], unpacking them to [`super::unpacking`].

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use crate::rpc::refusal::Refusal;

/// Bytes of a head: a flag, and the length of the payload.
pub const HEAD: usize = 5;
/// Bytes of the largest piece of a payload.
const PIECE: usize = 64 * 1024;

/// A head, as far as it has arrived.
#[derive(Default)]
pub struct Head {
    bytes: [u8; HEAD],
    have: usize,
}

impl Head {
    /// Whether no byte of it has arrived.
    pub fn is_empty(&self) -> bool {
        self.have == 0
    }

    /// Whether all of it has arrived.
    pub fn is_complete(&self) -> bool {
        self.have == HEAD
    }

    /// Copies the bytes that are missing from the front of `chunk`, and returns their number. They stay in `chunk`.
    pub fn copy_from(&mut self, chunk: &[u8]) -> usize {
        let n = (HEAD - self.have).min(chunk.len());
        self.bytes[self.have..self.have + n].copy_from_slice(&chunk[..n]);
        self.have += n;
        n
    }

    /// Reads a complete head. A payload may have `limit` bytes, and may be compressed if an encoding is known.
    pub fn parse(&self, has_encoding: bool, limit: usize) -> Result<Payload, Refusal> {
        let [flag, length @ ..] = self.bytes;
        let length = u32::from_be_bytes(length) as usize;
        let compressed = match flag {
            0 => false,
            1 if has_encoding => true,
            1 => return Err(Refusal::NoEncoding),
            flag => return Err(Refusal::BadFlag(flag)),
        };
        if length > limit {
            return Err(Refusal::TooLarge { bytes: Some(length), limit });
        }
        Ok(Payload { compressed, length, left: length, pieces: VecDeque::new() })
    }

    /// The head of a payload of `length` bytes that is not compressed.
    pub fn of(length: usize) -> Bytes {
        let mut head = BytesMut::with_capacity(HEAD);
        head.put_u8(0);
        // No payload is larger: its length was read as a `u32`, or is at most `max_message_bytes`.
        head.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        head.freeze()
    }
}

/// A payload, as far as it has arrived.
pub struct Payload {
    /// Whether it is compressed.
    pub compressed: bool,
    /// All bytes of it.
    pub length: usize,
    /// Bytes that are still to arrive.
    left: usize,
    pieces: VecDeque<BytesMut>,
}

impl Payload {
    /// Whether all of it has arrived.
    pub fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// Bytes that have arrived once `chunk` is taken.
    pub fn arrived_with(&self, chunk: &[u8]) -> usize {
        self.length - self.left + self.left.min(chunk.len())
    }

    /// Takes the part of `chunk` that belongs to this payload.
    pub fn take(&mut self, chunk: &mut Bytes) {
        let (left, arrived) = (self.left, self.length - self.left);
        let mut bytes = chunk.split_to(left.min(chunk.len()));
        self.left -= bytes.len();
        while !bytes.is_empty() {
            let room = match self.pieces.back_mut() {
                Some(piece) if piece.len() < piece.capacity() => piece,
                _ => {
                    // A promise costs nothing: pieces grow with what has arrived.
                    let size = left.min(arrived.clamp(bytes.len().clamp(1024, PIECE), PIECE));
                    self.pieces.push_back(BytesMut::with_capacity(size.max(1)));
                    continue;
                }
            };
            let part = bytes.split_to(bytes.len().min(room.capacity() - room.len()));
            room.put(part);
        }
    }

    /// The pieces of a complete payload.
    pub fn into_pieces(self) -> VecDeque<Bytes> {
        self.pieces.into_iter().map(BytesMut::freeze).collect()
    }
}
