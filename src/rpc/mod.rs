//! THE RPCS: with the server, the wire and the client, the only modules that know prost and tonic.
//!
//! One file for each rpc: it checks the request (`parse`), asks the domain, and writes the answer. Below `parse`,
//! values are valid. Errors become gRPC codes only in `status`.

pub mod access;
mod answer;
mod audit;
mod backup;
mod classify;
mod collections;
mod comparison;
mod compute;
mod count;
mod documents;
mod each;
mod embed;
mod engine;
mod export;
mod facets;
mod filter;
mod following;
pub(crate) mod fuzz;
mod guarded;
mod held_source;
mod hits;
mod info;
mod large;
mod lexical;
mod limits;
mod measure;
mod migrate;
mod migrations;
mod models;
mod parse;
mod passages;
mod progress;
pub mod refusal;
mod request;
mod rerank;
mod reranked;
mod schema;
mod service;
mod similarity;
mod size;
pub mod status;
mod text_vectors;
mod tokenize;
mod top_k;
mod update;
mod upload;
mod vector;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use futures::Stream;
use tonic::Status;

pub use crate::backend::Health;
pub use engine::Engine;
pub use guarded::Guarded;
pub use limits::Limits;
pub use migrations::Migrations;
pub use models::{About, Models, Served};
pub use service::Service;

pub(in crate::rpc) use answer::bounded;
pub(in crate::rpc) use compute::{commit, compute};
pub(in crate::rpc) use large::{compute_if_large, place};
use status::Failure;

/// The service. It exists before the engine is loaded; until then every call is `UNAVAILABLE`.
#[derive(Clone, Default)]
pub struct Api(Arc<OnceLock<Arc<Engine>>>);

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("is_loaded", &self.0.get().is_some()).finish()
    }
}

impl Api {
    /// Sets the engine, so that calls are answered, and goes on with the migrations. Later calls have no effect.
    pub fn open(&self, engine: Engine) {
        // Set once, by the task that loads the model.
        let engine = self.0.get_or_init(|| Arc::new(engine));
        following::resume(engine);
    }

    /// Stops the work that goes on without a call.
    pub fn stop(&self) {
        self.0.get().into_iter().for_each(|engine| engine.migrations.stop());
    }

    /// The engine; `None` until it is loaded.
    pub fn loaded(&self) -> Option<Arc<Engine>> {
        self.0.get().cloned()
    }

    /// The state of the store of documents; `None` until it is loaded.
    pub fn store_health(&self) -> Option<Health> {
        Some(self.0.get()?.store.unguarded().health())
    }

    fn engine(&self) -> Result<Arc<Engine>, Failure> {
        self.0.get().cloned().ok_or(Failure::Starting)
    }
}

/// A stream of responses.
pub type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
