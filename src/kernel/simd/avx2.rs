//! Eight f32 with AVX2 and FMA.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{Kernel, Simd};

/// Proof that AVX2 and FMA are available, and AVX-VNNI if `VNNI`. Only [`Avx2Fma::detect`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Avx2Fma<const VNNI: bool>(());

impl<const VNNI: bool> Avx2Fma<VNNI> {
    #[inline]
    pub(super) fn detect() -> Option<Self> {
        let there = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && (!VNNI || is_x86_feature_detected!("avxvnni"));
        there.then_some(Self(()))
    }
}

const LANES: usize = 8;

#[target_feature(enable = "avx2,fma")]
fn compiled<K: Kernel, const VNNI: bool>(kernel: K, simd: Avx2Fma<VNNI>) -> K::Output {
    kernel.run(simd)
}

#[target_feature(enable = "avx2,fma,avxvnni")]
fn compiled_with_vnni<K: Kernel, const VNNI: bool>(kernel: K, simd: Avx2Fma<VNNI>) -> K::Output {
    kernel.run(simd)
}

/// A mask of all ones in the first `n` lanes.
#[inline(always)]
fn first(n: usize) -> __m256i {
    const ONES_THEN_ZEROS: [i32; 2 * LANES] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    let window = &ONES_THEN_ZEROS[LANES - n..][..LANES];
    // SAFETY: the window has eight i32; the instruction is AVX, which every caller's token guarantees.
    unsafe { _mm256_loadu_si256(window.as_ptr().cast()) }
}

/// Returns `v`, in a way that the compiler cannot look through. Otherwise it adds the products of several steps to each
/// other before it adds them to their sum, and moves loads ahead. There are no registers for that, so it keeps sums in
/// memory, and the tile takes a third more time.
#[inline]
#[target_feature(enable = "avx2")]
fn in_register(mut v: __m256i) -> __m256i {
    // SAFETY: there are no instructions.
    unsafe { asm!("/* {} */", inout(ymm_reg) v, options(nomem, nostack, preserves_flags)) };
    v
}

impl<const VNNI: bool> Simd for Avx2Fma<VNNI> {
    const LANES: usize = LANES;
    // 6 × 2 accumulators of the 16 registers.
    const TILE_ROWS: usize = 6;
    const UNROLLED: usize = 4;
    type V = __m256;
    type I = __m256i;
    const WORD: usize = if VNNI { 4 } else { 2 };

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` exists, so the processor has these instructions.
        unsafe { if VNNI { compiled_with_vnni(kernel, self) } else { compiled(kernel, self) } }
    }

    #[inline(always)]
    fn load_or(self, from: &[f32], fill: f32) -> Self::V {
        let mask = first(from.len());
        // SAFETY: lanes outside the mask, beyond the slice, are not read.
        unsafe {
            let v = _mm256_maskload_ps(from.as_ptr(), mask);
            _mm256_blendv_ps(_mm256_set1_ps(fill), v, _mm256_castsi256_ps(mask))
        }
    }

    #[inline(always)]
    fn store_first(self, v: Self::V, to: &mut [f32]) {
        let mask = first(to.len());
        // SAFETY: lanes outside the mask, beyond the slice, are not written.
        unsafe { _mm256_maskstore_ps(to.as_mut_ptr(), mask, v) }
    }

    operations! {
        fn splat(value: f32) -> __m256 = _mm256_set1_ps(value);
        fn add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        fn sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        fn mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        fn div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        fn min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        fn max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        fn round(v: __m256) -> __m256 = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
        fn times_two_to(v: __m256, n: __m256) -> __m256 = {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        };
        fn sum(v: __m256) -> f32 = {
            let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        };
        fn greatest(v: __m256) -> f32 = {
            let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        };
        fn no_words() -> __m256i = _mm256_setzero_si256();
        fn dot_words(sum: __m256i, x: __m256i, w: __m256i) -> __m256i = match VNNI {
            true => _mm256_dpbusd_avx_epi32(sum, x, w),
            false => in_register(_mm256_add_epi32(sum, _mm256_madd_epi16(x, w))),
        };
        fn to_f32(v: __m256i) -> __m256 = _mm256_cvtepi32_ps(v);
    }

    operations! {
        unsafe fn load_at(from: *const f32) -> __m256 = _mm256_loadu_ps(from);
        unsafe fn splat_at(from: *const f32) -> __m256 = _mm256_broadcastss_ps(_mm_load_ss(from));
        unsafe fn store_at(v: __m256, to: *mut f32) = _mm256_storeu_ps(to, v);
        unsafe fn load_words_at(from: *const i32) -> __m256i = _mm256_loadu_si256(from.cast());
        unsafe fn store_words_at(v: __m256i, to: *mut i32) = _mm256_storeu_si256(to.cast(), v);
        unsafe fn splat_word_at(from: *const i32) -> __m256i = _mm256_set1_epi32(from.read_unaligned());
    }

    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        // SAFETY: a prefetch of an invalid address has no effect.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn store_rounded_at(self, v: Self::V, to: *mut i32) {
        // SAFETY: the caller guarantees space for eight numbers in words.
        unsafe {
            let whole = _mm256_cvtps_epi32(v);
            let narrow = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256::<1>(whole));
            if VNNI {
                _mm_storel_epi64(to.cast(), _mm_packus_epi16(narrow, narrow));
            } else {
                _mm_storeu_si128(to.cast(), narrow);
            }
        }
    }

    #[inline(always)]
    unsafe fn store_bf16_at(self, v: Self::V, to: *mut i32) -> Self::V {
        // SAFETY: the caller guarantees space for eight numbers of 16 bits.
        unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let halves = _mm256_srli_epi32::<16>(up);
            let (first, last) = (_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
            _mm_storeu_si128(to.cast(), _mm_packus_epi32(first, last));
            _mm256_castsi256_ps(_mm256_and_si256(up, _mm256_set1_epi32(!0xffff)))
        }
    }
}
