//! Labelled vectors, and the weight of each vector in a fit.

use serde::{Deserialize, Serialize};

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
    /// Joins vectors and labels. `vectors`: [examples, dimensions] f32, row-major, of about unit length. `labels`:
    /// `[examples]`, each below `n_labels`.
    ///
    /// # Panics
    /// Panics if the lengths do not fit, a label is not below `n_labels`, a value is not finite, or no example is
    /// given.
    pub fn new(vectors: &'a [f32], dimensions: usize, labels: &'a [usize], n_labels: usize) -> Self {
        assert!(!labels.is_empty() && dimensions > 0, "there is at least one example and one dimension");
        assert_eq!(vectors.len(), labels.len() * dimensions, "each label has a vector");
        assert!(labels.iter().all(|&label| label < n_labels), "labels are below {n_labels}");
        assert!(vectors.iter().all(|x| x.is_finite()), "vectors are finite");
        Self { vectors, dimensions, labels, n_labels }
    }

    pub(super) fn vector(&self, row: usize) -> &'a [f32] {
        &self.vectors[row * self.dimensions..][..self.dimensions]
    }
}

/// The rule for the weight of an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// All examples have the same weight. The head prefers frequent labels for doubtful texts.
    #[default]
    Equal,
    /// The weight is in inverse proportion to the frequency of the label, so all labels have the same weight. This
    /// suits examples whose frequencies differ from those of future texts, and tasks in which rare labels matter most.
    Balanced,
}

impl ClassWeights {
    /// Gives each of `rows` its weight in a mean over them. A weight is 0 or more, and their sum is 1.
    pub(super) fn terms(self, examples: &Examples<'_>, rows: &[usize]) -> Vec<Term> {
        let labels = examples.labels;
        let mut counts = vec![0usize; examples.n_labels];
        rows.iter().for_each(|&row| counts[labels[row]] += 1);
        let n_present = counts.iter().filter(|&&count| count > 0).count();
        let weight = |label: usize| match self {
            Self::Equal => 1.0 / rows.len() as f64,
            Self::Balanced => 1.0 / (n_present * counts[label]) as f64,
        };
        rows.iter().map(|&row| Term { row, label: labels[row], weight: weight(labels[row]) }).collect()
    }
}

/// One example of a weighted mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    /// The position of the example among the [`Examples`].
    pub row: usize,
    /// The label, below the number of labels.
    pub label: usize,
    /// The weight, 0 or more.
    pub weight: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_labels_have_equal_weights_that_sum_to_1() {
        let examples = Examples::new(&[1.0; 8], 1, &[0, 0, 0, 1, 2, 2, 2, 2], 4);
        let terms = ClassWeights::Balanced.terms(&examples, &[0, 1, 2, 3, 4, 6]);
        let of = |label| terms.iter().filter(|term| term.label == label).map(|term| term.weight).sum::<f64>();
        assert!((0..3).all(|label| (of(label) - 1.0 / 3.0).abs() < 1e-15));
        let terms = ClassWeights::Equal.terms(&examples, &[1, 3]);
        assert!(terms.iter().all(|term| term.weight == 0.5));
    }
}
