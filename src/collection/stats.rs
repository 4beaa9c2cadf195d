//! Counts of the searches in all collections, for metrics. They outlive each collection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::search::fusion::Mode;
use crate::index::{self, SearchCounters};

/// The searches in all collections up to one moment.
#[derive(Debug, Clone)]
pub struct Searches {
    /// Queries of each mode, with its name.
    pub by_mode: [(&'static str, u64); 3],
    /// The searches of the indexes. A query may need several, and a query by words alone needs none.
    pub of_indexes: index::Searches,
}

/// The counters behind [`Searches`].
#[derive(Debug, Default)]
pub struct Counters {
    by_mode: [AtomicU64; 3],
    /// Those of the indexes.
    pub(super) of_indexes: Arc<SearchCounters>,
}

impl Counters {
    /// Counts a query.
    pub(super) fn count(&self, mode: Mode) {
        let place = match mode {
            Mode::Vector => 0,
            Mode::Lexical => 1,
            Mode::Hybrid(_) => 2,
        };
        self.by_mode[place].fetch_add(1, Ordering::Relaxed);
    }

    /// Reads the counters.
    pub(super) fn read(&self) -> Searches {
        let get = |place: usize| self.by_mode[place].load(Ordering::Relaxed);
        Searches {
            by_mode: [("vector", get(0)), ("lexical", get(1)), ("hybrid", get(2))],
            of_indexes: self.of_indexes.read(),
        }
    }
}
