//! The behaviour of the whole product: the real binary with the real model on a port of its own, called through
//! generated stubs. There is one file for each behaviour.

mod architecture;
mod bench;
mod classify;
mod clients;
mod command_line;
mod data_directory;
mod documentation;
mod documents;
mod durability;
mod embed;
mod export;
mod facets;
mod files;
mod filters;
mod fuzz;
mod harness;
mod heads;
mod hostile;
mod installed;
mod instructions;
mod leaving;
mod lifecycle;
mod load;
mod long_attack;
mod memory;
mod message_bounds;
mod metrics;
mod models;
mod onnx_runtime;
mod passages;
mod precision;
mod raw;
mod reflection;
mod rerank;
mod resume;
mod segments;
mod similarity;
#[path = "../../src/machine/skipped.rs"]
mod skipped;
mod top_k;
mod under_attack;
mod updates;
mod upload;
mod variety;
mod words;
