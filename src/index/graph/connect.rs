//! Links to unreachable nodes, so that every node can be reached.
//!
//! Invariant: after [`connect`] a path of links leads from the root to every one of the nodes. A link on the path to a
//! node (in the tree that the audit built) is never removed, so the work ends.

use super::codes::Codes;
use super::links::{DEGREE, Links, NONE};

/// Adds links until every one of `nodes` can be reached from `root`; returns how many.
///
/// The first reached node with a place gets the link. Those that the unreachable node links to are asked first, because
/// they are near it, then those that these link to, and then all, nearest first. A place is free, or has a link that no
/// path needs.
pub fn connect(codes: &Codes, links: &mut Links, root: u32, nodes: impl Iterator<Item = u32>) -> usize {
    let mut tree = Tree::of(links, root);
    let mut added = 0;
    for node in nodes {
        if tree.parent[node as usize] == NONE {
            let near = tree.reached_of(links.of(node).iter());
            let from = link_from(links, &tree, &near, node);
            let from = from.or_else(|| {
                let beyond = tree.reached_of(near.iter().flat_map(|&other| links.of(other)));
                link_from(links, &tree, &beyond, node)
            });
            let from = from.or_else(|| link_from(links, &tree, &nearest_first(codes, &tree, node), node));
            let from = from.unwrap_or_else(|| unreachable!("n nodes have n - 1 tree links and places for 32 n"));
            tree.reach(node, from, links);
            added += 1;
        }
    }
    added
}

/// The number of nodes that cannot be reached from node 0. After [`connect`] it must be 0: the builder checks this.
pub fn unreachable(links: &Links) -> usize {
    if links.is_empty() { 0 } else { Tree::of(links, 0).parent.iter().filter(|&&parent| parent == NONE).count() }
}

/// A tree of paths from the root.
struct Tree {
    /// The node before each node on the path to it; `NONE`: it is not reached.
    parent: Vec<u32>,
    open: Vec<u32>,
}

impl Tree {
    /// The tree of all nodes that the root reaches.
    fn of(links: &Links, root: u32) -> Tree {
        let mut tree = Tree { parent: vec![NONE; links.len()], open: Vec::new() };
        tree.reach(root, root, links);
        tree
    }

    /// Those of these nodes that are reached.
    fn reached_of<'n>(&self, nodes: impl Iterator<Item = &'n u32>) -> Vec<u32> {
        nodes.copied().filter(|&node| self.parent[node as usize] != NONE).collect()
    }

    /// Adds a node that `parent` reaches, and follows all its links.
    fn reach(&mut self, node: u32, parent: u32, links: &Links) {
        self.parent[node as usize] = parent;
        self.open.push(node);
        while let Some(node) = self.open.pop() {
            for &next in links.of(node) {
                if self.parent[next as usize] == NONE {
                    self.parent[next as usize] = node;
                    self.open.push(next);
                }
            }
        }
    }
}

/// All reached nodes, those nearest to `node` first.
fn nearest_first(codes: &Codes, tree: &Tree, node: u32) -> Vec<u32> {
    let nodes: Vec<u32> = (0..tree.parent.len() as u32).collect();
    let reached = tree.reached_of(nodes.iter());
    let mut scores = vec![0.0; reached.len()];
    codes.score(codes.query(node), &reached, &mut scores);
    let mut order: Vec<usize> = (0..reached.len()).collect();
    order.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.into_iter().map(|i| reached[i]).collect()
}

/// Links the first of these reached nodes that has a place to `node`, and returns it.
fn link_from(links: &mut Links, tree: &Tree, reached: &[u32], node: u32) -> Option<u32> {
    reached.iter().copied().find(|&from| {
        if links.push(from, node) {
            return true;
        }
        // The last link is the farthest, or one of the second rule (`select`).
        let spare = |place: &usize| tree.parent[links.places(from)[*place] as usize] != from;
        let place = (0..DEGREE).rev().find(spare);
        if let Some(place) = place {
            links.replace(from, place, node);
        }
        place.is_some()
    })
}
