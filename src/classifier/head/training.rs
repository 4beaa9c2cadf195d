//! The record of a training: its options and its result. A head and its file contain it.

use serde::{Deserialize, Serialize};

use super::error::HeadError;
use super::examples::ClassWeights;

/// The options and the result of a training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// The penalty, as in [`TrainOptions`](super::TrainOptions).
    pub l2: f64,
    /// The rule for the weight of an example.
    pub class_weights: ClassWeights,
    /// The number of folds of the cross-validation.
    pub folds: usize,
    /// The share of the examples that cross-validation labelled right, 0 to 1.
    pub accuracy: f64,
    /// The seed of the folds.
    pub seed: u64,
}

impl Training {
    pub(super) fn check(&self) -> Result<(), HeadError> {
        let out = |field, value, limit| Err(HeadError::OutOfBounds { field, value, limit });
        if !(self.l2 > 0.0 && self.l2.is_finite()) {
            return out("training.l2", self.l2, "above 0");
        }
        if !(0.0..=1.0).contains(&self.accuracy) {
            return out("training.accuracy", self.accuracy, "from 0 to 1");
        }
        Ok(())
    }
}
