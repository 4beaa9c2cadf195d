//! A finished part of the index: a graph over vectors, and their slots.
//!
//! Invariant: nothing in it changes except the set of live vectors. Removed vectors stay as stepping stones until the
//! segment is merged. Walks pass through them and keep none of them. If the index is stored, everything except the
//! slots is in a mapped file.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use roaring::RoaringBitmap;

use super::graph::bounds::Bounds;
use super::graph::crowd::Surroundings;
use super::graph::filtered::End;
use super::graph::query::OwnQuery;
use super::graph::searchable::Scratch;
use super::parts::SegmentParts;
use super::scan::{Candidate, CandidateFilter};
use super::slot::Slot;
use super::stored_rows::StoredRows;
use crate::compute::stop::{Stop, Stopped};
use crate::kernel::dot_i8::prefetch;

/// Bits in a word of `removed`.
const BITS: usize = u64::BITS as usize;
/// Rows that are scanned between two checks of the stop flag: a fraction of a millisecond.
const ROWS_PER_CHECK: u32 = 8_192;

thread_local! {
    /// Scratch memory for this thread's walks.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Vectors of an index, with a graph.
pub(super) struct Segment {
    parts: SegmentParts,
    /// The slot of each vector.
    slots: Vec<Slot>,
    live: AtomicUsize,
    /// One bit for each vector, set when it is removed.
    removed: Box<[AtomicU64]>,
    /// The f32 rows by vector, if they are stored.
    rows: Option<Arc<StoredRows>>,
}

/// The vectors of a segment that were removed at one moment: one bit for each.
pub(super) struct Removed(Box<[u64]>);

/// The parameters of a walk through a segment's graph.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) query: &'a OwnQuery,
    /// Only vectors with these slot indices may be hits.
    pub(super) among: Option<&'a RoaringBitmap>,
    pub(super) bounds: Bounds<'a>,
}

/// The end of a walk.
pub(super) enum Walked {
    /// The walk can reach nothing nearer. The surroundings tell if much may have been missed; `None`: nothing was
    /// missed.
    Complete(Option<Surroundings>),
    /// It would cost more than a scan. No candidate was added.
    LimitReached,
}

impl Segment {
    /// A segment whose vectors have these slots, in order.
    pub(super) fn new(parts: SegmentParts, slots: Vec<Slot>, rows: Option<Arc<StoredRows>>) -> Segment {
        let removed = (0..slots.len().div_ceil(BITS)).map(|_| AtomicU64::new(0)).collect();
        Segment { parts, live: AtomicUsize::new(slots.len()), removed, slots, rows }
    }

    /// The slot of each vector that it was built from.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The number of live vectors.
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Marks a vector as removed. To be called under the lock of the rows.
    pub(super) fn mark_removed(&self, vector: usize) {
        let bit = 1 << (vector % BITS);
        if self.removed[vector / BITS].fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The vectors that are removed now. Under the lock of the rows this belongs to their state.
    pub(super) fn removed(&self) -> Removed {
        Removed(self.removed.iter().map(|word| word.load(Ordering::Relaxed)).collect())
    }

    /// True if a vector is live and its slot index is in `among`. A vector that another segment took over stays live
    /// here.
    #[inline]
    fn counts(&self, vector: usize, among: Option<&RoaringBitmap>) -> bool {
        self.removed[vector / BITS].load(Ordering::Relaxed) >> (vector % BITS) & 1 == 0
            && among.is_none_or(|among| among.contains(self.slots[vector].index()))
    }

    /// The f32 rows by vector, if they are stored.
    pub(super) fn rows(&self) -> Option<&Arc<StoredRows>> {
        self.rows.as_ref()
    }

    /// The number of nodes.
    pub(super) fn nodes(&self) -> u32 {
        self.parts.graph.len() as u32
    }

    /// The memory in bytes, without the rows and mapped parts.
    pub(super) fn bytes(&self) -> usize {
        let SegmentParts { graph, starts, digests } = &self.parts;
        let vectors = self.slots.capacity() * size_of::<Slot>() + size_of_val(&*self.removed);
        graph.bytes() + starts.bytes() + digests.bytes() + vectors
    }

    /// Bytes of the file that is mapped, rows included.
    pub(super) fn mapped_bytes(&self) -> usize {
        self.rows.as_ref().map_or(0, |rows| rows.file_bytes())
    }

    /// Adds candidates to `found`: the vectors with the codes of the query, and the best that a walk finds.
    pub(super) fn walk(&self, walk: &Walk<'_>, found: &mut Vec<Candidate>) -> Result<Walked, Stopped> {
        let Walk { query, among, bounds } = *walk;
        let wanted = bounds.wanted;
        let graph = &self.parts.graph;
        // A walk may miss the point itself. A query that equals a stored vector must find that vector.
        let digest = query.digest();
        let digests = &*self.parts.digests;
        let same = digests.partition_point(|[other, _]| *other < digest);
        let same = digests[same..].iter().take_while(|[other, _]| *other == digest).map(|[_, node]| *node);
        SCRATCH.with_borrow_mut(|scratch| {
            if among.is_none() && self.live() == self.slots.len() {
                bounds.stop.check()?;
                graph.search(query, bounds, scratch);
            } else {
                let matches = |node| self.parts.of(node).any(|vector| self.counts(vector, among));
                if graph.search_matching(query, bounds, matches, scratch)? == End::LimitReached {
                    return Ok(Walked::LimitReached);
                }
            }
            // The vectors of each node, and their slots, are in no cache. Together they come sooner than one by one.
            let kept = || scratch.kept().take(wanted).map(|(node, _)| node);
            kept().for_each(|node| self.parts.prefetch(node));
            kept().for_each(|node| prefetch(&self.slots[self.parts.of(node).start..][..1]));
            same.clone().for_each(|node| self.add(node, 1.0, walk, found));
            // The lowest score that the first `wanted` may have. Most others are lower even with the errors of their
            // estimates, and looking up their vectors would take longer than finding them.
            let least = |node| 1.0 - query.error(graph.codes().scale(node));
            let mut floor = same.clone().map(least).fold(f32::INFINITY, f32::min);
            for (node, estimate) in scratch.kept() {
                let error = query.error(graph.codes().scale(node));
                if found.len() < wanted {
                    floor = floor.min(estimate - error);
                } else if estimate + error < floor {
                    continue;
                }
                if !same.clone().any(|other| other == node) {
                    self.add(node, estimate, walk, found);
                }
            }
            Ok(Walked::Complete(graph.surroundings(query, wanted, scratch)))
        })
    }

    /// Offers the vectors of these nodes that are wanted and may be among the best to the candidate filter.
    pub(super) fn scan(
        &self,
        nodes: Range<u32>,
        query: &OwnQuery,
        filter: &mut CandidateFilter,
        wanted: impl Fn(Slot) -> bool,
    ) {
        let slots = |node| self.slots[self.parts.of(node)].iter().copied();
        filter.scan(self.parts.graph.codes(), nodes, query, slots, wanted);
    }

    /// Like [`Segment::scan`], for all vectors whose slot index is in `among`, except those of `removed`.
    pub(super) fn scan_all(
        &self,
        query: &OwnQuery,
        among: Option<&RoaringBitmap>,
        Removed(removed): &Removed,
        stop: &Stop,
        filter: &mut CandidateFilter,
    ) -> Result<(), Stopped> {
        let is_left = |vector: usize| removed[vector / BITS] >> (vector % BITS) & 1 == 0;
        let is_wanted = |slot: Slot| among.is_none_or(|among| among.contains(slot.index()));
        let slots = |node| {
            let left = self.parts.of(node).filter(|&vector| is_left(vector)).map(|vector| self.slots[vector]);
            left.filter(|&slot| is_wanted(slot))
        };
        for first in (0..self.nodes()).step_by(ROWS_PER_CHECK as usize) {
            stop.check()?;
            let nodes = first..self.nodes().min(first + ROWS_PER_CHECK);
            filter.scan(self.parts.graph.codes(), nodes, query, slots, |_| true);
        }
        Ok(())
    }

    /// Asserts that the graph is sound, each vector belongs to one node, and the digest of its codes finds each node.
    #[cfg(test)]
    pub(super) fn assert_sound(&self) {
        let SegmentParts { graph, starts, digests } = &self.parts;
        graph.assert_sound();
        assert!(starts.len() == graph.len() + 1 && starts.is_sorted_by(|a, b| a < b));
        assert_eq!((starts[0], starts[graph.len()]), (0, self.slots.len() as u32));
        assert!(digests.is_sorted() && digests.len() == graph.len());
        assert!(digests.iter().all(|&[digest, node]| graph.codes().digest(node) == digest));
    }

    fn add(&self, node: u32, estimate: f32, walk: &Walk<'_>, found: &mut Vec<Candidate>) {
        let error = walk.query.error(self.parts.graph.codes().scale(node));
        let of_node = self.parts.of(node).filter(|&vector| self.counts(vector, walk.among));
        found.extend(of_node.map(|vector| Candidate { slot: self.slots[vector], estimate, error }));
    }
}
