//! Messages of the caller and of the service, from bytes, and the error of a text as that of its call.

use prost::Message;

use crate::rpc::status::Failure;

/// Reads a message of the caller.
pub fn read<M: Message + Default>(body: &[u8]) -> Result<M, Failure> {
    M::decode(body).map_err(|error| Failure::Malformed(error.to_string()))
}

/// Reads a message of the service.
pub fn ours<M: Message + Default>(message: &[u8]) -> Result<M, Failure> {
    M::decode(message).map_err(|_| Failure::Internal)
}

/// The error of a text as that of its call.
pub fn failure(error: &tonic_types::pb::Status) -> Failure {
    let reason = error.message.strip_prefix("texts[0]: ").unwrap_or(&error.message);
    match tonic::Code::from(error.code) {
        tonic::Code::InvalidArgument => Failure::invalid("inputs", reason),
        _ => Failure::Internal,
    }
}
