//! A look at the file of an ONNX graph before a runtime sees it. It finds out that the file is whole, which other
//! files hold its weights, and which step makes an output.
//!
//! rten 0.27 trusts a length before it has the bytes. A damaged file, or a file of something else, can make it ask for
//! more memory than there is, which ends the process, or read backwards for ever. So each message is first checked
//! against the message that contains it (`walk.rs`). Weights are skipped, so it takes no time.
//!
//! Invariant: [`Precheck::external`] has every file that a tensor of the graph names, also a tensor within a node.
//! Interpreting the names and finding the files is left to the caller.

mod walk;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

pub(super) use walk::read;

/// Steps that are followed back from an output through those that change no number.
const STEPS: usize = 16;

/// The result of the precheck.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Precheck {
    /// The files that hold weights, as the graph names them.
    pub external: BTreeSet<String>,
    /// Offsets in the file of the bytes that make a node cast to 16-bit floats.
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

/// The meaning of an output's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Scores: any numbers, not probabilities yet.
    Scores,
    /// Probabilities that sum to 1: the graph ends with a softmax.
    Softmax,
    /// Logarithms of probabilities that sum to 1.
    LogSoftmax,
    /// A probability for each label alone: the graph ends with a sigmoid.
    Sigmoid,
}

impl Precheck {
    /// Determines the scale of an output by the step that makes it.
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

    /// Returns the operator that makes an output.
    pub(super) fn operator(&self, output: &str) -> Option<&str> {
        self.maker(output).map(|node| node.operator.as_str())
    }

    /// Finds the step that makes the numbers of a value. Steps that only pass them on are skipped.
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

    /// Recognises `exp(x) / sum(exp(x))`, as some exporters write a softmax.
    fn is_softmax(&self, division: &Node) -> bool {
        let [above, below] = division.inputs.as_slice() else { return false };
        let made_by = |value: &str, operator: &str| self.maker(value).is_some_and(|node| node.operator == operator);
        let sums = self.maker(below).filter(|node| node.operator == "ReduceSum");
        made_by(above, "Exp") && sums.and_then(|node| node.inputs.first()).is_some_and(|summed| made_by(summed, "Exp"))
    }
}
