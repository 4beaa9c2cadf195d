//! The calls that programs know from other servers: OpenAI's `/v1/embeddings` and `/v1/models`, and `/v1/rerank` in its
//! common form.
//!
//! Each is a translation of one rpc, so its limits, rights and counts are those of the rpc. Invariant: a field that is
//! not honoured is refused by name. Their form has no errors of single items, so the first one fails the call.

mod embeddings;
mod errors;
mod failures;
mod messages;
mod models;
mod rerank;
mod texts;

use std::sync::Arc;

use http::{Method, request};

use super::translation::{FailureForm, Translation};
use crate::rpc::{Api, Served};
use models::Name;

/// A call in one of these forms: the rpc that answers it, and the forms of its messages and failures.
pub struct Route {
    /// The method of the service.
    pub rpc: &'static str,
    /// The form of its messages.
    pub translation: Arc<dyn Translation>,
    /// The form of its failures.
    pub failure: FailureForm,
}

/// Returns the method of HTTP that a path has here; `None`: the path is not one of these.
pub fn method(path: &str) -> Option<Method> {
    match path {
        "/v1/embeddings" | "/v1/rerank" => Some(Method::POST),
        path => (path == "/v1/models" || path.starts_with(MODEL)).then_some(Method::GET),
    }
}

/// The paths of single models.
const MODEL: &str = "/v1/models/";

/// Returns the route of a request to one of the paths that [`method`] knows.
pub fn route(head: &request::Parts, api: &Api) -> Route {
    // While the model is loaded, the service refuses every call.
    let engine = api.loaded();
    let of_embeddings: FailureForm = errors::of_embeddings;
    match head.uri.path() {
        "/v1/embeddings" => {
            let name = |served: &Served| Name::of(&served.about.name, &served.about.id, &served.about.revision);
            let names = engine.map(|engine| engine.models.iter().map(name).collect());
            let translation = Arc::new(embeddings::Embeddings::new(names.unwrap_or_default()));
            Route { rpc: "Embed", translation, failure: of_embeddings }
        }
        "/v1/rerank" => {
            let default = engine.and_then(|engine| Some(engine.rerankers.iter().next()?.about().name.clone()));
            let translation = Arc::new(rerank::Rerank::new(default.unwrap_or_default()));
            Route { rpc: "Rerank", translation, failure: errors::of_rerank }
        }
        path => {
            // Clients may write the slash of a model's name so that it is no part of the path.
            let name = path.strip_prefix(MODEL).map(|name| name.replace("%2F", "/").replace("%2f", "/"));
            let translation = Arc::new(models::Models { name });
            Route { rpc: "Info", translation, failure: of_embeddings }
        }
    }
}
