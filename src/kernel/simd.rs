//! One vector of f32 per instruction set, so that each kernel is written once.
//!
//! A kernel is a struct with its arguments that implements [`Kernel`]. [`run`] compiles its body once per
//! instruction set and calls the one for the given level. The body receives a token (`S: Simd`) that exists only if
//! the processor has these instructions, which makes the operations below safe to call. Everything between a body
//! and these operations must be `#[inline(always)]`: a function that is not inlined is compiled without the
//! instruction set.

/// Defines operations of [`Simd`] by an instruction on values, or with `unsafe` on memory.
#[cfg(target_arch = "x86_64")]
macro_rules! operations {
    ($(fn $name:ident($($x:ident: $of:ty),*) -> $result:ty = $instruction:expr;)*) => {$(
        #[inline(always)]
        fn $name(self, $($x: $of),*) -> $result {
            // SAFETY: the token `self` exists, so the processor has these instructions, and no memory is touched.
            unsafe { $instruction }
        }
    )*};
    ($(unsafe fn $name:ident($($x:ident: $of:ty),*) $(-> $result:ty)? = $instruction:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name(self, $($x: $of),*) $(-> $result)? {
            // SAFETY: as above. The caller guarantees the memory, and no alignment is assumed.
            unsafe { $instruction }
        }
    )*};
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dispatch;
mod portable;

pub(super) use dispatch::VectorSize;
pub use dispatch::{run, run_words};

/// The operations of one instruction set on vectors of [`Simd::LANES`] f32.
pub trait Simd: Copy {
    /// f32 per vector.
    const LANES: usize;
    /// Rows of the register tile of a matrix product. With two vectors per row, this is the most that leaves
    /// registers for two vectors of weights and a broadcast.
    const TILE_ROWS: usize;
    /// Steps in a turn of a tile's innermost loop (see `gemm/operands.rs`).
    const UNROLLED: usize;
    /// One vector.
    type V: Copy;
    /// [`Simd::LANES`] 32-bit integers.
    type I: Copy;
    /// Numbers per lane in one step of an integer dot product: each 32-bit word holds this many activations or
    /// weights. 4: bytes. 2: the same numbers in 16 bits, for processors whose byte product saturates.
    const WORD: usize;

    /// Runs `kernel` as a separate function, compiled for this instruction set.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;

    /// Puts `value` into every lane.
    fn splat(self, value: f32) -> Self::V;
    /// Loads the first `LANES` values; panics if there are fewer.
    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::V {
        // SAFETY: the slice was cut to `LANES` f32.
        unsafe { self.load_at(from[..Self::LANES].as_ptr()) }
    }
    /// Loads at most `LANES` values, and `fill` into the lanes after them.
    fn load_or(self, from: &[f32], fill: f32) -> Self::V;
    /// Stores into the first `LANES` elements; panics if there are fewer.
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32]) {
        // SAFETY: the slice was cut to `LANES` f32.
        unsafe { self.store_at(v, to[..Self::LANES].as_mut_ptr()) }
    }
    /// Stores the first `to.len()` lanes, at most `LANES`.
    fn store_first(self, v: Self::V, to: &mut [f32]);

    /// # Safety
    /// `from` is valid for reads of `LANES` f32.
    unsafe fn load_at(self, from: *const f32) -> Self::V;
    /// Loads the value at `from` into every lane.
    ///
    /// # Safety
    /// `from` is valid for reads of one f32.
    unsafe fn splat_at(self, from: *const f32) -> Self::V;
    /// # Safety
    /// `to` is valid for writes of `LANES` f32.
    unsafe fn store_at(self, v: Self::V, to: *mut f32);
    /// Prefetches the cache line of `address` into the second-level cache. Any address is valid.
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
    /// The lesser value of each pair.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The greater value of each pair.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// Rounds to the nearest whole number.
    fn round(self, v: Self::V) -> Self::V;
    /// `v * 2^n` for whole `n` in -126..=127.
    fn times_two_to(self, v: Self::V, n: Self::V) -> Self::V;
    /// The sum of the lanes, always in the same order.
    fn sum(self, v: Self::V) -> f32;
    /// The greatest lane.
    fn greatest(self, v: Self::V) -> f32;

    /// # Safety
    /// `from` is valid for reads of `LANES` i32.
    unsafe fn load_words_at(self, from: *const i32) -> Self::I;
    /// # Safety
    /// `to` is valid for writes of `LANES` i32.
    unsafe fn store_words_at(self, v: Self::I, to: *mut i32);
    /// Loads the word at `from` into every lane.
    ///
    /// # Safety
    /// `from` is valid for reads of one i32.
    unsafe fn splat_word_at(self, from: *const i32) -> Self::I;
    /// Zero in every lane.
    fn no_words(self) -> Self::I;
    /// `sum + Σ x·w` in each lane, over the [`Simd::WORD`] numbers of its words: x in 0..=255, w in -127..=127. Exact.
    fn dot_words(self, sum: Self::I, x: Self::I, w: Self::I) -> Self::I;
    /// The nearest f32 of each lane.
    fn to_f32(self, v: Self::I) -> Self::V;
    /// Rounds each lane, which is in 0..=255, to a whole number (ties to even), and stores the numbers side by side
    /// as `LANES / WORD` words.
    ///
    /// # Safety
    /// `to` is valid for writes of `LANES / WORD` i32.
    unsafe fn store_rounded_at(self, v: Self::V, to: *mut i32);
    /// Rounds each finite lane to bf16 (ties to even), stores the numbers side by side, two per word, and returns
    /// them.
    ///
    /// # Safety
    /// `to` is valid for writes of `LANES / 2` i32.
    unsafe fn store_bf16_at(self, v: Self::V, to: *mut i32) -> Self::V;
}

/// The nearest bf16 of a finite number, ties to even, as the upper half of an f32.
#[inline]
pub(super) fn bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

/// Packs `WORD` = `numbers.len()` small numbers into a word (see [`Simd::dot_words`]).
pub(super) fn word(numbers: &[i16]) -> i32 {
    let bits = 32 / numbers.len();
    let mask = u32::MAX >> (32 - bits);
    numbers.iter().rev().fold(0u32, |word, &n| word.wrapping_shl(bits as u32) | (n as u32 & mask)) as i32
}

/// A computation that is compiled once per instruction set.
pub trait Kernel {
    /// The result.
    type Output;
    /// Computes the result. Implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::cpu;

    /// Compares every operation on difficult inputs with scalar arithmetic.
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
            run_words(level, EveryOperation);
            run_words(level, EveryWordOperation);
        }
    }

    /// Compares dot products at the limits of their range, and the packing of words, with scalar arithmetic.
    struct EveryWordOperation;

    impl Kernel for EveryWordOperation {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let lanes = |v: S::I| {
                let mut out = vec![0.0; S::LANES];
                s.store(s.to_f32(v), &mut out);
                out
            };
            // Every lane has its own numbers. The extremes come first, in one word, where sums of pairs overflow 16
            // bits.
            let x: Vec<f32> = (0..S::LANES * S::WORD).map(|i| [255.0, 255.0, 254.5, 253.5, 0.0, 1.0][i % 6]).collect();
            let w: Vec<i16> = (0..S::LANES * S::WORD).map(|i| [-127, -127, 127, -126, 5, 127, 0][i % 7]).collect();
            let mut words = vec![0i32; S::LANES];
            for (i, x) in x.chunks_exact(S::LANES).enumerate() {
                // SAFETY: `WORD` vectors fill `LANES` words.
                unsafe { s.store_rounded_at(s.load(x), words.as_mut_ptr().add(i * (S::LANES / S::WORD))) };
            }
            let weights: Vec<i32> = w.chunks_exact(S::WORD).map(word).collect();
            // SAFETY: both have `LANES` words.
            let (x_words, w_words) = unsafe { (s.load_words_at(words.as_ptr()), s.load_words_at(weights.as_ptr())) };
            let dot =
                |x: &[f32], w: &[i16]| x.iter().zip(w).map(|(x, &w)| x.round_ties_even() * f32::from(w)).sum::<f32>();
            let once: Vec<f32> = x.chunks(S::WORD).zip(w.chunks(S::WORD)).map(|(x, w)| dot(x, w)).collect();
            let sum = s.dot_words(s.no_words(), x_words, w_words);
            assert_eq!(lanes(sum), once);
            let twice: Vec<f32> = once.iter().map(|x| 2.0 * x).collect();
            assert_eq!(lanes(s.dot_words(sum, x_words, w_words)), twice);
            // SAFETY: it points to a word.
            let first = unsafe { s.splat_word_at(words.as_ptr()) };
            let with_first: Vec<f32> = w.chunks(S::WORD).map(|w| dot(&x[..S::WORD], w)).collect();
            assert_eq!(lanes(s.dot_words(s.no_words(), first, w_words)), with_first);
        }
    }
}
