//! THE WIRE: the ground floor of the API. The messages of the client's crate, and their descriptors, which only a
//! server needs.

pub use ::cognate_client::wire::*;

/// The encoded `FileDescriptorSet` of the API and of its imports.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
