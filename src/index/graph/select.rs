//! The choice of a node's links: the nearest candidates, but not several in one direction.
//!
//! Algorithm 4 of Malkov and Yashunin (2016): a candidate is rejected if a chosen one is nearer to it than the node is.
//!
//! ```text
//! candidates by distance d(node, c) = 1 - cosine;  c is chosen unless some chosen s has  d(s, c) < d(node, c)
//! if these are fewer than FEW, then others too:    c is chosen unless some chosen s has  d(s, c) < NEARER · d(node, c)
//! ```
//! A node among near copies would have few links: everything beyond the copies is about as far from the node as from
//! them, and one of them is a little nearer. So a walk would have to expand all copies to see what is around them. The
//! second rule rejects only what is clearly nearer to a chosen one, as in Vamana (Subramanya et al., 2019).

use super::codes::Codes;
use super::links::DEGREE;

/// Fewer links than these are a sign of near copies. Few texts have fewer: the second rule adds two links on average.
const FEW: usize = 12;
/// The part of its distance to the node within which a chosen one rejects a candidate of the second rule.
const NEARER: f32 = 0.9;

/// Chooses links from candidates.
#[derive(Clone, Copy)]
pub(super) struct Select<'a> {
    pub(super) codes: &'a Codes,
}

impl Select<'_> {
    /// Sorts the candidates of `node`, and leaves at most [`DEGREE`] of them in `chosen`, nearest first by each rule.
    /// Candidates are nodes with estimated cosines. They may include the node itself and repetitions.
    pub(super) fn choose(self, node: u32, candidates: &mut Vec<(u32, f32)>, chosen: &mut Vec<u32>) {
        candidates.retain(|&(candidate, _)| candidate != node);
        candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        candidates.dedup_by_key(|candidate| candidate.0);
        chosen.clear();
        self.add(candidates, 1.0, chosen);
        if chosen.len() < FEW {
            self.add(candidates, NEARER, chosen);
        }
    }

    /// Chooses candidates, nearest first, until there are [`DEGREE`]. It rejects each that some chosen one is nearer to
    /// than this part of its distance to the node.
    fn add(self, candidates: &[(u32, f32)], part: f32, chosen: &mut Vec<u32>) {
        for &(candidate, score) in candidates {
            if chosen.len() == DEGREE {
                return;
            }
            let far = part * (1.0 - score);
            let rejects = |&s: &u32| s == candidate || 1.0 - self.codes.similarity(candidate, s) < far;
            if !chosen.iter().any(rejects) {
                chosen.push(candidate);
            }
        }
    }
}
