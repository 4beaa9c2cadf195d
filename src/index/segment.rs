//! A part of the index that is finished: a graph over vectors, and whose they are.
//!
//! Invariant: nothing in it changes but the count of those that live. Removed vectors stay as stepping stones until the
//! segment is merged; whoever searches sorts them out. Of an index that is stored, all but the slots is a mapped file.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::file::StoredRows;
use super::graph::codes::OwnQuery;
use super::graph::column::Column;
use super::graph::frozen::{Frozen, Scratch};
use super::rows::Slot;
use super::scan::{Candidate, Sieve};

thread_local! {
    /// Memory of this thread's walks.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What does not depend on the process that made it. Vectors are numbered in the order of their nodes.
pub(super) struct Parts {
    pub(super) graph: Frozen,
    /// By node: its first vector; and the number of vectors at last. Vectors with equal codes have one node.
    pub(super) starts: Column<u32>,
    /// Digest of a node's codes, and the node: in order.
    pub(super) digests: Column<[u32; 2]>,
}

/// Some vectors of an index, with a graph.
pub(super) struct Segment {
    parts: Parts,
    /// By vector.
    slots: Vec<Slot>,
    live: AtomicUsize,
    /// The f32 rows by vector, if they are stored.
    rows: Option<Arc<StoredRows>>,
}

impl Parts {
    /// The vectors of a node, at least one.
    fn of(&self, node: u32) -> Range<usize> {
        self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize
    }
}

impl Segment {
    /// `slots` by vector.
    pub(super) fn new(parts: Parts, slots: Vec<Slot>, rows: Option<Arc<StoredRows>>) -> Segment {
        Segment { parts, live: AtomicUsize::new(slots.len()), slots, rows }
    }

    /// Whose vectors it was made of, by vector.
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

    /// The f32 rows by vector, if they are stored.
    pub(super) fn rows(&self) -> Option<&Arc<StoredRows>> {
        self.rows.as_ref()
    }

    /// Number of nodes.
    pub(super) fn nodes(&self) -> u32 {
        self.parts.graph.len() as u32
    }

    /// Memory in bytes, without the rows and what is mapped.
    pub(super) fn bytes(&self) -> usize {
        let Parts { graph, starts, digests } = &self.parts;
        graph.bytes() + starts.bytes() + digests.bytes() + self.slots.capacity() * size_of::<Slot>()
    }

    /// Bytes of the file that is mapped, rows included.
    pub(super) fn mapped_bytes(&self) -> usize {
        self.rows.as_ref().map_or(0, |rows| rows.file_bytes())
    }

    /// Adds candidates to `found`, best first by estimate: those with the query's own codes, and the best `of` that a
    /// walk of `ef` finds; removed ones are among them.
    pub(super) fn search(&self, query: &OwnQuery, ef: usize, of: usize, found: &mut Vec<Candidate>) {
        // A walk may end beside a point that is well linked: whoever asks with a vector that is stored gets it.
        let digest = query.digest();
        let digests = &*self.parts.digests;
        let same = digests.partition_point(|[other, _]| *other < digest);
        let same = digests[same..].iter().take_while(|[other, _]| *other == digest).map(|[_, node]| *node);
        same.clone().for_each(|node| self.add(node, 1.0, query, found));
        SCRATCH.with_borrow_mut(|scratch| {
            for (node, estimate) in self.parts.graph.search(query, ef, scratch).take(of) {
                if !same.clone().any(|other| other == node) {
                    self.add(node, estimate, query, found);
                }
            }
        });
    }

    /// Puts the vectors of some nodes that are wanted and may be among the best into the sieve.
    pub(super) fn scan(&self, nodes: Range<u32>, query: &OwnQuery, sieve: &mut Sieve, wanted: impl Fn(Slot) -> bool) {
        let slots = |node| self.slots[self.parts.of(node)].iter().copied();
        sieve.scan(self.parts.graph.codes(), nodes, query, slots, wanted);
    }

    /// Its graph is sound, each vector belongs to one node, and each node is found by the digest of its codes.
    #[cfg(test)]
    pub(super) fn assert_sound(&self) {
        let Parts { graph, starts, digests } = &self.parts;
        graph.assert_sound();
        assert!(starts.len() == graph.len() + 1 && starts.is_sorted_by(|a, b| a < b));
        assert_eq!((starts[0], starts[graph.len()]), (0, self.slots.len() as u32));
        assert!(digests.is_sorted() && digests.len() == graph.len());
        assert!(digests.iter().all(|&[digest, node]| graph.codes().digest(node) == digest));
    }

    fn add(&self, node: u32, estimate: f32, query: &OwnQuery, found: &mut Vec<Candidate>) {
        let slots = &self.slots[self.parts.of(node)];
        let error = query.error(self.parts.graph.codes().scale(node));
        found.extend(slots.iter().map(|&slot| Candidate { slot, estimate, error }));
    }
}
