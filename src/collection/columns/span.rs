//! Intervals of numbers, for ranges.

use std::ops::Bound;

use crate::collection::filter::{Bounds, Finite};

/// An interval of numbers. Each end may be included or excluded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub(super) from: Finite,
    pub(super) without_from: bool,
    pub(super) to: Finite,
    pub(super) with_to: bool,
}

impl Span {
    pub(super) const ALL: Self = Self { from: Finite::MIN, without_from: false, to: Finite::MAX, with_to: true };

    pub(super) fn of(bounds: Bounds) -> Self {
        let (from, without_from) = match bounds.lower() {
            Bound::Included(from) => (from, false),
            Bound::Excluded(from) => (from, true),
            Bound::Unbounded => (Finite::MIN, false),
        };
        let (to, with_to) = match bounds.upper() {
            Bound::Included(to) => (to, true),
            Bound::Excluded(to) => (to, false),
            Bound::Unbounded => (Finite::MAX, true),
        };
        Self { from, without_from, to, with_to }
    }

    /// True if nothing lies between this span and `next`, which does not begin before it.
    pub(super) fn reaches(self, next: Self) -> bool {
        next.from < self.to || next.from == self.to && (self.with_to || !next.without_from)
    }

    pub(super) fn bounds(self) -> (Bound<Finite>, Bound<Finite>) {
        (
            if self.without_from { Bound::Excluded(self.from) } else { Bound::Included(self.from) },
            if self.with_to { Bound::Included(self.to) } else { Bound::Excluded(self.to) },
        )
    }

    pub(super) fn ends_before(&self, x: f64) -> bool {
        self.to.get() < x || self.to.get() == x && !self.with_to
    }

    pub(super) fn contains(&self, x: f64) -> bool {
        let above = self.from.get() < x || self.from.get() == x && !self.without_from;
        above && !x.is_nan() && !self.ends_before(x)
    }
}
