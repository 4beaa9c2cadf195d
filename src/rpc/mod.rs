//! THE WIRE: the only place, with the server and the client, that knows prost and tonic.
//!
//! One file per rpc: it checks the request (`parse`), asks the domain, and writes the answer. Below
//! `parse` a value cannot be wrong. Errors become gRPC codes in `status` and nowhere else.

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
mod hits;
mod info;
mod large;
mod limits;
mod measure;
pub mod metadata;
mod parse;
pub mod refusal;
mod request;
mod schema;
mod service;
mod similarity;
mod size;
mod source;
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

/// Everything that answers calls.
pub struct Engine {
    /// The model.
    pub embedder: Embedder,
    /// What texts are classified by.
    pub classifiers: Classifiers,
    /// The documents.
    pub store: Arc<Store>,
    /// What is known of the model.
    pub about: About,
    /// What a request may ask for.
    pub limits: Limits,
    /// Where calls compute.
    pub pools: Pools,
    /// What decoded requests and answers take their memory from; the server takes that of the bytes on their way.
    pub messages: ByteBudget,
}

/// The model, for `Info`.
#[derive(Debug, Clone)]
pub struct About {
    /// Hub id or directory.
    pub id: String,
    /// Commit, or `local`.
    pub revision: String,
    /// What decides its vectors.
    pub fingerprint: String,
    /// Other models whose collections may be searched and extended with this one, by their fingerprints.
    pub also_compatible: Vec<String>,
    /// Tokens of a text that it reads.
    pub max_tokens: usize,
    /// How token vectors become one.
    pub pooling: String,
    /// Number format of its arithmetic.
    pub precision: String,
}

impl About {
    /// Fingerprints of models whose vectors are taken for this one's: its own, and those that were allowed.
    pub fn compatible(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.fingerprint).chain(&self.also_compatible).map(String::as_str)
    }
}

impl Engine {
    /// Whose vectors a collection must hold to be searched.
    fn model(&self) -> collection::Model<'_> {
        collection::Model {
            fingerprint: &self.about.fingerprint,
            also_compatible: &self.about.also_compatible,
            dimensions: self.embedder.dimensions(),
        }
    }
}

/// The service. It exists before the engine does: until then every call is `UNAVAILABLE`.
#[derive(Clone, Default)]
pub struct Api(Arc<OnceLock<Arc<Engine>>>);

impl Api {
    /// Lets calls in. Later calls of this change nothing.
    pub fn open(&self, engine: Engine) {
        // Set once by the one who loads the model.
        let _ = self.0.set(Arc::new(engine));
    }

    /// Why no document can be stored any more, if so: the disk failed.
    pub fn writes_stopped(&self) -> Option<String> {
        Some(self.0.get()?.store.stopped()?.to_string())
    }

    fn engine(&self) -> Result<Arc<Engine>, Failure> {
        self.0.get().cloned().ok_or(Failure::Starting)
    }
}

/// A stream of responses.
pub type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The answer, if it keeps to the size of a message.
fn bounded<M: prost::Message>(answer: M, limits: &Limits) -> Result<M, Failure> {
    answer::check(answer.encoded_len(), limits)?;
    Ok(answer)
}
