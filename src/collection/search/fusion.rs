//! One order of two: documents ranked by vectors and by words.
//!
//! Reciprocal ranks (Cormack, Clarke and Büttcher, 2009):
//! ```text
//! 1 / (c + rank by vectors) + weight · 1 / (c + rank by words)
//! ```
//! A rank begins at 1. A document that is not among the candidates of one of them has no share of it.
//!
//! Weighted scores:
//! ```text
//! cosine + weight · (1 - floor) · (0.8 · max(0, share - 0.6) + 0.1 · codes)
//! share = BM25 / the sum of the idf of the query's words, that of codes twice
//! codes = the sum of the idf of those words of at least three characters with a digit that the document has
//! floor = the 100th greatest cosine
//! ```
//! A document keeps its cosine. A share near 1 means that it has all the words of the query; one below 0.6 does not
//! count, so common words do no harm. A model hardly reads codes, so they count by themselves. In the share they count
//! twice below the line: a code alone is no share that counts, and the lengths of documents that have it do not order
//! them. The floor makes the weight of words follow the model, whose cosines may all lie between 0.7 and 1. The
//! constants were chosen on one half of judged queries and reported on the other (docs/retrieval.md).
//!
//! Both scores are known for every candidate, by whichever it was found.

/// The constant of reciprocal ranks. The authors used 60, for lists of hundreds. Here the first ranks count for more.
const RANK_CONSTANT: f32 = 5.0;

/// The weight of a share of the query's words.
const SHARE_WEIGHT: f32 = 0.8;
/// A lower share does not count.
const LEAST_SHARE: f32 = 0.6;
/// The weight of codes.
const CODES_WEIGHT: f32 = 0.1;
/// The rank of the hit by vectors whose cosine is the floor.
pub(crate) const FLOOR_RANK: usize = 100;
/// The least range of cosines above the floor, if all candidates are alike.
const LEAST_RANGE: f32 = 0.05;

/// The way in which documents are ranked.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Mode {
    /// By the cosine of their vectors with that of the query.
    #[default]
    Vector,
    /// By BM25 of their words.
    Lexical,
    /// By both.
    Hybrid(Fusion),
}

/// The way in which two scores or ranks become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fusion {
    /// By ranks.
    ReciprocalRanks {
        /// The weight of the rank by words; that of the other is 1.
        weight: f32,
    },
    /// By scores.
    WeightedScores {
        /// The weight of words; that of vectors is 1.
        weight: f32,
    },
}

/// The parts of a hit's score.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scores {
    /// Cosine similarity to the query.
    pub vector: Option<f32>,
    /// BM25.
    pub lexical: Option<f32>,
}

/// A candidate before fusion.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Parts {
    /// Cosine similarity to the query.
    pub(crate) vector: f32,
    /// The rank by vectors, from 1; `None`: it is not among the candidates by vectors.
    pub(crate) vector_rank: Option<usize>,
    /// BM25.
    pub(crate) lexical: f32,
    /// The rank by words, from 1; `None`: it is not among the candidates by words.
    pub(crate) lexical_rank: Option<usize>,
    /// The sum of the idf of the codes that it has.
    pub(crate) codes: f32,
}

/// The numbers that the scores of a query are compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Frame {
    /// The sum of the idf of its words, that of codes twice.
    pub(crate) total_idf: f32,
    /// The cosine of the hit by vectors at [`FLOOR_RANK`].
    pub(crate) floor: f32,
}

impl Fusion {
    /// The score of a candidate.
    pub(crate) fn score(self, parts: &Parts, frame: Frame) -> f32 {
        match self {
            Self::ReciprocalRanks { weight } => {
                let share = |rank: Option<usize>| rank.map_or(0.0, |rank| 1.0 / (RANK_CONSTANT + rank as f32));
                share(parts.vector_rank) + weight * share(parts.lexical_rank)
            }
            Self::WeightedScores { weight } => {
                let share = if frame.total_idf > 0.0 { parts.lexical / frame.total_idf } else { 0.0 };
                let words = SHARE_WEIGHT * (share - LEAST_SHARE).max(0.0) + CODES_WEIGHT * parts.codes;
                parts.vector + weight * (1.0 - frame.floor).max(LEAST_RANGE) * words
            }
        }
    }
}

impl Mode {
    /// The number by which scores are divided before they are compared with cosines: those of words, and of ranks, have
    /// another scale.
    pub(super) fn scale(self, best: f32) -> f32 {
        match self {
            Self::Lexical | Self::Hybrid(Fusion::ReciprocalRanks { .. }) if best > 0.0 => best,
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME: Frame = Frame { total_idf: 8.0, floor: 0.2 };

    fn parts() -> impl Strategy<Value = Parts> {
        let rank = || prop::option::of(1usize..50);
        (-1.0f32..1.0, rank(), 0.0f32..20.0, rank(), 0.0f32..9.0).prop_map(
            |(vector, vector_rank, lexical, lexical_rank, codes)| Parts {
                vector,
                vector_rank,
                lexical,
                lexical_rank,
                codes,
            },
        )
    }

    proptest! {
        #[test]
        fn a_better_part_never_lowers_a_score(one in parts(), other in parts(), weight in 0.0f32..3.0) {
            let least = |a: Option<usize>, b: Option<usize>| a.into_iter().chain(b).min();
            let better = Parts {
                vector: one.vector.max(other.vector),
                vector_rank: least(one.vector_rank, other.vector_rank),
                lexical: one.lexical.max(other.lexical),
                lexical_rank: least(one.lexical_rank, other.lexical_rank),
                codes: one.codes.max(other.codes),
            };
            for fusion in [Fusion::ReciprocalRanks { weight }, Fusion::WeightedScores { weight }] {
                prop_assert!(fusion.score(&better, FRAME) >= fusion.score(&one, FRAME));
            }
        }

        #[test]
        fn without_weight_the_order_is_that_of_vectors(parts in parts()) {
            prop_assert_eq!(Fusion::WeightedScores { weight: 0.0 }.score(&parts, FRAME), parts.vector);
            let by_ranks = Fusion::ReciprocalRanks { weight: 0.0 }.score(&parts, FRAME);
            prop_assert_eq!(by_ranks, parts.vector_rank.map_or(0.0, |rank| 1.0 / (5.0 + rank as f32)));
        }
    }

    #[test]
    fn the_formulas_are_those_of_the_documentation() {
        let near = |a: f32, b: f32| assert!((a - b).abs() < 1e-6, "{a} {b}");
        let parts = Parts { vector: 0.5, vector_rank: Some(3), lexical: 6.4, lexical_rank: Some(1), codes: 2.0 };
        near(Fusion::ReciprocalRanks { weight: 0.5 }.score(&parts, FRAME), 1.0 / 8.0 + 0.5 / 6.0);
        let by_scores = |parts: Parts, frame| Fusion::WeightedScores { weight: 0.5 }.score(&parts, frame);
        near(by_scores(parts, FRAME), 0.5 + 0.5 * 0.8 * (0.8 * (0.8 - 0.6) + 0.1 * 2.0));
        near(by_scores(Parts { lexical: 4.0, codes: 0.0, ..parts }, FRAME), 0.5);
        near(by_scores(Parts { lexical: 0.0, codes: 0.0, ..parts }, Frame { total_idf: 0.0, floor: 1.0 }), 0.5);
    }
}
