//! The order of nodes in memory: nodes that a walk visits together lie side by side.

use super::links::Links;

/// The order of nodes for [`super::searchable::Graph`]: `first`, then the others breadth first, each after a node that
/// links to it if there is one. Neighbours then share pages.
pub fn breadth_first(links: &Links, first: &[u32]) -> Vec<u32> {
    let mut placed = vec![false; links.len()];
    let mut order = Vec::with_capacity(links.len());
    let mut place = |node: u32, order: &mut Vec<u32>| {
        if !std::mem::replace(&mut placed[node as usize], true) {
            order.push(node);
        }
    };
    first.iter().for_each(|&node| place(node, &mut order));
    let mut at = 0;
    for root in 0..links.len() as u32 {
        while at < order.len() {
            links.of(order[at]).iter().for_each(|&node| place(node, &mut order));
            at += 1;
        }
        place(root, &mut order);
    }
    order
}
