//! A finished graph, laid out for walks: codes and links by node, in an order that keeps near nodes near.
//!
//! ```text
//! search: best of the entries, and node 0 ─► beam
//!         loop: best node not looked at ─► its unseen neighbours, all scored in one call ─► beam
//! ```
//! Invariant: nodes are numbered 0..len; the first [`Graph::entries`] are where walks begin; from node 0 every node
//! can be reached (see `connect`). Nothing changes after it is made. Scores are estimates: the caller, who has the f32
//! rows, computes true ones for the best. Equal vectors are the caller's matter too: see `duplicates`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::beam::{Beam, Key, MAX_NODES};
use super::codes::{Codes, OwnQuery};
use super::links::{DEGREE, Links, NONE};
use crate::kernel::dot_i8::{Query, prefetch};

/// Walks begin at the best so many of the entries: more than one, because entries are few and the nearest one may
/// lie behind a ridge.
const STARTS: usize = 4;
/// Entries that are scored in one call.
const ENTRY_BATCH: usize = 64;

/// A graph that walks read.
pub struct Graph {
    codes: Codes,
    links: Links,
    entries: usize,
}

/// Memory of a walk, one for each thread that searches; fits graphs of any size.
#[derive(Default)]
pub struct Scratch {
    pub(super) walk: Walk,
}

#[derive(Default)]
pub(super) struct Walk {
    pub(super) beam: Beam,
    /// By node: the walk that met it last.
    visited: Vec<u8>,
    walk: u8,
    batch: Vec<u32>,
    scores: Vec<f32>,
    /// Nodes looked at, with their scores, where they are asked for.
    trail: Vec<(u32, f32)>,
    /// Nodes that were met and not looked at yet, where they are not the same as those that are kept: see `filtered`.
    pub(super) frontier: BinaryHeap<Reverse<Key>>,
    /// Scores of all entries.
    pub(super) entries: Vec<f32>,
    /// Nodes looked at.
    pub(super) expanded: usize,
}

/// Nodes that a walk meets for the first time, with their scores, and where it puts them.
pub(super) struct Visited<'w> {
    pub(super) nodes: &'w [u32],
    pub(super) scores: &'w [f32],
    pub(super) beam: &'w mut Beam,
    pub(super) frontier: &'w mut BinaryHeap<Reverse<Key>>,
}

impl Graph {
    /// Lays out a graph: `order[node]` is a node's number in `codes` and `links`; walks begin at the first `entries`.
    ///
    /// # Panics
    /// If the parts disagree on the number of nodes.
    pub fn new(codes: &Codes, links: &Links, order: &[u32], entries: usize) -> Graph {
        assert!(codes.len() == links.len() && codes.len() == order.len(), "codes, links and a place for each node");
        Graph::of_parts(codes.reordered(order), links.reordered(order), entries)
    }

    /// A graph of no nodes.
    pub fn empty() -> Graph {
        Graph::of_parts(Codes::new(1), Links::new(0), 0)
    }

    /// A graph that was laid out before.
    ///
    /// # Panics
    /// If the parts disagree on the number of nodes.
    pub fn of_parts(codes: Codes, links: Links, entries: usize) -> Graph {
        assert!(codes.len() == links.len() && codes.len() < MAX_NODES && entries <= codes.len(), "entries are nodes");
        Graph { codes, links, entries }
    }

    /// The same nodes with other links, in another order: `links` by node as of now, `order` as in [`Graph::new`].
    ///
    /// # Panics
    /// If the parts disagree on the number of nodes.
    pub fn relinked(&self, links: &Links, order: &[u32]) -> Graph {
        Graph::new(&self.codes, links, order, self.entries)
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Walks begin at nodes below this.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Codes by node.
    pub fn codes(&self) -> &Codes {
        &self.codes
    }

    /// Links by node.
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Memory in bytes; of what is mapped, none.
    pub fn bytes(&self) -> usize {
        self.codes.bytes() + self.links.bytes()
    }

    /// Looks for the nodes nearest to a query: [`Scratch::kept`] has `ef` of them, or
    /// all that a walk reaches. Higher `ef`: better recall, linear cost.
    ///
    /// # Panics
    /// If the query has another number of dimensions.
    pub fn search(&self, query: &OwnQuery, ef: usize, scratch: &mut Scratch) {
        assert_eq!(query.blocks(), self.codes.blocks(), "a query of another number of dimensions than the graph");
        self.walk::<false>(query.query(), self.entries, ef, &mut scratch.walk);
    }

    /// What a walk from node 0 to `node` looked at, and the best `ef` it met: some twice.
    pub(super) fn path_to<'s>(
        &self,
        node: u32,
        ef: usize,
        scratch: &'s mut Scratch,
    ) -> impl Iterator<Item = (u32, f32)> + use<'s> {
        self.walk::<true>(self.codes.query(node), self.entries.min(1), ef, &mut scratch.walk);
        scratch.walk.beam.kept().chain(scratch.walk.trail.iter().copied())
    }

    /// Nodes that no way leads to: none, unless the program is wrong.
    pub fn unreachable(&self) -> usize {
        super::connect::unreachable(&self.links)
    }

    /// Every node can be reached, and links are to other nodes, each once.
    #[cfg(test)]
    pub fn assert_sound(&self) {
        assert_eq!(self.unreachable(), 0);
        for node in 0..self.len() as u32 {
            let mut targets = self.links.of(node).to_vec();
            assert!(targets.len() <= DEGREE && targets.iter().all(|&t| t != node && (t as usize) < self.len()));
            let count = targets.len();
            targets.sort_unstable();
            targets.dedup();
            assert_eq!(targets.len(), count, "no link twice");
        }
    }

    fn walk<const TRAIL: bool>(&self, query: Query<'_>, starts: usize, ef: usize, walk: &mut Walk) {
        self.enter(query, starts, ef, walk);
        let lists = self.links.lists();
        while let Some((node, score)) = walk.beam.pop() {
            walk.expanded += 1;
            if TRAIL {
                walk.trail.push((node, score));
            }
            // The next one looked at, unless a neighbour of this one is better.
            if let Some(next) = walk.beam.peek() {
                prefetch(&lists[next as usize]);
            }
            let Visited { nodes, scores, beam, .. } = self.visit(query, &lists[node as usize], walk);
            nodes.iter().zip(scores).for_each(|(&node, &score)| beam.offer(node, score));
        }
    }

    /// Begins a walk at the best of the first `starts` nodes, and at node 0: they are in the beam, which is for the best `ef`.
    pub(super) fn enter(&self, query: Query<'_>, starts: usize, ef: usize, walk: &mut Walk) {
        walk.begin(self.len());
        let Walk { beam, visited, walk: this, batch, scores, entries, .. } = walk;
        beam.reset(STARTS.min(ef));
        for first in (0..starts as u32).step_by(ENTRY_BATCH) {
            batch.clear();
            batch.extend(first..(starts as u32).min(first + ENTRY_BATCH as u32));
            self.codes.score(query, batch, &mut scores[..batch.len()]);
            entries.extend_from_slice(&scores[..batch.len()]);
            batch.iter().zip(&*scores).for_each(|(&node, &score)| beam.offer(node, score));
        }
        beam.kept().for_each(|(node, _)| visited[node as usize] = *this);
        beam.widen(ef);
        // The others may have no way to a node that the first one has a way to. Where much is better, it is never looked at.
        if let Some(&score) = entries.first()
            && std::mem::replace(&mut visited[0], *this) != *this
        {
            beam.offer(0, score);
        }
        // Places for the neighbours of a node, one to spare: a node that was met before is written and not counted.
        batch.resize(DEGREE + 1, 0);
    }

    /// Those nodes of a list of links that were not met before.
    #[inline(always)]
    pub(super) fn visit<'w>(&self, query: Query<'_>, links: &[u32; DEGREE], walk: &'w mut Walk) -> Visited<'w> {
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
        self.codes.score(query, &batch[..count], &mut scores[..count]);
        Visited { nodes: &batch[..count], scores: &scores[..count], beam, frontier }
    }
}

impl Walk {
    /// No node was met.
    fn begin(&mut self, nodes: usize) {
        if self.visited.len() < nodes || self.walk == u8::MAX {
            self.visited.clear();
            self.visited.resize(nodes, 0);
            self.walk = 0;
        }
        self.walk += 1;
        self.trail.clear();
        self.entries.clear();
        self.expanded = 0;
        self.scores.resize(ENTRY_BATCH.max(DEGREE + 1), 0.0);
    }
}
