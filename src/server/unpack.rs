//! Decompresses messages.
//!
//! Invariant: a message unpacks to no more than the given number of bytes, whatever it claims. A thread that serves
//! connections unpacks at most [`INLINE`] bytes.

use std::collections::VecDeque;
use std::io::{self, Read};

use bytes::{Buf, Bytes};

use crate::rpc::refusal::Refusal;

/// Bytes that are unpacked on the thread where the message arrives: a fraction of a millisecond.
pub const INLINE: usize = 64 * 1024;

/// Bytes of one piece of unpacked data. Pieces are freed one by one as they are decoded.
const PIECE: usize = 256 * 1024;

/// Zstandard's window, as a power of two: 8 MiB, the largest of its regular levels. The format allows 2 GiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// The compression of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `gzip`.
    Gzip,
    /// `zstd`.
    Zstd,
}

impl Encoding {
    /// Returns the encoding of this name, if it is known.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Unpacks the message in `packed`. Fails if it has more than `limit` bytes.
    pub fn unpack(self, packed: VecDeque<Bytes>, limit: usize) -> Result<VecDeque<Bytes>, Refusal> {
        let packed = Pieces(packed);
        let unpacked = match self {
            Self::Gzip => read_all(flate2::read::GzDecoder::new(packed), limit),
            Self::Zstd => zstd::stream::read::Decoder::new(packed).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                read_all(decoder, limit)
            }),
        };
        match unpacked {
            Ok(Some(pieces)) => Ok(pieces),
            Ok(None) => Err(Refusal::TooLarge { bytes: None, limit }),
            Err(error) => Err(Refusal::Damaged { encoding: self.name(), reason: error.to_string() }),
        }
    }
}

/// Reads all of `from`, in pieces; `None` if it has more than `limit` bytes.
fn read_all(mut from: impl Read, limit: usize) -> io::Result<Option<VecDeque<Bytes>>> {
    let (mut pieces, mut total) = (VecDeque::new(), 0);
    loop {
        // A small message does not need a large piece.
        let size = total.clamp(4096, PIECE);
        let mut piece = Vec::with_capacity(size);
        let n = from.by_ref().take(size as u64).read_to_end(&mut piece)?;
        total += n;
        if total > limit {
            return Ok(None);
        }
        if n > 0 {
            pieces.push_back(Bytes::from(piece));
        }
        if n < size {
            return Ok(Some(pieces));
        }
    }
}

/// A reader of pieces, one after the other.
struct Pieces(VecDeque<Bytes>);

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.0.front().is_some_and(Bytes::is_empty) {
            self.0.pop_front();
        }
        let Some(piece) = self.0.front_mut() else { return Ok(0) };
        let n = piece.len().min(buf.len());
        piece.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn packed(encoding: Encoding, message: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(message).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Zstd => zstd::encode_all(message, 3).unwrap(),
        }
    }

    fn in_pieces(bytes: &[u8]) -> VecDeque<Bytes> {
        bytes.chunks(7).map(Bytes::copy_from_slice).collect()
    }

    #[test]
    fn a_message_is_unpacked_if_it_is_no_larger_than_allowed() {
        let message: Vec<u8> = (0..600_000_u32).map(|n| (n / 1000) as u8).collect();
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let bytes = packed(encoding, &message);
            let back = encoding.unpack(in_pieces(&bytes), message.len()).unwrap();
            assert_eq!(back.into_iter().flatten().collect::<Vec<u8>>(), message, "{encoding:?}");
            let refused = encoding.unpack(in_pieces(&bytes), message.len() - 1);
            assert_eq!(refused, Err(Refusal::TooLarge { bytes: None, limit: message.len() - 1 }));
        }
    }

    #[test]
    fn a_damaged_or_truncated_message_is_an_error() {
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let bytes = packed(encoding, b"a message that is long enough to be cut");
            for wrong in [&bytes[..bytes.len() - 5], b"xxxx", b""] {
                let result = encoding.unpack(in_pieces(wrong), 1 << 20);
                assert!(matches!(result, Err(Refusal::Damaged { .. })), "{encoding:?} of {wrong:?}: {result:?}");
            }
        }
    }
}
