//! A walk for the nearest nodes that match a filter, through all nodes.
//!
//! ```text
//! frontier: nodes that are visited and not expanded, matching or not      kept: the best `ef` that match
//! loop: best of the frontier ─► its unvisited neighbours ─► frontier; those that match ─► kept
//! end:  the best of the frontier is worse than the last of `ef` kept, or too many nodes were expanded
//! ```
//! Nodes that do not match are stepping stones and are not kept, so the walk passes through a neighbourhood without any
//! match (as the filtered search of hnswlib does; compare ACORN by Patel et al., 2024). This neighbourhood may be
//! large: the caller limits the number of expanded nodes, and scans if that is not enough.

use std::cmp::Reverse;

use super::beam::{Key, key, node, score};
use super::bounds::Bounds;
use super::guide::Guide;
use super::query::OwnQuery;
use super::searchable::{Graph, Scratch, Visited, Walk};
use crate::compute::stop::Stopped;
use crate::kernel::dot_i8::prefetch;

/// A walk by sketches is repeated by codes if what it kept differs by less than this many errors of an estimate. A walk
/// without a filter needs one: where many nodes are about as near, it goes on to twice its `ef`.
const ERRORS: f32 = 2.0;
/// Nodes that are expanded between two checks of the stop flag: less than a millisecond.
const EXPANSIONS_PER_CHECK: usize = 256;

/// The end of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The walk can reach nothing nearer.
    Complete,
    /// It expanded as many nodes as it may.
    LimitReached,
}

impl Graph {
    /// Searches the nearest nodes that match; [`Scratch::kept`] returns them. `matches` is called only for nodes that
    /// are near enough, at most once for each in a walk.
    ///
    /// # Panics
    /// If the query has another number of dimensions.
    pub fn search_matching(
        &self,
        query: &OwnQuery,
        bounds: Bounds<'_>,
        matches: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Result<End, Stopped> {
        assert_eq!(
            query.blocks(),
            self.codes().blocks(),
            "the query and the graph differ in their number of dimensions"
        );
        let walk = &mut scratch.walk;
        if let Some(guide) = self.by_sketches(query) {
            let end = self.walk_matching(guide, bounds, &matches, walk)?;
            if self.sketches_tell_apart(walk, ERRORS) {
                self.score_kept(query.query(), walk);
                return Ok(end);
            }
        }
        self.walk_matching(self.by_codes(query), bounds, &matches, walk)
    }

    fn walk_matching(
        &self,
        guide: Guide<'_>,
        bounds: Bounds<'_>,
        matches: impl Fn(u32) -> bool,
        walk: &mut Walk,
    ) -> Result<End, Stopped> {
        let lists = self.links().lists();
        self.enter(guide, self.entries(), bounds.ef, walk);
        let starts: Vec<Key> = walk.beam.kept().map(|(node, score)| key(node, score)).collect();
        walk.beam.reset(bounds.ef);
        walk.frontier.clear();
        for start in starts {
            walk.frontier.push(Reverse(start));
            if matches(node(start)) {
                walk.beam.offer(node(start), score(start));
            }
        }
        while let Some(Reverse(nearest)) = walk.frontier.pop() {
            // Keys ascend as scores descend.
            if walk.beam.last().is_some_and(|last| nearest > last) {
                break;
            }
            if walk.expanded == bounds.max_expansions {
                return Ok(End::LimitReached);
            }
            walk.expanded += 1;
            if walk.expanded.is_multiple_of(EXPANSIONS_PER_CHECK) {
                bounds.stop.check()?;
            }
            // The next node to be expanded, unless a neighbour of this one is better, and the two of which one follows.
            if let [Reverse(next), after @ ..] = walk.frontier.as_slice() {
                let next = node(*next);
                after.iter().take(2).for_each(|Reverse(after)| prefetch(&lists[node(*after) as usize]));
                self.prefetch_neighbours(guide, &lists[next as usize], walk);
            }
            let Visited { nodes, scores, beam, frontier } = self.visit(guide, &lists[node(nearest) as usize], walk);
            for (&node, &score) in nodes.iter().zip(scores) {
                let key = key(node, score);
                if beam.last().is_some_and(|last| key > last) {
                    continue;
                }
                frontier.push(Reverse(key));
                if matches(node) {
                    beam.offer(node, score);
                }
            }
        }
        walk.is_complete = walk.beam.last().is_none();
        Ok(End::Complete)
    }
}

#[cfg(test)]
mod tests {
    use super::super::links::{DEGREE, Links};
    use super::*;
    use crate::compute::stop::Stop;
    use crate::index::graph::codes::Codes;

    /// A graph of nodes on an arc, each linked to the next ones on both sides.
    fn arc(nodes: u32) -> Graph {
        let mut codes = Codes::new(2);
        let mut links = Links::new(nodes as usize);
        for node in 0..nodes {
            let angle = node as f32 / nodes as f32 * 1.5;
            codes.push(&[angle.cos(), angle.sin()]);
            let near: Vec<u32> = (1..=DEGREE as u32 / 2)
                .flat_map(|step| [node.checked_sub(step), node.checked_add(step)])
                .flatten()
                .filter(|&other| other < nodes)
                .collect();
            near.iter().for_each(|&other| assert!(links.push(node, other)));
        }
        Graph::of_parts(codes, links, 1)
    }

    fn found(graph: &Graph, ef: usize, max_expansions: usize, matches: impl Fn(u32) -> bool) -> (Option<u32>, End) {
        let (mut scratch, stop) = (Scratch::default(), Stop::never());
        let query = OwnQuery::new(&[1.0, 0.0]);
        let end = graph
            .search_matching(
                &query,
                Bounds { ef, hits: 10, sure: 10, wanted: 10, max_expansions, stop: &stop },
                matches,
                &mut scratch,
            )
            .unwrap();
        (scratch.kept().next().map(|(node, _)| node), end)
    }

    #[test]
    fn a_walk_passes_through_nodes_that_do_not_match() {
        let graph = arc(3_000);
        assert_eq!(found(&graph, 10, usize::MAX, |node| node >= 2_000), (Some(2_000), End::Complete));
        assert_eq!(found(&graph, 10, usize::MAX, |_| false), (None, End::Complete));
    }

    #[test]
    fn a_walk_reports_that_it_reached_its_limit() {
        let graph = arc(3_000);
        assert_eq!(found(&graph, 10, 50, |node| node >= 2_000), (None, End::LimitReached));
    }

    #[test]
    fn a_walk_ends_when_its_caller_has_gone() {
        let (graph, stop, mut scratch) = (arc(3_000), Stop::never(), Scratch::default());
        stop.raise();
        let bounds = Bounds { ef: 10, hits: 10, sure: 10, wanted: 10, max_expansions: usize::MAX, stop: &stop };
        assert_eq!(graph.search_matching(&OwnQuery::new(&[1.0, 0.0]), bounds, |_| false, &mut scratch), Err(Stopped));
    }
}
