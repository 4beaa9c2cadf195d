//! Four f32 in plain Rust: correct on every machine, and vectorised by the compiler with SSE2 or NEON.

use super::{Kernel, Simd, bf16};

#[derive(Clone, Copy)]
pub(super) struct Portable;

const LANES: usize = 4;

/// In place of `std::array::from_fn`, whose closure is not inlined without link-time optimisation: a model took five
/// times as long.
#[inline(always)]
fn each<T>(f: impl Fn(usize) -> T) -> [T; LANES] {
    [f(0), f(1), f(2), f(3)]
}

#[inline(always)]
fn map<T: Copy, U>(v: [T; LANES], f: impl Fn(T) -> U) -> [U; LANES] {
    each(|i| f(v[i]))
}

#[inline(always)]
fn map2(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    each(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    const LANES: usize = LANES;
    // 4 × 2 accumulators of the 16 vector registers that every 64-bit machine has.
    const TILE_ROWS: usize = 4;
    const UNROLLED: usize = 1;
    type V = [f32; LANES];
    type I = [i32; LANES];
    const WORD: usize = 2;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        fn compiled<K: Kernel>(kernel: K) -> K::Output {
            kernel.run(Portable)
        }
        compiled(kernel)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        [value; LANES]
    }

    #[inline(always)]
    fn load_or(self, from: &[f32], fill: f32) -> Self::V {
        each(|i| from.get(i).copied().unwrap_or(fill))
    }

    #[inline(always)]
    fn store_first(self, v: Self::V, to: &mut [f32]) {
        to.copy_from_slice(&v[..to.len()]);
    }

    #[inline(always)]
    unsafe fn load_at(self, from: *const f32) -> Self::V {
        // SAFETY: the caller guarantees `LANES` f32; no alignment is assumed.
        unsafe { from.cast::<Self::V>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn splat_at(self, from: *const f32) -> Self::V {
        // SAFETY: the caller guarantees one f32.
        unsafe { [*from; LANES] }
    }

    #[inline(always)]
    unsafe fn store_at(self, v: Self::V, to: *mut f32) {
        // SAFETY: the caller guarantees `LANES` f32; no alignment is assumed.
        unsafe { to.cast::<Self::V>().write_unaligned(v) }
    }

    #[inline(always)]
    fn prefetch(self, _: *const f32) {}

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Without the instruction, `f32::mul_add` is a call into libm, some fifty times slower.
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            each(|i| a[i].mul_add(b[i], c[i]))
        } else {
            each(|i| a[i] * b[i] + c[i])
        }
    }

    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        map2(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn round(self, v: Self::V) -> Self::V {
        // Adding 1.5 · 2^23 leaves no fraction bits: a rounding without a call, for |v| < 2^22. Greater values come
        // only as arguments of exp, which clamps them first.
        const ROUND: f32 = 12_582_912.0;
        map(v, |x| (x + ROUND) - ROUND)
    }

    #[inline(always)]
    fn times_two_to(self, v: Self::V, n: Self::V) -> Self::V {
        map2(v, n, |x, n| x * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        (v[0] + v[2]) + (v[1] + v[3])
    }

    #[inline(always)]
    fn greatest(self, v: Self::V) -> f32 {
        v[0].max(v[2]).max(v[1].max(v[3]))
    }

    #[inline(always)]
    unsafe fn load_words_at(self, from: *const i32) -> Self::I {
        // SAFETY: the caller guarantees `LANES` i32; no alignment is assumed.
        unsafe { from.cast::<Self::I>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store_words_at(self, v: Self::I, to: *mut i32) {
        // SAFETY: the caller guarantees `LANES` i32; no alignment is assumed.
        unsafe { to.cast::<Self::I>().write_unaligned(v) }
    }

    #[inline(always)]
    unsafe fn splat_word_at(self, from: *const i32) -> Self::I {
        // SAFETY: the caller guarantees one i32.
        unsafe { [*from; LANES] }
    }

    #[inline(always)]
    fn no_words(self) -> Self::I {
        [0; LANES]
    }

    #[inline(always)]
    fn dot_words(self, sum: Self::I, x: Self::I, w: Self::I) -> Self::I {
        let low = |word: i32| i32::from(word as i16);
        each(|i| sum[i] + low(x[i]) * low(w[i]) + (x[i] >> 16) * (w[i] >> 16))
    }

    #[inline(always)]
    fn to_f32(self, v: Self::I) -> Self::V {
        map(v, |x| x as f32)
    }

    #[inline(always)]
    unsafe fn store_rounded_at(self, v: Self::V, to: *mut i32) {
        let whole = map(self.round(v), |x| x as i32);
        // SAFETY: the caller guarantees two words.
        unsafe { to.cast::<[i32; 2]>().write_unaligned([whole[0] | whole[1] << 16, whole[2] | whole[3] << 16]) }
    }

    #[inline(always)]
    unsafe fn store_bf16_at(self, v: Self::V, to: *mut i32) -> Self::V {
        let rounded = map(v, bf16);
        let half = |i: usize| (rounded[i].to_bits() >> 16) as i32;
        // SAFETY: the caller guarantees two words.
        unsafe { to.cast::<[i32; 2]>().write_unaligned([half(0) | half(1) << 16, half(2) | half(3) << 16]) };
        rounded
    }
}
