//! What is done behind the searches' back: linking, auditing, building anew.
//!
//! One thread at a time does it, in steps of about a millisecond (an audit: some tenths of a second
//! among 100,000 points), so that it can stop in time and serve several indexes in turn. Searches never
//! wait for more than one link.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Index;
use super::graph::{Graph, SharedGraph};
use super::rows::{Rows, Slot};

/// A graph is built anew when one of so many of its slots was removed: dead points cost each walk their
/// share of the time, and their rows' memory.
const DEAD_SHARE: usize = 5;
/// While there is linking to do, an audit waits until one of so many points is new: points that no audit
/// has seen are compared with each query.
const UNAUDITED_SHARE: usize = 10;
/// Fewer new points than this are compared with each query in less time than a walk takes.
const UNAUDITED_MIN: usize = 1_000;
/// An audit of a graph that hardly grew takes at most one part in so many of the time.
const AUDIT_REST: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// Too few vectors are left for a graph to pay.
    GiveUp,
    Rebuild,
    Audit,
    Link,
}

/// A graph in the making, which nobody searches yet.
struct Rebuild {
    graph: Graph,
    rest: std::vec::IntoIter<(Slot, Arc<[f32]>)>,
    held: Vec<Slot>,
}

/// What the maintaining thread remembers between two steps.
#[derive(Default)]
pub(super) struct Maintenance {
    rebuild: Option<Rebuild>,
}

impl Index {
    /// Whether there is work for [`Index::maintain_for`]. Becomes true with inserts and removals, and a
    /// while after them for the last audit: to be asked every second or so.
    pub fn needs_maintenance(&self) -> bool {
        self.next_task(&self.rows(), false).is_some()
    }

    /// Does maintenance for about so long, or until there is none; true if there is more. To be called
    /// from one background thread; a second caller waits for the first.
    pub fn maintain_for(&self, budget: Duration) -> bool {
        let until = Instant::now() + budget;
        let mut maintenance = super::lock(&self.maintenance);
        while self.step(&mut maintenance, false) {
            if Instant::now() >= until {
                return true;
            }
        }
        false
    }

    /// Does all maintenance there is, the last audit at once. Blocks for as long as it takes: a minute or
    /// two for 100,000 new vectors.
    pub fn maintain(&self) {
        let mut maintenance = super::lock(&self.maintenance);
        while self.step(&mut maintenance, true) {}
    }

    /// `settle`: audit even a few points, and now.
    fn next_task(&self, rows: &Rows, settle: bool) -> Option<Task> {
        let size = rows.graph_size;
        if rows.graph.is_none() {
            return (rows.live() > self.graph_above()).then_some(Task::Link);
        }
        // Half, so that a collection around the limit does not build graphs over and over.
        if rows.live() <= self.graph_above() / 2 {
            return Some(Task::GiveUp);
        }
        if rows.linked_dead() * DEAD_SHARE >= size.slots && size.slots > 0 {
            return Some(Task::Rebuild);
        }
        if size.unaudited > UNAUDITED_MIN.max(size.points / UNAUDITED_SHARE) {
            return Some(Task::Audit);
        }
        if rows.tail_len() > 0 {
            return Some(Task::Link);
        }
        let may_audit = settle || rows.next_audit.is_none_or(|instant| Instant::now() >= instant);
        (size.unaudited > 0 && may_audit).then_some(Task::Audit)
    }

    /// Does one piece of work; false if there is none.
    fn step(&self, maintenance: &mut Maintenance, settle: bool) -> bool {
        let task = self.next_task(&self.rows(), settle);
        match (task, maintenance.rebuild.take()) {
            (None, _) => return false,
            (Some(Task::GiveUp), _) => self.install(None, &[]),
            // The share of dead stays above the limit until the new graph is in place.
            (Some(_), Some(rebuild)) => maintenance.rebuild = self.continue_rebuild(rebuild),
            (Some(Task::Rebuild), None) => maintenance.rebuild = Some(self.begin_rebuild()),
            (Some(Task::Audit), None) => self.audit(),
            (Some(Task::Link), None) => self.link_next(),
        }
        true
    }

    fn link_next(&self) {
        let mut rows = self.rows_mut();
        let Some((slot, row)) = rows.next_unlinked() else { return };
        let new_graph = || Arc::new(SharedGraph::new(Graph::new(&self.options, self.options.exact_below)));
        let graph = Arc::clone(rows.graph.get_or_insert_with(new_graph));
        drop(rows);
        // Meanwhile the slot is in the tail and in the graph; searches take it once.
        let size = graph.link(slot, row);
        self.rows_mut().mark_linked(slot, size);
    }

    fn audit(&self) {
        let Some(graph) = self.rows().graph.clone() else { return };
        let begin = Instant::now();
        let size = graph.audit();
        let mut rows = self.rows_mut();
        rows.graph_size = size;
        rows.next_audit = Some(Instant::now() + begin.elapsed() * AUDIT_REST);
    }

    fn begin_rebuild(&self) -> Rebuild {
        let rows: Vec<_> = self.rows().all().map(|(slot, row)| (slot, Arc::clone(row))).collect();
        let graph = Graph::new(&self.options, rows.len());
        Rebuild { graph, held: Vec::with_capacity(rows.len()), rest: rows.into_iter() }
    }

    /// Links one more row, or, after the last, puts the new graph in place.
    fn continue_rebuild(&self, mut rebuild: Rebuild) -> Option<Rebuild> {
        if let Some((slot, row)) = rebuild.rest.next() {
            rebuild.graph.link(slot, row);
            rebuild.held.push(slot);
            return Some(rebuild);
        }
        let graph = SharedGraph::new(rebuild.graph);
        graph.audit();
        self.install(Some(Arc::new(graph)), &rebuild.held);
        None
    }

    fn install(&self, graph: Option<Arc<SharedGraph>>, held: &[Slot]) {
        let old = self.rows_mut().swap_graph(graph, held);
        // Searches that still walk the old graph end soon. Freeing it takes a while, and is not for them.
        while old.as_ref().is_some_and(|old| Arc::strong_count(old) > 1) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
