//! The framing of gRPC-web: the same messages as gRPC, and the trailers as a last frame, because browsers read none.
//! The text form is all of it in base64.
//!
//! tonic-web does this as a layer around hyper's bodies. Here a body passes the memory budget and the client's time
//! limits before the service sees it, and an answer is sent at the client's speed, so the two functions that remain are
//! here. Invariant: base64 is decoded as it arrives; a padded part may be followed by another one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;

use crate::rpc::refusal::Refusal;

/// The flag of the frame that has the trailers.
const TRAILERS: u8 = 0x80;

/// Returns the frame of the trailers.
pub fn trailers(trailers: &HeaderMap) -> Bytes {
    let mut lines = Vec::new();
    for (name, value) in trailers {
        lines.extend([name.as_str().as_bytes(), b":", value.as_bytes(), b"\r\n"].concat());
    }
    let mut frame = BytesMut::with_capacity(5 + lines.len());
    frame.put_u8(TRAILERS);
    // A status takes a few kilobytes at most.
    frame.put_u32(lines.len() as u32);
    frame.extend_from_slice(&lines);
    frame.freeze()
}

/// Returns a part of an answer as text.
pub fn text(part: &[u8]) -> Bytes {
    STANDARD.encode(part).into()
}

/// Reads a body in base64.
#[derive(Debug, Default)]
pub struct Text {
    /// The first characters of a group of four.
    rest: Vec<u8>,
}

impl Text {
    /// Decodes the next part of the body, as far as its groups are complete.
    pub fn read(&mut self, part: &[u8]) -> Result<Bytes, Refusal> {
        let mut out = Vec::with_capacity(part.len() / 4 * 3 + 3);
        let (head, part) = part.split_at(part.len().min((4 - self.rest.len()) % 4));
        self.rest.extend_from_slice(head);
        if self.rest.len() == 4 {
            decode(&self.rest, &mut out)?;
            self.rest.clear();
        }
        let (mut groups, tail) = part.split_at(part.len() / 4 * 4);
        self.rest.extend_from_slice(tail);
        while !groups.is_empty() {
            let padded = groups.iter().position(|character| *character == b'=');
            let (now, later) = groups.split_at(padded.map_or(groups.len(), |at| (at / 4 + 1) * 4));
            decode(now, &mut out)?;
            groups = later;
        }
        Ok(out.into())
    }
}

fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let decoded = STANDARD.decode_vec(text, out);
    decoded.map_err(|error| Refusal::Damaged { encoding: "base64", reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_wherever_it_is_cut_and_padded_parts_follow_each_other() {
        let text = [STANDARD.encode(b"abcd"), STANDARD.encode(b"efg"), STANDARD.encode(b"h")].concat();
        for size in 1..=text.len() {
            let mut reader = Text::default();
            let read = text.as_bytes().chunks(size).flat_map(|part| reader.read(part).unwrap());
            assert_eq!(read.collect::<Vec<u8>>(), b"abcdefgh", "in parts of {size}");
        }
        assert!(matches!(Text::default().read(b"ab*d"), Err(Refusal::Damaged { encoding: "base64", .. })));
    }

    #[test]
    fn trailers_are_lines_in_a_frame() {
        let headers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        assert_eq!(trailers(&headers), &b"\x80\0\0\0\x0fgrpc-status:0\r\n"[..]);
    }
}
