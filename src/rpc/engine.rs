//! The parts of a process that answer calls.

use super::guarded::Guarded;
use super::limits::Limits;
use crate::budget::ByteBudget;
use crate::classifier::Classifiers;
use crate::collection;
use crate::compute::Pools;
use crate::embedder::Embedder;
use crate::reranker::Rerankers;

/// The parts that answer calls.
pub struct Engine {
    /// The model.
    pub embedder: Embedder,
    /// The classifiers.
    pub classifiers: Classifiers,
    /// The rerankers.
    pub rerankers: Rerankers,
    /// The documents, by the rights of callers. An `Arc<Store>` becomes this by `into`.
    pub store: Guarded,
    /// The description of the model.
    pub about: About,
    /// The limits of requests.
    pub limits: Limits,
    /// The pools that calls compute in.
    pub pools: Pools,
    /// The memory of decoded requests and of answers. The server takes the memory of bytes in transit from it.
    pub messages: ByteBudget,
}

/// The description of the model, for `Info`.
#[derive(Debug, Clone)]
pub struct About {
    /// Hub id or directory.
    pub id: String,
    /// Commit, or `local`.
    pub revision: String,
    /// Digest of everything that decides its vectors.
    pub fingerprint: String,
    /// Fingerprints of other models whose collections may be searched and extended with this one.
    pub also_compatible: Vec<String>,
    /// Tokens that the model reads of a text.
    pub max_tokens: usize,
    /// The method that combines the token vectors into one.
    pub pooling: String,
    /// Number format of its arithmetic.
    pub precision: String,
}

impl About {
    /// The fingerprints of models whose vectors are accepted: this one's, and those that the settings allow.
    pub fn compatible(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.fingerprint).chain(&self.also_compatible).map(String::as_str)
    }
}

impl Engine {
    /// The model whose vectors a collection must hold to be searched.
    pub(super) fn model(&self) -> collection::Model<'_> {
        collection::Model {
            fingerprint: &self.about.fingerprint,
            also_compatible: &self.about.also_compatible,
            dimensions: self.embedder.dimensions(),
        }
    }
}
