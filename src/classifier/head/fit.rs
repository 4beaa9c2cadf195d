//! Fits a multinomial logistic regression to labelled vectors, and applies it.
//!
//! The function made small is that of `objective`, the search is `lbfgs`, guided by `hessian`, in f64 from zeros: the
//! same examples give the same bits.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::hessian::Hessian;
use super::lbfgs::{self, Minimum};
use super::objective::{Objective, Points, Term};

/// Penalties that can be asked for: with less, examples that can be separated have no end; with more, weights are 0.
pub const L2: RangeInclusive<f64> = 1e-9..=1e6;

/// Vectors and their labels.
#[derive(Debug, Clone, Copy)]
pub struct Examples<'a> {
    /// [examples, dimensions] f32, row-major
    pub(super) vectors: &'a [f32],
    pub(super) dimensions: usize,
    /// `[examples]`, below `n_labels`
    pub(super) labels: &'a [usize],
    pub(super) n_labels: usize,
}

impl<'a> Examples<'a> {
    /// `vectors`: [examples, dimensions] f32, row-major, of about unit length; `labels`: `[examples]`, each below
    /// `n_labels`.
    ///
    /// # Panics
    /// If the lengths do not fit, a label is not below `n_labels`, a value is not finite, or there is no example.
    pub fn new(vectors: &'a [f32], dimensions: usize, labels: &'a [usize], n_labels: usize) -> Self {
        assert!(!labels.is_empty() && dimensions > 0, "an example and a dimension");
        assert_eq!(vectors.len(), labels.len() * dimensions, "a vector for each label");
        assert!(labels.iter().all(|&label| label < n_labels), "labels are below {n_labels}");
        assert!(vectors.iter().all(|x| x.is_finite()), "vectors are finite");
        Self { vectors, dimensions, labels, n_labels }
    }

    pub(super) fn vector(&self, row: usize) -> &'a [f32] {
        &self.vectors[row * self.dimensions..][..self.dimensions]
    }
}

/// How much an example counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// As much as any other: frequent labels are preferred where the text leaves a doubt, as they are in the examples.
    #[default]
    Equal,
    /// In inverse proportion to how frequent its label is: each label counts as much as another. For examples whose
    /// frequencies are not those of the texts to come, or where rare labels matter most.
    Balanced,
}

impl ClassWeights {
    /// The share in the mean of each of `rows`: 0 or more, 1 together.
    pub(super) fn terms(self, labels: &[usize], n_labels: usize, rows: &[usize]) -> Vec<Term> {
        let mut counts = vec![0usize; n_labels];
        rows.iter().for_each(|&row| counts[labels[row]] += 1);
        let n_present = counts.iter().filter(|&&count| count > 0).count();
        let weight = |label: usize| match self {
            Self::Equal => 1.0 / rows.len() as f64,
            Self::Balanced => 1.0 / (n_present * counts[label]) as f64,
        };
        rows.iter().map(|&row| Term { row, label: labels[row], weight: weight(labels[row]) }).collect()
    }
}

/// How to fit all examples at once, which tests do.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub struct FitOptions {
    /// As in [`TrainOptions`](super::TrainOptions).
    pub l2: f64,
    /// How much an example counts.
    pub class_weights: ClassWeights,
}

/// A fitted regression: logits are W·x + b.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// [labels, dimensions], row-major
    pub weights: Vec<f64>,
    /// `[labels]`
    pub bias: Vec<f64>,
    /// The gradient came within the tolerance. If not, the search ended at its limit, and the fit is a little off.
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

/// Fits all examples. A label without any gets a logit far below the others.
#[cfg(test)]
pub fn fit(examples: &Examples<'_>, options: &FitOptions) -> Fit {
    let FitOptions { l2, class_weights } = *options;
    assert!(L2.contains(&l2), "l2 is {l2}, not from {:e} to {:e}", L2.start(), L2.end());
    let rows: Vec<usize> = (0..examples.labels.len()).collect();
    let fitter = Fitter::new(*examples, class_weights);
    let part = Part { rows: &rows, l2, guide: &fitter.guide(l2) };
    fitter.fit(&part, &mut None, Tolerance::EXACT)
}

/// Fits parts of some examples.
pub(super) struct Fitter<'a> {
    pub examples: Examples<'a>,
    pub class_weights: ClassWeights,
    /// Of all examples: taking off another mean than that of a part's own changes only how long a search takes.
    points: Points,
}

/// Length of the gradient at which a fit ends: g, where it is about 1 at most (a mean over unit vectors), is a value
/// within g² / (2·l2) of the least.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance(f64);

impl Tolerance {
    /// For a head that is kept.
    pub const EXACT: Self = Self(1e-6);
    /// For predictions: a label changes only where two are as good as equal.
    pub const CLOSE: Self = Self(1e-4);
    /// For ranking penalties: held-out losses are within 1 % or so of their values, and differ by more.
    pub const ROUGH: Self = Self(1e-3);
}

impl<'a> Fitter<'a> {
    pub fn new(examples: Examples<'a>, class_weights: ClassWeights) -> Self {
        Self { examples, class_weights, points: Points::new(examples.vectors, examples.dimensions) }
    }

    /// What guides [`fit`](Self::fit) to its end soon, for penalties of about `l2`.
    pub fn guide(&self, l2: f64) -> Hessian {
        Hessian::new(&self.points, self.examples.n_labels, l2)
    }

    /// Fits the examples in `rows`, from the parameters of a fit nearby or from zeros, and leaves its own.
    pub fn fit(&self, part: &Part<'_>, nearby: &mut Option<Vec<f64>>, tolerance: Tolerance) -> Fit {
        let Part { rows, l2, guide } = *part;
        let Examples { labels, n_labels, .. } = self.examples;
        let terms = self.class_weights.terms(labels, n_labels, rows);
        let objective = Objective { points: &self.points, terms: &terms, n_labels, l2 };
        let start = nearby.take().unwrap_or_else(|| objective.start());
        let evaluate = |at: &[f64], gradient: &mut [f64]| objective.evaluate(at, gradient);
        let Minimum { at, converged } = lbfgs::minimise(evaluate, |g| guide.solve(g), start, tolerance.0);
        let (weights, bias) = objective.unpack(&at);
        *nearby = Some(at);
        Fit { weights, bias, converged }
    }
}

/// Some examples, and a penalty.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub rows: &'a [usize],
    pub l2: f64,
    pub guide: &'a Hessian,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::cloud;
    use super::*;

    const EQUAL: ClassWeights = ClassWeights::Equal;

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
            let fast = fit(&examples, &FitOptions { l2: 0.02, class_weights: EQUAL });
            prop_assert!(fast.converged);
            let error = largest_difference(&numbers(&fast), &numbers(&descend(&examples, 0.02, 4_000)));
            // A gradient of 1e-6 over the least curvature, l2, and as much again for the descent.
            prop_assert!(error <= 2e-4, "off by {error:e}");
        }

        #[test]
        fn the_order_of_examples_does_not_matter(seed: u64, by in 1usize..40) {
            let (mut vectors, mut labels) = cloud(41, 6, 3, 1.5, seed);
            let options = FitOptions { l2: 1e-2, class_weights: ClassWeights::Balanced };
            let before = numbers(&fit(&Examples::new(&vectors, 6, &labels, 3), &options));
            vectors.rotate_left(6 * by);
            labels.rotate_left(by);
            let after = numbers(&fit(&Examples::new(&vectors, 6, &labels, 3), &options));
            let error = largest_difference(&before, &after);
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
            let fit = fit(&Examples::new(&vectors, 4, &labels, 3), &FitOptions { l2: 0.01, class_weights });
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
            let fit = fit(&Examples::new(&vectors, 4, &labels, 4), &FitOptions { l2, class_weights: EQUAL });
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
            let fit = fit(&Examples::new(&vectors, 3, &labels, 3), &FitOptions { l2: 1e-2, class_weights });
            assert!(fit.weights.iter().chain(&fit.bias).all(|x| x.is_finite()));
            assert!(vectors.chunks_exact(3).all(|x| fit.predict(x) != 2));
        }
    }

    #[test]
    fn balanced_labels_count_alike_and_together_1() {
        let labels = [0, 0, 0, 1, 2, 2, 2, 2];
        let terms = ClassWeights::Balanced.terms(&labels, 4, &[0, 1, 2, 3, 4, 6]);
        let of = |label| terms.iter().filter(|term| term.label == label).map(|term| term.weight).sum::<f64>();
        assert!((0..3).all(|label| (of(label) - 1.0 / 3.0).abs() < 1e-15));
        let terms = EQUAL.terms(&labels, 4, &[1, 3]);
        assert!(terms.iter().all(|term| term.weight == 0.5));
    }

    #[test]
    fn a_fit_ends_in_the_same_place_wherever_it_starts_and_whatever_guides_it() {
        let (vectors, labels) = cloud(50, 10, 3, 1.5, 11);
        let rows: Vec<usize> = (0..50).collect();
        let fitter = Fitter::new(Examples::new(&vectors, 10, &labels, 3), EQUAL);
        let mut nearby = None;
        fitter.fit(&Part { rows: &rows[..30], l2: 1.0, guide: &fitter.guide(1.0) }, &mut nearby, Tolerance::CLOSE);
        let one = fitter.fit(&Part { rows: &rows, l2: 1e-2, guide: &fitter.guide(1.0) }, &mut nearby, Tolerance::EXACT);
        let other =
            fitter.fit(&Part { rows: &rows, l2: 1e-2, guide: &fitter.guide(1e-2) }, &mut None, Tolerance::EXACT);
        let error = largest_difference(&numbers(&one), &numbers(&other));
        assert!(one.converged && other.converged && error <= 2e-4, "off by {error:e}");
    }
}
