//! The entry point for fuzzers: each parser of foreign bytes, by name.
//!
//! `tests/fuzz` feeds these functions; `cargo test` replays the inputs that were found there (`tests/it/fuzz.rs`).
//!
//! Invariant: a function here accepts any bytes. If it does not return, there is a bug to fix.

use crate::{collection, index, inference, onnx, opensearch, reader, rpc};

/// A parser of foreign bytes.
pub struct Target {
    /// Its name, which is also the name of its file in `tests/fuzz/targets`.
    pub name: &'static str,
    /// Parses the bytes, and checks the result.
    pub read: fn(&[u8]),
    /// Some valid inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "request", read: rpc::fuzz::request, seeds: rpc::fuzz::requests },
    Target { name: "page_token", read: rpc::fuzz::page_token, seeds: rpc::fuzz::page_tokens },
    Target { name: "metadata", read: rpc::fuzz::metadata, seeds: rpc::fuzz::metadata_seeds },
    Target { name: "filter_text", read: collection::fuzz::filter_text, seeds: collection::fuzz::filter_texts },
    Target { name: "columns", read: collection::fuzz::columns, seeds: collection::fuzz::column_seeds },
    Target { name: "record", read: collection::disk::fuzz::record, seeds: collection::disk::fuzz::records },
    Target { name: "segment", read: index::fuzz::segment, seeds: index::fuzz::segments },
    Target { name: "engine_answer", read: opensearch::fuzz::answer, seeds: opensearch::fuzz::answers },
    Target { name: "reader", read: reader::fuzz::file, seeds: reader::fuzz::files },
    Target { name: "onnx", read: onnx::fuzz::graph, seeds: onnx::fuzz::graphs },
    Target { name: "tokenizer", read: inference::fuzz::tokenizer, seeds: inference::fuzz::tokenizers },
];

/// Feeds the target with this name.
///
/// # Panics
/// If there is no such target, or if it found a bug.
pub fn read(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("the name of a target");
    (target.read)(bytes);
}
