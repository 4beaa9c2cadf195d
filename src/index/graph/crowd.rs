//! The test for a crowd: a walk may have missed hits if many more nodes are hardly farther from the query than the
//! hits.
//!
//! A walk finds hits that stand out. A query that resembles no stored vector, or vectors in random directions, have
//! thousands of nodes at nearly the same distance. Links then lead nearer to the query only by chance, and a walk with
//! few candidates misses hits. The expansion rate (Karger and Ruhl, 2002) distinguishes the two cases: the factor by
//! which the number of nodes grows within a slightly larger distance.
//!
//! It is estimated from the entry points of the graph. They are a random sample of its nodes, and every walk compares
//! them with its query anyway. If it did so by sketches, those that may be near are compared again by codes, because
//! the error of a sketch may be as large as the distances.
//!
//! Invariant: the distance is that of the hits of the whole search, so all graphs are judged by the same distance. The
//! last candidate of one walk is no measure: if a cluster is smaller than `ef`, it lies far outside the cluster.

use super::query::OwnQuery;
use super::searchable::{Graph, Scratch};

/// The larger distance, as a multiple of the distance of the hits. Distances are 1 - cosine. A neighbourhood of 20
/// dimensions, which is usual for embeddings of texts, has 4 times as many nodes within it; one of 100 dimensions has
/// 1,000 times as many.
const FARTHER: f32 = 1.15;
/// The number of nodes near the hits, as a multiple of the nodes that all walks expanded, at which they are a crowd.
const TIMES: usize = 2;
/// Like [`TIMES`], for one graph and its walk. It is larger because a whole cluster may lie in one graph.
const TIMES_OF_ONE: usize = 8;
/// The smallest number of entry points near the hits that is more than chance.
const AT_LEAST: usize = 8;
/// Entry points that are farther by more than this many errors of a sketch are taken as farther by codes too.
const MARGIN: f32 = 3.0;

/// The sample of a graph's nodes that a walk compared with its query.
pub struct Surroundings {
    /// The estimated cosines of the entry points that may be near the hits.
    near: Vec<f32>,
    /// The number of entry points.
    entries: usize,
    /// The number of nodes that the walk expanded.
    expanded: usize,
    /// The number of nodes of the graph.
    nodes: usize,
}

impl Scratch {
    /// The nodes that the last walk kept, best first, with their estimated cosines.
    pub fn kept(&self) -> impl Iterator<Item = (u32, f32)> {
        self.walk.beam.kept()
    }
}

impl Graph {
    /// The surroundings of the last walk, which was for this query. `None`: it kept every node it could reach. They
    /// serve to judge hits that are no farther than the `wanted`-th node of the walk.
    ///
    /// # Panics
    /// If no node is wanted.
    pub fn surroundings(&self, query: &OwnQuery, wanted: usize, scratch: &Scratch) -> Option<Surroundings> {
        let walk = &scratch.walk;
        let last = walk.beam.score_at(wanted - 1);
        let least = last.map_or(f32::NEG_INFINITY, least_cosine) - MARGIN * self.sketches().error();
        (!walk.is_complete).then(|| {
            let near = walk.entries.iter().zip(0..).filter(|&(&score, _)| score >= least);
            let near: Vec<u32> = near.map(|(_, entry)| entry).collect();
            let mut scores = vec![0.0; near.len()];
            self.codes().score(query.query(), &near, &mut scores);
            Surroundings { near: scores, entries: walk.entries.len(), expanded: walk.expanded, nodes: self.len() }
        })
    }
}

impl Surroundings {
    /// The number of entry points of at least this cosine.
    pub(super) fn near(&self, least: f32) -> usize {
        self.near.iter().filter(|&&entry| entry >= least).count()
    }
}

/// True if hits of this cosine lie in a crowd, of which the walks may have missed some: in one graph, or in all of them
/// together.
pub fn is_crowd<'s>(walks: impl Iterator<Item = &'s Surroundings>, cosine: f32) -> bool {
    let least = least_cosine(cosine);
    let (mut all_entries, mut all_nodes, mut all_expanded) = (0, 0, 0);
    for around in walks {
        let entries = around.near(least);
        let nodes = entries * around.nodes / around.entries.max(1);
        if entries >= AT_LEAST && nodes >= TIMES_OF_ONE * around.expanded {
            return true;
        }
        all_entries += entries;
        all_nodes += nodes;
        all_expanded += around.expanded;
    }
    all_entries >= AT_LEAST && all_nodes >= TIMES * all_expanded
}

/// The lowest cosine that is hardly farther than this one.
pub fn least_cosine(cosine: f32) -> f32 {
    1.0 - FARTHER * (1.0 - cosine)
}
