//! The links of all nodes in one flat array. The list of a node is two cache lines, at a computed address.
//!
//! Invariant: a list has at most [`DEGREE`] targets. They are nodes, all different, and none is the node itself. Unused
//! places are at the end and hold [`NONE`].

use std::ops::Range;

use super::column::Column;

/// The most links of a node (2·M of the HNSW paper for M = 16).
pub const DEGREE: usize = 32;
/// The value of an unused place.
pub const NONE: u32 = u32::MAX;

/// The links of all nodes, [nodes, DEGREE].
#[derive(Clone, Default)]
pub struct Links(Column<[u32; DEGREE]>);

impl Links {
    /// Nodes without links.
    pub fn new(nodes: usize) -> Links {
        Links(vec![[NONE; DEGREE]; nodes].into())
    }

    /// Links from existing lists.
    pub fn of_lists(lists: Column<[u32; DEGREE]>) -> Links {
        Links(lists)
    }

    /// The lists of all nodes, unused places included.
    #[inline]
    pub fn lists(&self) -> &[[u32; DEGREE]] {
        &self.0
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The list of a node, with unused places at the end.
    #[inline]
    pub fn places(&self, node: u32) -> &[u32; DEGREE] {
        &self.0[node as usize]
    }

    /// The targets of a node's links.
    pub fn of(&self, node: u32) -> &[u32] {
        let places = self.places(node);
        &places[..places.iter().position(|&target| target == NONE).unwrap_or(DEGREE)]
    }

    /// Adds a link; false if the list is full. An existing link stays.
    pub fn push(&mut self, node: u32, target: u32) -> bool {
        let used = self.of(node).len();
        if node == target || self.of(node).contains(&target) {
            return true;
        }
        if used < DEGREE {
            self.0.to_mut()[node as usize][used] = target;
        }
        used < DEGREE
    }

    /// Replaces a link by another.
    pub fn replace(&mut self, node: u32, place: usize, target: u32) {
        self.0.to_mut()[node as usize][place] = target;
    }

    /// The lists of these nodes, for changes.
    pub fn some_mut(&mut self, nodes: Range<usize>) -> &mut [[u32; DEGREE]] {
        &mut self.0.to_mut()[nodes]
    }

    /// The lists of nodes in another order: `order[new]` is the old number.
    pub fn reordered(&self, order: &[u32]) -> Links {
        let mut new_of = vec![NONE; self.len()];
        order.iter().zip(0..).for_each(|(&old, new)| new_of[old as usize] = new);
        let renamed = |old: &u32| if *old == NONE { NONE } else { new_of[*old as usize] };
        Links(order.iter().map(|&old| self.places(old).each_ref().map(renamed)).collect::<Vec<_>>().into())
    }

    /// The memory in bytes. Mapped lists take none.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}
