//! Normalisations of a row: layer normalisation (Ba, Kiros and Hinton, 2016), and RMSNorm (Zhang and Sennrich, 2019).

use super::simd::Simd;

/// Sums of a row that are added up independently. A single one would wait for the result of each addition.
const CHAINS: usize = 4;

/// A normalisation.
pub enum Norm {
    /// Layer normalisation.
    Layer(LayerNorm),
    /// RMSNorm.
    Rms(RmsNorm),
}

impl Norm {
    /// Normalises one row of `cols` values. Whole matrices are normalised by [`super::gemm::epilogue::Epilogue`].
    #[inline(always)]
    pub(super) fn row<S: Simd>(&self, s: S, row: &mut [f32]) {
        match self {
            Self::Layer(norm) => norm.row(s, row),
            Self::Rms(norm) => norm.row(s, row),
        }
    }
}

/// RMSNorm: x / √(mean of squares + ε) · gain.
pub struct RmsNorm {
    gain: Vec<f32>,
    epsilon: f32,
}

impl RmsNorm {
    /// Makes a normalisation; `gain` is `[cols]`.
    pub fn new(gain: Vec<f32>, epsilon: f32) -> Self {
        Self { gain, epsilon }
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.gain.len()
    }

    /// Normalises one row of `cols` values.
    #[inline(always)]
    pub(super) fn row<S: Simd>(&self, s: S, row: &mut [f32]) {
        let gain = &self.gain[..row.len()];
        let whole = row.len() / S::LANES * S::LANES;
        let last = s.load_or(&row[whole..], 0.0);
        let mut squares = [s.splat(0.0); CHAINS];
        squares[0] = s.mul(last, last);
        for chunks in row[..whole].chunks(CHAINS * S::LANES) {
            for (squares, chunk) in squares.iter_mut().zip(chunks.chunks_exact(S::LANES)) {
                let x = s.load(chunk);
                *squares = s.mul_add(x, x, *squares);
            }
        }
        let scale = s.splat(1.0 / (s.sum(total(s, squares)) / row.len() as f32 + self.epsilon).sqrt());
        let mut chunks = row.chunks_exact_mut(S::LANES);
        for (chunk, gain) in (&mut chunks).zip(gain.chunks_exact(S::LANES)) {
            s.store(s.mul(s.mul(s.load(chunk), scale), s.load(gain)), chunk);
        }
        let gain = s.load_or(&gain[whole..], 0.0);
        s.store_first(s.mul(s.mul(last, scale), gain), chunks.into_remainder());
    }
}

/// Layer normalisation: (x − mean) / √(variance + ε) · gain + shift.
pub struct LayerNorm {
    gain: Vec<f32>,
    shift: Vec<f32>,
    epsilon: f32,
}

impl LayerNorm {
    /// Makes a normalisation; `gain` and `shift` are `[cols]`. Panics if their lengths differ.
    pub fn new(gain: Vec<f32>, shift: Vec<f32>, epsilon: f32) -> Self {
        assert_eq!(gain.len(), shift.len(), "a gain and a shift for each column");
        Self { gain, shift, epsilon }
    }

    /// Normalises one row of `cols` values.
    #[inline(always)]
    pub(super) fn row<S: Simd>(&self, s: S, row: &mut [f32]) {
        let (gain, shift) = (&self.gain[..row.len()], &self.shift[..row.len()]);
        let whole = row.len() / S::LANES * S::LANES;
        let n = row.len() as f32;

        let mut sums = [s.splat(0.0); CHAINS];
        sums[0] = s.load_or(&row[whole..], 0.0);
        for chunks in row[..whole].chunks(CHAINS * S::LANES) {
            for (sum, chunk) in sums.iter_mut().zip(chunks.chunks_exact(S::LANES)) {
                *sum = s.add(*sum, s.load(chunk));
            }
        }
        let mean = s.sum(total(s, sums)) / n;

        // Filled with the mean, the lanes after the row add nothing.
        let (mean_value, mean) = (mean, s.splat(mean));
        let from_mean = s.sub(s.load_or(&row[whole..], mean_value), mean);
        let mut squares = [s.splat(0.0); CHAINS];
        squares[0] = s.mul(from_mean, from_mean);
        for chunks in row[..whole].chunks(CHAINS * S::LANES) {
            for (squares, chunk) in squares.iter_mut().zip(chunks.chunks_exact(S::LANES)) {
                let from_mean = s.sub(s.load(chunk), mean);
                *squares = s.mul_add(from_mean, from_mean, *squares);
            }
        }
        let scale = s.splat(1.0 / (s.sum(total(s, squares)) / n + self.epsilon).sqrt());

        let (gain, last_gain) = gain.split_at(whole);
        let (shift, last_shift) = shift.split_at(whole);
        let (row, last) = row.split_at_mut(whole);
        for ((chunk, gain), shift) in
            row.chunks_exact_mut(S::LANES).zip(gain.chunks_exact(S::LANES)).zip(shift.chunks_exact(S::LANES))
        {
            let unit = s.mul(s.sub(s.load(chunk), mean), scale);
            s.store(s.mul_add(unit, s.load(gain), s.load(shift)), chunk);
        }
        let unit = s.mul(s.sub(s.load_or(last, 0.0), mean), scale);
        s.store_first(s.mul_add(unit, s.load_or(last_gain, 0.0), s.load_or(last_shift, 0.0)), last);
    }
}

/// The sum of the chains.
#[inline(always)]
fn total<S: Simd>(s: S, [a, b, c, d]: [S::V; CHAINS]) -> S::V {
    s.add(s.add(a, b), s.add(c, d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::gemm::epilogue::{Conversion, Epilogue, InPlace};
    use crate::kernel::matrix::filled;
    use crate::machine::cpu;
    use crate::machine::leader::Leader;

    /// Normalises a row of f64 by the definition. Without a shift it is an RMSNorm.
    fn exact(x: &[f32], gain: &[f32], shift: Option<&[f32]>) -> Vec<f64> {
        let n = x.len() as f64;
        let mean = if shift.is_some() { x.iter().map(|&x| f64::from(x)).sum::<f64>() / n } else { 0.0 };
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        let unit = |x: f32| (f64::from(x) - mean) / (variance + 1e-5).sqrt();
        let shift = |col: usize| shift.map_or(0.0, |shift| shift[col].into());
        x.iter().zip(gain).enumerate().map(|(col, (&x, &gain))| unit(x) * f64::from(gain) + shift(col)).collect()
    }

    #[test]
    fn rows_of_every_width_are_normalised_as_in_exact_arithmetic() {
        for level in cpu::Level::supported() {
            for cols in (1..40).chain([129, 384, 1000, 1024]) {
                let seed = cols as u64;
                let before = filled(3, cols, seed);
                let gain = filled(1, cols, seed + 1).row(0).to_vec();
                let shift = filled(1, cols, seed + 2).row(0).to_vec();
                for is_rms in [false, true] {
                    let norm = match is_rms {
                        true => Norm::Rms(RmsNorm::new(gain.clone(), 1e-5)),
                        false => Norm::Layer(LayerNorm::new(gain.clone(), shift.clone(), 1e-5)),
                    };
                    let mut after = filled(3, cols, seed);
                    Epilogue { before: InPlace::Normalise(&norm), x: &mut after, to: Conversion::Nothing }
                        .apply(level, &mut Leader::default());
                    for row in 0..3 {
                        let exact = exact(before.row(row), &gain, (!is_rms).then_some(&shift));
                        for (col, (got, exact)) in after.row(row).iter().zip(exact).enumerate() {
                            let error = (f64::from(*got) - exact).abs();
                            assert!(
                                error <= 2e-6,
                                "{level:?} RMS {is_rms}, {cols} columns, seed {seed}, [{row}, {col}] off by {error:e}"
                            );
                        }
                    }
                }
            }
        }
    }
}
