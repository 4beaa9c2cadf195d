//! Dequantisation of exact sums: `out += Σ scale_x · scale_w · sum + min_x · total`, group by group.
//!
//! Sums of several groups are kept in the first-level cache for one walk over their rows, so that the result is
//! loaded and stored once for all of them. The walk takes whole rows of the panel, and pointers that were checked
//! before it: with checks in each step it took twice as many instructions, and a tenth of the time of a product.

use std::mem::MaybeUninit;

use crate::kernel::gemm::quantise::QuantParams;
use crate::kernel::simd::Simd;
use crate::kernel::tiles::{BLOCK, Sums};

/// Most groups whose sums are kept: 16 KB.
pub(super) const PENDING: usize = 4;

/// Sums of several groups, waiting to be dequantised.
pub(super) type PendingSums = [MaybeUninit<Sums<i32>>; PENDING];

/// Adds the sums of some groups to some rows of a panel of the result.
pub(super) struct Dequantise<'a> {
    pub sums: &'a PendingSums,
    /// Columns of the panel.
    pub width: usize,
    /// [kept groups, width]
    pub scales: &'a [f32],
    /// [kept groups, width]
    pub totals: &'a [f32],
    /// Parameters from the first row and the first kept group on; [rows, groups].
    pub params: &'a [QuantParams],
    /// Groups per row.
    pub groups: usize,
    /// Initial values of the result, `[width]`; `None`: its present values.
    pub start: Option<&'a [f32]>,
    /// Values added at the end, [rows, width], and their stride.
    pub add: Option<(*const f32, usize)>,
    /// [rows, width]
    pub out: *mut f32,
    pub out_stride: usize,
    pub rows: usize,
}

impl Dequantise<'_> {
    /// # Safety
    /// The sums of the kept groups are initialised for all rows. `add` is valid for reads as described, `out` for
    /// reads and writes, and no other thread uses it.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd>(&self, s: S) {
        // SAFETY: the caller's contract.
        unsafe {
            match self.scales.len() / self.width {
                1 => self.groups::<S, 1>(s),
                2 => self.groups::<S, 2>(s),
                3 => self.groups::<S, 3>(s),
                _ => self.groups::<S, PENDING>(s),
            }
        }
    }

    /// # Safety
    /// Like [`Dequantise::run`], for `GROUPS` groups.
    #[inline(always)]
    unsafe fn groups<S: Simd, const GROUPS: usize>(&self, s: S) {
        const VECTORS: usize = 2;
        let width = VECTORS * S::LANES;
        assert_eq!(self.width, width, "a panel is two vectors wide");
        let scales = self.scales[..GROUPS * width].as_ptr();
        let totals = self.totals[..GROUPS * width].as_ptr();
        let last_row = self.rows.saturating_sub(1) * self.groups;
        let mut params = self.params[..last_row + GROUPS].as_ptr();
        let (mut out, mut sums) = (self.out, self.sums.as_ptr().cast::<i32>());
        let (mut start, start_stride) = match self.start {
            Some(start) => (start[..width].as_ptr(), 0),
            None => (self.out.cast_const(), self.out_stride),
        };
        let (mut add, add_stride) = self.add.unwrap_or((std::ptr::null(), 0));
        for _ in 0..self.rows {
            // SAFETY: the caller guarantees the sums and the pointers, and the slices were cut to these lengths. Steps
            // are wrapping, as in the tiles.
            unsafe {
                let mut y = [s.splat(0.0); VECTORS];
                for (j, y) in y.iter_mut().enumerate() {
                    *y = s.load_at(start.wrapping_add(j * S::LANES));
                }
                for g in 0..GROUPS {
                    let QuantParams { min, scale } = &*params.wrapping_add(g);
                    let (min, scale) = (s.splat_at(min), s.splat_at(scale));
                    for (j, y) in y.iter_mut().enumerate() {
                        let (of_group, at) = (g * width + j * S::LANES, g * BLOCK * BLOCK + j * S::LANES);
                        let exact = s.to_f32(s.load_words_at(sums.wrapping_add(at)));
                        let scaled = s.mul(exact, s.load_at(scales.wrapping_add(of_group)));
                        *y = s.mul_add(scaled, scale, *y);
                        *y = s.mul_add(s.load_at(totals.wrapping_add(of_group)), min, *y);
                    }
                }
                for (j, y) in y.into_iter().enumerate() {
                    let y = if add.is_null() { y } else { s.add(y, s.load_at(add.wrapping_add(j * S::LANES))) };
                    s.store_at(y, out.wrapping_add(j * S::LANES));
                }
            }
            params = params.wrapping_add(self.groups);
            sums = sums.wrapping_add(BLOCK);
            start = start.wrapping_add(start_stride);
            add = add.wrapping_add(add_stride);
            out = out.wrapping_add(self.out_stride);
        }
    }
}
