//! A segment in the making, in steps of a few milliseconds, but for its beginning and what lies between its stages.
//!
//! ```text
//! codes, twins ─► links one by one (hnsw_rs) ─► layout ─► repair, layout (twice) ─► parts of a segment
//! ```
//! One piece each: the codes of all vectors; a layout; the links of what is out of reach, and the audit of that. For 100,000
//! vectors that is a tenth of a second or so.

use std::sync::Arc;

use super::graph::build::Builder;
use super::graph::codes::Codes;
use super::graph::duplicates::{Distinct, Members};
use super::graph::layout::breadth_first;
use super::graph::repair::Repair;
use super::graph::searchable::Graph;
use super::parts::{Member, SegmentParts};

/// Candidates of the coarse graph. It only has to lead somewhere near: its links are all chosen anew, and 8 are too few.
const COARSE_EF: usize = 16;
/// Candidates of a first choice, which makes the walks of the second good. One choice alone costs more at equal recall.
const FIRST_EF: usize = 32;
/// Points of the highest layers that walks may begin at: enough to lie near any query.
const ENTRIES: usize = 256;
/// Vectors linked in a step.
const STEP: usize = 8;

/// Work that is not finished.
pub(super) struct Building {
    members: Vec<Member>,
    /// By point: the members that have its codes.
    by_point: Members,
    ef_construction: usize,
    stage: Stage,
}

enum Stage {
    Linking {
        codes: Arc<Codes>,
        builder: Builder,
    },
    /// `points`: by node, its number in `duplicates`. `then`: the choices of links that follow, first the last.
    Repairing {
        graph: Graph,
        points: Vec<u32>,
        repair: Repair,
        then: Vec<usize>,
    },
    Done {
        graph: Graph,
        points: Vec<u32>,
    },
}

impl Building {
    /// Of these vectors; each node's links are chosen of `ef_construction` candidates.
    pub(super) fn new(dimensions: usize, ef_construction: usize, members: Vec<Member>) -> Building {
        let mut distinct = Distinct::new(dimensions);
        members.iter().for_each(|member| {
            distinct.push(&member.vector);
        });
        let (codes, by_point) = distinct.into_parts();
        let codes = Arc::new(codes);
        let builder = Builder::new(Arc::clone(&codes), COARSE_EF);
        Building { members, by_point, ef_construction, stage: Stage::Linking { codes, builder } }
    }

    /// Some of the work, on some threads where it can be shared; false if none was left.
    pub(super) fn step(&mut self, threads: usize) -> bool {
        let went_on = match &mut self.stage {
            Stage::Linking { builder, .. } => builder.insert_some(STEP),
            Stage::Repairing { graph, repair, .. } => repair.step(graph, threads),
            Stage::Done { .. } => return false,
        };
        if went_on {
            return true;
        }
        let done = Stage::Done { graph: Graph::empty(), points: Vec::new() };
        self.stage = match std::mem::replace(&mut self.stage, done) {
            Stage::Linking { codes, builder } => {
                let coarse = builder.finish(ENTRIES);
                let points = breadth_first(&coarse.links, &coarse.tops);
                let graph = Graph::new(&codes, &coarse.links, &points, coarse.tops.len());
                repairing(graph, points, vec![self.ef_construction, FIRST_EF.min(self.ef_construction)])
            }
            Stage::Repairing { graph, points, repair, then } => {
                let (links, added) = repair.finish(&graph);
                tracing::debug!(vectors = graph.len(), added, "links to what was out of reach");
                let first: Vec<u32> = (0..graph.entries() as u32).collect();
                let order = breadth_first(&links, &first);
                let points = order.iter().map(|&node| points[node as usize]).collect();
                repairing(graph.relinked(&links, &order), points, then)
            }
            done @ Stage::Done { .. } => done,
        };
        true
    }

    /// The parts of the segment, and its vectors in their order. Does what is left of the work.
    pub(super) fn finish(mut self) -> (SegmentParts, Vec<Member>) {
        while self.step(1) {}
        let Stage::Done { graph, points } = self.stage else { unreachable!("there is no step left") };
        let mut members: Vec<Option<Member>> = self.members.into_iter().map(Some).collect();
        let mut ordered = Vec::with_capacity(members.len());
        let mut starts = Vec::with_capacity(points.len() + 1);
        for &point in &points {
            starts.push(ordered.len() as u32);
            ordered.extend(self.by_point.of(point).filter_map(|member| members[member as usize].take()));
        }
        starts.push(ordered.len() as u32);
        let mut digests: Vec<[u32; 2]> =
            (0..graph.len() as u32).map(|node| [graph.codes().digest(node), node]).collect();
        digests.sort_unstable();
        (SegmentParts { graph, starts: starts.into(), digests: digests.into() }, ordered)
    }
}

fn repairing(graph: Graph, points: Vec<u32>, mut then: Vec<usize>) -> Stage {
    match then.pop() {
        Some(ef) => Stage::Repairing { repair: Repair::new(graph.len(), ef), graph, points, then },
        None => {
            let unreachable = graph.unreachable();
            if unreachable > 0 {
                tracing::error!(unreachable, of = graph.len(), "walks miss what a segment of the index holds");
            }
            Stage::Done { graph, points }
        }
    }
}
