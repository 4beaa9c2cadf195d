//! Chooses the penalty, and says how good a head is on texts that it has not seen.
//!
//! Cross-validation chooses the penalty. The accuracy of the chosen one on the folds it was chosen by would flatter it,
//! so the choice is validated with the rest (nested cross-validation; Cawley and Talbot, On over-fitting in model
//! selection, JMLR 11, 2010):
//! ```text
//! for each of k folds:                                    for the head itself:
//!     C: least loss, held out, in k folds of the others       C: least loss, held out, in k folds of all
//!     fit the others with C, predict the fold                 fit all with C
//! ```
//! All predictions together make the [`Confusion`]. The k + 1 columns are independent and run at the same time.

use std::collections::HashSet;
use std::sync::OnceLock;

use thiserror::Error;

use super::confusion::Confusion;
use super::fit::{ClassWeights, Examples, Fit, Fitter, L2, Part, Tolerance};
use super::hessian::Hessian;
use super::{Training, folds, objective};

/// Penalties tried, as scikit-learn's C = 1 / (l2 · examples): what a choice made with fewer examples means for more.
/// From weights near 0 to nearly free ones. The loss of held-out examples falls and then rises with C, so the first that
/// is worse ends the search: the fits of what follows take longest.
const STRENGTHS: [f64; 11] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0];

/// Folds if every label has as many texts. Kohavi (A study of cross-validation, 1995) found 5 to 10 to be good.
const FOLDS: usize = 5;

/// How to train.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrainOptions {
    /// λ in mean cross-entropy + λ/2·|W|², from 1e-9 to 1e6; the bias is free. Higher: smaller weights, less
    /// certain answers, less trust in few examples. scikit-learn's `C` is 1 / (λ · examples). `None`: chosen by
    /// cross-validation.
    pub l2: Option<f64>,
    /// How much an example counts, in fits and where penalties are compared.
    pub class_weights: ClassWeights,
    /// Decides which examples are held out together.
    pub seed: u64,
}

/// Why there is nothing to train.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum TrainError {
    /// Nothing to tell apart.
    #[error("too few labels: {0}, and at least 2 are needed")]
    TooFewLabels(usize),
    /// What is held out would be unknown, or nothing could be held out.
    #[error("label {name:?} has too few different texts: {n_texts}, and at least 2 are needed")]
    TooFewTexts { name: String, n_texts: usize },
    /// A penalty out of bounds.
    #[error("l2 is {0}, and must be from {least:e} to {most:e}", least = L2.start(), most = L2.end())]
    Penalty(f64),
}

/// What training gives.
#[derive(Debug, Clone)]
pub struct Trained {
    /// Fitted to all examples.
    pub fit: Fit,
    /// The penalty that was given or chosen, and the rest for the record.
    pub training: Training,
    /// Labels and predictions, each by a fit that had not seen the text, its penalty included.
    pub confusion: Confusion,
}

/// Fits a head and validates it. `groups`: `[examples]`, equal for examples of the same text, which are held out
/// together; `names`: `[labels]`.
///
/// # Errors
/// Fewer than 2 labels, a label with fewer than 2 different texts, or a penalty that is out of bounds.
///
/// # Panics
/// If `groups` or `names` are not as many as the examples and their labels.
pub fn train(
    examples: &Examples<'_>,
    groups: &[usize],
    names: &[String],
    options: &TrainOptions,
) -> Result<Trained, TrainError> {
    let Examples { labels, n_labels, .. } = *examples;
    assert_eq!(groups.len(), labels.len(), "a group for each example");
    assert_eq!(names.len(), n_labels, "a name for each label");
    if n_labels < 2 {
        return Err(TrainError::TooFewLabels(n_labels));
    }
    let n_texts = folds::sizes(labels, groups, n_labels);
    if let Some((name, &n_texts)) = names.iter().zip(&n_texts).find(|(_, n_texts)| **n_texts < 2) {
        return Err(TrainError::TooFewTexts { name: name.clone(), n_texts });
    }
    let strengths = match options.l2 {
        None => STRENGTHS.into_iter().map(Strength::new).collect(),
        Some(l2) if L2.contains(&l2) => vec![Strength::new(1.0 / (l2 * labels.len() as f64))],
        Some(l2) => return Err(TrainError::Penalty(l2)),
    };

    let n_folds = n_texts.into_iter().fold(FOLDS, usize::min);
    let fold_of = folds::deal(labels, groups, n_labels, n_folds, options.seed);
    let fitter = Fitter::new(*examples, options.class_weights);
    let trainer = Trainer { fitter, groups, strengths, n_folds };
    let all: Vec<usize> = (0..labels.len()).collect();
    std::thread::scope(|scope| {
        let (trainer, all) = (&trainer, &all);
        let held_out: Vec<_> = (0..n_folds)
            .map(|fold| {
                let (others, held) = split(all, &fold_of, fold);
                // Other folds within each than around it.
                let seed = options.seed.wrapping_add(1 + fold as u64);
                scope.spawn(move || trainer.predict(&others, &held, seed))
            })
            .collect();
        let strength = trainer.choose(all, options.seed);
        let l2 = options.l2.unwrap_or(strength.l2(all.len()));
        let fit = trainer.fit(strength, l2, all, &mut None, Tolerance::EXACT);
        let pairs = held_out.into_iter().flat_map(|fold| fold.join().expect("fits of finite vectors do not panic"));
        let confusion = Confusion::new(n_labels, pairs);
        let TrainOptions { class_weights, seed, .. } = *options;
        let training = Training { l2, class_weights, folds: n_folds, accuracy: confusion.accuracy(), seed };
        Ok(Trained { fit, training, confusion })
    })
}

/// A penalty to try.
struct Strength {
    /// scikit-learn's C.
    c: f64,
    /// For all fits with it: how many examples they have changes the penalty little.
    guide: OnceLock<Hessian>,
}

impl Strength {
    fn new(c: f64) -> Self {
        Self { c, guide: OnceLock::new() }
    }

    fn l2(&self, n_examples: usize) -> f64 {
        1.0 / (self.c * n_examples as f64)
    }
}

/// A fold.
struct Held {
    others: Vec<usize>,
    held: Vec<usize>,
    /// Parameters of the last fit to the others, where the next starts.
    nearby: Option<Vec<f64>>,
}

/// What every part of the training is done with.
struct Trainer<'a> {
    fitter: Fitter<'a>,
    groups: &'a [usize],
    /// One or more.
    strengths: Vec<Strength>,
    n_folds: usize,
}

impl Trainer<'_> {
    /// (label, prediction) of each of `held`, by a fit that knows only `others`.
    fn predict(&self, others: &[usize], held: &[usize], seed: u64) -> Vec<(usize, usize)> {
        let examples = &self.fitter.examples;
        let strength = self.choose(others, seed);
        let fit = self.fit(strength, strength.l2(others.len()), others, &mut None, Tolerance::CLOSE);
        held.iter().map(|&row| (examples.labels[row], fit.predict(examples.vector(row)))).collect()
    }

    /// The strength with the least loss on folds of `rows`; of equals the first.
    fn choose(&self, rows: &[usize], seed: u64) -> &Strength {
        // Where nothing can be held out, neither few nor large weights.
        let mut best = &self.strengths[self.strengths.len() / 2];
        if self.strengths.len() == 1 {
            return best;
        }
        let mut parts = self.parts(rows, seed);
        let mut least = f64::INFINITY;
        for strength in &self.strengths {
            let losses = parts.iter_mut().map(|part| {
                let l2 = strength.l2(part.others.len());
                let fit = self.fit(strength, l2, &part.others, &mut part.nearby, Tolerance::ROUGH);
                self.loss(&fit, &part.held) * part.held.len() as f64
            });
            let loss: f64 = losses.sum();
            if loss >= least || parts.is_empty() {
                break;
            }
            (best, least) = (strength, loss);
        }
        best
    }

    /// Folds of `rows`, as far as their labels are known without them: no penalty makes up for a label without any
    /// example.
    fn parts(&self, rows: &[usize], seed: u64) -> Vec<Held> {
        let Examples { labels, n_labels, .. } = self.fitter.examples;
        let of_rows = |values: &[usize]| -> Vec<usize> { rows.iter().map(|&row| values[row]).collect() };
        let fold_of = folds::deal(&of_rows(labels), &of_rows(self.groups), n_labels, self.n_folds, seed);
        let part = |fold| {
            let (others, mut held) = split(rows, &fold_of, fold);
            let known: HashSet<usize> = others.iter().map(|&row| labels[row]).collect();
            held.retain(|&row| known.contains(&labels[row]));
            Held { others, held, nearby: None }
        };
        (0..self.n_folds).map(part).filter(|part| !part.held.is_empty()).collect()
    }

    fn fit(&self, strength: &Strength, l2: f64, rows: &[usize], nearby: &mut Option<Vec<f64>>, to: Tolerance) -> Fit {
        let guide = strength.guide.get_or_init(|| self.fitter.guide(strength.l2(self.groups.len())));
        self.fitter.fit(&Part { rows, l2, guide }, nearby, to)
    }

    /// Mean loss of a fit, over the examples in `rows`, weighted as in fits.
    fn loss(&self, fit: &Fit, rows: &[usize]) -> f64 {
        let Examples { labels, n_labels, .. } = self.fitter.examples;
        let terms = self.fitter.class_weights.terms(labels, n_labels, rows);
        let losses = terms.iter().map(|term| {
            let mut logits = fit.logits(self.fitter.examples.vector(term.row));
            term.weight * objective::loss(&mut logits, term.label)
        });
        losses.sum()
    }
}

/// The examples of `rows` that are not in a fold, and those that are. `fold_of`: `[rows]`.
fn split(rows: &[usize], fold_of: &[usize], fold: usize) -> (Vec<usize>, Vec<usize>) {
    let (held, others): (Vec<_>, Vec<_>) = rows.iter().zip(fold_of).partition(|(_, of)| **of == fold);
    let rows = |pairs: Vec<(&usize, &usize)>| pairs.into_iter().map(|(&row, _)| row).collect();
    (rows(others), rows(held))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fit::{FitOptions, fit};
    use super::super::tests::{cloud, names};
    use super::*;

    fn all_differ(n: usize) -> Vec<usize> {
        (0..n).collect()
    }

    #[test]
    fn clusters_far_apart_are_told_apart() {
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
    fn labels_that_mean_nothing_are_not_told_apart_even_if_their_texts_repeat() {
        // Every text four times, always with its label: known by heart unless all four are held out. Were each a
        // group of its own, accuracy would be 1.
        let (vectors, _) = cloud(100, 64, 1, 1.0, 3);
        let (_, labels) = cloud(100, 1, 2, 1.0, 0);
        let vectors: Vec<f32> = vectors.chunks_exact(64).flat_map(|vector| vector.repeat(4)).collect();
        let labels: Vec<usize> = labels.into_iter().flat_map(|label| [label; 4]).collect();
        let examples = Examples::new(&vectors, 64, &labels, 2);
        let by_text: Vec<usize> = (0..400).map(|i| i / 4).collect();
        let accuracy = |groups: &[usize]| {
            train(&examples, groups, &names(2), &TrainOptions::default()).unwrap().confusion.accuracy()
        };
        // 100 texts: the standard deviation is 0.05.
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
        let alone = fit(&examples, &FitOptions { l2: 0.03, class_weights: ClassWeights::Balanced });
        assert_eq!(trained.training.l2, 0.03);
        for (a, b) in trained.fit.weights.iter().zip(&alone.weights) {
            // Both within 1e-6 / l2 of the minimum; guided by penalties that differ in the last bit.
            assert!((a - b).abs() < 1e-4, "{a} is not {b}");
        }
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
    fn what_cannot_be_trained_on_is_named() {
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
        // Three examples of one text.
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
            // Two texts of each label, and others that may have any.
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
