//! Makes a good graph of a coarse one: links chosen anew for each node from what a walk finds near it.
//!
//! ```text
//! 1. each node by itself: walk of `ef` through the coarse graph ∪ its coarse links ──► choose
//! 2. each node by itself: chosen links ∪ links to it                               ──► all, or choose where too many
//! 3. whatever cannot be reached from the first node is linked (`connect`)
//! ```
//! A builder that inserts one by one can only choose among what was there before, and `hnsw_rs` prunes reverse links
//! by distance alone. Invariant: the result depends on the coarse graph alone, not on the number of threads.

use std::ops::Range;
use std::sync::Mutex;

use super::frozen::{Frozen, Scratch};
use super::links::{DEGREE, Links};
use super::select::Select;

/// Nodes that a thread takes at a time.
const PIECE: usize = 256;

/// Better links for the nodes of a graph, each chosen of `ef` that a walk finds near it. The numbers of nodes stay as they
/// are; no node is out of reach.
pub fn repair(graph: &Frozen, ef: usize, threads: usize) -> Links {
    let mut links = Links::new(graph.len());
    each_piece(&mut links, threads, |scratch, nodes, lists| choose_near(graph, ef, scratch, nodes, lists));
    let mut both = Links::new(graph.len());
    let reverse = Reverse::of(&links);
    each_piece(&mut both, threads, |scratch, nodes, lists| {
        join_reverse(graph, &links, &reverse, scratch, nodes, lists);
    });
    super::connect::connect(graph.codes(), &mut both);
    both
}

/// Memory of one thread.
#[derive(Default)]
struct Work {
    scratch: Scratch,
    candidates: Vec<(u32, f32)>,
    targets: Vec<u32>,
    scores: Vec<f32>,
    chosen: Vec<u32>,
}

impl Work {
    /// Adds `self.targets` with their scores to the candidates.
    fn score_targets(&mut self, graph: &Frozen, node: u32) {
        self.scores.resize(self.targets.len(), 0.0);
        graph.codes().score(graph.codes().query(node), &self.targets, &mut self.scores);
        self.candidates.extend(self.targets.iter().copied().zip(self.scores.iter().copied()));
    }
}

fn choose_near(graph: &Frozen, ef: usize, work: &mut Work, nodes: Range<u32>, lists: &mut [[u32; DEGREE]]) {
    let select = Select { codes: graph.codes() };
    for (node, list) in nodes.zip(lists) {
        work.candidates.clear();
        work.candidates.extend(graph.way_to(node, ef, &mut work.scratch));
        work.targets.clear();
        work.targets.extend(graph.links().of(node));
        work.score_targets(graph, node);
        select.choose(node, &mut work.candidates, &mut work.chosen);
        list[..work.chosen.len()].copy_from_slice(&work.chosen);
    }
}

fn join_reverse(
    graph: &Frozen,
    links: &Links,
    reverse: &Reverse,
    work: &mut Work,
    nodes: Range<u32>,
    lists: &mut [[u32; DEGREE]],
) {
    let select = Select { codes: graph.codes() };
    for (node, list) in nodes.zip(lists) {
        work.targets.clear();
        work.targets.extend(links.of(node).iter().chain(reverse.to(node)));
        work.targets.sort_unstable();
        work.targets.dedup();
        work.candidates.clear();
        work.score_targets(graph, node);
        if work.targets.len() <= DEGREE {
            work.candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
            work.chosen.clear();
            work.chosen.extend(work.candidates.iter().map(|candidate| candidate.0));
        } else {
            select.choose(node, &mut work.candidates, &mut work.chosen);
            // What was left out lies in a direction that is taken, but a node with few links to it needs each of them.
            fill(&work.candidates, &mut work.chosen);
        }
        list[..work.chosen.len()].copy_from_slice(&work.chosen);
    }
}

/// Adds the nearest candidates that were not chosen, as long as there is room.
fn fill(candidates: &[(u32, f32)], chosen: &mut Vec<u32>) {
    let diverse = chosen.len();
    for &(candidate, _) in candidates {
        if chosen.len() == DEGREE {
            return;
        }
        if !chosen[..diverse].contains(&candidate) {
            chosen.push(candidate);
        }
    }
}

/// Calls `fill` with the lists of some nodes after others, on some threads.
fn each_piece(links: &mut Links, threads: usize, fill: impl Fn(&mut Work, Range<u32>, &mut [[u32; DEGREE]]) + Sync) {
    let pieces = Mutex::new(links.pieces_mut(PIECE));
    let work = || {
        let mut work = Work::default();
        loop {
            let piece = pieces.lock().expect("taking a piece does not panic").next();
            let Some((first, lists)) = piece else { return };
            fill(&mut work, first as u32..(first + lists.len()) as u32, lists);
        }
    };
    std::thread::scope(|scope| {
        (1..threads.max(1)).for_each(|_| {
            scope.spawn(work);
        });
        work();
    });
}

/// By node: the nodes that link to it.
struct Reverse {
    /// Where a node's list begins; one more than nodes.
    starts: Vec<u32>,
    sources: Vec<u32>,
}

impl Reverse {
    fn of(links: &Links) -> Reverse {
        let mut starts = vec![0u32; links.len() + 2];
        let nodes = 0..links.len() as u32;
        for target in nodes.clone().flat_map(|node| links.of(node)) {
            starts[*target as usize + 2] += 1;
        }
        (2..starts.len()).for_each(|i| starts[i] += starts[i - 1]);
        let mut sources = vec![0; starts[starts.len() - 1] as usize];
        for node in nodes {
            for &target in links.of(node) {
                let at = &mut starts[target as usize + 1];
                sources[*at as usize] = node;
                *at += 1;
            }
        }
        Reverse { starts, sources }
    }

    fn to(&self, node: u32) -> &[u32] {
        &self.sources[self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize]
    }
}
