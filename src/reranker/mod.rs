//! PAIRS OF TEXTS → SCORES: cross-encoders, which read a query and a text together and say how well the text answers.
//!
//! ```text
//! Spec ── model::locate ──► RerankerCard ──► CrossEncoder on our own kernels, or onnx::Graph
//! query, texts ──► pairs ──► Inference (queue, batches, cache) ──► a number each (logit) ──► score
//! ```
//!
//! Invariants: a reranker gives one number to a pair, which is checked before the server serves. A pair's number does
//! not depend on its batch; a graph keeps to that as far as it keeps to its mask. This module uses no messages of the
//! wire.

mod spec;
mod start;

use std::sync::Arc;

pub use spec::Spec;
pub use start::Options;

use crate::compute::Terms;
use crate::inference::{Before, Inference, Output, Overloaded, Stats, TextError, Truncation};
use crate::model::ScoreFunction;

/// The rerankers of a server, in the configured order. The first one answers calls without a name.
#[derive(Clone, Default)]
pub struct Rerankers(Arc<[Reranker]>);

impl Rerankers {
    /// Takes rerankers with different names, as the configuration ensures.
    pub fn new(rerankers: Vec<Reranker>) -> Self {
        Self(rerankers.into())
    }

    /// Finds a reranker by its name. The empty name means the first one.
    pub fn get(&self, name: &str) -> Option<&Reranker> {
        if name.is_empty() { self.0.first() } else { self.0.iter().find(|reranker| reranker.about.name == name) }
    }

    /// Iterates over all rerankers, the default first.
    pub fn iter(&self) -> impl Iterator<Item = &Reranker> {
        self.0.iter()
    }
}

/// A running reranker. A clone is cheap and stands for the same one.
#[derive(Clone)]
pub struct Reranker {
    about: Arc<About>,
    inference: Inference,
}

/// The description of a reranker.
#[derive(Debug, Clone)]
pub struct About {
    /// The name that requests use.
    pub name: String,
    /// Hub id or directory.
    pub id: String,
    /// Commit, or `local`.
    pub revision: String,
    /// The function that makes a score of the model's number.
    pub function: ScoreFunction,
    /// The maximum tokens of a pair.
    pub max_tokens: usize,
    /// The engine: a device for our own kernels (`cpu`), or an ONNX runtime with its version.
    pub runtime: String,
    /// The number format of the arithmetic: `f32`, `int8`, or `onnx` for a graph, which has its own.
    pub precision: String,
}

/// The result for a pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// The model's number, finite. It orders pairs whose scores are rounded to the same value, too.
    pub logit: f32,
    /// The score: the function of the number.
    pub score: f32,
    /// Tokens that the model read, of both texts.
    pub tokens: usize,
    /// Tokens that both texts have.
    pub tokens_total: usize,
}

impl Reranker {
    /// Returns the description.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Returns the work of its model so far, and what waits for it.
    pub fn stats(&self) -> Stats {
        self.inference.stats()
    }

    /// Scores the pair of `query` and each text, in order. If a pair is too long, its text is cut.
    ///
    /// Dropping the future cancels pairs that have not begun.
    pub async fn score(
        &self,
        query: &str,
        texts: Vec<String>,
        truncation: Truncation,
        terms: impl Into<Terms>,
    ) -> Result<Vec<Result<Scored, TextError>>, Overloaded> {
        let outputs = self.inference.run(texts, Before::First(query), truncation, terms.into()).await?;
        Ok(outputs.into_iter().map(|output| Ok(Scored::of(&output?, self.about.function))).collect())
    }
}

impl Scored {
    fn of(output: &Output, function: ScoreFunction) -> Self {
        let logit = output.values.first().copied().unwrap_or_default();
        let score = match function {
            ScoreFunction::Identity => logit,
            ScoreFunction::Sigmoid => (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32,
        };
        Self { logit, score, tokens: output.tokens, tokens_total: output.tokens_total }
    }
}

/// Orders results by their numbers, best first. Equal ones keep their order.
pub fn rank<T>(results: &mut [(T, Scored)]) {
    results.sort_by(|a, b| b.1.logit.total_cmp(&a.1.logit)); // stable
}

#[cfg(test)]
mod tests;
