//! Dot products of vectors of bytes: the estimated scores that guide a graph walk.
//!
//! ```text
//! codes -127..=127, stored as u = code + 128 in blocks of 64, the last one filled with codes 0 (u = 128)
//! Σ a·b = Σ u_a·b - 128·Σ b        b = u_b ^ 0x80 as a signed byte; Σ b is known for one side of a call
//! ```
//! The byte instruction (VNNI) multiplies unsigned by signed bytes. Stored this way both sides are the same, and
//! the correction is one subtraction per row. All sums are exact: |Σ u·b| ≤ 255·127·4,096 < 2³¹. So every level
//! gives the same bits.
//!
//! Optimisations of [`score_rows`], largest gain first: rows are prefetched, because a graph's rows are scattered
//! over memory; the level is dispatched once per call; two independent sums.

use crate::machine::cpu::{self, Level};

/// Codes per block: a cache line, and a register of AVX-512.
pub const BLOCK: usize = 64;
/// Most dimensions for which sums cannot overflow.
pub const MAX_DIMENSIONS: usize = 4_096;

/// 64 codes, each plus 128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C, align(64))]
pub struct Block(pub [u8; BLOCK]);

// SAFETY: 64 bytes, all values are valid, and there is no padding: the size equals the alignment.
unsafe impl bytemuck::Zeroable for Block {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Block {}

impl Block {
    /// A block whose codes are all 0.
    pub const ZERO: Block = Block([128; BLOCK]);
}

/// A vector that many rows are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The codes, as long as a row.
    pub blocks: &'a [Block],
    /// Σ of the codes.
    pub sum: i32,
    /// The f32 value of code 1.
    pub scale: f32,
}

/// Rows of codes, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct CodeRows<'a> {
    /// [rows, blocks of a row]
    pub blocks: &'a [Block],
    /// The f32 value of code 1, per row.
    pub scales: &'a [f32],
}

impl CodeRows<'_> {
    /// Prefetches a row of this many blocks, and its scale.
    #[inline(always)]
    pub fn prefetch(&self, row: u32, blocks: usize) {
        prefetch(&self.blocks[row as usize * blocks..][..blocks]);
        prefetch(&self.scales[row as usize..][..1]);
    }
}

/// `Σ a[i]·b[i]` of codes, exact; `b_sum` is `Σ b[i]`.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn dot_i8(a: &[Block], b: &[Block], b_sum: i32) -> i32 {
    assert_eq!(a.len(), b.len(), "dot product of codes of different length");
    // SAFETY: `level` names only levels the machine has; the lengths are equal.
    let biased = unsafe { dispatch(cpu::level(), a, b) };
    biased - 128 * b_sum
}

/// Estimates dot products of the query with some rows: `out[i] = Σ codes · both scales` for row `which[i]`.
///
/// # Panics
/// If a row does not exist, or the shapes disagree.
#[inline]
pub fn score_rows(query: Query<'_>, rows: CodeRows<'_>, which: &[u32], out: &mut [f32]) {
    score_rows_at(cpu::level(), query, rows, which, out);
}

/// Computes [`score_rows`] at a chosen level, to compare levels.
///
/// # Panics
/// Like [`score_rows`], and if the machine lacks the level.
#[inline]
pub fn score_rows_at(level: Level, query: Query<'_>, rows: CodeRows<'_>, which: &[u32], out: &mut [f32]) {
    // The active level is supported; checking that again would cost more than a row.
    assert!(level == cpu::level() || level.is_supported(), "this machine has no {level}");
    assert_eq!(rows.blocks.len(), rows.scales.len() * query.blocks.len(), "rows as long as the query");
    assert_eq!(which.len(), out.len(), "a score for each row");
    // SAFETY: the machine has the level.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni | Level::Amx => score_avx512_vnni(query, rows, which, out),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => score_avx512(query, rows, which, out),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => score_avx_vnni(query, rows, which, out),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2Fma => score_avx2(query, rows, which, out),
            _ => score_portable(query, rows, which, out),
        }
    }
}

/// Prefetches the memory of some values.
#[inline(always)]
pub fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in (0..size_of_val(values)).step_by(BLOCK) {
            // SAFETY: a prefetch of any address has no other effect; SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(values.as_ptr().cast::<i8>().wrapping_add(line)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Computes Σ u_a·b.
///
/// # Safety
/// The machine has `level`, and the slices are of equal length.
#[inline]
unsafe fn dispatch(level: Level, a: &[Block], b: &[Block]) -> i32 {
    // SAFETY: guaranteed by this function's contract.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni | Level::Amx => biased_avx512_vnni(a, b),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => biased_avx512(a, b),
            #[cfg(target_arch = "x86_64")]
            Level::AvxVnni => biased_avx_vnni(a, b),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2Fma => biased_avx2(a, b),
            _ => biased_portable(a, b),
        }
    }
}

/// Blocks that are prefetched while one row is compared. More than the memory handles at a time, so that it always has
/// requests; fewer than the first cache holds.
const AHEAD_BLOCKS: usize = 72;

/// The number of rows that are prefetched while one is compared.
pub(super) fn ahead(blocks: usize) -> usize {
    AHEAD_BLOCKS.div_ceil(blocks.max(1))
}

/// The loop of [`score_rows`] around one level's product, compiled for that level.
macro_rules! score {
    ($name:ident, $biased:ident $(, $features:literal)?) => {
        $(#[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)])?
        fn $name(query: Query<'_>, rows: CodeRows<'_>, which: &[u32], out: &mut [f32]) {
            let blocks = query.blocks.len();
            let ahead = ahead(blocks);
            which[..ahead.min(which.len())].iter().for_each(|&row| rows.prefetch(row, blocks));
            let bias = 128 * query.sum;
            for i in 0..which.len() {
                if let Some(&row) = which.get(i + ahead) {
                    rows.prefetch(row, blocks);
                }
                let row = which[i] as usize;
                let biased = $biased(&rows.blocks[row * blocks..][..blocks], query.blocks);
                out[i] = (biased - bias) as f32 * (query.scale * rows.scales[row]);
            }
        }
    };
}

score!(score_portable, biased_portable);
score!(score_avx512_vnni, biased_avx512_vnni, "avx512f,avx512bw,avx512vnni");
score!(score_avx512, biased_avx512, "avx512f,avx512bw");
score!(score_avx_vnni, biased_avx_vnni, "avx2,avxvnni");
score!(score_avx2, biased_avx2, "avx2");

#[inline]
fn biased_portable(a: &[Block], b: &[Block]) -> i32 {
    let mut sum = 0;
    for (x, y) in a.iter().zip(b) {
        for i in 0..BLOCK {
            sum += i32::from(x.0[i]) * i32::from((y.0[i] ^ 0x80) as i8);
        }
    }
    sum
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn biased_avx512_vnni(a: &[Block], b: &[Block]) -> i32 {
    use std::arch::x86_64::*;
    let flip = _mm512_set1_epi8(-128);
    let mut sums = [_mm512_setzero_si512(); 2];
    let ((a, a_last), (b, b_last)) = (a.as_chunks::<2>(), b.as_chunks::<2>());
    for (x, y) in a.iter().zip(b) {
        for i in 0..2 {
            // SAFETY: both are 64 bytes.
            let (x, y) = unsafe { (load_512(&x[i]), load_512(&y[i])) };
            sums[i] = _mm512_dpbusd_epi32(sums[i], x, _mm512_xor_si512(y, flip));
        }
    }
    for (x, y) in a_last.iter().zip(b_last) {
        // SAFETY: both are 64 bytes.
        let (x, y) = unsafe { (load_512(x), load_512(y)) };
        sums[0] = _mm512_dpbusd_epi32(sums[0], x, _mm512_xor_si512(y, flip));
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn biased_avx512(a: &[Block], b: &[Block]) -> i32 {
    use std::arch::x86_64::*;
    let flip = _mm512_set1_epi8(-128);
    let mut sums = [_mm512_setzero_si512(); 2];
    for (x, y) in a.iter().zip(b) {
        // SAFETY: both are 64 bytes.
        let (x, y) = unsafe { (load_512(x), load_512(y)) };
        let y = _mm512_xor_si512(y, flip);
        let low = (_mm512_castsi512_si256(x), _mm512_castsi512_si256(y));
        let high = (_mm512_extracti64x4_epi64::<1>(x), _mm512_extracti64x4_epi64::<1>(y));
        let low = _mm512_madd_epi16(_mm512_cvtepu8_epi16(low.0), _mm512_cvtepi8_epi16(low.1));
        let high = _mm512_madd_epi16(_mm512_cvtepu8_epi16(high.0), _mm512_cvtepi8_epi16(high.1));
        sums[0] = _mm512_add_epi32(sums[0], low);
        sums[1] = _mm512_add_epi32(sums[1], high);
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn biased_avx_vnni(a: &[Block], b: &[Block]) -> i32 {
    use std::arch::x86_64::*;
    let flip = _mm256_set1_epi8(-128);
    let (mut low, mut high) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for (x, y) in a.iter().zip(b) {
        // SAFETY: both halves are 32 bytes.
        let (x_low, y_low, x_high, y_high) =
            unsafe { (load_256(x, 0), load_256(y, 0), load_256(x, 1), load_256(y, 1)) };
        low = _mm256_dpbusd_avx_epi32(low, x_low, _mm256_xor_si256(y_low, flip));
        high = _mm256_dpbusd_avx_epi32(high, x_high, _mm256_xor_si256(y_high, flip));
    }
    sum_256(_mm256_add_epi32(low, high))
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn biased_avx2(a: &[Block], b: &[Block]) -> i32 {
    use std::arch::x86_64::*;
    let flip = _mm256_set1_epi8(-128);
    let mut sums = [_mm256_setzero_si256(); 2];
    for (x, y) in a.iter().zip(b) {
        for i in 0..2 {
            // SAFETY: both halves are 32 bytes.
            let (x, y) = unsafe { (load_256(x, i), load_256(y, i)) };
            let y = _mm256_xor_si256(y, flip);
            let low = (_mm256_castsi256_si128(x), _mm256_castsi256_si128(y));
            let high = (_mm256_extracti128_si256::<1>(x), _mm256_extracti128_si256::<1>(y));
            let low = _mm256_madd_epi16(_mm256_cvtepu8_epi16(low.0), _mm256_cvtepi8_epi16(low.1));
            let high = _mm256_madd_epi16(_mm256_cvtepu8_epi16(high.0), _mm256_cvtepi8_epi16(high.1));
            sums[0] = _mm256_add_epi32(sums[0], low);
            sums[1] = _mm256_add_epi32(sums[1], high);
        }
    }
    sum_256(_mm256_add_epi32(sums[0], sums[1]))
}

/// # Safety
/// The machine has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_512(block: &Block) -> std::arch::x86_64::__m512i {
    // SAFETY: both types are 64 bytes. (By value, because pointer intrinsics check their argument with debug
    // assertions.)
    unsafe { std::mem::transmute::<[u8; 64], std::arch::x86_64::__m512i>(block.0) }
}

/// Loads half `i` of a block.
///
/// # Safety
/// The machine has AVX2.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_256(block: &Block, i: usize) -> std::arch::x86_64::__m256i {
    let halves = block.0.as_chunks::<32>().0;
    // SAFETY: both types are 32 bytes.
    unsafe { std::mem::transmute::<[u8; 32], std::arch::x86_64::__m256i>(halves[i]) }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum_256(v: std::arch::x86_64::__m256i) -> i32 {
    use std::arch::x86_64::*;
    let four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blocks(codes: &[i8], blocks: usize) -> Vec<Block> {
        let mut out = vec![Block::ZERO; blocks];
        for (i, &code) in codes.iter().enumerate() {
            out[i / BLOCK].0[i % BLOCK] = code as u8 ^ 0x80;
        }
        out
    }

    fn sum(blocks: &[Block]) -> i32 {
        blocks.iter().flat_map(|block| block.0).map(|u| i32::from(u) - 128).sum()
    }

    proptest! {
        #[test]
        fn every_level_gives_the_sum_of_the_formula(
            (a, b) in (1usize..800).prop_flat_map(|n| {
                let codes = || prop::collection::vec(-127i8..=127, n);
                (codes(), codes())
            }),
        ) {
            let n = a.len().div_ceil(BLOCK);
            let (a_blocks, b_blocks) = (blocks(&a, n), blocks(&b, n));
            let exact: i32 = a.iter().zip(&b).map(|(&x, &y)| i32::from(x) * i32::from(y)).sum();
            prop_assert_eq!(dot_i8(&a_blocks, &b_blocks, sum(&b_blocks)), exact);
            for level in Level::supported() {
                // SAFETY: the level is supported and the lengths are equal.
                let biased = unsafe { dispatch(level, &a_blocks, &b_blocks) };
                prop_assert_eq!(biased - 128 * sum(&b_blocks), exact, "{}", level);
            }
        }

        #[test]
        fn every_level_scores_the_rows_that_were_asked_for(
            (rows, which) in (1usize..20).prop_flat_map(|n| {
                let row = prop::collection::vec(-127i8..=127, 100);
                (prop::collection::vec(row, n), prop::collection::vec(0..n as u32, 0..40))
            }),
        ) {
            let all: Vec<Block> = rows.iter().flat_map(|row| blocks(row, 2)).collect();
            let scales: Vec<f32> = (0..rows.len()).map(|i| 0.25 + i as f32).collect();
            let query = Query { blocks: &all[..2], sum: sum(&all[..2]), scale: 0.5 };
            let exact: Vec<f32> = which.iter().map(|&row| {
                let pairs = rows[0].iter().zip(&rows[row as usize]);
                let dot: i32 = pairs.map(|(&x, &y)| i32::from(x) * i32::from(y)).sum();
                dot as f32 * (0.5 * scales[row as usize])
            }).collect();
            for level in Level::supported() {
                let mut out = vec![0.0; which.len()];
                score_rows_at(level, query, CodeRows { blocks: &all, scales: &scales }, &which, &mut out);
                prop_assert_eq!(&out, &exact, "{}", level);
            }
        }
    }

    #[test]
    fn the_longest_vectors_of_the_largest_codes_do_not_overflow() {
        for (x, y) in [(127, 127), (-127, 127), (127, -127), (-127, -127)] {
            let n = MAX_DIMENSIONS / BLOCK;
            let (a, b) = (blocks(&vec![x; MAX_DIMENSIONS], n), blocks(&vec![y; MAX_DIMENSIONS], n));
            let exact = i32::from(x) * i32::from(y) * MAX_DIMENSIONS as i32;
            for level in Level::supported() {
                // SAFETY: the level is supported and the lengths are equal.
                assert_eq!(unsafe { dispatch(level, &a, &b) } - 128 * sum(&b), exact, "{level}");
            }
        }
    }
}
