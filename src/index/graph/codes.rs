//! Vectors as bytes: walks read these instead of f32, a quarter of the memory.
//!
//! ```text
//! code[i] = round(x[i] / scale)      scale = max |x| / 127      cosine(a, b) ≈ Σ code_a·code_b · scale_a · scale_b
//! ```
//! Invariant: a row never changes, and rows are numbered in the order of `push`. The error of an estimate has no bias
//! and is about 0.001 for text embeddings. A caller that needs true scores computes them from the f32 rows.

use super::column::Column;
use crate::kernel::dot_i2::GROUP;
use crate::kernel::dot_i8::{BLOCK, Block, CodeRows, MAX_DIMENSIONS, Query, dot_i8, score_rows};

/// The error of f32 arithmetic with a few thousand components of a unit vector, in an estimate and in a true score.
const F32_ERROR: f32 = 1e-5;

/// Added to a small number and subtracted again, it leaves the nearest whole number, ties to even: f32 has no
/// fractions there. The instruction for that is not part of x86-64, and a call for each component is slow.
const NEAREST: f32 = (3 << 22) as f32;

/// Codes of vectors, [rows, dimensions], row by row.
pub struct Codes {
    dimensions: usize,
    /// The number of blocks of a row.
    stride: usize,
    /// [rows, stride]
    blocks: Column<Block>,
    /// The value of code 1 in each row.
    scales: Column<f32>,
    /// The sum of the codes of each row.
    sums: Column<i32>,
}

impl Codes {
    /// Codes of no rows yet, for vectors of `dimensions` components.
    ///
    /// # Panics
    /// If `dimensions` is 0 or more than [`MAX_DIMENSIONS`].
    pub fn new(dimensions: usize) -> Codes {
        assert!((1..=MAX_DIMENSIONS).contains(&dimensions), "codes have 1 to {MAX_DIMENSIONS} dimensions");
        let stride = dimensions.div_ceil(BLOCK);
        Codes { dimensions, stride, blocks: Column::default(), scales: Column::default(), sums: Column::default() }
    }

    /// Codes from existing arrays: `[rows, blocks of a row]`, `[rows]`, `[rows]`.
    ///
    /// # Panics
    /// If the shapes disagree.
    pub fn of_parts(dimensions: usize, blocks: Column<Block>, scales: Column<f32>, sums: Column<i32>) -> Codes {
        let stride = dimensions.div_ceil(BLOCK);
        assert!(
            blocks.len() == scales.len() * stride && sums.len() == scales.len(),
            "the arrays must have the same number of rows"
        );
        Codes { dimensions, stride, blocks, scales, sums }
    }

    /// The arrays that [`Codes::of_parts`] takes: `[rows, blocks of a row]`, `[rows]`, `[rows]`.
    pub fn parts(&self) -> (&[Block], &[f32], &[i32]) {
        (&self.blocks, &self.scales, &self.sums)
    }

    /// As [`Codes::new`], with capacity for `rows`.
    pub fn with_capacity(dimensions: usize, rows: usize) -> Codes {
        let mut codes = Codes::new(dimensions);
        codes.reserve(rows);
        codes
    }

    fn reserve(&mut self, rows: usize) {
        self.blocks.to_mut().reserve_exact(rows * self.stride);
        self.scales.to_mut().reserve_exact(rows);
        self.sums.to_mut().reserve_exact(rows);
    }

    /// Appends a finite vector, `[dimensions]`, and returns its row.
    ///
    /// # Panics
    /// If it has another number of dimensions.
    pub fn push(&mut self, vector: &[f32]) -> u32 {
        assert_eq!(vector.len(), self.dimensions, "the vector and the codes differ in their number of dimensions");
        let row = u32::try_from(self.scales.len()).expect("four billion rows do not fit into memory");
        let (start, blocks) = (self.blocks.len(), self.blocks.to_mut());
        blocks.resize(start + self.stride, Block::ZERO);
        let (scale, sum) = quantise(vector, &mut blocks[start..]);
        self.scales.to_mut().push(scale);
        self.sums.to_mut().push(sum);
        row
    }

    /// Appends all rows of other codes with the same number of dimensions.
    pub fn append(&mut self, others: &Codes) {
        assert_eq!(others.dimensions, self.dimensions, "both codes must have the same number of dimensions");
        self.blocks.to_mut().extend_from_slice(&others.blocks);
        self.scales.to_mut().extend_from_slice(&others.scales);
        self.sums.to_mut().extend_from_slice(&others.sums);
    }

    /// Gives back unused memory.
    pub fn shrink_to_fit(&mut self) {
        self.blocks.to_mut().shrink_to_fit();
        self.scales.to_mut().shrink_to_fit();
        self.sums.to_mut().shrink_to_fit();
    }

    /// Keeps the chosen rows and closes the gaps between them.
    pub fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        let stride = self.stride;
        let (blocks, scales, sums) = (self.blocks.to_mut(), self.scales.to_mut(), self.sums.to_mut());
        let mut kept = 0;
        for row in 0..scales.len() {
            if !keep(row as u32) {
                continue;
            }
            if kept != row {
                blocks.copy_within(row * stride..(row + 1) * stride, kept * stride);
                (scales[kept], sums[kept]) = (scales[row], sums[row]);
            }
            kept += 1;
        }
        blocks.truncate(kept * stride);
        scales.truncate(kept);
        sums.truncate(kept);
    }

    /// Removes the last row.
    pub(super) fn pop(&mut self) {
        self.scales.to_mut().pop();
        self.sums.to_mut().pop();
        self.blocks.to_mut().truncate(self.scales.len() * self.stride);
    }

    /// The rows that `order` lists, in that order.
    pub fn reordered(&self, order: &[u32]) -> Codes {
        let mut codes = Codes::with_capacity(self.dimensions, order.len());
        for &row in order {
            codes.blocks.to_mut().extend_from_slice(self.blocks_of(row));
            codes.scales.to_mut().push(self.scales[row as usize]);
            codes.sums.to_mut().push(self.sums[row as usize]);
        }
        codes
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// The number of blocks of a row.
    pub fn blocks(&self) -> usize {
        self.stride
    }

    /// The memory in bytes. Mapped parts take none.
    pub fn bytes(&self) -> usize {
        self.blocks.bytes() + self.scales.bytes() + self.sums.bytes()
    }

    /// The number of components of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The components of a row, as its codes hold them.
    pub fn values(&self, row: u32) -> impl Iterator<Item = f32> {
        let scale = self.scale(row);
        let codes = self.blocks_of(row).iter().flat_map(|block| block.0);
        codes.take(self.dimensions).map(move |u| (f32::from(u) - 128.0) * scale)
    }

    /// The value of code 1 in a row.
    #[inline]
    pub fn scale(&self, row: u32) -> f32 {
        self.scales[row as usize]
    }

    /// The estimated cosine of two rows.
    #[inline]
    pub fn similarity(&self, a: u32, b: u32) -> f32 {
        let dot = dot_i8(self.blocks_of(b), self.blocks_of(a), self.sums[a as usize]);
        dot as f32 * (self.scales[a as usize] * self.scales[b as usize])
    }

    /// A row as a query.
    #[inline]
    pub fn query(&self, row: u32) -> Query<'_> {
        Query { blocks: self.blocks_of(row), sum: self.sums[row as usize], scale: self.scales[row as usize] }
    }

    /// Estimates the cosines of the query with these rows: `out[i]` with row `which[i]`.
    #[inline]
    pub fn score(&self, query: Query<'_>, which: &[u32], out: &mut [f32]) {
        score_rows(query, self.rows(), which, out);
    }

    /// Prefetches what [`Codes::score`] reads of a row.
    #[inline(always)]
    pub(super) fn prefetch(&self, row: u32) {
        self.rows().prefetch(row, self.stride);
    }

    #[inline(always)]
    fn rows(&self) -> CodeRows<'_> {
        CodeRows { blocks: &self.blocks, scales: &self.scales }
    }

    /// The codes of a row.
    #[inline]
    pub fn blocks_of(&self, row: u32) -> &[Block] {
        &self.blocks[row as usize * self.stride..][..self.stride]
    }

    /// A digest of the codes of a row. Rows with equal codes have equal digests.
    pub fn digest(&self, row: u32) -> u32 {
        digest(self.blocks_of(row))
    }
}

/// A query with its codes.
pub struct OwnQuery {
    blocks: Vec<Block>,
    /// The same codes with their sign.
    groups: Vec<[i8; GROUP]>,
    sum: i32,
    scale: f32,
    /// The length of the difference between the vector and its codes.
    rounding: f32,
    /// Σ |components| of the codes' values.
    l1: f32,
}

impl OwnQuery {
    /// The codes of a vector.
    pub fn new(vector: &[f32]) -> OwnQuery {
        let mut blocks = vec![Block::ZERO; vector.len().div_ceil(BLOCK)];
        let (scale, sum) = quantise(vector, &mut blocks);
        let (mut rounding, mut l1) = (0.0, 0.0);
        for (chunk, block) in vector.chunks(BLOCK).zip(&blocks) {
            for (x, u) in chunk.iter().zip(block.0) {
                let coded = (f32::from(u) - 128.0) * scale;
                rounding += (x - coded) * (x - coded);
                l1 += coded.abs();
            }
        }
        let mut groups = vec![[0; GROUP]; vector.len().div_ceil(GROUP)];
        for (group, blocks) in groups.iter_mut().zip(blocks.chunks(GROUP / BLOCK)) {
            let codes = blocks.iter().flat_map(|block| block.0);
            group.iter_mut().zip(codes).for_each(|(q, u)| *q = (u ^ 0x80) as i8);
        }
        OwnQuery { blocks, groups, sum, scale, rounding: rounding.sqrt(), l1 }
    }

    /// The codes with their sign, filled up with 0.
    pub(super) fn groups(&self) -> &[[i8; GROUP]] {
        &self.groups
    }

    /// The number of blocks of its codes.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The digest of its codes, equal to that of a row with the same codes.
    pub fn digest(&self) -> u32 {
        digest(&self.blocks)
    }

    /// The largest error of an estimate with a row of length 1 and this scale. For a query a with codes q and a row b
    /// with codes r: `|a·b - q·r| ≤ |a - q|·|b| + Σ |q|·|b - r|`. A component of b - r is at most half a step.
    #[inline]
    pub fn bound(&self, scale: f32) -> f32 {
        1.001 * self.rounding + 0.5 * self.l1 * scale + F32_ERROR
    }

    /// An error that an estimate with a row of length 1 and this scale hardly ever exceeds: four standard deviations.
    ///
    /// Each component of the query a has an error of up to half a step q, and each of the row b up to half a step r. If
    /// the errors are even and independent, their variances are q²/12 and r²/12. Then
    /// `Σ (a + δ)(b + ε) - Σ ab = Σ aε + Σ bδ + Σ δε` has the variance |a|²·r²/12 + |b|²·q²/12 + n·q²·r²/144. The last
    /// term is at most some thousandths of the others, and is left out.
    #[inline]
    pub fn error(&self, scale: f32) -> f32 {
        4.0 * ((self.scale * self.scale + scale * scale) / 12.0).sqrt()
    }

    /// The query in the form that kernels take.
    pub fn query(&self) -> Query<'_> {
        Query { blocks: &self.blocks, sum: self.sum, scale: self.scale }
    }
}

/// The digest of codes. May collide for a few among a million rows; compare the codes to be sure.
fn digest(blocks: &[Block]) -> u32 {
    crc32fast::hash(bytemuck::cast_slice(blocks))
}

/// Quantises a vector into blocks, and returns its scale and the sum of its codes.
fn quantise(vector: &[f32], blocks: &mut [Block]) -> (f32, i32) {
    let greatest = vector.iter().fold(0.0f32, |greatest, x| greatest.max(x.abs()));
    // Zeros, and values so small that their steps are not normal numbers, have code 0.
    let inverse = if greatest > 1e-30 { 127.0 / greatest } else { 0.0 };
    let mut sum = 0;
    for (chunk, block) in vector.chunks(BLOCK).zip(blocks) {
        for (x, u) in chunk.iter().zip(&mut block.0) {
            let code = ((x * inverse + NEAREST) - NEAREST) as i32;
            sum += code;
            *u = (code + 128) as u8;
        }
    }
    (if inverse == 0.0 { 0.0 } else { greatest / 127.0 }, sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::dot::dot_plain;
    use crate::kernel::normalize;

    /// The error of the estimated product of a query and a row; the query, and the row's scale.
    fn off(query: &[f32], row: &[f32]) -> (f64, OwnQuery, f32) {
        let mut codes = Codes::new(row.len());
        codes.push(row);
        let own = OwnQuery::new(query);
        let mut estimate = [0.0];
        codes.score(own.query(), &[0], &mut estimate);
        ((f64::from(estimate[0]) - dot_plain(query, row)).abs(), own, codes.scale(0))
    }

    proptest! {
        #[test]
        fn the_error_of_an_estimate_is_at_most_half_a_step_of_each_component(
            (a, b) in (1usize..1600).prop_flat_map(|n| {
                let vector = || prop::collection::vec(-1.0f32..1.0, n);
                (vector(), vector())
            }),
        ) {
            let mut codes = Codes::new(a.len());
            codes.push(&a);
            codes.push(&b);
            let exact: f64 = a.iter().zip(&b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
            let l1 = |v: &[f32]| v.iter().map(|x| f64::from(x.abs())).sum::<f64>();
            let step = |v: &[f32]| v.iter().fold(0.0f64, |m, x| m.max(f64::from(x.abs()))) / 127.0;
            let (sa, sb) = (step(&a), step(&b));
            let allowed = 0.5 * (sa * l1(&b) + sb * l1(&a)) + 0.25 * sa * sb * a.len() as f64;
            let estimate = f64::from(codes.similarity(0, 1));
            let off = (estimate - exact).abs();
            prop_assert!(off <= allowed * 1.001 + 1e-6, "{estimate} for {exact}, allowed {allowed}");
            let own = OwnQuery::new(&a);
            let mut out = [0.0; 2];
            codes.score(own.query(), &[1, 0], &mut out);
            prop_assert_eq!(out, [codes.similarity(0, 1), codes.similarity(0, 0)]);
        }

        #[test]
        fn no_estimate_exceeds_its_bound(
            (mut a, mut b) in (1usize..1600).prop_flat_map(|n| {
                // Some components are many times larger than the others.
                let vector = || prop::collection::vec((-1.0f32..1.0).prop_map(|x| x * x * x * x * x), n);
                (vector(), vector())
            }),
        ) {
            prop_assume!(normalize(&mut a).is_ok() && normalize(&mut b).is_ok());
            let (off, own, scale) = off(&a, &b);
            let bound = own.bound(scale);
            prop_assert!(off <= f64::from(bound), "{off} of at most {bound}");
        }

        /// One estimate in a hundred may exceed the error. The expected share, one in 16,000, holds for sums of many
        /// terms.
        #[test]
        fn few_estimates_have_an_error_above_four_standard_deviations(
            (spread_a, spread_b) in (0i32..6, 0i32..6),
            n in 32usize..800,
            seed: u64,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut random = || 2.0 * random.f32() - 1.0;
            // A greater spread makes some components larger, and the scale with them.
            let mut vector = |spread: i32| {
                let mut v: Vec<f32> = (0..n).map(|_| random() * random().powi(spread)).collect();
                normalize(&mut v).map(|_| v)
            };
            let mut far_off = 0;
            for _ in 0..300 {
                let (Ok(a), Ok(b)) = (vector(spread_a), vector(spread_b)) else { continue };
                let (off, own, scale) = off(&a, &b);
                far_off += usize::from(off > f64::from(own.error(scale)));
            }
            prop_assert!(far_off <= 3, "{far_off} of 300, seed {seed}");
        }

        #[test]
        fn retained_rows_do_not_change(keep in prop::collection::vec(any::<bool>(), 0..40)) {
            let row = |n: usize| vec![1.0, n as f32, -3.0];
            let mut codes = Codes::new(3);
            (0..keep.len()).for_each(|n| { codes.push(&row(n)); });
            codes.retain(|n| keep[n as usize]);
            let mut plain = Codes::new(3);
            (0..keep.len()).filter(|&n| keep[n]).for_each(|n| { plain.push(&row(n)); });
            prop_assert_eq!(codes.parts(), plain.parts());
        }
    }

    #[test]
    fn a_vector_of_zeros_has_codes_of_zero_and_similarity_zero() {
        let mut codes = Codes::new(3);
        codes.push(&[0.0; 3]);
        codes.push(&[1.0, 0.0, -1.0]);
        assert_eq!(codes.similarity(0, 1), 0.0);
        assert_eq!(codes.similarity(0, 0), 0.0);
    }
}
