//! TEXT → LABELS: ONNX text classifiers, and heads on the embedding. They share the queue, batches and cache of
//! `inference` with the embeddings.
//!
//! ```text
//! Spec ── model::locate ──► ClassifierCard ──► onnx::Graph ──► Inference ──► logits ──► scores ──► labels
//!      └─ head.json ───────► Head ── one forward pass of the Embedder ────────┘
//! ```
//!
//! Invariants: each score has a label, which is checked against the graph before the server serves. A text's scores do
//! not depend on its batch, as far as the graph allows that. This module uses no messages of the wire.

mod built_in;
pub mod head;
mod scores;
mod spec;
mod start;

use std::sync::Arc;

pub use scores::{Selection, probabilities, ranked};
pub use spec::{BUILT_IN, ClassifierSource, Spec};
pub use start::{Embeds, GraphModel, Options, StartError};

use crate::compute::Terms;
use crate::embedder::{Embedder, InputType};
use crate::inference::{Before, Inference, Output, Overloaded, Stats, TextError, Truncation};
use crate::kernel::embedding::Embedding;
use crate::model::Problem;
use head::Head;

/// The classifiers of a server, in the configured order. The first one answers calls without a name.
#[derive(Clone, Default)]
pub struct Classifiers(Arc<[Classifier]>);

impl Classifiers {
    /// Takes classifiers with different names, as the configuration ensures.
    pub fn new(classifiers: Vec<Classifier>) -> Self {
        Self(classifiers.into())
    }

    /// Finds a classifier by its name. The empty name means the first one.
    pub fn get(&self, name: &str) -> Option<&Classifier> {
        if name.is_empty() { self.0.first() } else { self.0.iter().find(|classifier| classifier.about.name == name) }
    }

    /// Iterates over all classifiers, the default first.
    pub fn iter(&self) -> impl Iterator<Item = &Classifier> {
        self.0.iter()
    }
}

/// A running classifier. A clone is cheap and stands for the same one.
#[derive(Clone)]
pub struct Classifier {
    about: Arc<About>,
    works: Works,
}

/// The description of a classifier.
#[derive(Debug, Clone)]
pub struct About {
    /// The name that requests use.
    pub name: String,
    /// Hub id, directory or file.
    pub id: String,
    /// Commit, version, or `local`.
    pub revision: String,
    /// The labels, in the order of the scores.
    pub labels: Vec<String>,
    /// The meaning of the scores.
    pub problem: Problem,
    /// The maximum tokens of a text.
    pub max_tokens: usize,
    /// The runtime: `onnxruntime 1.23.2`, `rten 0.27.0`, or `embedding` for a head.
    pub runtime: String,
    /// The graph's inputs, for example `input_ids int64 [batch, sequence]`; empty for a head.
    pub inputs: Vec<String>,
    /// The graph's outputs; empty for a head.
    pub outputs: Vec<String>,
}

/// The computation behind a classifier.
#[derive(Clone)]
enum Works {
    Graph(Inference),
    Head(Arc<Head>, Embedder),
}

/// The result for a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Classified {
    /// The model's raw scores, one for each label, finite.
    pub logits: Vec<f32>,
    /// The text's vector, if the classifier is a head.
    pub embedding: Option<Embedding>,
    /// Tokens that the model read.
    pub tokens: usize,
    /// Tokens that the text has.
    pub tokens_total: usize,
}

impl Classifier {
    /// Returns the description.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Returns the model whose vectors results contain; `None`: they contain no vector.
    pub fn embeds(&self) -> Option<&Embedder> {
        match &self.works {
            Works::Graph(_) => None,
            Works::Head(_, embedder) => Some(embedder),
        }
    }

    /// Returns the work of its model so far; `None` for a head, which uses the embedder.
    pub(crate) fn stats(&self) -> Option<Stats> {
        match &self.works {
            Works::Graph(inference) => Some(inference.stats()),
            Works::Head(..) => None,
        }
    }

    /// Classifies `texts` and returns one result for each, in order. Dropping the future cancels texts that have not
    /// begun.
    pub async fn classify(
        &self,
        texts: Vec<String>,
        truncation: Truncation,
        terms: impl Into<Terms>,
    ) -> Result<Vec<Result<Classified, TextError>>, Overloaded> {
        let terms = terms.into();
        match &self.works {
            Works::Graph(inference) => {
                let outputs = inference.run(texts, Before::Prompt(""), truncation, terms).await?;
                Ok(outputs.into_iter().map(|output| output.map(Classified::of_graph)).collect())
            }
            Works::Head(head, embedder) => {
                let outputs = embedder.embed(texts, InputType::Plain, truncation, terms).await?;
                Ok(outputs.into_iter().map(|output| Classified::of_head(head, output?)).collect())
            }
        }
    }
}

impl Classified {
    fn of_graph(output: Output) -> Self {
        let Output { values, tokens, tokens_total } = output;
        Self { logits: values, embedding: None, tokens, tokens_total }
    }

    /// Applies a head to the text's vector. A vector without a direction means that the model failed on the text.
    fn of_head(head: &Head, output: Output) -> Result<Self, TextError> {
        let Output { values, tokens, tokens_total } = output;
        let embedding = Embedding::normalized(values).map_err(|error| {
            tracing::error!(%error, "the model gave a vector without a direction");
            crate::inference::ModelFailed
        })?;
        Ok(Self { logits: head.logits(embedding.values()), embedding: Some(embedding), tokens, tokens_total })
    }
}
