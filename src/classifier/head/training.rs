//! The record of a training: its options and its result, as a head and its file hold them.

use serde::{Deserialize, Serialize};

use super::error::HeadError;
use super::examples::ClassWeights;

/// How a head came about.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// As in [`TrainOptions`](super::TrainOptions).
    pub l2: f64,
    /// How much an example counted.
    pub class_weights: ClassWeights,
    /// Folds of the cross-validation.
    pub folds: usize,
    /// Share of the examples that cross-validation labelled right, 0 to 1.
    pub accuracy: f64,
    /// What dealt the folds.
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
