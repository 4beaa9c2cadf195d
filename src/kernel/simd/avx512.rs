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
    type V = __m512;
    type I = __m512i;
    const WORD: usize = if VNNI { 4 } else { 2 };

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` exists, so the processor has these instructions.
        unsafe { if VNNI { compiled_with_vnni(kernel, self) } else { compiled(kernel, self) } }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        op!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, from: &[f32]) -> Self::V {
        // SAFETY: the slice was cut to sixteen f32.
        unsafe { self.load_at(from[..LANES].as_ptr()) }
    }

    #[inline(always)]
    fn load_or(self, from: &[f32], fill: f32) -> Self::V {
        // SAFETY: lanes outside the mask, beyond the slice, are not read.
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), first(from.len()), from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32]) {
        // SAFETY: the slice was cut to sixteen f32.
        unsafe { self.store_at(v, to[..LANES].as_mut_ptr()) }
    }

    #[inline(always)]
    fn store_first(self, v: Self::V, to: &mut [f32]) {
        // SAFETY: lanes outside the mask, beyond the slice, are not written.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), first(to.len()), v) }
    }

    #[inline(always)]
    unsafe fn load_at(self, from: *const f32) -> Self::V {
        // SAFETY: the caller guarantees sixteen f32; no alignment is assumed.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn splat_at(self, from: *const f32) -> Self::V {
        // SAFETY: the caller guarantees one f32.
        unsafe { _mm512_broadcastss_ps(_mm_load_ss(from)) }
    }

    #[inline(always)]
    unsafe fn store_at(self, v: Self::V, to: *mut f32) {
        // SAFETY: the caller guarantees sixteen f32; no alignment is assumed.
        unsafe { _mm512_storeu_ps(to, v) }
    }

    #[inline(always)]
    fn prefetch(self, address: *const f32) {
        // SAFETY: a prefetch of an invalid address has no effect.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
    }

    operations! {
        add(a, b) = _mm512_add_ps(a, b);
        sub(a, b) = _mm512_sub_ps(a, b);
        mul(a, b) = _mm512_mul_ps(a, b);
        div(a, b) = _mm512_div_ps(a, b);
        mul_add(a, b, c) = _mm512_fmadd_ps(a, b, c);
        min(a, b) = _mm512_min_ps(a, b);
        max(a, b) = _mm512_max_ps(a, b);
        round(v) = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
        times_two_to(v, n) = _mm512_scalef_ps(v, n);
    }

    #[inline(always)]
    fn sum(self, v: Self::V) -> f32 {
        op!(_mm512_reduce_add_ps(v))
    }

    #[inline(always)]
    fn greatest(self, v: Self::V) -> f32 {
        op!(_mm512_reduce_max_ps(v))
    }

    #[inline(always)]
    unsafe fn load_words_at(self, from: *const i32) -> Self::I {
        // SAFETY: the caller guarantees sixteen i32; no alignment is assumed.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_words_at(self, v: Self::I, to: *mut i32) {
        // SAFETY: the caller guarantees sixteen i32; no alignment is assumed.
        unsafe { _mm512_storeu_si512(to.cast(), v) }
    }

    #[inline(always)]
    unsafe fn splat_word_at(self, from: *const i32) -> Self::I {
        // SAFETY: the caller guarantees one i32.
        unsafe { _mm512_set1_epi32(from.read_unaligned()) }
    }

    #[inline(always)]
    fn no_words(self) -> Self::I {
        op!(_mm512_setzero_si512())
    }

    #[inline(always)]
    fn dot_words(self, sum: Self::I, x: Self::I, w: Self::I) -> Self::I {
        if VNNI { op!(_mm512_dpbusd_epi32(sum, x, w)) } else { op!(_mm512_add_epi32(sum, _mm512_madd_epi16(x, w))) }
    }

    #[inline(always)]
    fn to_f32(self, v: Self::I) -> Self::V {
        op!(_mm512_cvtepi32_ps(v))
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
