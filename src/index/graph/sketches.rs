//! Sketches: vectors as two bits for each component, for the first and longest part of a walk.
//!
//! ```text
//! residual r = vector - centre        sketch = 2u - 3, u in 0..=3, in steps of about the deviation of r's components
//! cosine(q, vector) ≈ q·centre + q·sketch · |r|² / (r·sketch)
//! ```
//! The last factor removes the bias, as RaBitQ does (Gao and Long, 2024). The centre is the mean of the graph's
//! vectors: many models put all texts into one direction, and a sketch without it would show little else.
//!
//! Invariant: sketches follow from the codes alone, by the same arithmetic on every machine. They only guide: what a
//! walk keeps is scored by [`Codes`] afterwards.

use super::codes::Codes;
use super::column::Column;
use super::query::OwnQuery;
use crate::kernel::dot_i2::{self, GROUP, Query};
use crate::kernel::dot_i8::{Block, dot_i8, prefetch};

/// Half a step, as a multiple of the deviation: the best for four even steps of normal numbers (Max, 1960).
const HALF_STEP: f32 = 0.498;
/// The length of the difference between a residual and its sketch at the best scale, as a multiple of the residual.
const ROUGHNESS: f32 = 0.37;

/// The sketches of a graph's nodes. It may have none.
pub struct Sketches {
    /// The centre, if there are sketches.
    centre: Codes,
    /// [nodes, blocks of a sketch]
    rows: Column<Block>,
    groups: usize,
    /// The usual error of an estimate.
    error: f32,
}

impl Sketches {
    /// The number of blocks of a sketch.
    pub fn blocks(dimensions: usize) -> usize {
        dot_i2::blocks(dimensions.div_ceil(GROUP))
    }

    /// No sketches.
    pub fn none() -> Sketches {
        Sketches { centre: Codes::new(1), rows: Column::default(), groups: 0, error: 0.0 }
    }

    /// The sketches of these rows.
    pub fn of(codes: &Codes) -> Sketches {
        let mut sums = vec![0.0f64; codes.dimensions()];
        for row in 0..codes.len() as u32 {
            sums.iter_mut().zip(codes.values(row)).for_each(|(sum, x)| *sum += f64::from(x));
        }
        let mean: Vec<f32> = sums.iter().map(|sum| (sum / codes.len().max(1) as f64) as f32).collect();
        let mut sketches = Sketches::around(&mean, Column::default());
        let centre: Vec<f32> = sketches.centre.values(0).collect();
        let blocks = Sketches::blocks(codes.dimensions());
        let mut rows = vec![Block::ZERO; codes.len() * blocks];
        let mut residual = vec![0.0; codes.dimensions()];
        for (row, number) in rows.chunks_exact_mut(blocks).zip(0..) {
            residual.iter_mut().zip(codes.values(number).zip(&centre)).for_each(|(r, (x, c))| *r = x - c);
            sketch(&residual, sketches.groups, row);
        }
        sketches.rows = rows.into();
        sketches
    }

    /// Sketches from existing arrays: the centre and `[nodes, blocks of a sketch]`.
    pub fn of_parts(centre: &[f32], rows: Column<Block>) -> Sketches {
        Sketches::around(centre, rows)
    }

    fn around(centre: &[f32], rows: Column<Block>) -> Sketches {
        let mut codes = Codes::new(centre.len());
        codes.push(centre);
        let square = codes.similarity(0, 0);
        let error = ROUGHNESS * ((1.0 - square).max(0.0) / centre.len() as f32).sqrt();
        Sketches { centre: codes, rows, groups: centre.len().div_ceil(GROUP), error }
    }

    /// The arrays that [`Sketches::of_parts`] takes; both are empty without sketches.
    pub fn parts(&self) -> (Vec<f32>, &[Block]) {
        let centre = if self.is_empty() { Vec::new() } else { self.centre.values(0).collect() };
        (centre, &self.rows)
    }

    /// True without any sketch.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The usual error of an estimate.
    pub fn error(&self) -> f32 {
        self.error
    }

    /// The memory in bytes. Mapped sketches take none.
    pub fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// A query in the form that [`Sketches::score`] takes.
    pub fn query<'q>(&self, query: &'q OwnQuery) -> Query<'q> {
        let of_codes = query.query();
        let centre = self.centre.query(0);
        let dot = dot_i8(of_codes.blocks, centre.blocks, centre.sum);
        let base = dot as f32 * (of_codes.scale * centre.scale);
        Query { groups: query.groups(), sum: of_codes.sum, scale: of_codes.scale, base }
    }

    /// Estimates the cosines of the query with these nodes.
    #[inline]
    pub fn score(&self, query: Query<'_>, which: &[u32], out: &mut [f32]) {
        dot_i2::score_rows(query, &self.rows, which, out);
    }

    /// Prefetches the sketch of a node.
    #[inline(always)]
    pub fn prefetch(&self, node: u32) {
        let blocks = dot_i2::blocks(self.groups);
        prefetch(&self.rows[node as usize * blocks..][..blocks]);
    }
}

/// Writes the sketch of a residual.
fn sketch(residual: &[f32], groups: usize, row: &mut [Block]) {
    let square: f64 = residual.iter().map(|&r| f64::from(r) * f64::from(r)).sum();
    let step = 2.0 * HALF_STEP * (square / residual.len() as f64).sqrt() as f32;
    let inverse = if step > 1e-30 { 1.0 / step } else { 0.0 };
    // -2 · step, 0 and 2 · step divide the codes. Truncation of a positive number is its floor.
    let code = |r: f32| ((r * inverse + 2.0).clamp(0.0, 3.0)) as u8;
    let dot: f64 = residual.iter().map(|&r| f64::from(r) * f64::from(2 * i32::from(code(r)) - 3)).sum();
    let scale = if inverse > 0.0 { (square / dot) as f32 } else { 0.0 };
    dot_i2::write_row(row, residual.iter().map(|&r| code(r)), groups, scale);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{dot, normalize};

    /// Vectors around one direction, as many models make them.
    fn vectors(n: usize, dimensions: usize) -> Vec<Vec<f32>> {
        let mut random = fastrand::Rng::with_seed(5);
        let mut vector = || {
            let mut component = |_| 1.0 + (0..4).map(|_| 2.0 * random.f32() - 1.0).sum::<f32>();
            let mut v: Vec<f32> = (0..dimensions).map(&mut component).collect();
            normalize(&mut v).unwrap();
            v
        };
        (0..n).map(|_| vector()).collect()
    }

    #[test]
    fn estimates_have_no_bias_and_the_stated_error_for_every_number_of_dimensions() {
        for dimensions in [63, 384, 1000] {
            let vectors = vectors(400, dimensions);
            let mut codes = Codes::new(dimensions);
            vectors.iter().for_each(|v| {
                codes.push(v);
            });
            let sketches = Sketches::of(&codes);
            let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
            let which: Vec<u32> = (0..400).collect();
            for query in &vectors[..20] {
                let mut out = vec![0.0; 400];
                let own = OwnQuery::new(query);
                sketches.score(sketches.query(&own), &which, &mut out);
                for (estimate, v) in out.iter().zip(&vectors).filter(|(_, v)| *v != query) {
                    let off = f64::from(estimate - dot(query, v));
                    (sum, squares, count) = (sum + off, squares + off * off, count + 1.0);
                }
            }
            let (bias, deviation) = (sum / count, (squares / count).sqrt());
            let error = f64::from(sketches.error());
            assert!(bias.abs() < 0.2 * error, "{dimensions}: bias {bias}, error {error}");
            assert!((0.3..1.5).contains(&(deviation / error)), "{dimensions}: deviation {deviation}, error {error}");
        }
    }

    #[test]
    fn equal_vectors_have_a_sketch_without_a_residual() {
        let mut codes = Codes::new(3);
        codes.push(&[0.6, 0.0, 0.8]);
        let sketches = Sketches::of(&codes);
        let own = OwnQuery::new(&[0.6, 0.0, 0.8]);
        let mut out = [0.0];
        sketches.score(sketches.query(&own), &[0], &mut out);
        assert!((out[0] - 1.0).abs() < 0.02, "{}", out[0]);
    }
}
