//! The scores that guide a walk: by codes, or by sketches where the graph has them.

use super::codes::Codes;
use super::query::OwnQuery;
use super::sketches::Sketches;
use crate::kernel::dot_i2;
use crate::kernel::dot_i8::Query;

/// A query, with what scores nodes for it.
#[derive(Clone, Copy)]
pub(super) struct Guide<'g> {
    codes: &'g Codes,
    query: Query<'g>,
    sketches: Option<(&'g Sketches, dot_i2::Query<'g>)>,
}

impl<'g> Guide<'g> {
    pub(super) fn by_codes(codes: &'g Codes, query: Query<'g>) -> Guide<'g> {
        Guide { codes, query, sketches: None }
    }

    pub(super) fn by_sketches(codes: &'g Codes, sketches: &'g Sketches, query: &'g OwnQuery) -> Guide<'g> {
        Guide { codes, query: query.query(), sketches: Some((sketches, sketches.query(query))) }
    }

    /// Estimates the cosines of the query with these nodes.
    #[inline(always)]
    pub(super) fn score(&self, which: &[u32], out: &mut [f32]) {
        match self.sketches {
            Some((sketches, query)) => sketches.score(query, which, out),
            None => self.codes.score(self.query, which, out),
        }
    }

    /// Prefetches what [`Guide::score`] reads of these nodes.
    #[inline(always)]
    pub(super) fn prefetch(&self, which: &[u32]) {
        match self.sketches {
            Some((sketches, _)) => which.iter().for_each(|&node| sketches.prefetch(node)),
            None => which.iter().for_each(|&node| self.codes.prefetch(node)),
        }
    }
}
