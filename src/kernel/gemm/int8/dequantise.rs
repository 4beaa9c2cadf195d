//! From exact sums to the result: `out += Σ step · scale · sum + least · total`, group by group.
//!
//! Sums of several groups wait in the first cache for one walk over their rows, so that the result is loaded and stored
//! once for all of them.

use std::mem::MaybeUninit;

use crate::kernel::gemm::quantise::Grid;
use crate::kernel::simd::Simd;
use crate::kernel::tiles::{BLOCK, Sums};

/// Groups whose sums wait: 16 KB.
pub(super) const WAITING: usize = 4;

/// Sums that wait, of one group each.
pub(super) type Waiting = [MaybeUninit<Sums<i32>>; WAITING];

/// Adds the sums of some groups to some rows of a panel of the result.
pub(super) struct Fold<'a> {
    pub sums: &'a Waiting,
    /// Columns of the panel.
    pub width: usize,
    /// [groups that wait, width]
    pub scales: &'a [f32],
    /// [groups that wait, width]
    pub totals: &'a [f32],
    /// From the first row's grid of the first group that waits; [rows, groups].
    pub grids: &'a [Grid],
    /// Groups of a row.
    pub groups: usize,
    /// What the result begins with, `[width]`; else with what is there.
    pub start: Option<&'a [f32]>,
    /// What is added at last, [rows, width], and its stride.
    pub add: Option<(*const f32, usize)>,
    /// [rows, width]
    pub out: *mut f32,
    pub out_stride: usize,
    pub rows: usize,
}

impl Fold<'_> {
    /// # Safety
    /// The sums of the groups that wait are there for all rows. `add` is valid for reads as described, `out` for reads
    /// and writes, and nobody else uses it.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd>(&self, s: S) {
        // SAFETY: the caller's contract.
        unsafe {
            match self.scales.len() / self.width {
                1 => self.groups::<S, 1>(s),
                2 => self.groups::<S, 2>(s),
                3 => self.groups::<S, 3>(s),
                _ => self.groups::<S, WAITING>(s),
            }
        }
    }

    /// # Safety
    /// As [`Fold::run`], for `GROUPS` groups.
    #[inline(always)]
    unsafe fn groups<S: Simd, const GROUPS: usize>(&self, s: S) {
        for at in (0..self.width).step_by(S::LANES) {
            let (mut scales, mut totals) = ([s.splat(0.0); GROUPS], [s.splat(0.0); GROUPS]);
            for g in 0..GROUPS {
                scales[g] = s.load(&self.scales[g * self.width + at..]);
                totals[g] = s.load(&self.totals[g * self.width + at..]);
            }
            for i in 0..self.rows {
                let grids = &self.grids[i * self.groups..][..GROUPS];
                // SAFETY: the caller vouches for the sums and the pointers; columns are inside of the panel.
                unsafe {
                    let out = self.out.add(i * self.out_stride + at);
                    let mut sum = match self.start {
                        Some(start) => s.load(&start[at..]),
                        None => s.load_at(out),
                    };
                    for g in 0..GROUPS {
                        let exact = s.load_words_at(self.sums[g].as_ptr().cast::<i32>().add(i * BLOCK + at));
                        let scaled = s.mul(s.to_f32(exact), scales[g]);
                        sum = s.mul_add(scaled, s.splat(grids[g].step), sum);
                        sum = s.mul_add(totals[g], s.splat(grids[g].least), sum);
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
