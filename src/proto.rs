//! The messages and stubs generated from `proto/cognate/v1`, and their descriptors for reflection.
#![allow(missing_docs, clippy::all)]

tonic::include_proto!("cognate.v1");

/// The encoded `FileDescriptorSet` of the API and of everything it imports.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
