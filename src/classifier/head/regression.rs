//! Fits a multinomial logistic regression to labelled vectors by Newton's method.
//!
//! ```text
//! f(W)     = Σᵢ wᵢ·(log Σ_c e^{zᵢ[c]} − zᵢ[yᵢ]) + l2/2·|W|²      zᵢ = W·(xᵢ, 1),  Σ wᵢ = 1
//! ∇f       = Σᵢ wᵢ·(pᵢ − onehot(yᵢ))·(xᵢ, 1)ᵀ + l2·W             pᵢ = softmax(zᵢ)
//! ∇²f·V    = Σᵢ wᵢ·(pᵢ∘uᵢ − pᵢ·(pᵢᵀuᵢ))·(xᵢ, 1)ᵀ + l2·V          uᵢ = V·(xᵢ, 1)
//! ```
//! (Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4.) The last column of W is the bias, which has
//! no penalty. Conjugate gradients solve each Newton step approximately, and the step is halved until f decreases
//! enough (Nocedal and Wright, Numerical Optimization, 2nd ed., 2006, algorithm 7.1). f is convex and nothing is
//! random: the same examples give the same bits.
//!
//! Embeddings of one model share a large mean. The points are stored without it. Only the bias changes
//! (W·x + b = W·(x − m) + (b + W·m)), and conjugate gradients need fewer steps.

use std::ops::RangeInclusive;

use super::examples::{ClassWeights, Examples, Term};

/// Penalties that can be asked for. Below them, weights of examples that can be separated grow without end; above them,
/// weights are 0.
pub const L2: RangeInclusive<f64> = 1e-9..=1e6;

/// Length of the gradient at which a fit that is kept ends. f is then within its square / (2·l2) of the minimum.
pub(super) const EXACT: f64 = 1e-6;
/// The same for the fits of cross-validation: losses of penalties differ by more, and few predictions change.
pub(super) const CLOSE: f64 = 1e-3;

/// Points that are computed together, so that each row of parameters that is loaded serves them all.
const BLOCK: usize = 8;
/// Newton steps: a fit needs 5 to 15.
const STEPS: usize = 100;
/// Conjugate gradient iterations of a step: with a small penalty, a fit needs some hundred in its last steps.
const CG_ITERATIONS: usize = 1_000;
/// Share of the decrease that the slope promises which a step must reach (Nocedal and Wright, page 33).
const SUFFICIENT: f64 = 1e-4;
/// The shortest part of a step that is tried.
const SHORTEST: f64 = 1e-9;

/// A fitted regression: logits are W·x + b.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// [labels, dimensions], row-major
    pub weights: Vec<f64>,
    /// `[labels]`
    pub bias: Vec<f64>,
    /// The gradient came within the tolerance. If not, the fit is slightly off.
    pub converged: bool,
}

impl Fit {
    /// One logit for each label. `vector`: `[dimensions]`.
    pub fn logits(&self, vector: &[f32]) -> Vec<f64> {
        let dot = |w: &[f64]| w.iter().zip(vector).map(|(w, &x)| w * f64::from(x)).sum::<f64>();
        self.weights.chunks_exact(vector.len()).zip(&self.bias).map(|(w, b)| dot(w) + b).collect()
    }

    /// The most likely label, of equals the first.
    pub fn predict(&self, vector: &[f32]) -> usize {
        let logits = self.logits(vector);
        (1..logits.len()).fold(0, |best, label| if logits[label] > logits[best] { label } else { best })
    }
}

/// Fits parts of some examples.
pub(super) struct Fitter<'a> {
    pub examples: Examples<'a>,
    pub class_weights: ClassWeights,
    /// `[dimensions]`, of all examples
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

    /// Fits the examples in `rows`, from `nearby` or from zeros, until the gradient is no longer than `tolerance`. A
    /// label without examples gets a logit far below the others.
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

    /// Parameters for points without their mean.
    fn pack(&self, fit: &Fit) -> Vec<f64> {
        let of_label = fit.weights.chunks_exact(self.mean.len()).zip(&fit.bias);
        of_label.flat_map(|(w, b)| w.iter().copied().chain([b + dot(w, &self.mean)])).collect()
    }

    /// The inverse of [`pack`](Self::pack).
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

/// f at some parameters.
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

    /// Goes one Newton step. `None`: no step decreases f by more than rounding.
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

    /// Solves ∇²f·step = −∇f, the more exactly the shorter the gradient is (Nocedal and Wright, section 7.1).
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
                break; // f is convex: this is rounding
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

    /// ∇²f·direction.
    fn curvature(&self, here: &Place, direction: &[f64]) -> Vec<f64> {
        self.sum(direction, |i, _, u| {
            let p = &here.probabilities[i * self.n_labels..][..self.n_labels];
            let mean = dot(p, u);
            u.iter_mut().zip(p).for_each(|(u, p)| *u = p * (*u - mean));
        })
    }

    /// Σᵢ wᵢ·vᵢ·(xᵢ, 1)ᵀ + l2·M, where `to_factors` turns M·(xᵢ, 1) of the i-th term into vᵢ.
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

/// Cross-entropy of logits for a label; turns the logits into their softmax.
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

/// Sums in lanes, which the compiler keeps in vector registers.
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

/// to += factor · a.
fn add(to: &mut [f64], factor: f64, a: &[f64]) {
    to.iter_mut().zip(a).for_each(|(to, a)| *to += factor * a);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::cloud;
    use super::*;

    const EQUAL: ClassWeights = ClassWeights::Equal;

    fn fit(examples: &Examples<'_>, l2: f64, class_weights: ClassWeights) -> Fit {
        let rows: Vec<usize> = (0..examples.labels.len()).collect();
        Fitter::new(*examples, class_weights).fit(&rows, l2, None, EXACT)
    }

    /// All numbers of a fit, its bias moved so that it sums to 0: only differences of logits mean anything.
    fn numbers(fit: &Fit) -> Vec<f64> {
        let mean = fit.bias.iter().sum::<f64>() / fit.bias.len() as f64;
        fit.weights.iter().copied().chain(fit.bias.iter().map(|b| b - mean)).collect()
    }

    fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }

    /// The plain face of [`fit`]: gradient descent, straight from the formula.
    fn descend(examples: &Examples<'_>, l2: f64, steps: usize) -> Fit {
        let Examples { dimensions, labels, n_labels, .. } = *examples;
        let mut fit = Fit { weights: vec![0.0; n_labels * dimensions], bias: vec![0.0; n_labels], converged: true };
        // The Hessian's norm is at most ½ (Böhning, 1992) times |x|² + 1, and l2.
        let rate = 1.0 / (1.0 + l2);
        for _ in 0..steps {
            let mut weights: Vec<f64> = fit.weights.iter().map(|w| l2 * w).collect();
            let mut bias = vec![0.0; n_labels];
            for (row, &label) in labels.iter().enumerate() {
                let powers: Vec<f64> = fit.logits(examples.vector(row)).iter().map(|z| z.exp()).collect();
                let sum: f64 = powers.iter().sum();
                for c in 0..n_labels {
                    let residual = (powers[c] / sum - f64::from(u8::from(c == label))) / labels.len() as f64;
                    bias[c] += residual;
                    for (i, &x) in examples.vector(row).iter().enumerate() {
                        weights[c * dimensions + i] += residual * f64::from(x);
                    }
                }
            }
            fit.weights.iter_mut().zip(weights).for_each(|(w, g)| *w -= rate * g);
            fit.bias.iter_mut().zip(bias).for_each(|(b, g)| *b -= rate * g);
        }
        fit
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn a_fit_is_where_plain_gradient_descent_ends(
            n in 6usize..30, dimensions in 1usize..7, n_labels in 2usize..4, noise in 0.5f64..3.0, seed: u64,
        ) {
            let (vectors, labels) = cloud(n, dimensions, n_labels, noise, seed);
            let examples = Examples::new(&vectors, dimensions, &labels, n_labels);
            let fast = fit(&examples, 0.02, EQUAL);
            prop_assert!(fast.converged);
            let error = largest_difference(&numbers(&fast), &numbers(&descend(&examples, 0.02, 4_000)));
            // A gradient of 1e-6 over the least curvature, l2, and as much again for the descent.
            prop_assert!(error <= 2e-4, "off by {error:e}");
        }

        #[test]
        fn the_order_of_examples_does_not_matter(seed: u64, by in 1usize..40) {
            let (mut vectors, mut labels) = cloud(41, 6, 3, 1.5, seed);
            let fitted = |vectors: &[f32], labels: &[usize]| {
                numbers(&fit(&Examples::new(vectors, 6, labels, 3), 1e-2, ClassWeights::Balanced))
            };
            let before = fitted(&vectors, &labels);
            vectors.rotate_left(6 * by);
            labels.rotate_left(by);
            let error = largest_difference(&before, &fitted(&vectors, &labels));
            prop_assert!(error <= 2e-4, "off by {error:e}");
        }
    }

    #[test]
    fn a_fit_is_that_of_scikit_learn() {
        // sklearn 1.9.1: LogisticRegression(C=1 / (0.01 * 30), solver="newton-cg", tol=1e-12, class_weight=…).
        let mut vectors = Vec::new();
        for i in 0..30 {
            let x: [f64; 4] = std::array::from_fn(|j| {
                let (i, j) = (f64::from(i), j as f64);
                (1.0 + 7.0 * i + 3.0 * j * j + 0.1 * i * j).sin()
            });
            let length = x.iter().map(|x| x * x).sum::<f64>().sqrt();
            vectors.extend(x.map(|x| (x / length) as f32));
        }
        let mut labels = vec![0; 15];
        labels.extend([2, 1, 2, 1, 2, 1, 2, 1, 2, 0, 1, 1, 0, 1, 1]);
        let equal = [
            [-0.155028, -0.085176, -0.354025, -0.353195],
            [0.524803, 0.303762, 0.132788, 0.193841],
            [-0.369774, -0.218587, 0.221238, 0.159354],
        ];
        let balanced = [
            [-0.189745, -0.048151, -0.314547, -0.309319],
            [0.553984, 0.251415, 0.177091, 0.200394],
            [-0.364239, -0.203264, 0.137455, 0.108925],
        ];
        for (class_weights, weights, bias) in [
            (EQUAL, equal, [0.689896, -0.128817, -0.561079]),
            (ClassWeights::Balanced, balanced, [0.034435, -0.040643, 0.006208]),
        ] {
            let fit = fit(&Examples::new(&vectors, 4, &labels, 3), 0.01, class_weights);
            let expected: Vec<f64> = weights.concat().into_iter().chain(bias).collect();
            let error = largest_difference(&numbers(&fit), &expected);
            assert!(error <= 2e-5, "{class_weights:?} is off by {error:e}");
        }
    }

    #[test]
    fn what_can_be_separated_does_not_diverge() {
        for l2 in [1e-1, 1e-4, 1e-7] {
            let labels: Vec<usize> = (0..40).map(|i| i % 4).collect();
            let vectors: Vec<f32> =
                labels.iter().flat_map(|&label| (0..4).map(move |i| if i == label { 1.0 } else { 0.0 })).collect();
            let fit = fit(&Examples::new(&vectors, 4, &labels, 4), l2, EQUAL);
            assert!(fit.converged, "l2 {l2:e}");
            // ½·l2·|W|² is no more than the loss at zeros, log 4.
            let squares: f64 = fit.weights.iter().map(|w| w * w).sum();
            assert!(l2 / 2.0 * squares <= 4f64.ln(), "l2 {l2:e}: |W|² is {squares}");
            assert!(labels.iter().zip(vectors.chunks(4)).all(|(&label, x)| fit.predict(x) == label), "l2 {l2:e}");
        }
    }

    #[test]
    fn a_label_without_examples_is_not_predicted() {
        let (vectors, labels) = cloud(20, 3, 2, 0.5, 9);
        for class_weights in [EQUAL, ClassWeights::Balanced] {
            let fit = fit(&Examples::new(&vectors, 3, &labels, 3), 1e-2, class_weights);
            assert!(fit.converged);
            assert!(fit.weights.iter().chain(&fit.bias).all(|x| x.is_finite()));
            assert!(vectors.chunks_exact(3).all(|x| fit.predict(x) != 2));
        }
    }

    #[test]
    fn a_fit_ends_in_the_same_place_wherever_it_starts() {
        let (vectors, labels) = cloud(50, 10, 3, 1.5, 11);
        let rows: Vec<usize> = (0..50).collect();
        let fitter = Fitter::new(Examples::new(&vectors, 10, &labels, 3), EQUAL);
        let nearby = fitter.fit(&rows[..30], 1.0, None, CLOSE);
        let one = fitter.fit(&rows, 1e-2, Some(&nearby), EXACT);
        let other = fitter.fit(&rows, 1e-2, None, EXACT);
        let error = largest_difference(&numbers(&one), &numbers(&other));
        assert!(one.converged && other.converged && error <= 2e-4, "off by {error:e}");
    }

    proptest! {
        #[test]
        fn gradient_and_curvature_are_those_of_differences(
            n in 1usize..12, dimensions in 1usize..10, n_labels in 2usize..5, seed: u64, l2 in 0.0f64..1.0,
            scale in 0.1f64..5.0,
        ) {
            let (vectors, labels) = cloud(n, dimensions, n_labels, 1.0, seed);
            let fitter = Fitter::new(Examples::new(&vectors, dimensions, &labels, n_labels), EQUAL);
            let term = |(row, &label)| Term { row, label, weight: (1.0 + row as f64) / n as f64 };
            let terms: Vec<Term> = labels.iter().enumerate().map(term).collect();
            let stride = dimensions + 1;
            let objective = Objective { points: &fitter.points, terms: &terms, n_labels, stride, l2 };
            let wave = |phase: u64| (0..n_labels * stride).map(move |i| (i as f64 + phase as f64).sin());
            let middle: Vec<f64> = wave(seed % 7).map(|x| scale * x).collect();
            let direction: Vec<f64> = wave(seed % 5 + 20).collect();
            let here = objective.at(middle.clone());
            let [before, after] = [-1e-5, 1e-5].map(|part| {
                let mut parameters = middle.clone();
                add(&mut parameters, part, &direction);
                objective.at(parameters)
            });
            // 1e-10 of truncation, and 1e-16 of the value over the step of rounding; in each of up to 50 parameters.
            let tolerance = 5e-7 * (1.0 + scale * scale);
            let slope = (after.value - before.value) / 2e-5;
            prop_assert!((slope - dot(&here.gradient, &direction)).abs() <= tolerance);
            let curvature = objective.curvature(&here, &direction);
            for (i, exact) in curvature.into_iter().enumerate() {
                let change = (after.gradient[i] - before.gradient[i]) / 2e-5;
                prop_assert!((change - exact).abs() <= tolerance, "{i}: {change}, {exact}");
            }
        }

        #[test]
        fn softmax_sums_to_1_and_does_not_see_a_shift(
            logits in prop::collection::vec(-50f64..50.0, 1..20), shift in -1e4f64..1e4,
        ) {
            let (mut plain, mut shifted) = (logits.clone(), logits.iter().map(|z| z + shift).collect::<Vec<_>>());
            let (loss_plain, loss_shifted) = (loss(&mut plain, 0), loss(&mut shifted, 0));
            prop_assert!((plain.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            // The shift rounds logits by 1e-12 each.
            prop_assert!((loss_plain - loss_shifted).abs() < 1e-10);
            prop_assert!(plain.iter().zip(&shifted).all(|(a, b)| (a - b).abs() < 1e-10));
            prop_assert!((loss_plain + plain[0].ln()).abs() < 1e-9 * (1.0 + loss_plain));
        }
    }

    #[test]
    fn logits_of_any_size_overflow_nowhere() {
        for logits in [[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, 1e4], [1e300, 0.0, -1e300]] {
            for label in 0..3 {
                let mut z = logits;
                let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let loss = loss(&mut z, label);
                assert!(loss.is_finite() && loss >= largest - logits[label], "{logits:?}: {loss}");
                assert!(z.iter().all(|p| (0.0..=1.0).contains(p)), "{logits:?}: {z:?}");
            }
        }
    }
}
