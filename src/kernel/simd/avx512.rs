//! Sixteen f32 with AVX-512F.

use std::arch::x86_64::*;

use super::{Kernel, Simd};

/// Proof that AVX-512 (F and BW) is available, and VNNI if `VNNI`. Only [`Avx512::detect`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Avx512<const VNNI: bool>(());

impl<const VNNI: bool> Avx512<VNNI> {
    #[inline]
    pub(super) fn detect() -> Option<Self> {
        let there = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && (!VNNI || is_x86_feature_detected!("avx512vnni"));
        there.then_some(Self(()))
    }
}

const LANES: usize = 16;

#[target_feature(enable = "avx512f,avx512bw")]
fn compiled<K: Kernel, const VNNI: bool>(kernel: K, simd: Avx512<VNNI>) -> K::Output {
    kernel.run(simd)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn compiled_with_vnni<K: Kernel, const VNNI: bool>(kernel: K, simd: Avx512<VNNI>) -> K::Output {
    kernel.run(simd)
}

/// A mask with a bit for each of the first `n` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    assert!(n <= LANES, "a partial vector has at most {LANES} lanes");
    ((1u32 << n) - 1) as __mmask16
}

impl<const VNNI: bool> Simd for Avx512<VNNI> {
    const LANES: usize = LANES;
    // 14 × 2 accumulators of the 32 registers.
    const TILE_ROWS: usize = 14;
    const UNROLLED: usize = 1;
    type V = __m512;
    type I = __m512i;
    const WORD: usize = if VNNI { 4 } else { 2 };

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` exists, so the processor has these instructions.
        unsafe { if VNNI { compiled_with_vnni(kernel, self) } else { compiled(kernel, self) } }
    }

    #[inline(always)]
    fn load_or(self, from: &[f32], fill: f32) -> Self::V {
        // SAFETY: lanes outside the mask, beyond the slice, are not read.
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), first(from.len()), from.as_ptr()) }
    }

    #[inline(always)]
    fn store_first(self, v: Self::V, to: &mut [f32]) {
        // SAFETY: lanes outside the mask, beyond the slice, are not written.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), first(to.len()), v) }
    }

    operations! {
        fn splat(value: f32) -> __m512 = _mm512_set1_ps(value);
        fn add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        fn sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        fn mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fn div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        fn min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        fn max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        fn round(v: __m512) -> __m512 = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
        fn times_two_to(v: __m512, n: __m512) -> __m512 = _mm512_scalef_ps(v, n);
        fn sum(v: __m512) -> f32 = _mm512_reduce_add_ps(v);
        fn greatest(v: __m512) -> f32 = _mm512_reduce_max_ps(v);
        fn no_words() -> __m512i = _mm512_setzero_si512();
        fn dot_words(sum: __m512i, x: __m512i, w: __m512i) -> __m512i =
            if VNNI { _mm512_dpbusd_epi32(sum, x, w) } else { _mm512_add_epi32(sum, _mm512_madd_epi16(x, w)) };
        fn to_f32(v: __m512i) -> __m512 = _mm512_cvtepi32_ps(v);
    }

    operations! {
        unsafe fn load_at(from: *const f32) -> __m512 = _mm512_loadu_ps(from);
        unsafe fn splat_at(from: *const f32) -> __m512 = _mm512_broadcastss_ps(_mm_load_ss(from));
        unsafe fn store_at(v: __m512, to: *mut f32) = _mm512_storeu_ps(to, v);
        unsafe fn load_words_at(from: *const i32) -> __m512i = _mm512_loadu_si512(from.cast());
        unsafe fn store_words_at(v: __m512i, to: *mut i32) = _mm512_storeu_si512(to.cast(), v);
        unsafe fn splat_word_at(from: *const i32) -> __m512i = _mm512_set1_epi32(from.read_unaligned());
    }

    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        // SAFETY: a prefetch of an invalid address has no effect.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn store_rounded_at(self, v: Self::V, to: *mut i32) {
        // SAFETY: the caller guarantees space for sixteen numbers in words.
        unsafe {
            let whole = _mm512_cvtps_epi32(v);
            if VNNI {
                _mm_storeu_si128(to.cast(), _mm512_cvtusepi32_epi8(whole));
            } else {
                _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(whole));
            }
        }
    }

    #[inline(always)]
    unsafe fn store_bf16_at(self, v: Self::V, to: *mut i32) -> Self::V {
        // SAFETY: the caller guarantees space for sixteen numbers of 16 bits.
        unsafe {
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(up)));
            _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(!0xffff)))
        }
    }
}
