//! Links to unreachable nodes, so that every node can be reached.
//!
//! Invariant: after [`connect`] a path of links leads from node 0 to every node. A link on the path to a node (in the
//! tree that the audit built) is never removed, so the work ends.

use super::codes::Codes;
use super::links::{DEGREE, Links, NONE};

/// Adds links until every node can be reached from node 0; returns how many.
///
/// The nearest reached node with a free place gets the link, or replaces a link that no path needs.
pub fn connect(codes: &Codes, links: &mut Links) -> usize {
    let mut tree = Tree::of(links);
    let mut added = 0;
    for node in 0..links.len() as u32 {
        if tree.parent[node as usize] == NONE {
            let from = link_to(codes, links, &tree, node);
            tree.reach(node, from, links);
            added += 1;
        }
    }
    added
}

/// The number of nodes that cannot be reached from node 0. After [`connect`] it must be 0: the builder checks this.
pub fn unreachable(links: &Links) -> usize {
    Tree::of(links).parent.iter().filter(|&&parent| parent == NONE).count()
}

/// A tree of paths from node 0.
struct Tree {
    /// The node before each node on the path to it; `NONE`: it is not reached.
    parent: Vec<u32>,
    open: Vec<u32>,
}

impl Tree {
    /// The tree of all nodes that node 0 reaches, if the graph has a node.
    fn of(links: &Links) -> Tree {
        let mut tree = Tree { parent: vec![NONE; links.len()], open: Vec::new() };
        if !links.is_empty() {
            tree.reach(0, 0, links);
        }
        tree
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

/// Links a reached node to `node` and returns it.
fn link_to(codes: &Codes, links: &mut Links, tree: &Tree, node: u32) -> u32 {
    let reached: Vec<u32> = (0..links.len() as u32).filter(|&other| tree.parent[other as usize] != NONE).collect();
    let mut scores = vec![0.0; reached.len()];
    codes.score(codes.query(node), &reached, &mut scores);
    let mut order: Vec<usize> = (0..reached.len()).collect();
    order.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    for from in order.into_iter().map(|i| reached[i]) {
        if links.push(from, node) {
            return from;
        }
        // The last link is the farthest.
        let spare = |place: &usize| tree.parent[links.places(from)[*place] as usize] != from;
        if let Some(place) = (0..DEGREE).rev().find(spare) {
            links.replace(from, place, node);
            return from;
        }
    }
    unreachable!("n nodes have n - 1 tree links and places for 32 n")
}
