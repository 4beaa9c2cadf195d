//! The parameters of a search.

use std::num::NonZeroUsize;

use super::super::diversity::Diversity;
use super::super::filter::Filter;
use super::super::groups::Groups;
use super::fusion::Mode;
use crate::index::Effort;

/// Parameters of a search.
#[derive(Debug, Clone)]
pub struct Search {
    /// Hits wanted; at least 1.
    pub k: usize,
    /// Exact comparison, or a graph walk with its `ef`.
    pub effort: Effort,
    /// Condition on the documents.
    pub filter: Option<Filter>,
    /// The way in which documents are ranked.
    pub mode: Mode,
    /// Least score of a hit, as [`Search::mode`] makes it.
    pub min_score: Option<f32>,
    /// Limit on the hits of each group.
    pub groups: Option<Groups>,
    /// Demand for hits that differ from each other; `None`: order by score alone.
    pub diversity: Option<Diversity>,
    /// The most passages that a hit tells of, the nearest one included.
    pub passages: NonZeroUsize,
    /// The most bytes of texts that the hits of a query bring together, as far as texts are read for it; `None`: hits
    /// bring no texts.
    pub text_bytes: Option<usize>,
}

impl Search {
    /// A search for the `k` nearest of all documents, with their texts.
    pub fn nearest(k: usize, effort: Effort) -> Self {
        let mode = Mode::Vector;
        Self {
            k,
            effort,
            mode,
            filter: None,
            min_score: None,
            groups: None,
            diversity: None,
            passages: NonZeroUsize::MIN,
            text_bytes: Some(usize::MAX),
        }
    }
}
