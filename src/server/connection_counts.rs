//! Counts of connections, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Connections since the start of the process.
#[derive(Debug, Default)]
pub struct ConnectionCounts {
    accepted: AtomicU64,
    ended: AtomicU64,
    refused_in_all: AtomicU64,
    refused_of_address: AtomicU64,
}

impl ConnectionCounts {
    /// Connections that were admitted.
    pub fn accepted(&self) -> u64 {
        get(&self.accepted)
    }

    /// Connections that are open.
    pub fn open(&self) -> u64 {
        // The ended ones first: a connection that ends meanwhile is still counted as open.
        let ended = get(&self.ended);
        self.accepted().saturating_sub(ended)
    }

    /// Connections that were refused because `max_connections` were open.
    pub fn refused_in_all(&self) -> u64 {
        get(&self.refused_in_all)
    }

    /// Connections that were refused because their address had `max_connections_per_address`.
    pub fn refused_of_address(&self) -> u64 {
        get(&self.refused_of_address)
    }

    pub(super) fn admit(&self) {
        add(&self.accepted);
    }

    pub(super) fn end(&self) {
        add(&self.ended);
    }

    pub(super) fn refuse_in_all(&self) {
        add(&self.refused_in_all);
    }

    pub(super) fn refuse_of_address(&self) {
        add(&self.refused_of_address);
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
