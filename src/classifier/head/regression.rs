//! Fits a multinomial logistic regression to labelled vectors by Newton's method.
//!
//! ```text
//! f(W)     = Σᵢ wᵢ·(log Σ_c e^{zᵢ[c]} − zᵢ[yᵢ]) + l2/2·|W|²      zᵢ = W·(xᵢ, 1),  Σ wᵢ = 1
//! ∇f       = Σᵢ wᵢ·(pᵢ − onehot(yᵢ))·(xᵢ, 1)ᵀ + l2·W             pᵢ = softmax(zᵢ)
//! ∇²f·V    = Σᵢ wᵢ·(pᵢ∘uᵢ − pᵢ·(pᵢᵀuᵢ))·(xᵢ, 1)ᵀ + l2·V          uᵢ = V·(xᵢ, 1)
//! ```
//! (Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4.) The last column of W is the bias, which has
//! no penalty. Conjugate gradients solve each Newton step approximately. The step is then halved until f decreases
//! enough (Nocedal and Wright, Numerical Optimization, 2nd ed., 2006, algorithm 7.1). f is convex, and the fit uses no
//! random numbers: the same examples give the same bits.
//!
//! Embeddings of one model share a large mean m. It is subtracted from the points, because conjugate gradients then
//! need fewer steps. Only the bias changes: W·x + b = W·(x − m) + (b + W·m).

use std::ops::RangeInclusive;

use super::examples::{ClassWeights, Examples, Term};

/// The range of valid penalties. With a smaller penalty, the weights grow without bound if the examples can be
/// separated. With a larger one, all weights are 0.
pub const L2: RangeInclusive<f64> = 1e-9..=1e6;

/// The length of the gradient at which the final fit ends. f is then at most length² / (2·l2) above its minimum.
pub(super) const EXACT: f64 = 1e-6;
/// The length of the gradient at which a fit of cross-validation ends. It is larger, because the losses of two
/// penalties differ by more, and few predictions change.
pub(super) const CLOSE: f64 = 1e-3;

/// The number of points that are computed together. A row of parameters is loaded once for all of them.
const BLOCK: usize = 8;
/// The most Newton steps of a fit. A fit needs 5 to 15.
const STEPS: usize = 100;
/// The most conjugate gradient iterations of a Newton step. With a small penalty, the last steps need about a hundred.
const CG_ITERATIONS: usize = 1_000;
/// The share of the decrease predicted by the slope that a step must reach (Nocedal and Wright, page 33).
const SUFFICIENT: f64 = 1e-4;
/// The smallest part of a step that the line search tries.
const SHORTEST: f64 = 1e-9;

/// A fitted regression. Its logits are W·x + b.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// [labels, dimensions], row-major
    pub weights: Vec<f64>,
    /// `[labels]`
    pub bias: Vec<f64>,
    /// The gradient reached the tolerance. If not, the fit is slightly inexact.
    pub converged: bool,
}

impl Fit {
    /// Computes one logit for each label. `vector`: `[dimensions]`.
    pub fn logits(&self, vector: &[f32]) -> Vec<f64> {
        let dot = |w: &[f64]| w.iter().zip(vector).map(|(w, &x)| w * f64::from(x)).sum::<f64>();
        self.weights.chunks_exact(vector.len()).zip(&self.bias).map(|(w, b)| dot(w) + b).collect()
    }

    /// Returns the label with the highest logit, the first of several.
    pub fn predict(&self, vector: &[f32]) -> usize {
        let logits = self.logits(vector);
        (1..logits.len()).fold(0, |best, label| if logits[label] > logits[best] { label } else { best })
    }
}

/// Fits regressions to subsets of some examples.
pub(super) struct Fitter<'a> {
    pub examples: Examples<'a>,
    pub class_weights: ClassWeights,
    /// `[dimensions]`, the mean of all examples
    mean: Vec<f64>,
    /// [examples, dimensions + 1], row-major: the vectors less their mean, and a 1 for the bias.
    points: Vec<f64>,
}

impl<'a> Fitter<'a> {
    pub fn new(examples: Examples<'a>, class_weights: ClassWeights) -> Self {
        let Examples { vectors, dimensions, labels, .. } = examples;
        let mut mean = vec![0.0; dimensions];
        for vector in vectors.chunks_exact(dimensions) {
            mean.iter_mut().zip(vector).for_each(|(mean, &x)| *mean += f64::from(x) / labels.len() as f64);
        }
        let point = |vector: &'a [f32]| vector.iter().zip(&mean).map(|(&x, m)| f64::from(x) - m).chain([1.0]);
        let points = vectors.chunks_exact(dimensions).flat_map(point).collect();
        Self { examples, class_weights, mean, points }
    }

    /// Fits the examples in `rows`, starting at `nearby` or at zeros, until the length of the gradient is at most
    /// `tolerance`. A label without examples gets a logit far below the others.
    pub fn fit(&self, rows: &[usize], l2: f64, nearby: Option<&Fit>, tolerance: f64) -> Fit {
        let (n_labels, stride) = (self.examples.n_labels, self.examples.dimensions + 1);
        let terms = &self.class_weights.terms(&self.examples, rows);
        let objective = Objective { points: &self.points, terms, n_labels, stride, l2 };
        let mut here = objective.at(nearby.map_or_else(|| vec![0.0; n_labels * stride], |fit| self.pack(fit)));
        for _ in 0..STEPS {
            if length(&here.gradient) <= tolerance {
                break;
            }
            match objective.descend(&here) {
                Some(next) => here = next,
                None => break,
            }
        }
        self.unpack(&here.parameters, length(&here.gradient) <= tolerance)
    }

    /// Converts a fit to parameters for points without their mean.
    fn pack(&self, fit: &Fit) -> Vec<f64> {
        let of_label = fit.weights.chunks_exact(self.mean.len()).zip(&fit.bias);
        of_label.flat_map(|(w, b)| w.iter().copied().chain([b + dot(w, &self.mean)])).collect()
    }

    /// Converts parameters back to a fit: the inverse of [`pack`](Self::pack).
    fn unpack(&self, parameters: &[f64], converged: bool) -> Fit {
        let of_label = parameters.chunks_exact(self.mean.len() + 1).filter_map(<[f64]>::split_last);
        let bias = of_label.clone().map(|(b, w)| b - dot(w, &self.mean)).collect();
        Fit { weights: of_label.flat_map(|(_, w)| w).copied().collect(), bias, converged }
    }
}

/// The function f of some examples. Its parameters are [n_labels, stride], row-major.
struct Objective<'a> {
    /// [examples, stride]
    points: &'a [f64],
    terms: &'a [Term],
    n_labels: usize,
    stride: usize,
    l2: f64,
}

/// The value of f at some parameters, with the probabilities.
struct Place {
    parameters: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
    /// [terms, n_labels]
    probabilities: Vec<f64>,
}

impl Objective<'_> {
    fn at(&self, parameters: Vec<f64>) -> Place {
        let (mut value, mut probabilities) = (0.0, Vec::with_capacity(self.terms.len() * self.n_labels));
        let gradient = self.sum(&parameters, |_, term, z| {
            value += term.weight * loss(z, term.label);
            probabilities.extend_from_slice(z);
            z[term.label] -= 1.0;
        });
        value += self.l2 / 2.0 * parameters.chunks_exact(self.stride).map(|w| squares(&w[..w.len() - 1])).sum::<f64>();
        Place { parameters, value, gradient, probabilities }
    }

    /// Takes one Newton step. `None`: no step decreases f by more than rounding.
    fn descend(&self, here: &Place) -> Option<Place> {
        let step = self.newton_step(here);
        let slope = dot(&here.gradient, &step);
        let mut part = 1.0;
        while part >= SHORTEST {
            let mut parameters = here.parameters.clone();
            add(&mut parameters, part, &step);
            let there = self.at(parameters);
            if there.value < here.value && there.value <= here.value + SUFFICIENT * part * slope {
                return Some(there);
            }
            part /= 2.0;
        }
        None
    }

    /// Solves ∇²f·step = −∇f. The shorter the gradient, the more exact the solution (Nocedal and Wright, section 7.1).
    fn newton_step(&self, here: &Place) -> Vec<f64> {
        let gradient = length(&here.gradient);
        let enough = gradient * gradient.sqrt().min(0.5);
        let mut residual: Vec<f64> = here.gradient.iter().map(|g| -g).collect();
        let (mut step, mut direction) = (vec![0.0; residual.len()], residual.clone());
        let mut left = squares(&residual);
        for _ in 0..CG_ITERATIONS {
            let turned = self.curvature(here, &direction);
            let bend = dot(&direction, &turned);
            if bend <= 0.0 {
                break; // f is convex, so this is a rounding error
            }
            let part = left / bend;
            add(&mut step, part, &direction);
            add(&mut residual, -part, &turned);
            let now = squares(&residual);
            if now.sqrt() <= enough {
                break;
            }
            direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + now / left * *d);
            left = now;
        }
        step
    }

    /// Computes ∇²f·direction.
    fn curvature(&self, here: &Place, direction: &[f64]) -> Vec<f64> {
        self.sum(direction, |i, _, u| {
            let p = &here.probabilities[i * self.n_labels..][..self.n_labels];
            let mean = dot(p, u);
            u.iter_mut().zip(p).for_each(|(u, p)| *u = p * (*u - mean));
        })
    }

    /// Computes Σᵢ wᵢ·vᵢ·(xᵢ, 1)ᵀ + l2·M. `to_factors` turns M·(xᵢ, 1) of the i-th term into vᵢ.
    fn sum(&self, matrix: &[f64], mut to_factors: impl FnMut(usize, &Term, &mut [f64])) -> Vec<f64> {
        let bias = self.stride - 1;
        let mut sum: Vec<f64> = matrix.iter().map(|m| self.l2 * m).collect();
        sum.chunks_exact_mut(self.stride).for_each(|row| row[bias] = 0.0);
        let mut values = vec![0.0; BLOCK * self.n_labels];
        let point = |term: &Term| &self.points[term.row * self.stride..][..self.stride];
        for (block, terms) in self.terms.chunks(BLOCK).enumerate() {
            for (label, row) in matrix.chunks_exact(self.stride).enumerate() {
                let of_label = values[label..].iter_mut().step_by(self.n_labels);
                of_label.zip(terms).for_each(|(z, term)| *z = dot(row, point(term)));
            }
            for (i, (term, values)) in terms.iter().zip(values.chunks_exact_mut(self.n_labels)).enumerate() {
                to_factors(block * BLOCK + i, term, values);
            }
            for (label, row) in sum.chunks_exact_mut(self.stride).enumerate() {
                let of_label = values[label..].iter().step_by(self.n_labels);
                of_label.zip(terms).for_each(|(v, term)| add(row, term.weight * v, point(term)));
            }
        }
        sum
    }
}

/// Computes the cross-entropy of logits for a label, and replaces the logits by their softmax.
pub(super) fn loss(logits: &mut [f64], label: usize) -> f64 {
    // The largest becomes 0, so that no power overflows and their sum is 1 or more.
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let wanted = logits[label] - largest;
    let mut sum = 0.0;
    for z in &mut *logits {
        *z = (*z - largest).exp();
        sum += *z;
    }
    logits.iter_mut().for_each(|z| *z /= sum);
    sum.ln() - wanted
}

/// Computes a dot product. It sums in lanes, which the compiler keeps in vector registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_last), (b, b_last)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f64>() + a_last.iter().zip(b_last).map(|(a, b)| a * b).sum::<f64>()
}

fn squares(a: &[f64]) -> f64 {
    dot(a, a)
}

fn length(a: &[f64]) -> f64 {
    squares(a).sqrt()
}

/// Computes to += factor · a.
fn add(to: &mut [f64], factor: f64, a: &[f64]) {
    to.iter_mut().zip(a).for_each(|(to, a)| *to += factor * a);
}

#[cfg(test)]
mod tests;
