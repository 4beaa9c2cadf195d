//! The bounds of a walk, which both searches of a graph take: `searchable` without a filter, `filtered` with one.

use crate::compute::stop::Stop;

/// The bounds of a walk: the nodes that it has to find at least, and the effort that it may make at most.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// With a filter, the matching nodes that are kept; without one, about the nodes that are expanded (`ending`).
    /// Higher: better recall, linear cost.
    pub ef: usize,
    /// The number of hits that are wanted, at least 1.
    pub hits: usize,
    /// The nearest hits for which a walk without a filter makes its effort.
    pub sure: usize,
    /// The number of candidates that are needed, at least that of hits.
    pub wanted: usize,
    /// The most nodes that are expanded.
    pub max_expansions: usize,
    /// The flag that is raised when the caller is gone.
    pub stop: &'a Stop,
}
