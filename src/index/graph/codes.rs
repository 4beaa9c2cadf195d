//! Vectors as bytes, row by row: walks and scans read these instead of f32, a quarter of the memory.
//!
//! ```text
//! cosine(a, b) ≈ Σ code_a·code_b · scale_a · scale_b
//! ```
//! Invariant: a row never changes, and rows are numbered in the order of `push`. The error of an estimate has no bias
//! and is about 0.001 for text embeddings. A caller that needs true scores computes them from the f32 rows. `quantise`
//! makes the codes, and `query` those of a query, with the error of its estimates.

use super::column::Column;
use super::quantise::{digest, quantise};
use crate::kernel::dot_i8::{BLOCK, Block, CodeRows, MAX_DIMENSIONS, Query, dot_i8, score_rows};

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

    /// Like [`Codes::new`], with capacity for `rows`.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
            let mut out = [0.0; 2];
            codes.score(codes.query(0), &[1, 0], &mut out);
            prop_assert_eq!(out, [codes.similarity(0, 1), codes.similarity(0, 0)]);
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
