//! THE WIRE: the ground floor of the API, below `rpc` and `client`.
//!
//! Contains the messages and stubs generated from `proto/cognate/v1`, their descriptors for reflection, and the
//! encodings that both ends of a connection share: vectors and metadata, to and from messages. It uses nothing else of
//! the crate, so a client does not depend on the server.

pub mod metadata;
pub mod vector;

pub use generated::*;

#[allow(missing_docs, clippy::all)]
mod generated {
    tonic::include_proto!("cognate.v1");
}

/// The full name of the service.
pub const SERVICE: &str = "cognate.v1.Cognate";

/// The encoded `FileDescriptorSet` of the API and of its imports.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
