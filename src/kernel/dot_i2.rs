//! Dot products of bytes with codes of two bits: the rough scores that guide a graph walk.
//!
//! ```text
//! row: groups of 128 codes in 32 bytes, then the value of code 1 as f32, then nothing up to the next 64 bytes
//! byte j of a group, bits 2p and 2p + 1: code 32·p + j        a code u in 0..=3 stands for 2u - 3
//! score = base + (2·Σ q·u - 3·Σ q) · both scales              q: the signed bytes of the query
//! ```
//! All sums are exact, so every level gives the same bits. A row is a third of the bytes of [`super::dot_i8`] and less,
//! and a walk waits for memory more than it computes.

use super::dot_i8::{BLOCK, Block, ahead, prefetch};
use crate::machine::cpu::{self, Level};

/// Codes in a group.
pub const GROUP: usize = 128;
/// Bytes of a group.
const BYTES: usize = GROUP / 4;

/// A vector that many rows are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The signed codes, filled up with 0.
    pub groups: &'a [[i8; GROUP]],
    /// Σ of the codes.
    pub sum: i32,
    /// The f32 value of code 1.
    pub scale: f32,
    /// The score of a row of value 0.
    pub base: f32,
}

/// The number of blocks of a row of this many groups.
pub const fn blocks(groups: usize) -> usize {
    (groups * BYTES + size_of::<f32>()).div_ceil(BLOCK)
}

/// Writes a row: `codes` in 0..=3, at most as many as the row has places.
pub fn write_row(row: &mut [Block], codes: impl IntoIterator<Item = u8>, groups: usize, scale: f32) {
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(row);
    bytes.fill(0);
    for (i, code) in codes.into_iter().enumerate() {
        let (group, place) = (i / GROUP, i % GROUP);
        bytes[group * BYTES + place % BYTES] |= code << (2 * (place / BYTES));
    }
    bytes[groups * BYTES..][..size_of::<f32>()].copy_from_slice(&scale.to_ne_bytes());
}

/// Estimates dot products of the query with some rows: `out[i]` with row `which[i]` of `rows`, [rows, blocks of a row].
///
/// # Panics
/// If a row does not exist, or the shapes disagree.
#[inline]
pub fn score_rows(query: Query<'_>, rows: &[Block], which: &[u32], out: &mut [f32]) {
    score_rows_at(cpu::level(), query, rows, which, out);
}

/// Computes [`score_rows`] at a chosen level, to compare levels.
///
/// # Panics
/// Like [`score_rows`], and if the machine lacks the level.
#[inline]
pub fn score_rows_at(level: Level, query: Query<'_>, rows: &[Block], which: &[u32], out: &mut [f32]) {
    // The active level is supported; checking that again would cost more than a row.
    assert!(level == cpu::level() || level.is_supported(), "this machine has no {level}");
    assert_eq!(which.len(), out.len(), "a score for each row");
    // SAFETY: the machine has the level.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni | Level::Amx => score_avx512_vnni(query, rows, which, out),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => score_avx_vnni(query, rows, which, out),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2Fma | Level::Avx512 => score_avx2(query, rows, which, out),
            _ => score_portable(query, rows, which, out),
        }
    }
}

/// The loop of [`score_rows`] around one level's product, compiled for that level.
macro_rules! score {
    ($name:ident, $dot:ident $(, $features:literal)?) => {
        $(#[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)])?
        fn $name(query: Query<'_>, rows: &[Block], which: &[u32], out: &mut [f32]) {
            let groups = query.groups.len();
            let (blocks, bias) = (blocks(groups), 3 * query.sum);
            let ahead = ahead(blocks);
            for &row in &which[..ahead.min(which.len())] {
                prefetch(&rows[row as usize * blocks..][..blocks]);
            }
            for i in 0..which.len() {
                if let Some(&row) = which.get(i + ahead) {
                    prefetch(&rows[row as usize * blocks..][..blocks]);
                }
                let row: &[u8] = bytemuck::cast_slice(&rows[which[i] as usize * blocks..][..blocks]);
                let (codes, rest) = row.split_at(groups * BYTES);
                let scale = f32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]);
                let dot = $dot(codes.as_chunks().0, query.groups);
                out[i] = query.base + (2 * dot - bias) as f32 * (query.scale * scale);
            }
        }
    };
}

score!(score_portable, dot_portable);
score!(score_avx512_vnni, dot_avx512_vnni, "avx512f,avx512bw,avx512vl,avx512vnni");
score!(score_avx_vnni, dot_avx_vnni, "avx2,avxvnni");
score!(score_avx2, dot_avx2, "avx2");

/// Σ q·u.
#[inline]
fn dot_portable(codes: &[[u8; BYTES]], query: &[[i8; GROUP]]) -> i32 {
    let mut sum = 0;
    for (codes, query) in codes.iter().zip(query) {
        for (place, &q) in query.iter().enumerate() {
            sum += i32::from(codes[place % BYTES] >> (2 * (place / BYTES)) & 3) * i32::from(q);
        }
    }
    sum
}

/// A level's product by its instruction for `sum + Σ u·q` of four neighbouring bytes in each lane.
macro_rules! dot_vnni {
    ($name:ident, $dpbusd:ident, $features:literal) => {
        #[cfg(target_arch = "x86_64")]
        #[inline]
        #[target_feature(enable = $features)]
        fn $name(codes: &[[u8; BYTES]], query: &[[i8; GROUP]]) -> i32 {
            use std::arch::x86_64::*;
            let mask = _mm256_set1_epi8(3);
            let (mut even, mut odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            for (codes, query) in codes.iter().zip(query) {
                let query = query.as_chunks::<BYTES>().0;
                // SAFETY: the array has 32 bytes.
                let z = unsafe { load_codes(codes) };
                // SAFETY: each part has 32 bytes.
                let q = unsafe { [load(&query[0]), load(&query[1]), load(&query[2]), load(&query[3])] };
                even = $dpbusd(even, _mm256_and_si256(z, mask), q[0]);
                odd = $dpbusd(odd, _mm256_and_si256(_mm256_srli_epi16::<2>(z), mask), q[1]);
                even = $dpbusd(even, _mm256_and_si256(_mm256_srli_epi16::<4>(z), mask), q[2]);
                odd = $dpbusd(odd, _mm256_and_si256(_mm256_srli_epi16::<6>(z), mask), q[3]);
            }
            sum_256(_mm256_add_epi32(even, odd))
        }
    };
}

dot_vnni!(dot_avx512_vnni, _mm256_dpbusd_epi32, "avx512f,avx512bw,avx512vl,avx512vnni");
dot_vnni!(dot_avx_vnni, _mm256_dpbusd_avx_epi32, "avx2,avxvnni");

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn dot_avx2(codes: &[[u8; BYTES]], query: &[[i8; GROUP]]) -> i32 {
    use std::arch::x86_64::*;
    let (mask, ones) = (_mm256_set1_epi8(3), _mm256_set1_epi16(1));
    let mut sum = _mm256_setzero_si256();
    for (codes, query) in codes.iter().zip(query) {
        let query = query.as_chunks::<BYTES>().0;
        // SAFETY: the array has 32 bytes.
        let z = unsafe { load_codes(codes) };
        // SAFETY: each part has 32 bytes.
        let q = unsafe { [load(&query[0]), load(&query[1]), load(&query[2]), load(&query[3])] };
        // A sum of eight products is at most 8·3·128 and fits into 16 bits.
        let first = _mm256_maddubs_epi16(_mm256_and_si256(z, mask), q[0]);
        let second = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<2>(z), mask), q[1]);
        let third = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<4>(z), mask), q[2]);
        let fourth = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16::<6>(z), mask), q[3]);
        let pairs = _mm256_add_epi16(_mm256_add_epi16(first, second), _mm256_add_epi16(third, fourth));
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
    }
    sum_256(sum)
}

/// # Safety
/// The machine has AVX2.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_codes(codes: &[u8; BYTES]) -> std::arch::x86_64::__m256i {
    // SAFETY: both types are 32 bytes.
    unsafe { std::mem::transmute::<[u8; BYTES], std::arch::x86_64::__m256i>(*codes) }
}

/// # Safety
/// The machine has AVX2.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(codes: &[i8; BYTES]) -> std::arch::x86_64::__m256i {
    // SAFETY: both types are 32 bytes.
    unsafe { std::mem::transmute::<[i8; BYTES], std::arch::x86_64::__m256i>(*codes) }
}

#[cfg(target_arch = "x86_64")]
use super::dot_i8::sum_256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_level_gives_the_sum_of_the_formula(
            (query, rows) in (1usize..900).prop_flat_map(|n| {
                let row = prop::collection::vec(0u8..=3, n);
                (prop::collection::vec(-128i8..=127, n), prop::collection::vec(row, 1..30))
            }),
        ) {
            let groups = query.len().div_ceil(GROUP);
            let mut of_query = vec![[0; GROUP]; groups];
            query.iter().enumerate().for_each(|(i, &q)| of_query[i / GROUP][i % GROUP] = q);
            let sum = query.iter().map(|&q| i32::from(q)).sum();
            let q = Query { groups: &of_query, sum, scale: 0.25, base: 1.5 };
            let mut all = vec![Block::ZERO; rows.len() * blocks(groups)];
            for (i, (row, codes)) in all.chunks_mut(blocks(groups)).zip(&rows).enumerate() {
                write_row(row, codes.iter().copied(), groups, i as f32 - 2.5);
            }
            let exact: Vec<f32> = rows.iter().enumerate().map(|(i, row)| {
                let dot: i32 = row.iter().zip(&query).map(|(&u, &q)| (2 * i32::from(u) - 3) * i32::from(q)).sum();
                1.5 + dot as f32 * (0.25 * (i as f32 - 2.5))
            }).rev().collect();
            let which: Vec<u32> = (0..rows.len() as u32).rev().collect();
            for level in Level::supported() {
                let mut out = vec![0.0; which.len()];
                score_rows_at(level, q, &all, &which, &mut out);
                prop_assert_eq!(&out, &exact, "{}", level);
            }
        }
    }

    #[test]
    fn the_longest_rows_of_the_largest_codes_do_not_overflow() {
        let groups = super::super::dot_i8::MAX_DIMENSIONS / GROUP;
        let mut row = vec![Block::ZERO; blocks(groups)];
        write_row(&mut row, vec![3; groups * GROUP], groups, 1.0);
        for code in [-128i8, 127] {
            let of_query = vec![[code; GROUP]; groups];
            let sum = i32::from(code) * (groups * GROUP) as i32;
            for level in Level::supported() {
                let mut out = [0.0];
                score_rows_at(level, Query { groups: &of_query, sum, scale: 1.0, base: 0.0 }, &row, &[0], &mut out);
                assert_eq!(out[0], 3.0 * sum as f32, "{level}");
            }
        }
    }
}
