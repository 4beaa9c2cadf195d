//! A part of the index that is finished: a graph over vectors, and whose they are.
//!
//! Invariant: nothing in it changes but the count of those that live. Removed vectors stay as stepping stones until the
//! segment is merged; whoever searches sorts them out.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::graph::build::Builder;
use super::graph::codes::{Codes, OwnQuery};
use super::graph::frozen::{Frozen, Scratch};
use super::graph::layout;
use super::graph::repair::repair;
use super::graph::twins::{Distinct, Members};
use super::rows::Slot;

/// Candidates of the coarse graph. It only has to lead somewhere near: its links are all chosen anew, and 8 are too few.
const COARSE_EF: usize = 16;
/// Candidates of a first choice, which makes the walks of the second good. One choice alone costs more at equal recall.
const FIRST_EF: usize = 32;

/// Points of the highest layers that walks may begin at: enough to lie near any query.
const ENTRIES: usize = 256;

thread_local! {
    /// Memory of this thread's walks.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Some vectors of an index, with a graph.
pub(super) struct Segment {
    graph: Frozen,
    members: Members,
    /// By vector.
    slots: Vec<Slot>,
    live: AtomicUsize,
    /// Digests of codes with their nodes, in order.
    digests: Vec<(u64, u32)>,
}

/// A vector that a walk found.
pub(super) struct Candidate {
    pub(super) slot: Slot,
    /// Its cosine to the query, as its codes say.
    pub(super) estimate: f32,
}

/// A segment in the making.
pub(super) struct Building {
    codes: Arc<Codes>,
    builder: Builder,
    members: Members,
    slots: Vec<Slot>,
}

impl Building {
    /// Of these vectors.
    pub(super) fn new(dimensions: usize, rows: &[(Slot, Arc<[f32]>)]) -> Building {
        let mut distinct = Distinct::new(dimensions);
        rows.iter().for_each(|(_, row)| {
            distinct.push(row);
        });
        let (codes, members) = distinct.into_parts();
        let codes = Arc::new(codes);
        let builder = Builder::new(Arc::clone(&codes), COARSE_EF);
        Building { codes, builder, members, slots: rows.iter().map(|(slot, _)| *slot).collect() }
    }

    /// Links some more; false when all are.
    pub(super) fn link_some(&mut self, count: usize) -> bool {
        self.builder.insert_some(count)
    }

    /// Chooses all links anew, of `ef_construction` candidates each, on some threads, and lays the graph out. Takes
    /// longer than the linking on one.
    pub(super) fn finish(self, ef_construction: usize, threads: usize) -> Segment {
        let Building { codes, builder, members, slots } = self;
        let coarse = builder.finish(ENTRIES);
        let order = layout::breadth_first(&coarse.links, &coarse.tops);
        let mut graph = Frozen::new(&codes, &coarse.links, order, coarse.tops.len());
        drop(codes);
        for ef in [FIRST_EF.min(ef_construction), ef_construction] {
            let links = repair(&graph, ef, threads);
            let first: Vec<u32> = (0..graph.entries() as u32).collect();
            let order = layout::breadth_first(&links, &first);
            graph = graph.relinked(&links, order);
        }
        let mut digests: Vec<(u64, u32)> =
            (0..graph.len() as u32).map(|node| (graph.codes().digest(node), node)).collect();
        digests.sort_unstable();
        Segment { graph, members, live: AtomicUsize::new(slots.len()), slots, digests }
    }
}

impl Segment {
    /// The vectors that it was made of.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// How many of them live.
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// One of them was removed. Under the lock of the rows.
    pub(super) fn lost_one(&self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
    }

    /// Memory in bytes, without the rows.
    pub(super) fn bytes(&self) -> usize {
        self.graph.bytes()
            + self.slots.capacity() * size_of::<Slot>()
            + self.digests.capacity() * size_of::<(u64, u32)>()
    }

    /// Adds candidates to `found`, best first by estimate: those with the query's own codes, and the best `of` that a
    /// walk of `ef` finds; removed ones are among them.
    pub(super) fn search(&self, query: &OwnQuery, ef: usize, of: usize, found: &mut Vec<Candidate>) {
        // A walk may end beside a point that is well linked: whoever asks with a vector that is stored gets it.
        let digest = query.digest();
        let same = self.digests.partition_point(|(other, _)| *other < digest);
        let same = self.digests[same..].iter().take_while(|(other, _)| *other == digest).map(|(_, node)| *node);
        same.clone().for_each(|node| self.add(node, 1.0, found));
        SCRATCH.with_borrow_mut(|scratch| {
            for (node, estimate) in self.graph.search(query, ef, scratch).take(of) {
                if !same.clone().any(|other| other == node) {
                    self.add(node, estimate, found);
                }
            }
        });
    }

    fn add(&self, node: u32, estimate: f32, found: &mut Vec<Candidate>) {
        let vectors = self.members.of(self.graph.points()[node as usize]);
        found.extend(vectors.map(|vector| Candidate { slot: self.slots[vector as usize], estimate }));
    }
}
