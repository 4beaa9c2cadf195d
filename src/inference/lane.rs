//! The lanes of the batch queue: classes of calls, and the share of the batches that each is sure of.

/// A part of the batch queue. Lanes are listed in the order in which they are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Short calls of quiet callers: those that ask for less than their share (`shares.rs`).
    Express,
    /// Calls of at most a quarter of a batch.
    Short,
    /// Calls of at most one batch.
    Interactive,
    /// Streams, uploads and larger calls.
    Bulk,
}

/// The number of lanes.
pub const LANES: usize = 4;

/// The least share of the batches that a lane gets while it has work, however full the others are (`MOST_PASSED_OVER`
/// in `batch_queue.rs`).
pub const GUARANTEED_SHARE: f64 = 0.25;

impl Lane {
    /// All lanes, in the order in which they are served.
    pub const ALL: [Self; LANES] = [Self::Express, Self::Short, Self::Interactive, Self::Bulk];

    /// Returns the lane of a unary call of `tokens`, whose caller may be quiet.
    pub fn of(tokens: usize, batch_tokens: usize, is_quiet: bool) -> Self {
        match tokens {
            _ if tokens <= batch_tokens / 4 => {
                if is_quiet {
                    Self::Express
                } else {
                    Self::Short
                }
            }
            _ if tokens <= batch_tokens => Self::Interactive,
            _ => Self::Bulk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_in_the_lane_of_its_size_and_a_short_one_of_a_quiet_caller_in_the_express_lane() {
        let lanes = |is_quiet| [0, 25, 26, 100, 101].map(|tokens| Lane::of(tokens, 100, is_quiet));
        assert_eq!(lanes(false), [Lane::Short, Lane::Short, Lane::Interactive, Lane::Interactive, Lane::Bulk]);
        assert_eq!(lanes(true), [Lane::Express, Lane::Express, Lane::Interactive, Lane::Interactive, Lane::Bulk]);
    }
}
