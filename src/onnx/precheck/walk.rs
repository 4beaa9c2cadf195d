//! The walk over the messages of a graph's file, which are protocol buffers (onnx.proto3).
//!
//! Invariant: no message and no list extends beyond the message that contains it. Only fields that a runtime looks into
//! are entered; all others are skipped by their length.

use std::io::{self, BufReader, Read, Seek};

use super::{Node, Precheck};

/// The deepest nesting of messages. A loop within a branch within a loop needs three for each; each is a call on the
/// stack.
pub(super) const DEPTH: usize = 64;

/// Bytes of a name that are read. Names of files, nodes and operators are far shorter.
const NAME_BYTES: u64 = 4096;

/// `TensorProto.DataLocation.EXTERNAL`
const EXTERNAL: u64 = 1;

/// `TensorProto.DataType.FLOAT16`
const FLOAT16: u64 = 10;

/// Checks the graph in `source`, which has `length` bytes. The error is the reason why it is no whole graph.
pub(in super::super) fn read(source: impl Read + Seek, length: u64) -> Result<Precheck, String> {
    let source = BufReader::new(source);
    let found = Precheck::default();
    let mut walk = Walk { source, position: 0, graphs: 0, has_graph: false, casts: Vec::new(), found };
    match walk.message(Message::Model, length, DEPTH) {
        Ok(()) if walk.has_graph => Ok(walk.found),
        Ok(()) | Err(Fault::Foreign) => Err("the file is not an ONNX graph".to_owned()),
        Err(Fault::CutShort) => {
            Err(format!("the file is cut short or damaged at byte {}; fetch or copy it again", walk.position))
        }
        Err(Fault::TooDeep) => Err(format!("it nests graphs within graphs, more than {DEPTH} messages deep")),
        Err(Fault::Unreadable(error)) => Err(error.to_string()),
    }
}

/// A message or a list of numbers of onnx.proto3.
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
    /// A message that contains no other.
    Leaf,
    /// A list of numbers.
    Numbers,
}

impl Message {
    /// Returns the message in a field of this one, if rten looks into it.
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

/// A fault of a file.
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

/// A walk over a file.
struct Walk<S> {
    source: BufReader<S>,
    position: u64,
    /// The number of graphs around the current message.
    graphs: usize,
    has_graph: bool,
    /// Offsets of the attributes of the current node that would make it a cast to 16 bits.
    casts: Vec<u64>,
    found: Precheck,
}

/// The fields of a message that matter.
#[derive(Default)]
struct Fields {
    node: Node,
    location: Option<String>,
    is_external: bool,
    /// The attribute is named `to`.
    is_target: bool,
    /// The offset of the attribute's number, if the number means 16-bit floats.
    half: Option<u64>,
}

impl<S: Read + Seek> Walk<S> {
    /// Walks over a message that ends at byte `end`.
    fn message(&mut self, message: Message, end: u64, depth: usize) -> Result<(), Fault> {
        let depth = depth.checked_sub(1).ok_or(Fault::TooDeep)?;
        let mut fields = Fields::default();
        self.graphs += usize::from(message == Message::Graph);
        while self.position < end {
            let tag = self.varint(end)?;
            if message == Message::Numbers {
                continue;
            }
            // The wire types of protocol buffers: a number, 8 bytes, bytes with their length, 4 bytes.
            let size = match tag & 7 {
                0 => {
                    let offset = self.position;
                    let value = self.varint(end)?;
                    match (message, tag >> 3) {
                        (Message::Tensor, 14) => fields.is_external |= value == EXTERNAL,
                        // The number must be a single byte: it may be overwritten.
                        (Message::Attribute, 3) if value == FLOAT16 && self.position == offset + 1 => {
                            fields.half = Some(offset);
                        }
                        _ => {}
                    }
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
            if tag & 7 == 2 && self.note(message, tag >> 3, size, &mut fields)? {
                continue;
            }
            let within = message.within(tag >> 3).filter(|_| tag & 7 == 2);
            self.has_graph |= within == Some(Message::Graph);
            match within {
                Some(message) => self.message(message, self.position + size, depth)?,
                None => self.skip(size)?,
            }
        }
        self.graphs -= usize::from(message == Message::Graph);
        self.keep(message, fields);
        Ok(())
    }

    /// Reads a field of bytes if it matters. Returns whether it was read.
    fn note(&mut self, message: Message, field: u64, size: u64, fields: &mut Fields) -> Result<bool, Fault> {
        let wanted = match message {
            Message::Node => field == 4 || self.graphs == 1 && matches!(field, 1 | 2),
            Message::Attribute => field == 1,
            Message::Tensor => field == 13,
            _ => false,
        };
        if !wanted || size > NAME_BYTES {
            return Ok(false);
        }
        let mut bytes = vec![0; size as usize];
        self.source.read_exact(&mut bytes)?;
        self.position += size;
        if message == Message::Tensor {
            fields.location = location(&bytes).or(fields.location.take());
            return Ok(true);
        }
        let name = String::from_utf8_lossy(&bytes).into_owned();
        match (message, field) {
            (Message::Attribute, _) => fields.is_target = name == "to",
            (_, 1) => fields.node.inputs.push(name),
            (_, 2) => fields.node.outputs.push(name),
            _ => fields.node.operator = name,
        }
        Ok(true)
    }

    /// Keeps the fields of a message that was read to its end.
    fn keep(&mut self, message: Message, fields: Fields) {
        if let (true, Some(location)) = (fields.is_external, fields.location) {
            self.found.external.insert(location);
        }
        if let (true, Some(offset)) = (fields.is_target, fields.half) {
            self.casts.push(offset);
        }
        if message == Message::Node {
            let casts = std::mem::take(&mut self.casts);
            if fields.node.operator == "Cast" {
                self.found.half_casts.extend(casts);
            }
        }
        if message == Message::Node && self.graphs == 1 {
            for output in &fields.node.outputs {
                self.found.makers.insert(output.clone(), fields.node.clone());
            }
        }
    }

    /// Skips bytes.
    fn skip(&mut self, size: u64) -> Result<(), Fault> {
        self.source.seek_relative(i64::try_from(size).map_err(|_| Fault::CutShort)?)?;
        self.position += size;
        Ok(())
    }

    /// Reads a number of at most 64 bits that ends before byte `end`.
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

/// Returns the value of an entry (`StringStringEntryProto`) whose key is `location`.
fn location(entry: &[u8]) -> Option<String> {
    let (mut key, mut value, mut rest) = (None, None, entry);
    while let [tag, length, after @ ..] = rest {
        // A length of one byte, or of two: names have fewer than 2^14 bytes.
        let (length, after) = match (*length, after) {
            (length @ ..0x80, after) => (usize::from(length), after),
            (length, [more @ ..0x80, after @ ..]) => (usize::from(length & 0x7f) | usize::from(*more) << 7, after),
            _ => return None,
        };
        let bytes = after.get(..length)?;
        match tag {
            0x0a => key = Some(bytes),
            0x12 => value = Some(bytes),
            _ => return None,
        }
        rest = &after[length..];
    }
    let value = value.filter(|_| key == Some(b"location"))?;
    Some(String::from_utf8_lossy(value).into_owned())
}
