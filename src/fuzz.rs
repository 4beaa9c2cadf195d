//! A door for fuzzers: every place that reads bytes from elsewhere, by name.
//!
//! `tests/fuzz` feeds these functions, and `cargo test` replays what was found there once (`tests/it/fuzz.rs`).
//!
//! Invariant: a function here takes any bytes. It returns, or there is a mistake to mend.

use crate::{client, collection, index, inference, onnx, rpc};

/// Something that reads bytes from elsewhere.
pub struct Target {
    /// Its name, which is that of its file in `tests/fuzz/targets`.
    pub name: &'static str,
    /// Reads them, and checks what came of it.
    pub read: fn(&[u8]),
    /// Some that it takes.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "request", read: rpc::fuzz::request, seeds: rpc::fuzz::requests },
    Target { name: "page_token", read: rpc::fuzz::page_token, seeds: rpc::fuzz::page_tokens },
    Target { name: "metadata", read: rpc::fuzz::metadata, seeds: rpc::fuzz::metadata_seeds },
    Target { name: "filter_text", read: collection::fuzz::filter_text, seeds: collection::fuzz::filter_texts },
    Target { name: "columns", read: collection::fuzz::columns, seeds: collection::fuzz::column_seeds },
    Target { name: "record", read: collection::disk::fuzz::record, seeds: collection::disk::fuzz::records },
    Target { name: "segment", read: index::fuzz::segment, seeds: index::fuzz::segments },
    Target { name: "reader", read: client::reader::fuzz::file, seeds: client::reader::fuzz::files },
    Target { name: "onnx", read: onnx::fuzz::graph, seeds: onnx::fuzz::graphs },
    Target { name: "tokenizer", read: inference::fuzz::tokenizer, seeds: inference::fuzz::tokenizers },
];

/// Feeds the target of this name.
///
/// # Panics
/// If there is none, or it found a mistake.
pub fn read(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("the name of a target");
    (target.read)(bytes);
}
