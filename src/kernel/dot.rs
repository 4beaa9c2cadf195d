//! The dot product, and length and normalisation, which are based on it.
//!
//! ```text
//! dot(a, b) = Σ a[i]·b[i]        norm(a) = √dot(a, a)        normalize(a): a[i] / norm(a)
//! ```
//! Optimisations, largest gain first: vector registers with fused multiply-add; four independent sums, because one
//! addition takes four cycles and two start in each; on AVX-512 a masked last step instead of a scalar tail. The
//! order of summation differs between levels, so results differ in the last bits between machines. On one machine
//! the same input gives the same bits.
//!
//! Lengths are computed in f64: the squares of all f32, from the least subnormal to `f32::MAX`, are normal numbers
//! there, so nothing overflows or underflows.

use thiserror::Error;

use crate::machine::cpu::{self, Level};

/// Dot product of two slices of equal length, in f32, at the level of [`cpu::level`].
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "dot product of slices of different length");
    // SAFETY: `level` names only levels the machine has; the lengths are equal.
    unsafe { dispatch(cpu::level(), a, b) }
}

/// Computes [`dot`] at a chosen level, to compare levels.
///
/// # Panics
/// If the lengths differ or the machine lacks the level.
pub fn dot_at(level: Level, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "dot product of slices of different length");
    assert!(level.is_supported(), "this machine has no {level}");
    // SAFETY: both conditions were just checked.
    unsafe { dispatch(level, a, b) }
}

/// Dot product according to the formula, summed in f64: the reference for [`dot`].
pub fn dot_plain(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

/// Euclidean length. Infinite or NaN only if a component is.
pub fn norm(a: &[f32]) -> f64 {
    // Eight sums, so that the compiler can use vector registers: it may not reorder a single sum.
    let mut sums = [0f64; 8];
    let mut chunks = a.chunks_exact(8);
    for chunk in &mut chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    let tail: f64 = chunks.remainder().iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    (sums.iter().sum::<f64>() + tail).sqrt()
}

/// Reasons why a vector has no direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NormError {
    /// All components are zero, or there are no components.
    #[error("the vector is all zeros")]
    Zero,
    /// A component is NaN or infinite.
    #[error("component {position} is not finite")]
    NotFinite { position: usize },
}

/// Scales `a` to length 1, and returns its former length. On an error `a` is unchanged.
pub fn normalize(a: &mut [f32]) -> Result<f64, NormError> {
    let length = norm(a);
    if !length.is_finite() {
        // The squares of finite f32 cannot overflow f64, so a component is not finite.
        let position = a.iter().position(|x| !x.is_finite()).unwrap_or(0);
        return Err(NormError::NotFinite { position });
    }
    if length == 0.0 {
        return Err(NormError::Zero);
    }
    // A division, not a product with 1/length, which would be inexact for the least subnormals.
    a.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    Ok(length)
}

/// # Safety
/// The machine has `level`, and the slices are of equal length.
#[inline]
unsafe fn dispatch(level: Level, a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: guaranteed by this function's contract. (All aarch64 machines that std supports have NEON.)
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 | Level::Avx512Vnni | Level::Amx => dot_avx512(a, b),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2Fma | Level::AvxVnni => dot_avx2(a, b),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => dot_neon(a, b),
            _ => dot_portable(a, b),
        }
    }
}

fn dot_portable(a: &[f32], b: &[f32]) -> f32 {
    // 16 sums fill four 128-bit registers, which every 64-bit machine has.
    let mut sums = [0f32; 16];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (x, y) in a.iter().zip(b) {
        for i in 0..16 {
            sums[i] += x[i] * y[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn dot_avx512(a: &[f32], b: &[f32]) -> f32 {
    use std::arch::x86_64::*;
    use std::mem::transmute;
    // By value, not through a pointer: with debug assertions each pointer intrinsic checks its argument, which
    // makes the loop four times slower.
    // SAFETY: both types are 16 floats.
    let load = |x: &[f32; 16]| unsafe { transmute::<[f32; 16], __m512>(*x) };
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let ((a, a_last), (b, b_last)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [_mm512_setzero_ps(); 4];
    for (x, y) in a.iter().zip(b) {
        for i in 0..4 {
            sums[i] = _mm512_fmadd_ps(load(&x[i]), load(&y[i]), sums[i]);
        }
    }
    for (x, y) in a_last.iter().zip(b_last) {
        sums[0] = _mm512_fmadd_ps(load(x), load(y), sums[0]);
    }
    if !a_rest.is_empty() {
        let mask = (1u16 << a_rest.len()) - 1;
        // SAFETY: the mask has a bit for each of the fewer than 16 floats of either slice (their lengths are
        // equal), and the load touches no others.
        let (x, y) =
            unsafe { (_mm512_maskz_loadu_ps(mask, a_rest.as_ptr()), _mm512_maskz_loadu_ps(mask, b_rest.as_ptr())) };
        sums[1] = _mm512_fmadd_ps(x, y, sums[1]);
    }
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn dot_avx2(a: &[f32], b: &[f32]) -> f32 {
    use std::arch::x86_64::*;
    use std::mem::transmute;
    // SAFETY: both types are 8 floats. (By value for the reason given above.)
    let load = |x: &[f32; 8]| unsafe { transmute::<[f32; 8], __m256>(*x) };
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let ((a, a_last), (b, b_last)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [_mm256_setzero_ps(); 4];
    for (x, y) in a.iter().zip(b) {
        for i in 0..4 {
            sums[i] = _mm256_fmadd_ps(load(&x[i]), load(&y[i]), sums[i]);
        }
    }
    for (x, y) in a_last.iter().zip(b_last) {
        sums[0] = _mm256_fmadd_ps(load(x), load(y), sums[0]);
    }
    let all = _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    let four = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    let one = _mm_add_ss(two, _mm_shuffle_ps::<1>(two, two));
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    _mm_cvtss_f32(one) + rest
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn dot_neon(a: &[f32], b: &[f32]) -> f32 {
    use std::arch::aarch64::*;
    use std::mem::transmute;
    // SAFETY: both types are 4 floats. (By value for the reason given above.)
    let load = |x: &[f32; 4]| unsafe { transmute::<[f32; 4], float32x4_t>(*x) };
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let ((a, a_last), (b, b_last)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [vdupq_n_f32(0.0); 4];
    for (x, y) in a.iter().zip(b) {
        for i in 0..4 {
            sums[i] = vfmaq_f32(sums[i], load(&x[i]), load(&y[i]));
        }
    }
    for (x, y) in a_last.iter().zip(b_last) {
        sums[0] = vfmaq_f32(sums[0], load(x), load(y));
    }
    let all = vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3]));
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    vaddvq_f32(all) + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each product and each sum rounds once: n/16 successive roundings in a sum, and a few more to join the sums,
    /// at most 16 of them for a scalar tail.
    fn tolerance(a: &[f32], b: &[f32]) -> f64 {
        let magnitude: f64 = a.iter().zip(b).map(|(&x, &y)| (f64::from(x) * f64::from(y)).abs()).sum();
        let roundings = a.len() as f64 / 4.0 + 32.0;
        magnitude * roundings * f64::from(f32::EPSILON) / 2.0 + f64::from(f32::MIN_POSITIVE)
    }

    fn assert_close_at_every_level(a: &[f32], b: &[f32]) {
        let plain = dot_plain(a, b);
        for level in Level::supported() {
            let fast = f64::from(dot_at(level, a, b));
            let (error, allowed) = ((fast - plain).abs(), tolerance(a, b));
            assert!(error <= allowed, "{level}, n = {}: {fast} for {plain}, off by {error:e} > {allowed:e}", a.len());
        }
    }

    proptest! {
        #[test]
        fn fast_is_plain_within_rounding_at_every_level_length_and_alignment(
            (values, skip) in (prop::collection::vec(-8.0f32..8.0, 0..2200), 0usize..16),
        ) {
            let half = values.len() / 2;
            let skip = skip.min(half);
            assert_close_at_every_level(&values[skip..half], &values[half..2 * half - skip]);
        }

        #[test]
        fn a_scaled_vector_has_length_one_and_the_same_direction(
            mut v in prop::collection::vec(prop_oneof![-1e30f32..1e30, -1.0f32..1.0, -1e-42f32..1e-42], 1..64),
        ) {
            let before = v.clone();
            match normalize(&mut v) {
                Err(error) => {
                    prop_assert_eq!(error, NormError::Zero);
                    prop_assert!(before.iter().all(|&x| x == 0.0));
                }
                Ok(length) => {
                    prop_assert!((norm(&v) - 1.0).abs() < 1e-6, "length {}", norm(&v));
                    for (&x, &y) in before.iter().zip(&v) {
                        prop_assert!((f64::from(x) / length - f64::from(y)).abs() < 1e-7);
                    }
                }
            }
        }
    }

    #[test]
    fn every_length_to_1100_is_summed_to_its_end_and_no_further() {
        // Ones, with a NaN right behind the slice: a load that is too long or too short shows.
        let mut ones = vec![1.0f32; 1101];
        for n in 0..=1100 {
            ones[n] = f32::NAN;
            for level in Level::supported() {
                assert_eq!(dot_at(level, &ones[..n], &ones[..n]), n as f32, "{level}, n = {n}");
            }
            ones[n] = 1.0;
        }
    }

    #[test]
    fn the_chosen_level_is_the_one_dispatched_to() {
        let a: Vec<f32> = (0..777).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = (0..777).map(|i| (i as f32 * 0.11).cos()).collect();
        assert_eq!(dot(&a, &b).to_bits(), dot_at(cpu::level(), &a, &b).to_bits());
    }

    #[test]
    #[should_panic(expected = "different length")]
    fn slices_of_different_length_are_refused() {
        dot(&[1.0, 2.0], &[1.0]);
    }

    #[test]
    fn the_largest_and_the_least_numbers_are_scaled_to_length_one() {
        for component in [f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), -f32::MAX] {
            let mut v = [component; 384];
            let length = normalize(&mut v).unwrap();
            assert!((length / (f64::from(component.abs()) * 384f64.sqrt()) - 1.0).abs() < 1e-12);
            assert!((norm(&v) - 1.0).abs() < 1e-6, "{component:e} gave length {}", norm(&v));
        }
        let mut alone = [0.0, f32::from_bits(1), 0.0];
        normalize(&mut alone).unwrap();
        assert_eq!(alone, [0.0, 1.0, 0.0]);
    }

    #[test]
    fn a_vector_without_direction_is_refused_and_left_alone() {
        assert_eq!(normalize(&mut []), Err(NormError::Zero));
        assert_eq!(normalize(&mut [0.0, -0.0]), Err(NormError::Zero));
        let mut v = [1.0, f32::INFINITY, f32::NAN];
        assert_eq!(normalize(&mut v), Err(NormError::NotFinite { position: 1 }));
        assert_eq!(v[0], 1.0);
        assert_eq!(normalize(&mut [f32::NAN]), Err(NormError::NotFinite { position: 0 }));
    }
}
