//! ONNX graphs that read token ids, on either of two runtimes.
//!
//! ONNX Runtime is the faster one and needs its shared library. rten is built in. The rest of the program depends on
//! neither: a [`Runtime`] is found once at the start, a [`Graph`] is loaded with it, token ids go in and floats come
//! out. Only `onnxruntime.rs` uses `ort`, and only `rten_runtime.rs` uses `rten`.
//!
//! Invariants:
//! - As far as possible, no library, graph or batch ends the process. A library is checked before it is loaded, and
//!   loading has a time limit. Panics are caught. Each failure becomes an error with a reason of one line.
//! - A graph is used only if the role of each input is known and one output is certainly the wanted one.
//!
//! The caller interprets the floats (pooling, softmax, labels) and handles values that are not finite. A graph is
//! trusted like a program: its memory and its time have no limit.

mod catch_panic;
mod data;
mod error;
mod feed;
pub(crate) mod fuzz;
mod graph;
mod library;
mod onnxruntime;
mod options;
mod output;
mod port;
mod precheck;
mod probe;
mod python;
mod rten_runtime;
mod runtime;
mod search_path;
mod shared;
mod signature;
mod source;
#[cfg(test)]
mod tests;

pub use data::external_data;
pub use error::LoadError;
pub use graph::Graph;
pub use options::{Choice, Optimization, Options};
pub use output::Output;
pub use port::Port;
pub use precheck::Scale;
pub use probe::ProbeError;
pub use runtime::{Runtime, RuntimeError};
pub use shared::SharedGraph;
pub use signature::Wanted;
pub use source::GraphSource;
