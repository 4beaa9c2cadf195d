//! The messages and the stub, and the encodings that both ends of a connection share: vectors and metadata, to and from
//! messages. It uses nothing else of the crate.
//!
//! `generated.rs` is made of `proto/cognate/v1` and committed, so that the crate has no build script. In the repository
//! `tests/it/generated.rs` compares the two, and writes the file anew.

pub mod half;
#[cfg(feature = "json")]
pub mod metadata;
mod shorthand;
pub mod vector;

pub use generated::*;

#[allow(missing_docs, clippy::all)]
#[rustfmt::skip]
mod generated;

/// The full name of the service.
pub const SERVICE: &str = "cognate.v1.Cognate";
