//! The settings of an index, each documented by its consequence.

use crate::machine::cores;

/// The balance of speed, memory and recall of an index. The defaults find on average 98 of 100 true neighbours among
/// 100,000 vectors of MiniLM (`cognate bench top-k` measures others).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// efConstruction: candidates for the links of a vector. More: better recall at the same search cost, linear cost
    /// to build.
    pub ef_construction: usize,
    /// `ef` of a search that sets none: candidates kept during a walk. More: better recall, linear cost. `None`: the
    /// number that finds 98 of 100 true neighbours, from the size of the index and from its own queries.
    pub ef_search: Option<usize>,
    /// Graphs have sketches, which guide their searches. False: a third of a byte less for each component; searches
    /// find as much and take 1.2 times as long, and 1.5 times with a filter.
    pub sketches: bool,
    /// An index of at most this number of live vectors has no graph: each search compares with all of them, which is
    /// exact, as fast, and saves the graph's memory.
    pub exact_below: usize,
    /// A search compares with all vectors if there are fewer than this for each candidate kept (`ef`). A walk would
    /// then cost more than a scan of their codes, and find less.
    pub scan_rows_per_ef: usize,
    /// The threads that build a graph while no vectors come in. More: merges end sooner, and leave less to others.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            ef_construction: 256,
            ef_search: None,
            sketches: true,
            exact_below: 10_000,
            // Among 100,000 vectors of 384 dimensions a walk of 128 takes 0.16 ms, and a scan of 10,000 0.1 ms.
            scan_rows_per_ef: 64,
            threads: cores::available(),
        }
    }
}
