//! What a file says of its ONNX graph before a runtime sees it: that it is whole, which other files have its weights,
//! and which step makes an output.
//!
//! rten 0.27 believes a length before it has the bytes: a file that is something else, or is damaged, can make it ask
//! for more memory than there is, which ends the process, or step backwards and read for ever. So every message is held
//! against the one that it is in first. Weights are stepped over, so it takes no time.
//!
//! Invariant: [`Outline::external`] has every file that a tensor of the graph names, also one within a node. What the
//! names mean is left to the reader, and whether the files are there.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufReader, Read, Seek};

/// Graphs within graphs: a loop within a branch within a loop needs three for each. Each is a call on the stack.
const DEPTH: usize = 64;

/// Bytes of a name that are read; names of files, nodes and operators are far shorter.
const NAME_BYTES: u64 = 4096;

/// Steps that are followed back from an output through those that change no number.
const STEPS: usize = 16;

/// `TensorProto.DataLocation.EXTERNAL`
const EXTERNAL: u64 = 1;

/// `TensorProto.DataType.FLOAT16`
const FLOAT16: u64 = 10;

/// What is known of a graph.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outline {
    /// The files that it keeps weights in, as it names them.
    pub external: BTreeSet<String>,
    /// The bytes that say that a node casts to 16-bit floats, by their places in the file.
    pub half_casts: Vec<u64>,
    /// The node that makes each value of the main graph, by the value's name.
    makers: HashMap<String, Node>,
}

/// A step of a graph.
#[derive(Debug, Default, Clone, PartialEq)]
struct Node {
    operator: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

/// What the numbers of an output are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Any numbers: scores that are no probabilities yet.
    Scores,
    /// Probabilities that sum to 1: the graph ends with a softmax.
    Softmax,
    /// Their logarithms.
    LogSoftmax,
    /// A probability for each label alone: the graph ends with a sigmoid.
    Sigmoid,
}

impl Outline {
    /// What the numbers of an output are, by the step that makes them.
    pub(super) fn scale(&self, output: &str) -> Scale {
        match self.maker(output) {
            Some(node) => match node.operator.as_str() {
                "Softmax" => Scale::Softmax,
                "LogSoftmax" => Scale::LogSoftmax,
                "Sigmoid" => Scale::Sigmoid,
                "Div" if self.is_softmax(node) => Scale::Softmax,
                _ => Scale::Scores,
            },
            None => Scale::Scores,
        }
    }

    /// The operator that makes an output.
    pub(super) fn operator(&self, output: &str) -> Option<&str> {
        self.maker(output).map(|node| node.operator.as_str())
    }

    /// The step that makes the numbers of a value; steps that only hand them on are passed over.
    fn maker(&self, value: &str) -> Option<&Node> {
        let mut node = self.makers.get(value)?;
        for _ in 0..STEPS {
            match node.operator.as_str() {
                "Identity" | "Cast" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "QuantizeLinear"
                | "DequantizeLinear" => match node.inputs.first().and_then(|input| self.makers.get(input)) {
                    Some(before) => node = before,
                    None => return Some(node),
                },
                _ => return Some(node),
            }
        }
        Some(node)
    }

    /// exp(x) / sum(exp(x)), as some exporters write a softmax.
    fn is_softmax(&self, division: &Node) -> bool {
        let [above, below] = division.inputs.as_slice() else { return false };
        let made_by = |value: &str, operator: &str| self.maker(value).is_some_and(|node| node.operator == operator);
        let sums = self.maker(below).filter(|node| node.operator == "ReduceSum");
        made_by(above, "Exp") && sums.and_then(|node| node.inputs.first()).is_some_and(|summed| made_by(summed, "Exp"))
    }
}

/// What `source`, which has `length` bytes, says of its graph; or why it is no whole one.
pub(super) fn read(source: impl Read + Seek, length: u64) -> Result<Outline, String> {
    let source = BufReader::new(source);
    let found = Outline::default();
    let mut walk = Walk { source, position: 0, graphs: 0, has_graph: false, casts: Vec::new(), found };
    match walk.message(Message::Model, length, DEPTH) {
        Ok(()) if walk.has_graph => Ok(walk.found),
        Ok(()) | Err(Fault::Foreign) => Err("this is no ONNX graph".to_owned()),
        Err(Fault::CutShort) => {
            Err(format!("it is cut short or damaged: byte {} is in the middle; fetch or copy it again", walk.position))
        }
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
    /// Graphs that the walk is within.
    graphs: usize,
    has_graph: bool,
    /// Places of attributes of the node that the walk is within, which would make a cast of it to 16 bits.
    casts: Vec<u64>,
    found: Outline,
}

/// What a message says of itself in its fields, for the messages that are looked into.
#[derive(Default)]
struct Said {
    node: Node,
    location: Option<String>,
    is_external: bool,
    /// The attribute's name is `to`.
    is_target: bool,
    /// The place of the attribute's number, if that is the number of 16-bit floats.
    half: Option<u64>,
}

impl<S: Read + Seek> Walk<S> {
    /// Goes over a message that ends at byte `end`.
    fn message(&mut self, message: Message, end: u64, depth: usize) -> Result<(), Fault> {
        let depth = depth.checked_sub(1).ok_or(Fault::TooDeep)?;
        let mut said = Said::default();
        self.graphs += usize::from(message == Message::Graph);
        while self.position < end {
            let tag = self.varint(end)?;
            if message == Message::Numbers {
                continue;
            }
            // The kinds of protocol buffers: a number, 8 bytes, bytes with their length, 4 bytes.
            let size = match tag & 7 {
                0 => {
                    let place = self.position;
                    let value = self.varint(end)?;
                    match (message, tag >> 3) {
                        (Message::Tensor, 14) => said.is_external |= value == EXTERNAL,
                        // The number is one byte, which can be another.
                        (Message::Attribute, 3) if value == FLOAT16 && self.position == place + 1 => {
                            said.half = Some(place);
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
            if tag & 7 == 2 && self.note(message, tag >> 3, size, &mut said)? {
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
        self.keep(message, said);
        Ok(())
    }

    /// Reads a field of bytes if it is one that tells something. Says whether it did.
    fn note(&mut self, message: Message, field: u64, size: u64, said: &mut Said) -> Result<bool, Fault> {
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
            said.location = location(&bytes).or(said.location.take());
            return Ok(true);
        }
        let name = String::from_utf8_lossy(&bytes).into_owned();
        match (message, field) {
            (Message::Attribute, _) => said.is_target = name == "to",
            (_, 1) => said.node.inputs.push(name),
            (_, 2) => said.node.outputs.push(name),
            _ => said.node.operator = name,
        }
        Ok(true)
    }

    fn keep(&mut self, message: Message, said: Said) {
        if let (true, Some(location)) = (said.is_external, said.location) {
            self.found.external.insert(location);
        }
        if let (true, Some(place)) = (said.is_target, said.half) {
            self.casts.push(place);
        }
        if message == Message::Node {
            let casts = std::mem::take(&mut self.casts);
            if said.node.operator == "Cast" {
                self.found.half_casts.extend(casts);
            }
        }
        if message == Message::Node && self.graphs == 1 {
            for output in &said.node.outputs {
                self.found.makers.insert(output.clone(), said.node.clone());
            }
        }
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

/// The value of an entry (`StringStringEntryProto`) whose key is `location`.
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn outline(bytes: &[u8]) -> Result<Outline, String> {
        read(Cursor::new(bytes), bytes.len() as u64)
    }

    fn checked(bytes: &[u8]) -> Result<(), String> {
        outline(bytes).map(drop)
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

    #[test]
    fn files_that_tensors_name_are_found_in_initializers_and_within_nodes_and_only_if_they_count() {
        let entry = |key: &[u8], value: &[u8]| {
            field(13, &[&[0x0a, key.len() as u8], key, &[0x12, value.len() as u8], value].concat())
        };
        let tensor = |location: &[u8], external: u8| {
            [entry(b"location", location), entry(b"offset", b"0"), vec![14 << 3, external]].concat()
        };
        let constant = field(1, &field(5, &field(5, &tensor(b"within.data", 1))));
        let initializers = [tensor(b"model.onnx_data", 1), tensor(b"unused.data", 0)].map(|tensor| field(5, &tensor));
        let graph = field(7, &[constant, initializers.concat()].concat());
        let found = outline(&graph).unwrap().external;
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["model.onnx_data", "within.data"]);
    }

    #[test]
    fn the_step_that_makes_an_output_says_what_its_numbers_are() {
        let node = |operator: &[u8], inputs: &[&[u8]], output: &[u8]| {
            let inputs = inputs.iter().flat_map(|input| field(1, input)).collect();
            field(1, &[inputs, field(2, output), field(4, operator)].concat())
        };
        let nodes = [
            node(b"Gemm", &[b"x"], b"z"),
            node(b"Softmax", &[b"z"], b"s"),
            node(b"Cast", &[b"s"], b"narrow"),
            node(b"Sigmoid", &[b"z"], b"g"),
            node(b"LogSoftmax", &[b"z"], b"l"),
            node(b"Exp", &[b"z"], b"e"),
            node(b"ReduceSum", &[b"e"], b"sum"),
            node(b"Div", &[b"e", b"sum"], b"by hand"),
            node(b"Div", &[b"z", b"sum"], b"another"),
        ];
        let outline = outline(&field(7, &nodes.concat())).unwrap();
        for (output, scale) in [
            ("z", Scale::Scores),
            ("s", Scale::Softmax),
            ("narrow", Scale::Softmax),
            ("g", Scale::Sigmoid),
            ("l", Scale::LogSoftmax),
            ("by hand", Scale::Softmax),
            ("another", Scale::Scores),
            ("nothing makes it", Scale::Scores),
        ] {
            assert_eq!(outline.scale(output), scale, "{output}");
        }
    }
}
