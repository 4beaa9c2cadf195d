//! Labelled vectors, and the weight of each in a fit.

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

/// The weight of an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// The same for all: where the text leaves a doubt, frequent labels are preferred.
    #[default]
    Equal,
    /// In inverse proportion to the frequency of its label: all labels count the same. For examples whose frequencies
    /// differ from those of future texts, or where rare labels matter most.
    Balanced,
}

impl ClassWeights {
    /// The weight of each of `rows` in a mean over them: 0 or more, 1 in total.
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

/// An example in a weighted mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    /// Its position among the [`Examples`].
    pub row: usize,
    /// Below the number of labels.
    pub label: usize,
    /// 0 or more.
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
