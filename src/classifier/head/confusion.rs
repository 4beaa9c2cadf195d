//! The confusion matrix of a classifier, and the measures of quality that follow from it.

/// The number of examples for each pair of label and prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    n_labels: usize,
    /// [label, prediction]
    counts: Vec<usize>,
}

/// The quality of the predictions of one label. All fields but `support` are from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// The share of the predictions of this label that are right; 0 if it was never predicted.
    pub precision: f64,
    /// The share of the examples of this label that were predicted as it; 0 if it has no examples.
    pub recall: f64,
    /// 2·precision·recall / (precision + recall); 0 if both are 0.
    pub f1: f64,
    /// The number of examples of this label.
    pub support: usize,
}

impl Confusion {
    /// Counts pairs of label and prediction, both below `n_labels`.
    ///
    /// # Panics
    /// Panics if a label or a prediction is too large.
    pub fn new(n_labels: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![0; n_labels * n_labels];
        for (label, prediction) in pairs {
            assert!(label < n_labels && prediction < n_labels, "labels are below {n_labels}");
            counts[label * n_labels + prediction] += 1;
        }
        Self { n_labels, counts }
    }

    /// The matrix: a row for each label, with the count of each prediction. `n_labels` rows of `n_labels` counts.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[usize]> {
        (0..self.n_labels).map(|label| &self.counts[label * self.n_labels..][..self.n_labels])
    }

    /// The share of predictions that are right, 0 to 1; 0 without predictions.
    pub fn accuracy(&self) -> f64 {
        let right: usize = self.rows().enumerate().map(|(label, row)| row[label]).sum();
        share(right, self.total())
    }

    /// The share of the most frequent label. A classifier that always answers this label has this accuracy.
    pub fn baseline(&self) -> f64 {
        let largest = self.rows().map(|row| row.iter().sum()).max().unwrap_or(0);
        share(largest, self.total())
    }

    /// The mean F1 of the labels, all with the same weight; 0 without labels.
    pub fn macro_f1(&self) -> f64 {
        let scores = self.scores();
        if scores.is_empty() { 0.0 } else { scores.iter().map(|score| score.f1).sum::<f64>() / scores.len() as f64 }
    }

    /// The quality of each label.
    pub fn scores(&self) -> Vec<Score> {
        let score = |(label, row): (usize, &[usize])| {
            let right = row[label];
            let support: usize = row.iter().sum();
            let predicted: usize = self.rows().map(|row| row[label]).sum();
            // 2PR / (P + R) with the numerators of P and R cancelled: it is never 0/0 when nothing is right.
            let f1 = share(2 * right, predicted + support);
            Score { precision: share(right, predicted), recall: share(right, support), f1, support }
        };
        self.rows().enumerate().map(score).collect()
    }

    /// The number of predictions.
    pub fn total(&self) -> usize {
        self.counts.iter().sum()
    }
}

/// Computes part / whole; 0 if `whole` is 0.
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scores_are_those_of_scikit_learn() {
        // From sklearn.metrics.classification_report of the same pairs.
        let labels = [0, 0, 0, 1, 1, 2, 2, 2, 2];
        let predictions = [0, 1, 0, 1, 2, 2, 2, 0, 2];
        let confusion = Confusion::new(3, labels.into_iter().zip(predictions));
        assert_eq!(confusion.rows().collect::<Vec<_>>(), [[2, 1, 0], [0, 1, 1], [1, 0, 3]]);
        assert_eq!(confusion.accuracy(), 6.0 / 9.0);
        assert_eq!(confusion.baseline(), 4.0 / 9.0);
        let scores = confusion.scores();
        assert_eq!(scores[0], Score { precision: 2.0 / 3.0, recall: 2.0 / 3.0, f1: 2.0 / 3.0, support: 3 });
        assert_eq!(scores[1], Score { precision: 0.5, recall: 0.5, f1: 0.5, support: 2 });
        assert_eq!(scores[2], Score { precision: 0.75, recall: 0.75, f1: 0.75, support: 4 });
        assert!((confusion.macro_f1() - (2.0 / 3.0 + 0.5 + 0.75) / 3.0).abs() < 1e-15);
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        let empty = Confusion::new(0, []);
        assert_eq!((empty.accuracy(), empty.macro_f1(), empty.baseline()), (0.0, 0.0, 0.0));
        let never = Confusion::new(2, [(0, 0)]);
        assert_eq!(never.scores()[1], Score { precision: 0.0, recall: 0.0, f1: 0.0, support: 0 });
    }

    proptest! {
        #[test]
        fn f1_lies_between_precision_and_recall(pairs in prop::collection::vec((0usize..4, 0usize..4), 1..60)) {
            let confusion = Confusion::new(4, pairs.iter().copied());
            prop_assert_eq!(confusion.total(), pairs.len());
            let mut right = 0.0;
            for score in confusion.scores() {
                let (low, high) = (score.precision.min(score.recall), score.precision.max(score.recall));
                prop_assert!(low - 1e-12 <= score.f1 && score.f1 <= high + 1e-12, "{score:?}");
                right += score.recall * score.support as f64;
            }
            prop_assert!((right / pairs.len() as f64 - confusion.accuracy()).abs() < 1e-12);
        }
    }
}
