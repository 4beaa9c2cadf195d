//! Vectors as bytes: what a walk reads instead of f32, a quarter of the memory.
//!
//! ```text
//! code[i] = round(x[i] / scale)      scale = max |x| / 127      cosine(a, b) ≈ Σ code_a·code_b · scale_a · scale_b
//! ```
//! Invariant: a row never changes; rows are numbered in the order they were pushed. The error of an estimate has no
//! bias and is about 0.001 for text embeddings; who wants true scores computes them from the f32 rows.

use super::column::Column;
use crate::kernel::dot_i8::{BLOCK, Block, CodeRows, MAX_DIMENSIONS, Query, dot_i8, score_rows};

/// What f32 arithmetic with a few thousand components of a unit vector may add, in an estimate and in a true score.
const F32_ERROR: f32 = 1e-5;

/// [rows, dimensions] codes, one row after the other.
pub struct Codes {
    dimensions: usize,
    /// Blocks of a row.
    stride: usize,
    /// [rows, stride]
    blocks: Column<Block>,
    /// By row: value of a code 1.
    scales: Column<f32>,
    /// By row: Σ codes.
    sums: Column<i32>,
}

impl Codes {
    /// No rows yet, of `dimensions` components each.
    ///
    /// # Panics
    /// If there are none or more than [`MAX_DIMENSIONS`].
    pub fn new(dimensions: usize) -> Codes {
        assert!((1..=MAX_DIMENSIONS).contains(&dimensions), "codes have 1 to {MAX_DIMENSIONS} dimensions");
        let stride = dimensions.div_ceil(BLOCK);
        Codes { dimensions, stride, blocks: Column::default(), scales: Column::default(), sums: Column::default() }
    }

    /// Codes that were made before: `[rows, blocks of a row]`, `[rows]`, `[rows]`.
    ///
    /// # Panics
    /// If the shapes disagree.
    pub fn of_parts(dimensions: usize, blocks: Column<Block>, scales: Column<f32>, sums: Column<i32>) -> Codes {
        let stride = dimensions.div_ceil(BLOCK);
        assert!(blocks.len() == scales.len() * stride && sums.len() == scales.len(), "columns of as many rows");
        Codes { dimensions, stride, blocks, scales, sums }
    }

    /// `[rows, blocks of a row]`, `[rows]`, `[rows]`: what [`Codes::of_parts`] takes.
    pub fn parts(&self) -> (&[Block], &[f32], &[i32]) {
        (&self.blocks, &self.scales, &self.sums)
    }

    /// As [`Codes::new`], with room for `rows`.
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

    /// Appends a vector, finite, `[dimensions]`; returns its row.
    ///
    /// # Panics
    /// If it has another number of dimensions.
    pub fn push(&mut self, vector: &[f32]) -> u32 {
        assert_eq!(vector.len(), self.dimensions, "a vector of another number of dimensions than the codes");
        let row = u32::try_from(self.scales.len()).expect("four billion rows do not fit into memory");
        let (start, blocks) = (self.blocks.len(), self.blocks.to_mut());
        blocks.resize(start + self.stride, Block::ZERO);
        let (scale, sum) = quantise(vector, &mut blocks[start..]);
        self.scales.to_mut().push(scale);
        self.sums.to_mut().push(sum);
        row
    }

    /// Appends all rows of others of as many dimensions.
    pub fn append(&mut self, others: &Codes) {
        assert_eq!(others.dimensions, self.dimensions, "codes of another number of dimensions");
        self.blocks.to_mut().extend_from_slice(&others.blocks);
        self.scales.to_mut().extend_from_slice(&others.scales);
        self.sums.to_mut().extend_from_slice(&others.sums);
    }

    /// Gives back memory that no row needs.
    pub fn shrink_to_fit(&mut self) {
        self.blocks.to_mut().shrink_to_fit();
        self.scales.to_mut().shrink_to_fit();
        self.sums.to_mut().shrink_to_fit();
    }

    /// Keeps some rows, which move together.
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

    /// Takes the last row away.
    pub(super) fn pop(&mut self) {
        self.scales.to_mut().pop();
        self.sums.to_mut().pop();
        self.blocks.to_mut().truncate(self.scales.len() * self.stride);
    }

    /// Some rows, in the order given.
    pub fn reordered(&self, order: &[u32]) -> Codes {
        let mut codes = Codes::with_capacity(self.dimensions, order.len());
        for &row in order {
            codes.blocks.to_mut().extend_from_slice(self.blocks_of(row));
            codes.scales.to_mut().push(self.scales[row as usize]);
            codes.sums.to_mut().push(self.sums[row as usize]);
        }
        codes
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Blocks of a row.
    pub fn blocks(&self) -> usize {
        self.stride
    }

    /// Memory in bytes; of what is mapped, none.
    pub fn bytes(&self) -> usize {
        self.blocks.bytes() + self.scales.bytes() + self.sums.bytes()
    }

    /// f32 value of a code 1 of a row.
    #[inline]
    pub fn scale(&self, row: u32) -> f32 {
        self.scales[row as usize]
    }

    /// Estimated cosine of two rows.
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

    /// Estimated cosines of the query with some rows: `out[i]` with row `which[i]`.
    #[inline]
    pub fn score(&self, query: Query<'_>, which: &[u32], out: &mut [f32]) {
        score_rows(query, CodeRows { blocks: &self.blocks, scales: &self.scales }, which, out);
    }

    /// The codes of a row.
    #[inline]
    pub fn blocks_of(&self, row: u32) -> &[Block] {
        &self.blocks[row as usize * self.stride..][..self.stride]
    }

    /// Equal for rows of equal codes.
    pub fn digest(&self, row: u32) -> u32 {
        digest(self.blocks_of(row))
    }
}

/// A query's own codes.
pub struct OwnQuery {
    blocks: Vec<Block>,
    sum: i32,
    scale: f32,
    /// Length of what the codes leave of the vector.
    rounding: f32,
    /// Σ |components| as the codes say.
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
        OwnQuery { blocks, sum, scale, rounding: rounding.sqrt(), l1 }
    }

    /// Blocks of its codes.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The digest of a row that has these codes.
    pub fn digest(&self) -> u32 {
        digest(&self.blocks)
    }

    /// What an estimate with a row of length 1 and that scale is off by at most. Of a query a with codes q and a row b with
    /// codes r: `|a·b - q·r| ≤ |a - q|·|b| + Σ |q|·|b - r|`, and a component of b - r is half a step at most.
    #[inline]
    pub fn bound(&self, scale: f32) -> f32 {
        1.001 * self.rounding + 0.5 * self.l1 * scale + F32_ERROR
    }

    /// What an estimate with a row of length 1 and that scale is off by, very nearly always: four standard deviations. Where each
    /// component of a query a is off by up to half a step q, and of a row b by half a step r, evenly and by chance, the variances
    /// are q²/12 and r²/12, and `Σ (a + δ)(b + ε) - Σ ab = Σ aε + Σ bδ + Σ δε` has |a|²·r²/12 + |b|²·q²/12, and n·q²·r²/144, which
    /// is some thousandths of that at most and left out.
    #[inline]
    pub fn error(&self, scale: f32) -> f32 {
        4.0 * ((self.scale * self.scale + scale * scale) / 12.0).sqrt()
    }

    /// As kernels take it.
    pub fn query(&self) -> Query<'_> {
        Query { blocks: &self.blocks, sum: self.sum, scale: self.scale }
    }
}

/// Of a few among a million rows equal by chance: whoever needs to know compares the codes.
fn digest(blocks: &[Block]) -> u32 {
    crc32fast::hash(bytemuck::cast_slice(blocks))
}

/// Scale and Σ codes.
fn quantise(vector: &[f32], blocks: &mut [Block]) -> (f32, i32) {
    let greatest = vector.iter().fold(0.0f32, |greatest, x| greatest.max(x.abs()));
    // Zeros, and what is so small that its steps would not be normal numbers, are codes 0.
    let inverse = if greatest > 1e-30 { 127.0 / greatest } else { 0.0 };
    let mut sum = 0;
    for (chunk, block) in vector.chunks(BLOCK).zip(blocks) {
        for (x, u) in chunk.iter().zip(&mut block.0) {
            let code = (x * inverse).round_ties_even() as i32;
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
    use crate::kernel::normalize;

    proptest! {
        #[test]
        fn an_estimate_is_off_by_no_more_than_half_a_step_of_each_component(
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
            prop_assert!((estimate - exact).abs() <= allowed * 1.001 + 1e-6, "{estimate} for {exact}, allowed {allowed}");
            let own = OwnQuery::new(&a);
            let mut out = [0.0; 2];
            codes.score(own.query(), &[1, 0], &mut out);
            prop_assert_eq!(out, [codes.similarity(0, 1), codes.similarity(0, 0)]);
        }

        #[test]
        fn no_estimate_is_off_by_more_than_its_bound(
            (mut a, mut b) in (1usize..1600).prop_flat_map(|n| {
                // Some components many times as large as the others.
                let vector = || prop::collection::vec((-1.0f32..1.0).prop_map(|x| x * x * x * x * x), n);
                (vector(), vector())
            }),
        ) {
            prop_assume!(normalize(&mut a).is_ok() && normalize(&mut b).is_ok());
            let mut codes = Codes::new(a.len());
            codes.push(&b);
            let own = OwnQuery::new(&a);
            let mut estimate = [0.0];
            codes.score(own.query(), &[0], &mut estimate);
            let exact: f64 = a.iter().zip(&b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
            let (off, bound) = ((f64::from(estimate[0]) - exact).abs(), own.bound(codes.scale(0)));
            prop_assert!(off <= f64::from(bound), "{off} of at most {bound}");
        }

        /// A hundredth of the estimates may be off by more: that it is one of 16,000 holds for sums of many, and is chance.
        #[test]
        fn few_estimates_are_off_by_more_than_four_standard_deviations(
            (spread_a, spread_b) in (0i32..6, 0i32..6),
            n in 32usize..800,
            seed in 1u64..u64::MAX,
        ) {
            let mut state = seed;
            let mut random = || {
                // Marsaglia's xorshift (2003).
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1 << 23) as f32 - 1.0
            };
            // The greater the spread, the larger are some components, and the scale with them.
            let mut vector = |spread: i32| {
                let mut v: Vec<f32> = (0..n).map(|_| random() * random().powi(spread)).collect();
                normalize(&mut v).map(|_| v)
            };
            let mut off = 0;
            for _ in 0..300 {
                let (Ok(a), Ok(b)) = (vector(spread_a), vector(spread_b)) else { continue };
                let mut codes = Codes::new(n);
                codes.push(&b);
                let own = OwnQuery::new(&a);
                let mut estimate = [0.0];
                codes.score(own.query(), &[0], &mut estimate);
                let exact: f64 = a.iter().zip(&b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                off += usize::from((f64::from(estimate[0]) - exact).abs() > f64::from(own.error(codes.scale(0))));
            }
            prop_assert!(off <= 3, "{off} of 300, seed {seed}");
        }

        #[test]
        fn rows_that_are_kept_stay_what_they_were(keep in prop::collection::vec(any::<bool>(), 0..40)) {
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
