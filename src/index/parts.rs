//! The material of a segment: the vectors it is made of, and what was made of them. A process builds it, a file stores it,
//! and a [`Segment`](super::segment::Segment) adds the slots of this process.

use std::ops::Range;

use super::graph::column::Column;
use super::graph::searchable::Graph;
use super::slot::Slot;
use super::vector::Vector;

/// A vector that a segment is made of.
pub(super) struct Member {
    pub(super) slot: Slot,
    /// What its caller calls it.
    pub(super) key: u64,
    pub(super) vector: Vector,
}

/// What does not depend on the process that made it. Vectors are numbered in the order of their nodes.
pub(super) struct SegmentParts {
    pub(super) graph: Graph,
    /// By node: its first vector; and the number of vectors at last. Vectors with equal codes have one node.
    pub(super) starts: Column<u32>,
    /// Digest of a node's codes, and the node: in order.
    pub(super) digests: Column<[u32; 2]>,
}

impl SegmentParts {
    /// The vectors of a node, at least one.
    pub(super) fn of(&self, node: u32) -> Range<usize> {
        self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize
    }
}
