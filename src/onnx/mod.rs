//! ONNX graphs that read token ids: one seam over two runtimes.
//!
//! ONNX Runtime is the faster one where its shared library is installed; rten is linked in and always there. The rest
//! of the program sees neither: a [`Runtime`] is found once at the start, a [`Graph`] is loaded with it, and texts as
//! token ids go in while plain floats come out. `ort` is named in `onnxruntime.rs` alone, `rten` in `rten_runtime.rs`
//! alone.
//!
//! Invariants:
//! - nothing that a runtime does with a library, a graph or a batch ends the process where it can be helped: a library
//!   is examined before it is loaded, panics are caught, and both become errors with a reason of one line;
//! - a graph is used only when each of its inputs is understood and one output is surely the wanted one.
//!
//! What the floats mean (pooling, softmax, labels) is left to the caller, and so are values that are not finite. A graph
//! is trusted as much as a program: it may take memory and time without a limit.

mod caught;
mod data;
mod feed;
pub(crate) mod fuzz;
mod graph;
mod library;
mod onnxruntime;
mod options;
mod outline;
mod places;
mod port;
mod probe;
mod python;
mod rten_runtime;
mod runtime;
mod signature;
#[cfg(test)]
mod tests;

pub use data::external_data;
pub use graph::{Graph, LoadError, Output, RunError, Source};
pub use library::Unusable;
pub use options::{Choice, Optimization, Options};
pub use outline::Scale;
pub use places::Absent;
pub use port::{Dim, Element, Port};
pub use probe::ProbeError;
pub use python::NoAnswer;
pub use runtime::{Attempt, Reason, Runtime, RuntimeError};
pub use signature::{Unfit, Wanted};
