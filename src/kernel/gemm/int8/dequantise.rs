//! Dequantisation of exact sums: `out += Σ scale_x · scale_w · sum + min_x · total`, group by group.
//!
//! Sums of several groups are kept in the first-level cache for one walk over their rows, so that the result is
//! loaded and stored once for all of them.

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
    /// As [`Dequantise::run`], for `GROUPS` groups.
    #[inline(always)]
    unsafe fn groups<S: Simd, const GROUPS: usize>(&self, s: S) {
        for at in (0..self.width).step_by(S::LANES) {
            let (mut scales, mut totals) = ([s.splat(0.0); GROUPS], [s.splat(0.0); GROUPS]);
            for g in 0..GROUPS {
                scales[g] = s.load(&self.scales[g * self.width + at..]);
                totals[g] = s.load(&self.totals[g * self.width + at..]);
            }
            for i in 0..self.rows {
                let params = &self.params[i * self.groups..][..GROUPS];
                // SAFETY: the caller guarantees the sums and the pointers; the columns are inside the panel.
                unsafe {
                    let out = self.out.add(i * self.out_stride + at);
                    let mut sum = match self.start {
                        Some(start) => s.load(&start[at..]),
                        None => s.load_at(out),
                    };
                    for g in 0..GROUPS {
                        let exact = s.load_words_at(self.sums[g].as_ptr().cast::<i32>().add(i * BLOCK + at));
                        let scaled = s.mul(s.to_f32(exact), scales[g]);
                        sum = s.mul_add(scaled, s.splat(params[g].scale), sum);
                        sum = s.mul_add(totals[g], s.splat(params[g].min), sum);
                    }
                    if let Some((add, stride)) = self.add {
                        sum = s.add(sum, s.load_at(add.add(i * stride + at)));
                    }
                    s.store_at(sum, out);
                }
            }
        }
    }
}
