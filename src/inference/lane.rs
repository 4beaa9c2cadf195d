//! The lanes of the batch queue: classes of calls by size, and the share of the batches that each is sure of.

/// A part of the batch queue. Lanes are listed in the order in which they are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Calls of at most a quarter of a batch.
    Short,
    /// Calls of at most one batch.
    Interactive,
    /// Streams, uploads and larger calls.
    Bulk,
}

/// The number of lanes.
pub const LANES: usize = 3;

impl Lane {
    /// All lanes, in the order in which they are served.
    pub const ALL: [Self; LANES] = [Self::Short, Self::Interactive, Self::Bulk];

    /// Returns the lane of a unary call of `tokens`.
    pub fn of(tokens: usize, batch_tokens: usize) -> Self {
        match tokens {
            _ if tokens <= batch_tokens / 4 => Self::Short,
            _ if tokens <= batch_tokens => Self::Interactive,
            _ => Self::Bulk,
        }
    }

    /// Returns the least share of the batches that the lane gets while it has work, however full the others are. The
    /// batch queue serves short, short, bulk, interactive, and so on, while all lanes have work (`MOST_PASSED_OVER` in
    /// `batch_queue.rs`).
    pub fn guaranteed_share(self) -> f64 {
        match self {
            Self::Short => 0.5,
            Self::Interactive | Self::Bulk => 0.25,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_in_the_lane_of_its_size() {
        let lanes = [0, 25, 26, 100, 101].map(|tokens| Lane::of(tokens, 100));
        assert_eq!(lanes, [Lane::Short, Lane::Short, Lane::Interactive, Lane::Interactive, Lane::Bulk]);
    }
}
