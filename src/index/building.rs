//! Building of a segment, in steps of a few milliseconds. The beginning and the changes of stage take longer.
//!
//! ```text
//! codes, duplicates ─► links of a sample, one by one (hnsw_rs) ─► layout
//!                   ─► links of all (repair), layout; three times ─► parts of a segment
//! ```
//! These steps are not divided: the codes and the sketches of all vectors; a layout; the links to unreachable nodes,
//! and the check of them. For 100,000 vectors that is about a tenth of a second.

use std::sync::Arc;

use super::graph::build::Builder;
use super::graph::codes::Codes;
use super::graph::duplicates::{Distinct, Members};
use super::graph::layout::breadth_first;
use super::graph::repair::Repair;
use super::graph::searchable::Graph;
use super::graph::sketches::Sketches;
use super::options::Options;
use super::parts::{Member, SegmentParts};
use super::segment::Segment;

/// One in this many points is in the coarse graph, which one thread builds. With all of them a graph of 100,000 vectors
/// takes 1.6 times as long on two threads, and is no better.
const ONE_OF: usize = 8;
/// efConstruction of the coarse graph. All its links are chosen again, so it only has to lead near; 8 are too few.
const COARSE_EF: usize = 16;
/// Candidates of the first choices of links, each of which improves the walks of the next. The first one finds points
/// of the coarse graph alone.
const FIRST_EFS: [usize; 2] = [32, 96];
/// Entry points, from the highest layers: enough that one lies near any query.
const ENTRIES: usize = 256;
/// Vectors linked in one step.
const STEP: usize = 8;

/// A segment that is not finished.
pub(super) struct Building {
    members: Vec<Member>,
    options: Options,
    /// The members that share the codes of each point.
    by_point: Members,
    stage: Stage,
}

/// A segment that is being built. No search uses it yet.
pub(super) struct SegmentJob {
    pub(super) building: Building,
    /// The segments that it replaces.
    pub(super) instead_of: Vec<Arc<Segment>>,
}

enum Stage {
    Linking {
        codes: Arc<Codes>,
        builder: Builder,
    },
    /// `points`: the point of each node. `then`: the `ef` of the choices of links that follow, the last one first.
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
    /// Begins a segment of these vectors.
    pub(super) fn new(dimensions: usize, options: &Options, members: Vec<Member>) -> Building {
        let mut distinct = Distinct::new(dimensions);
        members.iter().for_each(|member| {
            distinct.push(&member.vector);
        });
        let (codes, by_point) = distinct.into_parts();
        let codes = Arc::new(codes);
        let builder = Builder::new(Arc::clone(&codes), ONE_OF, COARSE_EF);
        Building { members, options: options.clone(), by_point, stage: Stage::Linking { codes, builder } }
    }

    /// Does a part of the work, on several threads if it can be shared; false if none was left.
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
                let last = self.options.ef_construction;
                let [first, second] = FIRST_EFS.map(|ef| ef.min(last));
                self.repairing(graph, points, vec![last, second, first])
            }
            Stage::Repairing { graph, points, repair, then } => {
                let (links, added) = repair.finish(&graph);
                tracing::debug!(vectors = graph.len(), added, "linked unreachable nodes");
                let first: Vec<u32> = (0..graph.entries() as u32).collect();
                let order = breadth_first(&links, &first);
                let points = order.iter().map(|&node| points[node as usize]).collect();
                self.repairing(graph.relinked(&links, &order), points, then)
            }
            done @ Stage::Done { .. } => done,
        };
        true
    }

    /// Does the rest of the work, and returns the parts of the segment and its vectors in their order.
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

    fn repairing(&self, graph: Graph, points: Vec<u32>, mut then: Vec<usize>) -> Stage {
        let Some(ef) = then.pop() else {
            let unreachable = graph.unreachable();
            if unreachable > 0 {
                tracing::error!(unreachable, of = graph.len(), "a segment of the index has unreachable nodes");
            }
            let sketches = if self.options.sketches { Sketches::of(graph.codes()) } else { Sketches::none() };
            return Stage::Done { graph: graph.with_sketches(sketches), points };
        };
        Stage::Repairing { repair: Repair::new(graph.len(), ef), graph, points, then }
    }
}
