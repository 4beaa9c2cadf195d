//! Repair of a graph: new links for each node, chosen from the nodes that a walk finds near it. A node that nothing
//! links to yet gets its first links so, and the next repair finds it.
//!
//! ```text
//! 1. each node alone: walk of `ef` through the graph ∪ its links ──► choose
//! 2. each node alone: chosen links ∪ links to it                 ──► all, or choose if too many
//! 3. each node that cannot be reached from the first node gets a link (`connect`)
//! ```
//! An incremental builder can only choose among earlier nodes, and `hnsw_rs` prunes reverse links by distance alone.
//! Invariant: the result depends on the graph only, and not on the number of threads.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::connect::connect;
use super::links::{DEGREE, Links};
use super::searchable::{Graph, Scratch};
use super::select::Select;

/// The number of nodes that a thread takes at a time: some milliseconds.
const PIECE: usize = 16;

/// Better links for the nodes of a graph that is being built, each chosen from `ef` candidates of a walk.
pub struct Repair {
    ef: usize,
    /// The links that each node chose alone.
    chosen: Links,
    /// After the choice of all nodes: the reverse links, and both kinds joined.
    joined: Option<(Reverse, Links)>,
    /// Nodes before this one have their links.
    next: usize,
    /// One workspace for each thread.
    workspaces: Vec<Workspace>,
}

impl Repair {
    /// Begins the repair of a graph with this many nodes.
    pub fn new(nodes: usize, ef: usize) -> Repair {
        Repair { ef, chosen: Links::new(nodes), joined: None, next: 0, workspaces: Vec::new() }
    }

    /// Does a part of the work on up to `threads` threads; false if none was left. `graph` must be the same in each
    /// step.
    pub fn step(&mut self, graph: &Graph, threads: usize) -> bool {
        if self.next == graph.len() {
            if self.joined.is_some() {
                return false;
            }
            self.joined = Some((Reverse::of(&self.chosen), Links::new(graph.len())));
            self.next = 0;
        }
        let threads = threads.max(1);
        self.workspaces.resize_with(self.workspaces.len().max(threads), Workspace::default);
        let nodes = self.next..graph.len().min(self.next + threads * PIECE);
        self.next = nodes.end;
        match &mut self.joined {
            None => {
                let lists = self.chosen.some_mut(nodes.clone());
                each_piece(nodes, lists, &mut self.workspaces, |workspace, node, list| {
                    choose_near(graph, self.ef, workspace, node, list)
                });
            }
            Some((reverse, both)) => {
                let lists = both.some_mut(nodes.clone());
                let links = &self.chosen;
                each_piece(nodes, lists, &mut self.workspaces, |workspace, node, list| {
                    join_reverse(graph, links, reverse, workspace, node, list);
                });
            }
        }
        true
    }

    /// The links after all steps, in the numbering of the graph, and the number of links that were added to
    /// reach every node.
    pub fn finish(self, graph: &Graph) -> (Links, usize) {
        let (_, mut links) = self.joined.unwrap_or_else(|| unreachable!("a step says whether there is one more"));
        let nodes = 0..links.len() as u32;
        let added = if nodes.is_empty() { 0 } else { connect(graph.codes(), &mut links, 0, nodes) };
        (links, added)
    }
}

/// Scratch memory of one thread.
#[derive(Default)]
struct Workspace {
    scratch: Scratch,
    candidates: Vec<(u32, f32)>,
    targets: Vec<u32>,
    scores: Vec<f32>,
    chosen: Vec<u32>,
}

impl Workspace {
    /// Adds `self.targets` with their scores to the candidates.
    fn score_targets(&mut self, graph: &Graph, node: u32) {
        self.scores.resize(self.targets.len(), 0.0);
        graph.codes().score(graph.codes().query(node), &self.targets, &mut self.scores);
        self.candidates.extend(self.targets.iter().copied().zip(self.scores.iter().copied()));
    }
}

fn choose_near(graph: &Graph, ef: usize, workspace: &mut Workspace, node: u32, list: &mut [u32; DEGREE]) {
    workspace.candidates.clear();
    workspace.candidates.extend(graph.path_to(node, ef, &mut workspace.scratch));
    workspace.targets.clear();
    workspace.targets.extend(graph.links().of(node));
    workspace.score_targets(graph, node);
    Select { codes: graph.codes() }.choose(node, &mut workspace.candidates, &mut workspace.chosen);
    list[..workspace.chosen.len()].copy_from_slice(&workspace.chosen);
}

fn join_reverse(
    graph: &Graph,
    links: &Links,
    reverse: &Reverse,
    workspace: &mut Workspace,
    node: u32,
    list: &mut [u32; DEGREE],
) {
    workspace.targets.clear();
    workspace.targets.extend(links.of(node).iter().chain(reverse.to(node)));
    workspace.targets.sort_unstable();
    workspace.targets.dedup();
    workspace.candidates.clear();
    workspace.score_targets(graph, node);
    if workspace.targets.len() <= DEGREE {
        workspace.candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
        workspace.chosen.clear();
        workspace.chosen.extend(workspace.candidates.iter().map(|candidate| candidate.0));
    } else {
        Select { codes: graph.codes() }.choose(node, &mut workspace.candidates, &mut workspace.chosen);
        // A rejected candidate lies in a direction that is taken. But a node with few links to it needs each of them.
        fill(&workspace.candidates, &mut workspace.chosen);
    }
    list[..workspace.chosen.len()].copy_from_slice(&workspace.chosen);
}

/// Adds the nearest candidates that were not chosen, until the list is full.
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

/// Calls `fill` for each node with its list, on up to one thread for each piece. If a thread cannot be started, the
/// others do its work.
fn each_piece(
    nodes: Range<usize>,
    lists: &mut [[u32; DEGREE]],
    workspaces: &mut [Workspace],
    fill: impl Fn(&mut Workspace, u32, &mut [u32; DEGREE]) + Sync,
) {
    let threads = lists.len().div_ceil(PIECE).min(workspaces.len());
    let pieces = Mutex::new(nodes.step_by(PIECE).zip(lists.chunks_mut(PIECE)));
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work_off = |workspace: &mut Workspace| {
        while let Some((first, lists)) = next() {
            (first as u32..).zip(lists).for_each(|(node, list)| fill(workspace, node, list));
        }
    };
    let Some((mine, others)) = workspaces[..threads].split_first_mut() else { return };
    std::thread::scope(|scope| {
        for workspace in others {
            if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, || work_off(workspace)) {
                tracing::debug!(%error, "a thread did not start; the others build the index");
            }
        }
        work_off(mine);
    });
}

/// The nodes that link to each node.
struct Reverse {
    /// The begin of each node's list; one entry more than nodes.
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
