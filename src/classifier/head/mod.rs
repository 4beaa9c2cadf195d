//! A classifier that is trained on labelled examples: a multinomial logistic regression on the embedder's unit vectors.
//!
//! ```text
//! labelled texts ─ embedder ─► Examples ─ validate::train ─► Trained ─► Head ─ file ─► JSON ─► Head ─► logits
//! ```
//! Training is pure: the same vectors, options and seed give the same head with any number of threads. A [`Head`] is
//! always valid: its labels differ, its numbers are finite, and all rows have its dimensions. Other modules read texts,
//! embed them, and open files.

mod confusion;
mod error;
mod examples;
mod file;
mod folds;
mod regression;
mod training;
mod validate;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

pub use confusion::{Confusion, Score};
pub use error::HeadError;
pub use examples::{ClassWeights, Examples};
pub use training::Training;
pub use validate::{TrainError, TrainOptions, Trained, train};

use crate::kernel::dot;

/// A linear classifier of embeddings. The logits of its labels are W·x + b.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Head {
    made_for: MadeFor,
    dimensions: usize,
    training: Training,
    labels: Vec<Label>,
}

/// The embedding model that a head belongs to. The vectors of another model have another meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeFor {
    /// The hub id or the directory of the model, for people.
    pub model: String,
    /// The fingerprint of the model. Models with comparable vectors have the same one, and only it is compared.
    pub fingerprint: String,
}

/// One label with its row of the regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Label {
    /// The name of the label.
    pub name: String,
    /// The number of examples that the label was learnt from.
    pub examples: usize,
    /// The logit of the label for a vector of zeros.
    pub bias: f32,
    /// `[dimensions]`
    pub weights: Vec<f32>,
}

impl Head {
    /// Joins the parts of a head. Its dimensions are those of the first label's weights.
    ///
    /// # Errors
    /// The error names the field that is not valid, its value and the limit.
    pub fn new(made_for: MadeFor, training: Training, labels: Vec<Label>) -> Result<Self, HeadError> {
        let dimensions = labels.first().map_or(0, |label| label.weights.len());
        let head = Self { made_for, dimensions, training, labels };
        head.check()?;
        Ok(head)
    }

    /// Makes a head from the result of a training. `names`: `[labels]`.
    ///
    /// # Errors
    /// A name is empty or occurs twice, or the name or the fingerprint of the model is empty.
    ///
    /// # Panics
    /// Panics unless there is one name for each label.
    pub fn trained(made_for: MadeFor, names: &[String], trained: &Trained) -> Result<Self, HeadError> {
        let Trained { fit, training, confusion } = trained;
        assert_eq!(names.len(), fit.bias.len(), "each label has a name");
        let of_labels = fit.weights.chunks_exact(fit.weights.len() / names.len()).zip(&fit.bias);
        let labels = names.iter().zip(confusion.rows()).zip(of_labels).map(|((name, row), (weights, &bias))| Label {
            name: name.clone(),
            examples: row.iter().sum(),
            bias: bias as f32,
            weights: weights.iter().map(|&w| w as f32).collect(),
        });
        Self::new(made_for, *training, labels.collect())
    }

    /// Computes one logit for each label. A higher logit is more probable; the softmax of the logits gives the
    /// probabilities. `embedding`: `[dimensions]`, of unit length.
    ///
    /// # Panics
    /// Panics if the embedding has other dimensions than the head.
    pub fn logits(&self, embedding: &[f32]) -> Vec<f32> {
        assert_eq!(embedding.len(), self.dimensions, "the embedding has the head's dimensions");
        self.labels.iter().map(|label| dot(&label.weights, embedding) + label.bias).collect()
    }

    /// The embedding model that the head belongs to.
    pub fn made_for(&self) -> &MadeFor {
        &self.made_for
    }

    /// The number of dimensions, 1 or more.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The record of the training.
    pub fn training(&self) -> &Training {
        &self.training
    }

    /// The labels, 2 or more, in the order of the logits.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    fn check(&self) -> Result<(), HeadError> {
        for (field, value) in
            [("made_for.model", &self.made_for.model), ("made_for.fingerprint", &self.made_for.fingerprint)]
        {
            if value.is_empty() {
                return Err(HeadError::Empty(field.to_owned()));
            }
        }
        self.training.check()?;
        if self.labels.len() < 2 {
            return Err(HeadError::TooFewLabels(self.labels.len()));
        }
        if self.dimensions == 0 {
            return Err(HeadError::OutOfBounds { field: "dimensions", value: 0.0, limit: "at least 1" });
        }
        let mut names = HashSet::new();
        for (i, label) in self.labels.iter().enumerate() {
            label.check(i, self.dimensions)?;
            if !names.insert(&label.name) {
                let first = self.labels.iter().position(|other| other.name == label.name).unwrap_or(0);
                return Err(HeadError::Repeated { name: label.name.clone(), first, second: i });
            }
        }
        Ok(())
    }
}

impl Label {
    fn check(&self, position: usize, dimensions: usize) -> Result<(), HeadError> {
        if self.name.is_empty() {
            return Err(HeadError::Empty(format!("labels[{position}].name")));
        }
        if self.weights.len() != dimensions {
            return Err(HeadError::Weights { label: position, found: self.weights.len(), dimensions });
        }
        if !self.bias.is_finite() {
            return Err(HeadError::NotFinite { field: format!("labels[{position}].bias"), value: self.bias });
        }
        match self.weights.iter().position(|w| !w.is_finite()) {
            Some(i) => {
                let field = format!("labels[{position}].weights[{i}]");
                Err(HeadError::NotFinite { field, value: self.weights[i] })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
