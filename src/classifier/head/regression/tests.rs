//! Compares fits with plain gradient descent, and with scikit-learn; checks derivatives by finite differences.

use proptest::prelude::*;

use super::super::tests::cloud;
use super::*;

const EQUAL: ClassWeights = ClassWeights::Equal;

fn fit(examples: &Examples<'_>, l2: f64, class_weights: ClassWeights) -> Fit {
    let rows: Vec<usize> = (0..examples.labels.len()).collect();
    Fitter::new(*examples, class_weights).fit(&rows, l2, None, EXACT)
}

/// Returns all numbers of a fit. Its bias is shifted so that it sums to 0, because only differences of logits matter.
fn numbers(fit: &Fit) -> Vec<f64> {
    let mean = fit.bias.iter().sum::<f64>() / fit.bias.len() as f64;
    fit.weights.iter().copied().chain(fit.bias.iter().map(|b| b - mean)).collect()
}

fn largest_difference(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// Fits by gradient descent, directly from the formula: the plain version of [`fit`].
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
        // The error of each side is at most the gradient, 1e-6, divided by the least curvature, l2.
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
fn a_fit_equals_that_of_scikit_learn() {
    // From sklearn 1.9.1: LogisticRegression(C=1 / (0.01 * 30), solver="newton-cg", tol=1e-12, class_weight=…).
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
fn a_fit_of_separable_examples_does_not_diverge() {
    for l2 in [1e-1, 1e-4, 1e-7] {
        let labels: Vec<usize> = (0..40).map(|i| i % 4).collect();
        let vectors: Vec<f32> =
            labels.iter().flat_map(|&label| (0..4).map(move |i| if i == label { 1.0 } else { 0.0 })).collect();
        let fit = fit(&Examples::new(&vectors, 4, &labels, 4), l2, EQUAL);
        assert!(fit.converged, "l2 {l2:e}");
        // ½·l2·|W|² is at most the loss at zeros, log 4.
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
fn a_fit_does_not_depend_on_its_start() {
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
        // Each of up to 50 parameters adds 1e-10 of truncation, and rounding of 1e-16 of the value divided by the step.
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
fn logits_of_any_size_do_not_overflow() {
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
