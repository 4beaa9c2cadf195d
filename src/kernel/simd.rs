//! One vector of f32 per instruction set, so that each kernel is written once.
//!
//! A kernel is a struct with its arguments that implements [`Kernel`]; [`run`] compiles its body once per
//! instruction set and picks the one asked for. The body receives a token (`S: Simd`) that exists only where
//! the processor was seen to have those instructions, which is what makes the operations below safe to call.
//! Everything between a body and these operations must be `#[inline(always)]`: a function that is not
//! inlined is compiled without the instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::cpu::Level;

/// The operations of one instruction set on vectors of [`Simd::LANES`] f32.
pub trait Simd: Copy {
    /// f32 per vector.
    const LANES: usize;
    /// Rows of the register tile of a matrix product: with two vectors to a row, as many as leave the
    /// register file room for two vectors of weights and a broadcast.
    const TILE_ROWS: usize;
    /// One vector.
    type V: Copy;

    /// Runs `kernel` as a function of its own, compiled for this instruction set.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;

    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::V;
    /// The first `LANES` values; panics if there are fewer.
    fn load(self, from: &[f32]) -> Self::V;
    /// At most `LANES` values, then `fill` in the lanes after them.
    fn load_or(self, from: &[f32], fill: f32) -> Self::V;
    /// Into the first `LANES` places; panics if there are fewer.
    fn store(self, v: Self::V, to: &mut [f32]);
    /// The first lanes, as many as `to` is long (at most `LANES`).
    fn store_first(self, v: Self::V, to: &mut [f32]);

    /// # Safety
    /// `from` is valid for reads of `LANES` f32.
    unsafe fn load_at(self, from: *const f32) -> Self::V;
    /// The value at `from` in every lane.
    ///
    /// # Safety
    /// `from` is valid for reads of one f32.
    unsafe fn splat_at(self, from: *const f32) -> Self::V;
    /// # Safety
    /// `to` is valid for writes of `LANES` f32.
    unsafe fn store_at(self, v: Self::V, to: *mut f32);
    /// Asks for the cache line of `address`, soon, in the second cache. Any address is fine.
    fn prefetch(self, address: *const f32);

    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the instruction set can.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The lesser of each pair.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The greater of each pair.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// To the nearest whole number.
    fn round(self, v: Self::V) -> Self::V;
    /// `v * 2^n` for whole `n` in -126..=127.
    fn times_two_to(self, v: Self::V, n: Self::V) -> Self::V;
    /// The sum of the lanes, in an order that is always the same.
    fn sum(self, v: Self::V) -> f32;
    /// The greatest lane.
    fn greatest(self, v: Self::V) -> f32;
}

/// A computation that is compiled once per instruction set.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// The computation; implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs `kernel` with the instructions of `level`, or portably where this machine lacks them.
pub fn run<K: Kernel>(level: Level, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        if level == Level::Avx512
            && let Some(simd) = avx512::Avx512::detect()
        {
            return simd.call(kernel);
        }
        if level == Level::Avx2Fma
            && let Some(simd) = avx2::Avx2Fma::detect()
        {
            return simd.call(kernel);
        }
    }
    let _ = level;
    portable::Portable.call(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::cpu;

    /// Every operation on awkward inputs, beside scalar arithmetic.
    struct EveryOperation;

    impl Kernel for EveryOperation {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let ramp: Vec<f32> = (0..S::LANES).map(|i| i as f32 * 0.75 - 2.5).collect();
            let lanes = |v: S::V| {
                let mut out = vec![0.0; S::LANES];
                s.store(v, &mut out);
                out
            };
            let map = |f: fn(f32) -> f32| ramp.iter().copied().map(f).collect::<Vec<_>>();
            let (v, three) = (s.load(&ramp), s.splat(3.0));
            assert_eq!(lanes(s.add(v, three)), map(|x| x + 3.0));
            assert_eq!(lanes(s.sub(v, three)), map(|x| x - 3.0));
            assert_eq!(lanes(s.mul(v, three)), map(|x| x * 3.0));
            assert_eq!(lanes(s.div(v, three)), map(|x| x / 3.0));
            assert_eq!(lanes(s.mul_add(v, three, three)), map(|x| x * 3.0 + 3.0));
            assert_eq!(lanes(s.min(v, three)), map(|x| x.min(3.0)));
            assert_eq!(lanes(s.max(v, three)), map(|x| x.max(3.0)));
            assert_eq!(lanes(s.round(v)), map(f32::round_ties_even));
            assert_eq!(lanes(s.times_two_to(v, s.splat(-126.0))), map(|x| x * 2f32.powi(-126)));
            assert_eq!(lanes(s.times_two_to(v, s.splat(127.0)))[3], ramp[3] * 2f32.powi(127));
            assert_eq!(s.sum(v), ramp.iter().sum::<f32>());
            assert_eq!(s.greatest(v), ramp[S::LANES - 1]);
            for n in 0..=S::LANES {
                let loaded = lanes(s.load_or(&ramp[..n], 9.0));
                assert_eq!(loaded[..n], ramp[..n]);
                assert!(loaded[n..].iter().all(|&x| x == 9.0));
                let mut out = vec![7.0; S::LANES + 1];
                s.store_first(v, &mut out[..n]);
                assert_eq!(out[..n], ramp[..n]);
                assert!(out[n..].iter().all(|&x| x == 7.0));
            }
        }
    }

    #[test]
    fn every_operation_of_every_level_is_that_of_scalar_arithmetic() {
        for level in cpu::Level::supported() {
            run(level, EveryOperation);
        }
    }
}
