//! The choice of a node's links: the nearest candidates, but not several in one direction.
//!
//! Algorithm 4 of Malkov and Yashunin (2016): a candidate is rejected if a chosen one is nearer to it than the node is.
//!
//! ```text
//! candidates by distance d(node, c) = 1 - cosine;  c is chosen unless some chosen s has  d(s, c) < d(node, c)
//! ```

use super::codes::Codes;
use super::links::DEGREE;

/// Chooses links from candidates.
#[derive(Clone, Copy)]
pub(super) struct Select<'a> {
    pub(super) codes: &'a Codes,
}

impl Select<'_> {
    /// Sorts the candidates of `node`, and leaves at most [`DEGREE`] of them in `chosen`, nearest first. Candidates are
    /// nodes with estimated cosines. They may include the node itself and repetitions.
    pub(super) fn choose(self, node: u32, candidates: &mut Vec<(u32, f32)>, chosen: &mut Vec<u32>) {
        candidates.retain(|&(candidate, _)| candidate != node);
        candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        candidates.dedup_by_key(|candidate| candidate.0);
        chosen.clear();
        for &(candidate, score) in &*candidates {
            let far = 1.0 - score;
            let hidden = |&s: &u32| 1.0 - self.codes.similarity(candidate, s) < far;
            if !chosen.iter().any(hidden) {
                chosen.push(candidate);
                if chosen.len() == DEGREE {
                    break;
                }
            }
        }
    }
}
