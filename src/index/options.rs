//! What the index may be told, each option by its consequence.

/// How an index trades speed, memory and recall. The defaults find on average 98 of 100 true
/// neighbours among 100,000 vectors of MiniLM (benches/index.rs measures others).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Candidates weighed when the links of a vector are chosen. More: better recall at the same search cost, linear
    /// cost to build.
    pub ef_construction: usize,
    /// Candidates kept while the graph is walked, where the search names no number. More: better
    /// recall, linear cost. `None`: as many as find 98 of 100 true neighbours, by the size of the index and by what its
    /// own queries show.
    pub ef_search: Option<usize>,
    /// Up to so many live vectors there is no graph: each search compares with all of them, which is
    /// exact, as fast, and saves the graph's memory.
    pub exact_below: usize,
    /// A search compares with all vectors if there are fewer than so many for each candidate kept
    /// (`ef`): then the walk would cost more than the scan of their codes, and find less.
    pub scan_rows_per_ef: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            ef_construction: 128,
            ef_search: None,
            exact_below: 10_000,
            // Among 100,000 vectors of 384 dimensions a walk of 128 takes 0.16 ms, and a scan of 10,000 0.1 ms.
            scan_rows_per_ef: 64,
        }
    }
}
