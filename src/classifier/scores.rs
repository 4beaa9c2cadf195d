//! Probabilities from a model's raw scores (logits), and the selection of labels for a caller.

use crate::model::Problem;
use crate::onnx::Scale;

/// The smallest probability, and the smallest distance from 1, that becomes a logit. With it the logits of 0 and 1 are
/// finite, and give 0 and 1 again within the precision of f32.
const LEAST: f64 = 1e-30;

/// Turns a graph's output into logits, from which [`probabilities`] restores that output. So a graph that ends with a
/// softmax or a sigmoid does not get a second one. Values that are not finite stay as they are.
pub(super) fn to_logits(values: &mut [f32], scale: Scale) {
    let logit = |p: f64| p.max(LEAST).ln();
    for value in values.iter_mut().filter(|value| value.is_finite()) {
        let p = f64::from(*value);
        *value = match scale {
            Scale::Scores | Scale::LogSoftmax => *value,
            Scale::Softmax => logit(p) as f32,
            Scale::Sigmoid => (logit(p) - logit(1.0 - p)) as f32,
        };
    }
}

/// Computes the probabilities of `logits`, in their order: a softmax, or a sigmoid of each. It computes in f64 and
/// shifts values that would overflow, so extreme logits give 0 and 1.
pub fn probabilities(logits: &[f32], problem: Problem) -> Vec<f32> {
    match problem {
        Problem::SingleLabel => {
            let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let shifted: Vec<f64> = logits.iter().map(|&z| (f64::from(z) - f64::from(greatest)).exp()).collect();
            let sum: f64 = shifted.iter().sum();
            shifted.into_iter().map(|e| (e / sum) as f32).collect()
        }
        Problem::MultiLabel => logits.iter().map(|&z| sigmoid(f64::from(z)) as f32).collect(),
    }
}

/// Computes 1 / (1 + e⁻ᶻ) in the form whose exponential is at most 1.
fn sigmoid(z: f64) -> f64 {
    if z >= 0.0 {
        1.0 / (1.0 + (-z).exp())
    } else {
        let e = z.exp();
        e / (1.0 + e)
    }
}

/// The labels that a caller wants.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Selection {
    /// The number of labels with the best scores; `None`: all.
    pub top_n: Option<usize>,
    /// The minimum score; `None`: no minimum.
    pub min_score: Option<f32>,
}

/// Ranks all labels: their indices and scores, best first, equal scores in the model's order.
pub fn ranked(scores: &[f32]) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1)); // stable
    ranked
}

impl Selection {
    /// Selects from ranked labels.
    pub fn of(self, ranked: &[(usize, f32)]) -> &[(usize, f32)] {
        let enough = self.min_score.map_or(ranked.len(), |least| ranked.partition_point(|(_, score)| *score >= least));
        &ranked[..enough.min(self.top_n.unwrap_or(usize::MAX))]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Computes the definition in f64.
    fn plain(logits: &[f32], problem: Problem) -> Vec<f64> {
        let e: Vec<f64> = logits.iter().map(|&z| f64::from(z).exp()).collect();
        let sum: f64 = e.iter().sum();
        match problem {
            Problem::SingleLabel => e.iter().map(|e| e / sum).collect(),
            Problem::MultiLabel => e.iter().map(|e| e / (1.0 + e)).collect(),
        }
    }

    proptest! {
        #[test]
        fn probabilities_are_those_of_the_definition(logits in prop::collection::vec(-300f32..300.0, 1..40)) {
            for problem in [Problem::SingleLabel, Problem::MultiLabel] {
                for (p, expected) in probabilities(&logits, problem).iter().zip(plain(&logits, problem)) {
                    prop_assert!((f64::from(*p) - expected).abs() <= 6e-8, "{p} {expected}");
                }
            }
            let sum: f64 = probabilities(&logits, Problem::SingleLabel).iter().map(|&p| f64::from(p)).sum();
            prop_assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        }

        #[test]
        fn a_selection_keeps_the_best_and_their_order(
            scores in prop::collection::vec(-2f32..2.0, 1..30), top_n in 0usize..40, least in -2f32..2.0,
        ) {
            let ranked = ranked(&scores);
            let kept = Selection { top_n: Some(top_n), min_score: Some(least) }.of(&ranked);
            let mut expected: Vec<f32> = scores.iter().copied().filter(|score| *score >= least).collect();
            expected.sort_by(|a, b| b.total_cmp(a));
            expected.truncate(top_n);
            prop_assert_eq!(kept.iter().map(|(_, score)| *score).collect::<Vec<_>>(), expected);
            prop_assert!(kept.iter().all(|(n, score)| scores[*n] == *score));
        }
    }

    proptest! {
        #[test]
        fn a_graphs_own_probabilities_come_out_as_they_are(logits in prop::collection::vec(-40f32..40.0, 1..20)) {
            for (problem, scale) in [(Problem::SingleLabel, Scale::Softmax), (Problem::MultiLabel, Scale::Sigmoid)] {
                let given = probabilities(&logits, problem);
                let mut values = given.clone();
                to_logits(&mut values, scale);
                prop_assert!(values.iter().all(|value| value.is_finite()));
                for (p, expected) in probabilities(&values, problem).iter().zip(&given) {
                    prop_assert!((p - expected).abs() <= 1e-6, "{p} {expected}");
                }
            }
        }
    }

    #[test]
    fn a_sure_probability_has_a_finite_logit() {
        let mut values = [1.0, 0.0, f32::NAN];
        to_logits(&mut values, Scale::Sigmoid);
        let [sure, never] = probabilities(&values[..2], Problem::MultiLabel)[..] else { panic!("two values") };
        assert!(sure == 1.0 && never < 1e-20, "{sure} {never}");
        assert!(values[2].is_nan());
    }

    #[test]
    fn extremes_do_not_overflow() {
        let extremes = [f32::MAX, f32::MIN, 0.0];
        assert_eq!(probabilities(&extremes, Problem::SingleLabel), [1.0, 0.0, 0.0]);
        assert_eq!(probabilities(&extremes, Problem::MultiLabel), [1.0, 0.0, 0.5]);
        assert_eq!(probabilities(&[f32::MIN; 2], Problem::SingleLabel), [0.5, 0.5]);
    }

    #[test]
    fn equal_scores_come_in_the_order_of_the_labels() {
        assert_eq!(ranked(&[0.25, 0.5, 0.25]), [(1, 0.5), (0, 0.25), (2, 0.25)]);
    }
}
