//! TEXT → LABELS: any ONNX text classifier, or a head on the embedding, behind the queue, the batches and the cache that
//! embeddings have too ([`inference`](crate::inference)).
//!
//! ```text
//! Spec ── model::locate ──► ClassifierCard ──► onnx::Graph ──► Inference ──► logits ──► scores ──► labels
//!      └─ head.json ───────► Head ── one forward pass of the Embedder ────────┘
//! ```
//!
//! Invariants: each score has a label, which is checked against the graph before the server serves; a text's scores
//! do not depend on its batch, as far as the graph keeps to that. Knows nothing of messages.

mod built_in;
pub mod head;
mod scores;
mod spec;
mod start;

use std::sync::Arc;

pub use scores::{Selection, probabilities, ranked};
pub use spec::{BUILT_IN, Source, Spec};
pub use start::{Embeds, Options, StartError};

use crate::compute::WhenFull;
use crate::embedder::{Embedder, Embedding, InputType};
use crate::inference::{Inference, Output, Overloaded, TextError, Truncation};
use crate::model::Problem;
use head::Head;

/// The classifiers of a server, in the order in which they were named. The first answers calls that name none.
#[derive(Clone, Default)]
pub struct Classifiers(Arc<[Classifier]>);

impl Classifiers {
    /// Their names are different, which the configuration sees to.
    pub fn new(classifiers: Vec<Classifier>) -> Self {
        Self(classifiers.into())
    }

    /// The one of this name; of the empty name, the first.
    pub fn get(&self, name: &str) -> Option<&Classifier> {
        if name.is_empty() { self.0.first() } else { self.0.iter().find(|classifier| classifier.about.name == name) }
    }

    /// All of them, the default first.
    pub fn iter(&self) -> impl Iterator<Item = &Classifier> {
        self.0.iter()
    }
}

/// A classifier that is ready. Cheap to clone.
#[derive(Clone)]
pub struct Classifier {
    about: Arc<About>,
    works: Works,
}

/// What is to be known of a classifier.
#[derive(Debug, Clone)]
pub struct About {
    /// What requests call it.
    pub name: String,
    /// Hub id, directory or file.
    pub id: String,
    /// Commit, version, or `local`.
    pub revision: String,
    /// Its labels, in the order of its scores.
    pub labels: Vec<String>,
    /// What the scores mean.
    pub problem: Problem,
    /// Tokens of a text that it reads.
    pub max_tokens: usize,
    /// What computes it: `onnxruntime 1.23.2`, `rten 0.27.0`, or `embedding` for a head.
    pub runtime: String,
    /// The graph's inputs, such as `input_ids int64 [batch, sequence]`; none for a head.
    pub inputs: Vec<String>,
    /// The graph's outputs.
    pub outputs: Vec<String>,
}

#[derive(Clone)]
enum Works {
    Graph(Inference),
    Head(Arc<Head>, Embedder),
}

/// One text, classified.
#[derive(Debug, Clone, PartialEq)]
pub struct Classified {
    /// The model's scores, one for each label, finite; not probabilities yet.
    pub logits: Vec<f32>,
    /// The text's vector, if the classifier is a head on it.
    pub embedding: Option<Embedding>,
    /// Tokens that the model read.
    pub tokens: usize,
    /// Tokens that the text has.
    pub tokens_total: usize,
}

impl Classifier {
    /// What is to be known of it.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Whether a text's vector comes with its scores.
    pub fn embeds(&self) -> bool {
        matches!(self.works, Works::Head(..))
    }

    /// Classifies `texts`, one result each, in order. Dropping the future abandons what has not begun.
    pub async fn classify(
        &self,
        texts: Vec<String>,
        truncation: Truncation,
        when_full: WhenFull,
    ) -> Result<Vec<Result<Classified, TextError>>, Overloaded> {
        match &self.works {
            Works::Graph(inference) => {
                let outputs = inference.run(texts, "", truncation, when_full).await?;
                Ok(outputs.into_iter().map(|output| output.map(Classified::of_graph)).collect())
            }
            Works::Head(head, embedder) => {
                let outputs = embedder.embed(texts, InputType::Plain, truncation, when_full).await?;
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

    /// A vector without a direction says nothing of a text: then the model failed on it.
    fn of_head(head: &Head, output: Output) -> Result<Self, TextError> {
        let Output { values, tokens, tokens_total } = output;
        let embedding = Embedding::normalized(values).map_err(|error| {
            tracing::error!(%error, "the model's vector of a text has no direction");
            crate::inference::ModelFailed
        })?;
        Ok(Self { logits: head.logits(embedding.values()), embedding: Some(embedding), tokens, tokens_total })
    }
}
