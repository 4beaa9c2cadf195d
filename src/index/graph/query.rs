//! The query of a search: its codes, and the error of the estimates that they give.
//!
//! Two limits of the error follow from the rounding of both vectors: one that always holds, for exact scans, and one
//! that hardly any estimate exceeds, for walks.

use super::quantise::{digest, quantise};
use crate::kernel::dot_i2::GROUP;
use crate::kernel::dot_i8::{BLOCK, Block, Query};

/// The error of f32 arithmetic with a few thousand components of a unit vector, in an estimate and in a true score.
const F32_ERROR: f32 = 1e-5;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::codes::Codes;
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
        fn a_query_has_the_codes_of_a_row(vector in prop::collection::vec(-1.0f32..1.0, 1..1600)) {
            let mut codes = Codes::new(vector.len());
            codes.push(&vector);
            let own = OwnQuery::new(&vector);
            prop_assert_eq!(own.query().blocks, codes.blocks_of(0));
            prop_assert_eq!((own.query().sum, own.query().scale), (codes.query(0).sum, codes.scale(0)));
            prop_assert_eq!(own.digest(), codes.digest(0));
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
    }
}
