//! The failures that these forms have and rpcs have not: bodies, and the errors of single items.

use crate::rpc::status::Failure;

/// A body that is not what the route reads.
pub fn body_error(error: &serde_json::Error) -> Failure {
    // The message names the field or the value, and its place.
    Failure::Malformed(format!("the body is not a request of this path: {error}"))
}

/// The error of an item as the failure of the call.
pub fn of_item(texts: &str, index: usize, error: &tonic_types::pb::Status) -> Failure {
    let field = format!("{texts}[{index}]");
    let reason = error.message.strip_prefix(&format!("{field}: ")).unwrap_or(&error.message);
    match tonic::Code::from(error.code) {
        tonic::Code::InvalidArgument => Failure::invalid(field, reason),
        _ => Failure::Internal,
    }
}
