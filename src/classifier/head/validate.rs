//! Chooses the penalty by cross-validation, and estimates the quality of a head on unseen texts.
//!
//! ```text
//! for each of k folds, for each penalty:     fit the other folds; loss and predictions on the fold
//! head:                                      fit all with the penalty of the least loss
//! accuracy:                                  for each fold: take the penalty with the least loss on the other folds,
//!                                            and its predictions on this fold
//! ```
//! If the loss on a fold took part in the choice of its penalty, the predictions on this fold would look too good
//! (Cawley and Talbot, On over-fitting in model selection, JMLR 11, 2010). So the choice for a fold leaves out its own
//! loss. All predictions together make the [`Confusion`]. The fits of one penalty run at the same time.

use thiserror::Error;

use super::confusion::Confusion;
use super::examples::{ClassWeights, Examples};
use super::folds;
use super::regression::{self, CLOSE, EXACT, Fit, Fitter, L2};
use super::training::Training;

/// The penalties that are tried, as scikit-learn's C = 1 / (l2 · examples). C has the same meaning for any number of
/// examples. The list goes from weights near 0 to nearly free ones. The loss of held-out examples falls and then rises
/// with C. So the first C that is worse ends the search, before the slowest fits.
const STRENGTHS: [f64; 11] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0];

/// The number of folds, unless a label has fewer texts. Kohavi (A study of cross-validation, 1995) found 5 to 10 good.
const FOLDS: usize = 5;

/// The options of a training.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrainOptions {
    /// The penalty: λ in mean cross-entropy + λ/2·|W|², from 1e-9 to 1e6. The bias has no penalty. Higher: smaller
    /// weights, less certain answers, less trust in few examples. scikit-learn's `C` is 1 / (λ · examples). `None`:
    /// cross-validation chooses.
    pub l2: Option<f64>,
    /// The rule for the weight of an example, in fits and in the comparison of penalties.
    pub class_weights: ClassWeights,
    /// The seed of the folds.
    pub seed: u64,
}

/// The examples or the options do not allow a training.
#[derive(Debug, Clone, PartialEq, Error)]
#[expect(missing_docs, reason = "the message of each error names its fields")]
pub enum TrainError {
    /// The examples have fewer than two labels, so a head would have no choice.
    #[error("too few labels: {0}, and at least 2 are needed")]
    TooFewLabels(usize),
    /// A label has fewer than two texts: it needs one to train on and one to hold out.
    #[error("label {name:?} has too few different texts: {n_texts}, and at least 2 are needed")]
    TooFewTexts { name: String, n_texts: usize },
    /// The penalty is out of bounds.
    #[error("l2 is {0}, and must be from {least:e} to {most:e}", least = L2.start(), most = L2.end())]
    Penalty(f64),
}

/// The result of a training.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The fit to all examples.
    pub fit: Fit,
    /// The options, with the penalty that was given or chosen, and the accuracy.
    pub training: Training,
    /// The labels and predictions of all examples. Neither the fit nor the choice of the penalty used the predicted
    /// text.
    pub confusion: Confusion,
}

/// Fits a head and validates it. `groups`: `[examples]`; examples of the same text have the same group and are held out
/// together. `names`: `[labels]`.
///
/// # Errors
/// The examples have fewer than 2 labels, a label has fewer than 2 different texts, or the penalty is out of bounds.
///
/// # Panics
/// Panics unless `groups` has one entry for each example and `names` one for each label.
pub fn train(
    examples: &Examples<'_>,
    groups: &[usize],
    names: &[String],
    options: &TrainOptions,
) -> Result<Trained, TrainError> {
    let Examples { labels, n_labels, .. } = *examples;
    assert_eq!(groups.len(), labels.len(), "each example has a group");
    assert_eq!(names.len(), n_labels, "each label has a name");
    if n_labels < 2 {
        return Err(TrainError::TooFewLabels(n_labels));
    }
    let n_texts = folds::sizes(labels, groups, n_labels);
    if let Some((name, &n_texts)) = names.iter().zip(&n_texts).find(|(_, n_texts)| **n_texts < 2) {
        return Err(TrainError::TooFewTexts { name: name.clone(), n_texts });
    }
    let n = labels.len();
    let strengths = match options.l2 {
        None => STRENGTHS.to_vec(),
        Some(l2) if L2.contains(&l2) => vec![1.0 / (l2 * n as f64)],
        Some(l2) => return Err(TrainError::Penalty(l2)),
    };

    let n_folds = n_texts.into_iter().fold(FOLDS, usize::min);
    let fold_of = folds::deal(labels, groups, n_labels, n_folds, options.seed);
    let fitter = Fitter::new(*examples, options.class_weights);
    let trials = try_strengths(&fitter, &Fold::all(&fold_of, n_folds), &strengths);
    let l2 = options.l2.unwrap_or(1.0 / (trials[best(&trials, None)].strength * n as f64));
    let fit = fitter.fit(&(0..n).collect::<Vec<_>>(), l2, None, EXACT);
    let predictions = (0..n_folds).flat_map(|fold| &trials[best(&trials, Some(fold))].folds[fold].predictions);
    let confusion = Confusion::new(n_labels, predictions.copied());
    let TrainOptions { class_weights, seed, .. } = *options;
    let training = Training { l2, class_weights, folds: n_folds, accuracy: confusion.accuracy(), seed };
    Ok(Trained { fit, training, confusion })
}

/// The examples of one fold, and all others.
struct Fold {
    others: Vec<usize>,
    held: Vec<usize>,
}

impl Fold {
    /// Divides the examples. `fold_of`: `[examples]`, each below `n_folds`.
    fn all(fold_of: &[usize], n_folds: usize) -> Vec<Self> {
        let fold = |n| {
            let (held, others) = (0..fold_of.len()).partition(|&row| fold_of[row] == n);
            Self { others, held }
        };
        (0..n_folds).map(fold).collect()
    }
}

/// The results of one penalty on all folds.
struct Trial {
    /// The penalty, as scikit-learn's C.
    strength: f64,
    folds: Vec<Outcome>,
}

/// The result of a fit to the other folds on one fold.
struct Outcome {
    fit: Fit,
    /// The mean loss on the fold, multiplied by the number of its examples.
    loss: f64,
    /// (label, prediction) of each example of the fold.
    predictions: Vec<(usize, usize)>,
}

/// Tries penalties in order while the loss falls.
fn try_strengths(fitter: &Fitter<'_>, folds: &[Fold], strengths: &[f64]) -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::with_capacity(strengths.len());
    for &strength in strengths {
        let nearby = trials.last();
        let folds: Vec<Outcome> = std::thread::scope(|scope| {
            let run = |(fold, nearby): (_, Option<_>)| scope.spawn(move || outcome(fitter, fold, strength, nearby));
            let nearby = (0..folds.len()).map(|n| nearby.map(|trial| &trial.folds[n].fit));
            let running: Vec<_> = folds.iter().zip(nearby).map(run).collect();
            running.into_iter().map(|fold| fold.join().expect("fits of finite vectors do not panic")).collect()
        });
        let trial = Trial { strength, folds };
        let is_worse = nearby.is_some_and(|last| trial.loss(None) >= last.loss(None));
        trials.push(trial);
        if is_worse {
            break;
        }
    }
    trials
}

fn outcome(fitter: &Fitter<'_>, fold: &Fold, strength: f64, nearby: Option<&Fit>) -> Outcome {
    let examples = &fitter.examples;
    let fit = fitter.fit(&fold.others, 1.0 / (strength * fold.others.len() as f64), nearby, CLOSE);
    let mean: f64 = fitter
        .class_weights
        .terms(examples, &fold.held)
        .iter()
        .map(|term| term.weight * regression::loss(&mut fit.logits(examples.vector(term.row)), term.label))
        .sum();
    let predict = |&row: &usize| (examples.labels[row], fit.predict(examples.vector(row)));
    let predictions = fold.held.iter().map(predict).collect();
    Outcome { fit, loss: mean * fold.held.len() as f64, predictions }
}

impl Trial {
    /// Sums the losses of all folds but `without`.
    fn loss(&self, without: Option<usize>) -> f64 {
        self.folds.iter().enumerate().filter(|(n, _)| Some(*n) != without).map(|(_, fold)| fold.loss).sum()
    }
}

/// Returns the position of the trial with the least loss, the first of several.
fn best(trials: &[Trial], without: Option<usize>) -> usize {
    let loss = |n: usize| trials[n].loss(without);
    (1..trials.len()).fold(0, |best, n| if loss(n) < loss(best) { n } else { best })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{cloud, names};
    use super::*;

    fn all_differ(n: usize) -> Vec<usize> {
        (0..n).collect()
    }

    #[test]
    fn clusters_far_apart_are_classified_without_errors() {
        for (n, dimensions, n_labels) in [(6, 16, 3), (10, 32, 5), (60, 16, 3), (100, 64, 10)] {
            let (vectors, labels) = cloud(n, dimensions, n_labels, 0.1, n as u64);
            let examples = Examples::new(&vectors, dimensions, &labels, n_labels);
            let trained = train(&examples, &all_differ(n), &names(n_labels), &TrainOptions::default()).unwrap();
            assert_eq!(trained.confusion.accuracy(), 1.0, "{n} examples: {:?}", trained.confusion);
            assert_eq!(trained.confusion.total(), n);
            assert_eq!(trained.training.folds, 5.min(n / n_labels));
            assert!(trained.fit.converged);
        }
    }

    #[test]
    fn random_labels_are_not_predicted_even_if_their_texts_repeat() {
        // Every text occurs four times with the same label. If each were a group of its own, the other three would
        // give the label away, and accuracy would be 1.
        let (vectors, _) = cloud(100, 64, 1, 1.0, 3);
        let (_, labels) = cloud(100, 1, 2, 1.0, 0);
        let vectors: Vec<f32> = vectors.chunks_exact(64).flat_map(|vector| vector.repeat(4)).collect();
        let labels: Vec<usize> = labels.into_iter().flat_map(|label| [label; 4]).collect();
        let examples = Examples::new(&vectors, 64, &labels, 2);
        let by_text: Vec<usize> = (0..400).map(|i| i / 4).collect();
        let accuracy = |groups: &[usize]| {
            train(&examples, groups, &names(2), &TrainOptions::default()).unwrap().confusion.accuracy()
        };
        // With 100 texts the standard deviation is 0.05.
        let honest = accuracy(&by_text);
        assert!((0.3..0.7).contains(&honest), "{honest}");
        assert!(accuracy(&all_differ(400)) > 0.9);
    }

    #[test]
    fn a_seed_decides_everything() {
        let (vectors, labels) = cloud(60, 8, 3, 1.5, 2);
        let examples = Examples::new(&vectors, 8, &labels, 3);
        let train = |seed| {
            let options = TrainOptions { seed, ..TrainOptions::default() };
            let trained = train(&examples, &all_differ(60), &names(3), &options).unwrap();
            (trained.fit, trained.training, trained.confusion)
        };
        assert_eq!(train(1), train(1));
        assert_ne!(train(1).2, train(2).2);
    }

    #[test]
    fn a_penalty_that_is_given_is_used() {
        let (vectors, labels) = cloud(40, 8, 2, 1.0, 4);
        let examples = Examples::new(&vectors, 8, &labels, 2);
        let options = TrainOptions { l2: Some(0.03), class_weights: ClassWeights::Balanced, seed: 0 };
        let trained = train(&examples, &all_differ(40), &names(2), &options).unwrap();
        let alone = Fitter::new(examples, ClassWeights::Balanced).fit(&all_differ(40), 0.03, None, EXACT);
        assert_eq!(trained.training.l2, 0.03);
        assert_eq!(trained.fit, alone);
    }

    #[test]
    fn few_and_noisy_examples_are_trusted_less_than_clear_ones() {
        let l2 = |noise| {
            let (vectors, labels) = cloud(60, 32, 3, noise, 6);
            let examples = Examples::new(&vectors, 32, &labels, 3);
            train(&examples, &all_differ(60), &names(3), &TrainOptions::default()).unwrap().training.l2
        };
        let (clear, noisy) = (l2(0.3), l2(4.0));
        assert!(noisy >= 30.0 * clear, "{noisy} and {clear}");
    }

    #[test]
    fn an_error_names_the_reason_why_training_is_impossible() {
        let (vectors, labels) = cloud(6, 4, 2, 0.5, 1);
        let message = |labels: &[usize], n_labels, groups: &[usize], l2| {
            let options = TrainOptions { l2, ..TrainOptions::default() };
            let examples = Examples::new(&vectors, 4, labels, n_labels);
            train(&examples, groups, &names(n_labels), &options).unwrap_err().to_string()
        };
        let groups = all_differ(6);
        assert_eq!(message(&[0; 6], 1, &groups, None), "too few labels: 1, and at least 2 are needed");
        let one = r#"label "label-1" has too few different texts: 1, and at least 2 are needed"#;
        assert_eq!(message(&[0, 0, 1, 0, 0, 0], 2, &groups, None), one);
        // These are three examples of one text.
        assert_eq!(message(&labels, 2, &[0, 9, 2, 9, 4, 9], None), one);
        assert_eq!(
            message(&labels, 3, &groups, None),
            r#"label "label-2" has too few different texts: 0, and at least 2 are needed"#
        );
        assert_eq!(message(&labels, 2, &groups, Some(0.0)), "l2 is 0, and must be from 1e-9 to 1e6");
        assert_eq!(message(&labels, 2, &groups, Some(f64::NAN)), "l2 is NaN, and must be from 1e-9 to 1e6");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn every_example_is_predicted_once_whatever_the_texts_and_labels(
            more in prop::collection::vec((0usize..3, 0usize..12), 0..30), seed: u64,
        ) {
            // Each label has two texts, and further texts have any label.
            let (labels, groups): (Vec<_>, Vec<_>) = (0..6).map(|i| (i % 3, 100 + i)).chain(more).unzip();
            let n = labels.len();
            let (vectors, _) = cloud(n, 5, 3, 1.0, seed);
            let examples = Examples::new(&vectors, 5, &labels, 3);
            let options = TrainOptions { seed, class_weights: ClassWeights::Balanced, l2: None };
            let trained = train(&examples, &groups, &names(3), &options).unwrap();
            let supports: Vec<usize> = trained.confusion.rows().map(|row| row.iter().sum()).collect();
            for (label, support) in supports.into_iter().enumerate() {
                prop_assert_eq!(support, labels.iter().filter(|&&other| other == label).count());
            }
        }
    }
}
