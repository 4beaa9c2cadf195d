//! The limits of a walk.

use crate::compute::stop::Stop;

/// The limits of a walk.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// With a filter, the matching nodes that are kept; without one, about the nodes that are expanded (`ending`).
    /// Higher: better recall, linear cost.
    pub ef: usize,
    /// The nearest nodes for which a walk without a filter makes its effort.
    pub sure: usize,
    /// The most nodes that are expanded.
    pub max_expansions: usize,
    /// The flag that is raised when the caller is gone.
    pub stop: &'a Stop,
}
