//! The `ef` of searches that set none: by the size of the index, by level, and by the kind of search. `recall` chooses
//! the level of each kind.

/// The largest useful `ef`: beyond it an exact scan of a hundred thousand vectors is as quick.
pub const MAX_EF: usize = 4_096;

/// The number of `ef` levels. Each is √2 times the one before, from half of [`ef_of_size`] to 64 times that.
pub(super) const LEVELS: usize = 15;

/// The first level of a search: that of [`ef_of_size`].
const FIRST_LEVEL: u8 = 2;
/// The first level in a crowd: 16 times [`ef_of_size`]. With this `ef` a graph of at most 65,000 texts is scanned.
const CROWD_LEVEL: u8 = FIRST_LEVEL + 8;

/// The `ef` that finds 98 of 100 true neighbours in a graph of this size: 96 for 100,000 texts as MiniLM embeds them,
/// 264 for a million (docs/performance.md).
pub(super) fn ef_of_size(vectors: usize) -> usize {
    let hundred_thousands = vectors as f64 / 1e5;
    (96.0 * hundred_thousands.powf(0.44)).clamp(64.0, 1_024.0) as usize
}

/// The `ef` of a level in a graph whose size asks for `usual`.
pub(super) fn ef_of_level(usual: usize, level: usize) -> usize {
    let half = usual.div_ceil(2);
    let whole = half << (level / 2).min(16);
    let ef = if level.is_multiple_of(2) { whole } else { (whole as f64 * std::f64::consts::SQRT_2) as usize };
    ef.min(MAX_EF).max(half)
}

/// A kind of search, with its own `ef`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) filtered: bool,
    pub(super) in_crowd: bool,
}

impl Kind {
    /// The number of kinds.
    pub(super) const COUNT: usize = 4;

    /// The position of the kind among all.
    pub(super) fn number(self) -> usize {
        usize::from(self.filtered) + 2 * usize::from(self.in_crowd)
    }

    /// The level before any query is checked.
    pub(super) fn first_level(number: usize) -> u8 {
        if number >= 2 { CROWD_LEVEL } else { FIRST_LEVEL }
    }
}

/// The `ef` of walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Width {
    /// `ef` of the first walk.
    pub(super) ef: usize,
    /// `ef` of a second walk, if the first ended in a crowd and may have missed much.
    pub(super) in_crowd: usize,
}

impl Width {
    /// A width with the same `ef` for both walks.
    pub(super) fn of(ef: usize) -> Width {
        Width { ef, in_crowd: ef }
    }

    pub(super) fn plus(self, more: usize) -> Width {
        Width { ef: self.ef.saturating_add(more), in_crowd: self.in_crowd.saturating_add(more) }
    }

    pub(super) fn at_least(self, ef: usize) -> Width {
        Width { ef: self.ef.max(ef), in_crowd: self.in_crowd.max(ef) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_indexes_have_a_larger_ef() {
        assert_eq!([1_000, 100_000, 1_000_000, 1 << 40].map(ef_of_size), [64, 96, 264, 1_024]);
        assert_eq!([0, 1, 2, 3, 14].map(|level| ef_of_level(64, level)), [32, 45, 64, 90, 4_096]);
        assert_eq!([0, 14].map(|level| ef_of_level(1_024, level)), [512, MAX_EF]);
    }
}
