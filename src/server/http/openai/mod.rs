//! The calls that programs know from other servers: OpenAI's `/v1/embeddings` and `/v1/models`, and `/v1/rerank` in its
//! common form.
//!
//! Each is a translation of one rpc, so its limits, rights and counts are those of the rpc. Invariant: a field that is
//! not honoured is refused by name. Their form has no errors of single items, so the first one fails the call.

mod embeddings;
mod errors;
mod messages;
mod models;
mod rerank;
mod texts;

use std::path::Path;
use std::sync::Arc;

use super::translation::{FailureForm, Translation};
use crate::rpc::Engine;
use crate::rpc::status::{Failure, shown};

/// A route: the rpc that answers it, with the form of its messages and of its failures.
pub struct Route {
    /// The method of [`crate::wire::SERVICE`].
    pub method: &'static str,
    /// The form of its messages.
    pub translation: Arc<dyn Translation>,
    /// The form of its failures.
    pub failure: FailureForm,
}

/// The HTTP method of a path; `None`: there is no route.
pub fn method(path: &str) -> Option<http::Method> {
    match path {
        "/v1/embeddings" | "/v1/rerank" => Some(http::Method::POST),
        "/v1/models" => Some(http::Method::GET),
        path => path.strip_prefix("/v1/models/").map(|_| http::Method::GET),
    }
}

/// A body that is not what the route reads.
fn body_error(error: &serde_json::Error) -> Failure {
    // The message names the field or the value, and its place.
    Failure::Malformed(format!("the body is not a request of this path: {error}"))
}

/// The error of an item as the failure of the call.
fn of_item(texts: &str, index: usize, error: &tonic_types::pb::Status) -> Failure {
    let field = format!("{texts}[{index}]");
    let reason = error.message.strip_prefix(&format!("{field}: ")).unwrap_or(&error.message);
    match tonic::Code::from(error.code) {
        tonic::Code::InvalidArgument => Failure::invalid(field, reason),
        _ => Failure::Internal,
    }
}
