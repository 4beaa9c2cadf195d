//! One message of a request as it arrives: a head of five bytes, then the payload.
//!
//! The head is a flag and a length: the framing of gRPC over HTTP/2.
//!
//! Invariants: a head with a wrong flag or length is refused before any of its payload is kept. The pieces of a payload
//! grow with the bytes that have arrived, because the length in the head is only a claim. Paying for the pieces is left
//! to [`super::memory`], unpacking them to [`super::unpacking`].

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::memory::FREE;
use crate::rpc::refusal::Refusal;

/// Bytes of a head: a flag, and the length of the payload.
pub const HEAD: usize = 5;
/// Bytes of the largest piece of a payload.
const PIECE: usize = 64 * 1024;

/// The bytes of a head that have arrived.
#[derive(Default)]
pub struct Head {
    bytes: [u8; HEAD],
    have: usize,
}

impl Head {
    /// Returns true if no byte has arrived.
    pub fn is_empty(&self) -> bool {
        self.have == 0
    }

    /// Returns true if all bytes have arrived.
    pub fn is_complete(&self) -> bool {
        self.have == HEAD
    }

    /// Copies the missing bytes from the front of `chunk`, and returns their number. They stay in `chunk`.
    pub fn copy_from(&mut self, chunk: &[u8]) -> usize {
        let n = (HEAD - self.have).min(chunk.len());
        self.bytes[self.have..self.have + n].copy_from_slice(&chunk[..n]);
        self.have += n;
        n
    }

    /// Parses a complete head. A payload may have `limit` bytes, and may be compressed if an encoding is known.
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
        Ok(Payload { compressed, length, exact: true, left: length, pieces: VecDeque::new() })
    }

    /// Returns the head of an uncompressed payload of `length` bytes.
    pub fn of(length: usize) -> Bytes {
        let mut head = BytesMut::with_capacity(HEAD);
        head.put_u8(0);
        // No payload is larger: its length was read from a `u32`, or is at most `max_message_bytes`.
        head.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        head.freeze()
    }
}

/// Finds the heads of messages in their bytes, however these are cut into parts.
#[derive(Default)]
pub struct Heads {
    head: Head,
    /// Bytes until the next head.
    skip: usize,
}

impl Heads {
    /// The number of heads that end in `part`, which comes after the parts before.
    pub fn count(&mut self, mut part: &[u8]) -> u64 {
        let mut heads = 0;
        loop {
            let skipped = self.skip.min(part.len());
            self.skip -= skipped;
            part = &part[skipped..];
            if part.is_empty() {
                return heads;
            }
            part = &part[self.head.copy_from(part)..];
            if self.head.is_complete() {
                let [_, length @ ..] = std::mem::take(&mut self.head).bytes;
                self.skip = u32::from_be_bytes(length) as usize;
                heads += 1;
            }
        }
    }
}

/// The bytes of a payload that have arrived.
pub struct Payload {
    /// True if it is compressed.
    pub compressed: bool,
    /// The number of all its bytes; at most that many if it is not exact.
    pub length: usize,
    exact: bool,
    /// The number of missing bytes.
    left: usize,
    pieces: VecDeque<BytesMut>,
}

impl Payload {
    /// The payload that a whole body is, of `length` bytes if that is known, and of at most `limit` bytes. More are
    /// found when they arrive.
    pub fn of_body(length: Option<usize>, compressed: bool, limit: usize) -> Self {
        let exact = length.filter(|length| *length <= limit);
        let length = exact.unwrap_or(limit);
        Self { compressed, length, exact: exact.is_some(), left: length, pieces: VecDeque::new() }
    }

    /// Ends a payload whose body has ended. Returns false if bytes are missing.
    pub fn ends_here(&mut self) -> bool {
        if !self.exact {
            (self.length, self.left) = (self.length - self.left, 0);
        }
        self.left == 0
    }

    /// The bytes that are to be paid for when `arrived` have come: all that were promised.
    pub fn promised(&self, arrived: usize) -> usize {
        if self.exact || arrived > FREE { self.length } else { arrived }
    }

    /// Returns true if all bytes have arrived.
    pub fn is_complete(&self) -> bool {
        self.left == 0
    }

    /// The number of bytes that will have arrived once `chunk` is taken.
    pub fn arrived_with(&self, chunk: &[u8]) -> usize {
        self.length - self.left + self.left.min(chunk.len())
    }

    /// Takes the part of `chunk` that belongs to this payload.
    pub fn take(&mut self, chunk: &mut Bytes) {
        let (left, arrived) = (self.left, self.length - self.left);
        let mut bytes = chunk.split_to(left.min(chunk.len()));
        self.left -= bytes.len();
        while !bytes.is_empty() {
            let piece = match self.pieces.back_mut() {
                Some(piece) if piece.len() < piece.capacity() => piece,
                _ => {
                    // The claimed length costs no memory: pieces grow with the bytes that have arrived.
                    let size = left.min(arrived.clamp(bytes.len().clamp(1024, PIECE), PIECE));
                    self.pieces.push_back(BytesMut::with_capacity(size.max(1)));
                    continue;
                }
            };
            let part = bytes.split_to(bytes.len().min(piece.capacity() - piece.len()));
            piece.put(part);
        }
    }

    /// Returns the pieces of a complete payload.
    pub fn into_pieces(self) -> VecDeque<Bytes> {
        self.pieces.into_iter().map(BytesMut::freeze).collect()
    }
}
