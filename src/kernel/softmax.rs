//! e^x, and the softmax over a row.

use std::f32::consts::LOG2_E;

use super::simd::{Kernel, Simd, run};
use crate::machine::cpu::Level;

/// Computes e^x with a relative error below 2e-7. x is clamped to [-87, 88], where the result is a normal number.
///
/// x = n ln 2 + r with |r| ≤ ln 2 / 2, e^x = 2^n e^r. The polynomial for e^r is the Chebyshev fit of degree 6 on
/// that interval (error 2e-9), computed with 40 digits. ln 2 is split in two as by Cody and Waite, so that r is
/// exact.
#[inline(always)]
pub(super) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = (std::f64::consts::LN_2 - LN_2_HIGH as f64) as f32;
    const POLYNOMIAL: [f32; 7] = [1.0, 1.0, 0.5, 0.166_664_15, 0.041_666_35, 0.008_375_126, 0.001_394_110_8];
    let x = s.min(s.max(x, s.splat(-87.0)), s.splat(88.0));
    let n = s.round(s.mul(x, s.splat(LOG2_E)));
    let r = s.mul_add(n, s.splat(-LN_2_LOW), s.mul_add(n, s.splat(-LN_2_HIGH), x));
    let mut p = s.splat(POLYNOMIAL[6]);
    for &c in POLYNOMIAL[..6].iter().rev() {
        p = s.mul_add(p, r, s.splat(c));
    }
    s.times_two_to(p, n)
}

/// The greatest value of a row of finite numbers, -∞ if it is empty.
#[inline(always)]
pub(super) fn greatest<S: Simd>(s: S, row: &[f32]) -> f32 {
    let mut greatest = s.splat(f32::NEG_INFINITY);
    let mut whole = row.chunks_exact(S::LANES);
    for chunk in &mut whole {
        greatest = s.max(greatest, s.load(chunk));
    }
    greatest = s.max(greatest, s.load_or(whole.remainder(), f32::NEG_INFINITY));
    s.greatest(greatest)
}

/// Computes e^x as [`exp`].
#[inline(always)]
pub(super) fn power<S: Simd>(s: S, x: f32) -> f32 {
    s.greatest(exp(s, s.splat(x)))
}

/// Replaces each value x of `row` by e^(scale · (x − greatest)), and returns their sum. The caller divides by it,
/// because it has a shorter row to divide. `scale` is positive, `row` is finite and not empty, and `greatest` is one of
/// its values or greater.
#[inline(always)]
pub(super) fn exponentials<S: Simd>(s: S, row: &mut [f32], greatest: f32, scale: f32) -> f32 {
    let greatest = s.splat(greatest);
    let scale = s.splat(scale);
    let mut sum = s.splat(0.0);
    let mut whole = row.chunks_exact_mut(S::LANES);
    for chunk in &mut whole {
        let e = exp(s, s.mul(s.sub(s.load(chunk), greatest), scale));
        s.store(e, chunk);
        sum = s.add(sum, e);
    }
    let rest = whole.into_remainder();
    // The lanes after the row hold -∞, which becomes e^-87 = 1e-38: negligible beside the 1 of the greatest.
    let e = exp(s, s.mul(s.sub(s.load_or(rest, f32::NEG_INFINITY), greatest), scale));
    s.store_first(e, rest);
    s.sum(if rest.is_empty() { sum } else { s.add(sum, e) })
}

/// Computes the softmax of `scale` times the row, in place. An empty row stays empty.
pub fn softmax(level: Level, row: &mut [f32], scale: f32) {
    struct Softmax<'a>(&'a mut [f32], f32);

    impl Kernel for Softmax<'_> {
        type Output = f32;

        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> f32 {
            let greatest = greatest(s, self.0);
            exponentials(s, self.0, greatest, self.1)
        }
    }

    if !row.is_empty() {
        let sum = run(level, Softmax(row, scale));
        row.iter_mut().for_each(|x| *x /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::cpu;

    struct Exp<'a>(&'a mut [f32]);

    impl Kernel for Exp<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for x in self.0 {
                let e = exp(s, s.splat(*x));
                s.store_first(e, std::slice::from_mut(x));
            }
        }
    }

    #[test]
    fn exp_is_within_2e_7_of_exact_arithmetic_at_every_level() {
        let xs: Vec<f32> = (-86_999..=87_999).map(|i| i as f32 * 1e-3).collect();
        for level in cpu::Level::supported() {
            let mut got = xs.clone();
            run(level, Exp(&mut got));
            for (&x, &y) in xs.iter().zip(&got) {
                let exact = f64::from(x).exp();
                let error = (f64::from(y) - exact).abs() / exact;
                // Without a fused multiply-add the argument itself is rounded once more.
                let tolerance = if level == cpu::Level::Portable { 3e-7 } else { 2e-7 };
                assert!(error <= tolerance, "{level:?} exp({x}) = {y}, off by {error:e}");
            }
        }
    }

    #[test]
    fn softmax_of_every_length_is_the_one_of_exact_arithmetic() {
        for level in cpu::Level::supported() {
            for n in (0..70).chain([511, 512]) {
                let row: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.3).collect();
                let mut got = row.clone();
                softmax(level, &mut got, 0.7);
                let e: Vec<f64> = row.iter().map(|&x| (0.7 * (f64::from(x) - 15.0)).exp()).collect();
                let sum: f64 = e.iter().sum();
                for (i, (&y, e)) in got.iter().zip(&e).enumerate() {
                    let error = (f64::from(y) - e / sum).abs();
                    assert!(error <= 3e-7, "{level:?} value {i} of {n} is off by {error:e}");
                }
            }
        }
    }
}
