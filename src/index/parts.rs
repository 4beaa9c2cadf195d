//! The data of a segment: the vectors it is built from, and the result. A process builds it, a file stores it, and a
//! [`Segment`](super::segment::Segment) adds the slots of this process.

use std::ops::Range;

use super::graph::column::Column;
use super::graph::searchable::Graph;
use super::slot::Slot;
use super::vector::Vector;
use crate::kernel::dot_i8::prefetch;

/// A vector that a segment is built from.
pub(super) struct Member {
    pub(super) slot: Slot,
    /// The caller's key.
    pub(super) key: u64,
    pub(super) vector: Vector,
}

/// The part of a segment that does not depend on the process. Vectors are numbered in the order of their nodes.
pub(super) struct SegmentParts {
    pub(super) graph: Graph,
    /// The first vector of each node, and at the end the number of vectors. Vectors with equal codes share a node.
    pub(super) starts: Column<u32>,
    /// The digest of each node's codes, with the node, sorted.
    pub(super) digests: Column<[u32; 2]>,
}

impl SegmentParts {
    /// Prefetches what [`SegmentParts::of`] reads.
    pub(super) fn prefetch(&self, node: u32) {
        prefetch(&self.starts[node as usize..][..1]);
    }

    /// The vectors of a node, at least one.
    pub(super) fn of(&self, node: u32) -> Range<usize> {
        self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize
    }
}
