//! A finished graph, laid out for walks: codes and links by node, in an order that keeps near nodes close in memory.
//!
//! ```text
//! search: best of the entry points, and node 0 ─► beam
//!         loop: best node that is not expanded ─► its unvisited neighbours, all scored in one call ─► beam
//! ```
//! A search walks by sketches, which are a third of the memory of codes, until the hits stand out (see `ending`), and
//! scores what it kept by codes. If sketches cannot tell the kept nodes apart, it walks again by codes.
//!
//! Invariant: nodes are numbered 0..len. The first [`Graph::entries`] are the entry points. Every node can be reached
//! from node 0 (see `connect`). A finished graph never changes. Scores are estimates: the caller, who has the f32 rows,
//! computes true scores for the best. The caller also handles equal vectors: see `duplicates`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::beam::{Beam, Key, MAX_NODES};
use super::bounds::Bounds;
use super::codes::Codes;
use super::ending::Ending;
use super::guide::Guide;
use super::links::{DEGREE, Links, NONE};
use super::query::OwnQuery;
use super::sketches::Sketches;
use crate::kernel::dot_i8::{Query, prefetch};

/// Walks begin at this many of the best entry points. One is not enough: entry points are few, and the nearest one may
/// have no short path to the query.
const STARTS: usize = 4;
/// Entry points that are scored in one call.
const ENTRY_BATCH: usize = 64;

/// A walk by sketches is repeated by codes if what it kept differs by less than this many errors of an estimate. In a
/// cluster of nearly equal vectors sketches cannot tell the nearest from the others.
const ERRORS: f32 = 1.0;
/// Nodes that are worse than the last hit by more than this many errors of an estimate are not scored by codes.
/// With 2 of them a walk for 100 hits loses 3 of 1,000.
const MARGIN: f32 = 3.0;

/// A finished graph.
pub struct Graph {
    codes: Codes,
    /// None while a graph is built.
    sketches: Sketches,
    links: Links,
    entries: usize,
}

/// Scratch memory for walks, one for each thread that searches. It fits graphs of any size.
#[derive(Default)]
pub struct Scratch {
    pub(super) walk: Walk,
}

#[derive(Default)]
pub(super) struct Walk {
    pub(super) beam: Beam,
    /// The last walk that visited each node.
    visited: Vec<u8>,
    walk: u8,
    batch: Vec<u32>,
    scores: Vec<f32>,
    /// Expanded nodes with their scores, if the caller needs them.
    trail: Vec<(u32, f32)>,
    /// Visited nodes that are not expanded, if they differ from those in the beam: see `filtered`.
    pub(super) frontier: BinaryHeap<Reverse<Key>>,
    /// The scores of all entry points.
    pub(super) entries: Vec<f32>,
    /// The number of expanded nodes.
    pub(super) expanded: usize,
    /// True if every node that the walk could reach was kept.
    pub(super) is_complete: bool,
}

/// Nodes that a walk visits for the first time, with their scores, and the queues that take them.
pub(super) struct Visited<'w> {
    pub(super) nodes: &'w [u32],
    pub(super) scores: &'w [f32],
    pub(super) beam: &'w mut Beam,
    pub(super) frontier: &'w mut BinaryHeap<Reverse<Key>>,
}

impl Graph {
    /// Lays out a graph: `order[node]` is a node's number in `codes` and `links`. The first `entries` are entry points.
    ///
    /// # Panics
    /// If the parts disagree on the number of nodes.
    pub fn new(codes: &Codes, links: &Links, order: &[u32], entries: usize) -> Graph {
        assert!(
            codes.len() == links.len() && codes.len() == order.len(),
            "codes, links and order must have the same length"
        );
        Graph::of_parts(codes.reordered(order), links.reordered(order), entries)
    }

    /// A graph without nodes.
    pub fn empty() -> Graph {
        Graph::of_parts(Codes::new(1), Links::new(0), 0)
    }

    /// A graph from parts that are already laid out.
    ///
    /// # Panics
    /// If the parts disagree on the number of nodes.
    pub fn of_parts(codes: Codes, links: Links, entries: usize) -> Graph {
        assert!(
            codes.len() == links.len() && codes.len() < MAX_NODES && entries <= codes.len(),
            "codes and links must have the same length, and entry points must be nodes"
        );
        Graph { codes, sketches: Sketches::none(), links, entries }
    }

    /// The graph with these sketches of its nodes, which guide its searches.
    pub fn with_sketches(self, sketches: Sketches) -> Graph {
        Graph { sketches, ..self }
    }

    /// The sketches of the nodes.
    pub fn sketches(&self) -> &Sketches {
        &self.sketches
    }

    /// A graph of the same nodes with other links, in another order: `links` in the present numbering, `order` as in
    /// [`Graph::new`].
    ///
    /// # Panics
    /// If the parts disagree on the number of nodes.
    pub fn relinked(&self, links: &Links, order: &[u32]) -> Graph {
        Graph::new(&self.codes, links, order, self.entries)
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// The number of entry points: nodes below this.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// The codes of each node.
    pub fn codes(&self) -> &Codes {
        &self.codes
    }

    /// The links of each node.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// The memory in bytes. Mapped parts take none.
    pub fn bytes(&self) -> usize {
        self.codes.bytes() + self.sketches.bytes() + self.links.bytes()
    }

    /// Searches the nodes nearest to a query: [`Scratch::kept`] returns those that may be among the best `hits`, and at
    /// least `wanted` in all, or all that a walk reaches. Higher `ef`: better recall, linear cost.
    ///
    /// # Panics
    /// If the query has another number of dimensions, or if there are to be no hits.
    pub fn search(&self, query: &OwnQuery, bounds: Bounds<'_>, scratch: &mut Scratch) {
        assert_eq!(query.blocks(), self.codes.blocks(), "the query and the graph differ in their number of dimensions");
        let walk = &mut scratch.walk;
        if let Some(guide) = self.by_sketches(query) {
            let error = self.sketches.error();
            let ending = Ending::new(bounds, error);
            let ends = |walk: &Walk, open| ending.is_reached(&walk.beam, walk.expanded, open);
            self.walk::<false>(guide, self.entries, ending.kept(), ends, walk);
            if self.sketches_tell_apart(walk, ERRORS) {
                walk.beam.cut(bounds.hits - 1, MARGIN * error, bounds.wanted);
                self.score_kept(query.query(), walk);
                return;
            }
        }
        self.walk::<false>(self.by_codes(query), self.entries, bounds.ef, |_, _| false, walk);
    }

    /// The guide of a walk by sketches, if there are any.
    pub(super) fn by_sketches<'g>(&'g self, query: &'g OwnQuery) -> Option<Guide<'g>> {
        (!self.sketches.is_empty()).then(|| Guide::by_sketches(&self.codes, &self.sketches, query))
    }

    /// The guide of a walk by codes.
    pub(super) fn by_codes<'g>(&'g self, query: &'g OwnQuery) -> Guide<'g> {
        Guide::by_codes(&self.codes, query.query())
    }

    /// False if a walk by sketches kept nodes that differ by less than this many errors of an estimate.
    pub(super) fn sketches_tell_apart(&self, walk: &Walk, errors: f32) -> bool {
        !walk.beam.is_even(errors * self.sketches.error())
    }

    /// Scores the nodes that a walk kept by their codes.
    pub(super) fn score_kept(&self, query: Query<'_>, walk: &mut Walk) {
        let Walk { beam, batch, scores, .. } = walk;
        batch.clear();
        batch.extend(beam.kept().map(|(node, _)| node));
        scores.resize(scores.len().max(batch.len()), 0.0);
        self.codes.score(query, batch, &mut scores[..batch.len()]);
        beam.rescore(scores);
    }

    /// The nodes that a walk from node 0 to `node` expands, and the best `ef` that it visits. Some occur twice.
    pub(super) fn path_to<'s>(
        &self,
        node: u32,
        ef: usize,
        scratch: &'s mut Scratch,
    ) -> impl Iterator<Item = (u32, f32)> + use<'s> {
        let guide = Guide::by_codes(&self.codes, self.codes.query(node));
        self.walk::<true>(guide, self.entries.min(1), ef, |_, _| false, &mut scratch.walk);
        scratch.walk.beam.kept().chain(scratch.walk.trail.iter().copied())
    }

    /// The number of nodes that no path leads to. It is 0 unless the program is wrong.
    pub fn unreachable(&self) -> usize {
        super::connect::unreachable(&self.links)
    }

    /// Asserts that every node can be reached, and that links are to other nodes, each once.
    #[cfg(test)]
    pub fn assert_sound(&self) {
        assert_eq!(self.unreachable(), 0);
        for node in 0..self.len() as u32 {
            let mut targets = self.links.of(node).to_vec();
            assert!(targets.len() <= DEGREE && targets.iter().all(|&t| t != node && (t as usize) < self.len()));
            let count = targets.len();
            targets.sort_unstable();
            targets.dedup();
            assert_eq!(targets.len(), count, "a link occurs twice");
        }
    }

    /// Walks until `ends` is true for the score of the best open node, or all kept nodes are expanded. With TRAIL it
    /// notes the expanded nodes.
    fn walk<const TRAIL: bool>(
        &self,
        guide: Guide<'_>,
        starts: usize,
        kept: usize,
        ends: impl Fn(&Walk, f32) -> bool,
        walk: &mut Walk,
    ) {
        self.enter(guide, starts, kept, walk);
        let lists = self.links.lists();
        while let Some((node, score)) = walk.beam.pop() {
            if ends(walk, score) {
                return;
            }
            walk.expanded += 1;
            if TRAIL {
                walk.trail.push((node, score));
            }
            // The next nodes to be expanded, unless neighbours of this one are better: the links of one, and the codes
            // that the links of the other lead to.
            let [next, after] = walk.beam.peek();
            if let Some(after) = after {
                prefetch(&lists[after as usize]);
            }
            if let Some(next) = next {
                self.prefetch_neighbours(guide, &lists[next as usize], walk);
            }
            let Visited { nodes, scores, beam, .. } = self.visit(guide, &lists[node as usize], walk);
            nodes.iter().zip(scores).for_each(|(&node, &score)| beam.offer(node, score));
        }
        walk.is_complete = walk.beam.last().is_none();
    }

    /// Begins a walk: puts the best of the first `starts` nodes, and node 0, into the beam, which keeps `kept` nodes.
    pub(super) fn enter(&self, guide: Guide<'_>, starts: usize, kept: usize, walk: &mut Walk) {
        walk.begin(self.len());
        let Walk { beam, visited, walk: this, batch, scores, entries, .. } = walk;
        beam.reset(STARTS.min(kept));
        for first in (0..starts as u32).step_by(ENTRY_BATCH) {
            batch.clear();
            batch.extend(first..(starts as u32).min(first + ENTRY_BATCH as u32));
            guide.score(batch, &mut scores[..batch.len()]);
            entries.extend_from_slice(&scores[..batch.len()]);
            batch.iter().zip(&*scores).for_each(|(&node, &score)| beam.offer(node, score));
        }
        beam.kept().for_each(|(node, _)| visited[node as usize] = *this);
        beam.widen(kept);
        // The other entry points may have no path to a node that node 0 has a path to. If many nodes are better than
        // node 0, it is never expanded.
        if let Some(&score) = entries.first()
            && std::mem::replace(&mut visited[0], *this) != *this
        {
            beam.offer(0, score);
        }
        // Space for the neighbours of a node, and one more: a node that was visited before is written and not counted.
        batch.resize(DEGREE + 1, 0);
    }

    /// Prefetches the codes or sketches of the nodes of a list of links that were not visited before.
    #[inline(always)]
    pub(super) fn prefetch_neighbours(&self, guide: Guide<'_>, links: &[u32; DEGREE], walk: &mut Walk) {
        let Walk { visited, walk: this, batch, .. } = walk;
        let mut count = 0;
        for &target in links {
            if target == NONE {
                break;
            }
            batch[count] = target;
            count += usize::from(visited[target as usize] != *this);
        }
        guide.prefetch(&batch[..count]);
    }

    /// Visits the nodes of a list of links that were not visited before.
    #[inline(always)]
    pub(super) fn visit<'w>(&self, guide: Guide<'_>, links: &[u32; DEGREE], walk: &'w mut Walk) -> Visited<'w> {
        let Walk { beam, visited, walk: this, batch, scores, frontier, .. } = walk;
        let mut count = 0;
        for &target in links {
            if target == NONE {
                break;
            }
            let last = std::mem::replace(&mut visited[target as usize], *this);
            batch[count] = target;
            count += usize::from(last != *this);
        }
        guide.score(&batch[..count], &mut scores[..count]);
        Visited { nodes: &batch[..count], scores: &scores[..count], beam, frontier }
    }
}

impl Walk {
    /// Begins a new walk, in which no node is visited.
    fn begin(&mut self, nodes: usize) {
        if self.visited.len() < nodes || self.walk == u8::MAX {
            self.visited.clear();
            self.visited.resize(nodes, 0);
            self.walk = 0;
        }
        self.walk += 1;
        self.trail.clear();
        self.entries.clear();
        (self.expanded, self.is_complete) = (0, false);
        self.scores.resize(ENTRY_BATCH.max(DEGREE + 1), 0.0);
    }
}
