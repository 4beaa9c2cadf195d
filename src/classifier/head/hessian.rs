//! The Hessian of the objective at zeros, factored: what makes a search short.
//!
//! ```text
//! ∇²f(0) = (I − 11ᵀ/K)/K ⊗ S + l2·I      S: covariance of the points, K: labels
//! ```
//! Gradients sum to 0 over the labels, so that 11ᵀ adds nothing, and each label's part of the Newton step is
//! (S/K + l2·I)⁻¹ of its part of the gradient, and K times it for the bias: the points have no mean. The covariance of
//! real embeddings has eigenvalues from 4e-2 to 1e-5, which a search without this needs four to ten times as many
//! steps for.
//!
//! It only guides a search. So it is taken from all points, whatever their weights, and serves penalties nearby.

use super::objective::{LANES, Points};

/// The least penalty that is factored, far below the covariance's eigenvalues that count: keeps a factor of ordinary
/// size whatever penalty was asked for.
const LEAST: f64 = 1e-9;

/// A Cholesky factorisation.
pub(super) struct Hessian {
    /// L of S/K + l2·I = L·Lᵀ: [size, size], of which the lower triangle counts.
    factor: Vec<f64>,
    size: usize,
    n_labels: usize,
}

impl Hessian {
    /// Of `n_labels` labels and a penalty: size³/3 multiplications, 20 ms for 384 dimensions.
    pub fn new(points: &Points, n_labels: usize, l2: f64) -> Self {
        let (size, l2) = (points.stride, l2.max(LEAST));
        let mut factor: Vec<f64> = points.covariance.iter().map(|s| s / n_labels as f64).collect();
        // Row by row (Cholesky and Banachiewicz): the rows above are done.
        for row in 0..size {
            let (done, rest) = factor.split_at_mut(row * size);
            let current = &mut rest[..=row];
            for (column, above) in done.chunks_exact(size).enumerate() {
                let known = dot(&current[..column], &above[..column]);
                current[column] = (current[column] - known) / above[column];
            }
            let pivot = current[row] + l2 - dot(&current[..row], &current[..row]);
            // It is at least l2; less is rounding.
            current[row] = pivot.max(l2).sqrt();
        }
        Self { factor, size, n_labels }
    }

    /// Turns a gradient of the [`Objective`](super::objective::Objective), as that lays it out, into the Newton step's
    /// negative.
    pub fn solve(&self, parameters: &mut [f64]) {
        let (weights, bias) = parameters.split_at_mut(self.n_labels * self.size);
        weights.chunks_exact_mut(self.size).for_each(|x| self.solve_one(x));
        bias.iter_mut().for_each(|b| *b *= self.n_labels as f64);
    }

    /// x = (L·Lᵀ)⁻¹·x.
    fn solve_one(&self, x: &mut [f64]) {
        for (i, row) in self.factor.chunks_exact(self.size).enumerate() {
            x[i] = (x[i] - dot(&row[..i], &x[..i])) / row[i];
        }
        for (i, row) in self.factor.chunks_exact(self.size).enumerate().rev() {
            x[i] /= row[i];
            let (before, rest) = x.split_at_mut(i);
            let factor = rest[0];
            before.iter_mut().zip(row).for_each(|(x, l)| *x -= factor * l);
        }
    }
}

/// In independent sums, which the compiler can keep in vector registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_last), (b, b_last)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + a_last.iter().zip(b_last).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::super::objective::{Objective, Term};
    use super::super::tests::cloud;
    use super::*;

    #[test]
    fn it_undoes_what_the_gradient_does_near_zeros() {
        for (n, dimensions, n_labels, l2) in [(30, 5, 3, 1e-2), (10, 24, 2, 1e-3), (200, 9, 4, 1e-5)] {
            let seed = n as u64;
            let (vectors, labels) = cloud(n, dimensions, n_labels, 1.0, seed);
            let points = Points::new(&vectors, dimensions);
            let term = |(row, &label)| Term { row, label, weight: 1.0 / n as f64 };
            let terms: Vec<Term> = labels.iter().enumerate().map(term).collect();
            let objective = Objective { points: &points, terms: &terms, n_labels, l2 };
            // A small step whose parts sum to 0 over the labels: one label's up, another's down.
            let mut step = objective.start();
            let bias = n_labels * points.stride;
            for i in 0..dimensions {
                step[i] = 1e-5 * f64::from(vectors[i]);
                step[points.stride + i] = -step[i];
            }
            (step[bias], step[bias + 1]) = (1e-5, -1e-5);
            let (mut there, mut zero) = (objective.start(), objective.start());
            objective.evaluate(&step, &mut there);
            objective.evaluate(&objective.start(), &mut zero);
            let mut change: Vec<f64> = there.iter().zip(&zero).map(|(a, b)| a - b).collect();
            Hessian::new(&points, n_labels, l2).solve(&mut change);
            for (i, (change, step)) in change.iter().zip(&step).enumerate() {
                // What is left is of the third order: the step's square over the least curvature.
                let error = (change - step).abs();
                assert!(error <= 1e-10 / l2.min(1e-1), "seed {seed}, parameter {i}: {change:e}, not {step:e}");
            }
        }
    }
}
