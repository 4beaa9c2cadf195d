//! Is a file a whole ONNX graph, as far as the lengths in it tell?
//!
//! rten 0.27 believes a length before it has the bytes: a file that is something else, or is damaged, can make it ask
//! for more memory than there is, which ends the process, or step backwards and read for ever. So every message is held
//! against the one that it is in before rten sees the file. Weights and names are stepped over: it takes no time.

use std::io::{self, BufReader, Read, Seek};

/// Graphs within graphs: a loop within a branch within a loop needs three for each. Each is a call on the stack.
const DEPTH: usize = 64;

/// Nothing, or why `source`, which has `length` bytes, is no whole graph.
pub(super) fn check(source: impl Read + Seek, length: u64) -> Result<(), String> {
    let mut walk = Walk { source: BufReader::new(source), position: 0, has_graph: false };
    match walk.message(Message::Model, length, DEPTH) {
        Ok(()) if walk.has_graph => Ok(()),
        Ok(()) | Err(Fault::Foreign) => Err("this is no ONNX graph".to_owned()),
        Err(Fault::CutShort) => Err(format!("it is cut short or damaged: byte {} is in the middle", walk.position)),
        Err(Fault::TooDeep) => Err(format!("it has graphs within graphs, more than {DEPTH} messages deep")),
        Err(Fault::Unreadable(error)) => Err(error.to_string()),
    }
}

/// What is made of fields, and lists of numbers, in onnx.proto3.
#[derive(Clone, Copy, PartialEq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    Sequence,
    TensorType,
    Shape,
    /// One without another in it.
    Leaf,
    /// Numbers without fields.
    Numbers,
}

impl Message {
    /// What a field of this message is, where rten looks into it.
    fn within(self, field: u64) -> Option<Self> {
        Some(match (self, field) {
            (Self::Model, 7) => Self::Graph,
            (Self::Model, 8 | 14) => Self::Leaf,
            (Self::Graph, 1) => Self::Node,
            (Self::Graph, 5) => Self::Tensor,
            (Self::Graph, 11..=13) => Self::ValueInfo,
            (Self::Node, 5) => Self::Attribute,
            (Self::Attribute, 5 | 10) => Self::Tensor,
            (Self::Attribute, 6 | 11) => Self::Graph,
            (Self::Attribute, 8) => Self::Numbers,
            (Self::Tensor, 1 | 5 | 7 | 11) => Self::Numbers,
            (Self::Tensor, 13) => Self::Leaf,
            (Self::ValueInfo, 2) => Self::Type,
            (Self::Type, 1) => Self::TensorType,
            (Self::Type, 4) => Self::Sequence,
            (Self::Sequence, 1) => Self::Type,
            (Self::TensorType, 2) => Self::Shape,
            (Self::Shape, 1) => Self::Leaf,
            _ => return None,
        })
    }
}

enum Fault {
    Foreign,
    CutShort,
    TooDeep,
    Unreadable(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::CutShort,
            _ => Self::Unreadable(error),
        }
    }
}

struct Walk<S> {
    source: BufReader<S>,
    position: u64,
    has_graph: bool,
}

impl<S: Read + Seek> Walk<S> {
    /// Goes over a message that ends at byte `end`.
    fn message(&mut self, message: Message, end: u64, depth: usize) -> Result<(), Fault> {
        let depth = depth.checked_sub(1).ok_or(Fault::TooDeep)?;
        while self.position < end {
            let tag = self.varint(end)?;
            if message == Message::Numbers {
                continue;
            }
            // The kinds of protocol buffers: a number, 8 bytes, bytes with their length, 4 bytes.
            let size = match tag & 7 {
                0 => {
                    self.varint(end)?;
                    continue;
                }
                1 => 8,
                2 => self.varint(end)?,
                5 => 4,
                _ => return Err(Fault::Foreign),
            };
            if size > end - self.position {
                return Err(Fault::CutShort);
            }
            let within = message.within(tag >> 3).filter(|_| tag & 7 == 2);
            self.has_graph |= within == Some(Message::Graph);
            match within {
                Some(message) => self.message(message, self.position + size, depth)?,
                None => self.skip(size)?,
            }
        }
        Ok(())
    }

    fn skip(&mut self, size: u64) -> Result<(), Fault> {
        self.source.seek_relative(i64::try_from(size).map_err(|_| Fault::CutShort)?)?;
        self.position += size;
        Ok(())
    }

    /// A number of at most 64 bits that ends before byte `end`.
    fn varint(&mut self, end: u64) -> Result<u64, Fault> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            if self.position == end {
                return Err(Fault::CutShort);
            }
            let mut byte = [0];
            self.source.read_exact(&mut byte)?;
            self.position += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(Fault::Foreign)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn checked(bytes: &[u8]) -> Result<(), String> {
        check(Cursor::new(bytes), bytes.len() as u64)
    }

    /// A field of bytes, fewer than 2^14.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let length = [content.len() as u8 | 0x80, (content.len() >> 7) as u8];
        [&[number << 3 | 2], &length[..], content].concat()
    }

    #[test]
    fn a_whole_graph_passes_and_its_beginnings_do_not() {
        let whole = [&[0x08, 0x08], field(7, &field(1, &field(4, b"Add"))).as_slice()].concat();
        assert_eq!(checked(&whole), Ok(()));
        for end in 0..whole.len() {
            let reason = checked(&whole[..end]).unwrap_err();
            let expected = if matches!(end, 0 | 2) { "no ONNX graph" } else { "cut short" };
            assert!(reason.contains(expected), "{end}: {reason}");
        }
    }

    #[test]
    fn a_length_beyond_the_message_is_refused_at_every_level() {
        let endless = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let levels = [7, 1, 5, 5, 13];
        for depth in 0..levels.len() {
            let bytes = levels[..depth].iter().rev().fold(endless.to_vec(), |inner, level| field(*level, &inner));
            assert!(checked(&bytes).unwrap_err().contains("cut short or damaged"), "{depth}");
        }
    }

    #[test]
    fn numbers_end_with_their_list() {
        let tensor = |dims: &[u8]| field(7, &field(5, &[field(1, dims), field(8, b"name")].concat()));
        assert_eq!(checked(&tensor(&[2, 0x80, 1])), Ok(()));
        assert!(checked(&tensor(&[2, 0x80])).is_err());
    }

    #[test]
    fn graphs_without_end_are_refused() {
        let nested = |count| {
            let within = |inner: Vec<u8>, _| field(1, &field(5, &field(6, &inner)));
            field(7, &(0..count).fold(Vec::new(), within))
        };
        assert_eq!(checked(&nested(DEPTH / 3 - 1)), Ok(()));
        assert!(checked(&nested(DEPTH / 3 + 1)).unwrap_err().contains("graphs within graphs"));
    }

    #[test]
    fn other_files_are_no_graphs() {
        for other in [&b"this is a text"[..], b"PK\x03\x04 an archive", b"%PDF-1.7", b"<html></html>", b"\x00\x00", b""]
        {
            assert!(checked(other).is_err());
        }
        assert_eq!(checked(&[0xff; 20]).unwrap_err(), "this is no ONNX graph");
    }
}
