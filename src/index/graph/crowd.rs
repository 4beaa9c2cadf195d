//! Does a walk end in a crowd: are there many more nodes that are hardly farther from the query than those that it kept?
//!
//! Where hits stand out, a walk finds them. Where thousands of nodes are nearly as near, because the query resembles
//! nothing that is stored, or because vectors have no order at all, links lead no nearer to the query than by
//! chance, and a walk of few candidates misses hits. The expansion rate (Karger and Ruhl, 2002) tells the two apart: how many
//! times more nodes there are within a slightly larger distance. It is estimated from the entries of the graph, which are
//! a random sample of its nodes, and which every walk compares with its query anyway.

use super::beam::score;
use super::frozen::Scratch;

/// The larger distance, in parts of the distance of the last node that was kept. Distances are 1 - cosine. Neighbourhoods of
/// 20 dimensions, as embeddings of texts have them, hold 4 times as many nodes within it; of 100 dimensions, 1,000 times.
const FARTHER: f32 = 1.15;
/// A neighbourhood of so many times the nodes that the walk looked at is a crowd.
const TIMES: usize = 8;
/// Entries that must lie in it at least: fewer are chance.
const AT_LEAST: usize = 8;

impl Scratch {
    /// The nodes that the last walk kept, best first, with their estimated cosines.
    pub fn kept(&self) -> impl Iterator<Item = (u32, f32)> {
        self.walk.beam.kept()
    }

    /// Whether the last walk, through a graph of so many nodes, ended in a crowd. Not where it kept all that there are.
    pub fn is_in_crowd(&self, nodes: usize) -> bool {
        let Some(last) = self.walk.beam.last() else { return false };
        let entries = &self.walk.entries;
        let distance = FARTHER * (1.0 - score(last));
        let near = entries.iter().filter(|&&score| 1.0 - score <= distance).count();
        near >= AT_LEAST + TIMES * self.walk.looked * entries.len() / nodes.max(1)
    }
}
