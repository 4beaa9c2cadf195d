//! Is a file a whole ONNX graph, as far as its outermost message tells?
//!
//! rten makes room for a field's bytes before it has them. A file that is something else may ask for more than there is
//! memory, and that would end the process. So the outermost lengths are held against the file first; those within are
//! held against these by rten itself. Weights are skipped: it takes no time.

use std::io::{self, Read, Seek, SeekFrom};

/// `ModelProto.graph` in onnx.proto3.
const GRAPH: u64 = 7;

/// Nothing, or why `source`, which has `length` bytes, is no whole graph.
pub(super) fn check(source: impl Read + Seek, length: u64) -> Result<(), String> {
    let mut fields = Fields { source, position: 0, length };
    let mut has_graph = false;
    while fields.position < fields.length {
        let start = fields.position;
        match fields.skip() {
            Ok(Some(field)) => has_graph |= field == GRAPH,
            Ok(None) => return Err("this is no ONNX graph".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(format!("it ends in the middle of what begins at byte {start} of {length}"));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    if has_graph { Ok(()) } else { Err("this is no ONNX graph".to_owned()) }
}

struct Fields<S> {
    source: S,
    position: u64,
    length: u64,
}

impl<S: Read + Seek> Fields<S> {
    /// Goes over one field and gives its number; `None` for what is no field.
    fn skip(&mut self) -> io::Result<Option<u64>> {
        let Some(tag) = self.varint()? else {
            return Ok(None);
        };
        // The kinds of protocol buffers: a number, 8 bytes, bytes with their length, 4 bytes.
        let size = match tag & 7 {
            0 => self.varint()?.map(|_| 0),
            1 => Some(8),
            2 => self.varint()?,
            5 => Some(4),
            _ => None,
        };
        let (Some(size), field @ 1..) = (size, tag >> 3) else {
            return Ok(None);
        };
        self.position = self.position.saturating_add(size);
        if self.position > self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.source.seek(SeekFrom::Start(self.position))?;
        Ok(Some(field))
    }

    /// A number of at most 64 bits; `None` for a longer one.
    fn varint(&mut self) -> io::Result<Option<u64>> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.source.read_exact(&mut byte)?;
            self.position += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn reason(bytes: &[u8]) -> String {
        check(Cursor::new(bytes), bytes.len() as u64).expect_err("it is no whole graph")
    }

    /// ir_version 8, and a graph of three bytes.
    const WHOLE: [u8; 7] = [0x08, 0x08, 0x3a, 0x03, 1, 2, 3];

    #[test]
    fn a_whole_graph_passes_and_its_beginnings_do_not() {
        assert_eq!(check(Cursor::new(&WHOLE), 7), Ok(()));
        for end in 3..7 {
            assert_eq!(reason(&WHOLE[..end]), format!("it ends in the middle of what begins at byte 2 of {end}"));
        }
        assert_eq!(reason(&WHOLE[..2]), "this is no ONNX graph");
        assert_eq!(reason(&[]), "this is no ONNX graph");
    }

    #[test]
    fn a_length_beyond_all_memory_is_refused() {
        let bytes = [0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0];
        assert_eq!(reason(&bytes), "it ends in the middle of what begins at byte 0 of 11");
    }

    #[test]
    fn other_files_are_no_graphs() {
        assert_eq!(reason(b"\x07"), "this is no ONNX graph");
        assert_eq!(reason(&[0xff; 20]), "this is no ONNX graph");
        for other in [&b"this is a text"[..], b"PK\x03\x04 an archive", b"%PDF-1.7", b"<html></html>", b"\x00\x00"] {
            reason(other);
        }
    }
}
