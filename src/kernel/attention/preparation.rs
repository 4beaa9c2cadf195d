//! The preparation of queries and keys, in place: the normalisation of each head, then the rotation by its position
//! (RoPE; Su et al., 2021).

use std::ops::Range;

use super::parts::Attention;
use crate::kernel::matrix::SharedMatrix;
use crate::kernel::simd::Simd;

impl Attention<'_> {
    /// Prepares the queries and the key of a group for some tokens of a sequence, which begins with row `first`.
    ///
    /// # Safety
    /// No other thread uses the group's columns meanwhile.
    #[inline(always)]
    pub(super) unsafe fn prepare<S: Simd>(
        &self,
        s: S,
        group: usize,
        qkv: SharedMatrix<'_>,
        first: usize,
        tokens: Range<usize>,
    ) {
        if self.norms.is_none() && self.rope.is_none() {
            return;
        }
        let heads = self.heads;
        for position in tokens {
            for head in 0..=heads.queries {
                // SAFETY: the caller guarantees that no other thread uses them.
                let head_columns = unsafe {
                    qkv.row_mut(first + position, group * heads.group_columns() + head * heads.dim, heads.dim)
                };
                if let Some([of_query, of_key]) = self.norms {
                    if head < heads.queries { of_query } else { of_key }.row(s, head_columns);
                }
                if let Some(rope) = self.rope {
                    rope.rotate(s, position, head_columns);
                }
            }
        }
    }
}
