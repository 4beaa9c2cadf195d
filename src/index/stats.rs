//! Counts of searches, for metrics: shared by all indexes of a store, so that they outlive each of them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::scan::Nearest;
use crate::compute::{Distribution, Histogram, SIZES};

/// The way in which an index answered a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By an exact scan that the caller asked for.
    Exact,
    /// By an exact scan, because a walk would cost more.
    Scan,
    /// By walks through graphs.
    Walk,
}

/// The searches of some indexes up to one moment.
#[derive(Debug, Clone)]
pub struct Searches {
    /// Searches of each way, with its name.
    pub by_way: [(&'static str, u64); 3],
    /// `ef` of the walks.
    pub ef: Distribution,
    /// Candidates of each search that were found by their codes.
    pub candidates: Distribution,
    /// Vectors of each search that were compared by their f32 rows.
    pub rescored: Distribution,
}

/// The counters behind [`Searches`].
#[derive(Debug)]
pub struct SearchCounters {
    by_way: [AtomicU64; 3],
    ef: Histogram,
    candidates: Histogram,
    rescored: Histogram,
}

impl Default for SearchCounters {
    fn default() -> Self {
        let sizes = || Histogram::new(SIZES);
        Self { by_way: Default::default(), ef: sizes(), candidates: sizes(), rescored: sizes() }
    }
}

impl SearchCounters {
    /// Counts a search. `ef`: that of its walk.
    pub(super) fn count(&self, way: Way, ef: usize, nearest: &Nearest) {
        self.by_way[way as usize].fetch_add(1, Ordering::Relaxed);
        if way == Way::Walk {
            self.ef.record(ef as u64);
        }
        self.candidates.record(nearest.candidates as u64);
        self.rescored.record(nearest.rescored as u64);
    }

    /// Reads the counters.
    pub fn read(&self) -> Searches {
        let get = |way: Way| self.by_way[way as usize].load(Ordering::Relaxed);
        Searches {
            by_way: [("exact", get(Way::Exact)), ("scan", get(Way::Scan)), ("walk", get(Way::Walk))],
            ef: self.ef.distribution(),
            candidates: self.candidates.distribution(),
            rescored: self.rescored.distribution(),
        }
    }
}
