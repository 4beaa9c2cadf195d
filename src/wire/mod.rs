//! THE WIRE: the ground floor of the API, under `rpc` and `client`.
//!
//! The messages and stubs generated from `proto/cognate/v1`, their descriptors for reflection, and what both ends of a
//! connection have to agree on: vectors and metadata, to and from messages. It uses nothing else of the crate, so that a
//! client carries nothing of the server.

pub mod metadata;
pub mod vector;

pub use generated::*;

#[allow(missing_docs, clippy::all)]
mod generated {
    tonic::include_proto!("cognate.v1");
}

/// The encoded `FileDescriptorSet` of the API and of everything it imports.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
