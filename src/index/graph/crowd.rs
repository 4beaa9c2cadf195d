//! Tells whether a walk may have missed much: it did where many more nodes lie hardly farther from the query than the
//! hits.
//!
//! Where hits stand out, a walk finds them. Where thousands of nodes are nearly as near, because the query resembles
//! nothing that is stored, or because vectors have no order at all, links lead no nearer to the query than by chance,
//! and a walk of few candidates misses hits. The expansion rate (Karger and Ruhl, 2002) tells the two apart: how many
//! times more nodes there are within a slightly larger distance. It is estimated from the entries of the graph, which
//! are a random sample of its nodes, and which every walk compares with its query anyway.
//!
//! Invariant: the distance is that of the hits of the whole search, so all graphs are judged alike. The last candidate
//! of one walk says less: where a cluster is smaller than what the walk keeps, it lies far outside of it.

use super::searchable::Scratch;

/// The larger distance, in parts of the distance of the hits. Distances are 1 - cosine. Neighbourhoods of 20
/// dimensions, as embeddings of texts have them, hold 4 times as many nodes within it; of 100 dimensions, 1,000 times.
const FARTHER: f32 = 1.15;
/// The nodes near the hits, as a multiple of the nodes that all walks looked at: from here on it is a crowd.
const TIMES: usize = 2;
/// As [`TIMES`], of one graph and its walk. More, because a whole cluster may lie in one graph.
const TIMES_OF_ONE: usize = 8;
/// Entries that must lie near the hits at least: fewer are chance.
const AT_LEAST: usize = 8;

/// The sample of a graph's nodes that a walk compared with its query.
pub struct Surroundings {
    /// Estimated cosines of the entries.
    entries: Vec<f32>,
    /// Nodes that the walk looked at.
    expanded: usize,
    /// Nodes of the graph.
    nodes: usize,
}

impl Scratch {
    /// The nodes that the last walk kept, best first, with their estimated cosines.
    pub fn kept(&self) -> impl Iterator<Item = (u32, f32)> {
        self.walk.beam.kept()
    }

    /// The surroundings of the last walk, through a graph of so many nodes. `None`: it kept all that there are.
    pub fn surroundings(&self, nodes: usize) -> Option<Surroundings> {
        self.walk.beam.last()?;
        Some(Surroundings { entries: self.walk.entries.clone(), expanded: self.walk.expanded, nodes })
    }
}

impl Surroundings {
    /// Entries of that cosine at least.
    fn near(&self, least: f32) -> usize {
        self.entries.iter().filter(|&&entry| entry >= least).count()
    }
}

/// Whether there is a crowd around hits of that cosine, of which the walks may have missed some: in one graph, or in
/// all of them together.
pub fn is_crowd<'s>(walks: impl Iterator<Item = &'s Surroundings>, cosine: f32) -> bool {
    let least = least_cosine(cosine);
    let (mut all_entries, mut all_nodes, mut all_expanded) = (0, 0, 0);
    for around in walks {
        let entries = around.near(least);
        let nodes = entries * around.nodes / around.entries.len().max(1);
        if entries >= AT_LEAST && nodes >= TIMES_OF_ONE * around.expanded {
            return true;
        }
        all_entries += entries;
        all_nodes += nodes;
        all_expanded += around.expanded;
    }
    all_entries >= AT_LEAST && all_nodes >= TIMES * all_expanded
}

/// The least cosine that is hardly farther than another.
pub fn least_cosine(cosine: f32) -> f32 {
    1.0 - FARTHER * (1.0 - cosine)
}
