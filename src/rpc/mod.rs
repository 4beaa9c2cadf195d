//! THE RPCS: with the server, the wire and the client, the only modules that know prost and tonic.
//!
//! One file for each rpc: it checks the request (`parse`), asks the domain, and writes the answer. Below `parse`,
//! values are valid. Errors become gRPC codes only in `status`.

mod answer;
mod backup;
mod classify;
mod collections;
mod compute;
mod documents;
mod each;
mod embed;
mod export;
mod filter;
pub(crate) mod fuzz;
mod held_source;
mod hits;
mod info;
mod large;
mod limits;
mod measure;
mod parse;
pub mod refusal;
mod request;
mod schema;
mod service;
mod similarity;
mod size;
pub mod status;
mod top_k;
mod upload;
mod vector;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use futures::Stream;
use tonic::Status;

pub use limits::Limits;
pub use service::Service;

use crate::budget::ByteBudget;
use crate::classifier::Classifiers;
use crate::collection::{self, Store};
use crate::compute::Pools;
use crate::embedder::Embedder;
use compute::{commit, compute};
use large::compute_if_large;
use status::Failure;

/// The parts that answer calls.
pub struct Engine {
    /// The model.
    pub embedder: Embedder,
    /// The classifiers.
    pub classifiers: Classifiers,
    /// The documents.
    pub store: Arc<Store>,
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
    fn model(&self) -> collection::Model<'_> {
        collection::Model {
            fingerprint: &self.about.fingerprint,
            also_compatible: &self.about.also_compatible,
            dimensions: self.embedder.dimensions(),
        }
    }
}

/// The service. It exists before the engine is loaded; until then every call is `UNAVAILABLE`.
#[derive(Clone, Default)]
pub struct Api(Arc<OnceLock<Arc<Engine>>>);

impl Api {
    /// Sets the engine, so that calls are answered. Later calls have no effect.
    pub fn open(&self, engine: Engine) {
        // Set once, by the task that loads the model.
        let _ = self.0.set(Arc::new(engine));
    }

    /// The reason why documents can no longer be stored, if the disk failed.
    pub fn writes_stopped(&self) -> Option<String> {
        Some(self.0.get()?.store.stopped()?.to_string())
    }

    fn engine(&self) -> Result<Arc<Engine>, Failure> {
        self.0.get().cloned().ok_or(Failure::Starting)
    }
}

/// A stream of responses.
pub type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Returns the answer if it fits in a message.
fn bounded<M: prost::Message>(answer: M, limits: &Limits) -> Result<M, Failure> {
    answer::check(answer.encoded_len(), limits)?;
    Ok(answer)
}
