//! rten: the runtime that is linked in and needs no installation.
//!
//! It computes in f32 and i32, whatever the graph says, and reports its ports as those types. `data.rs` prepares graphs
//! that it cannot open or convert itself.

use std::sync::Arc;

use rten::{DataType, Dimension, LoadErrorKind, Model, ModelOptions, NodeId, RunOptions, ThreadPool, ValueType};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensorView, Tensor};

use super::catch_panic::{catch_panic, one_line};
use super::data::RtenGraph;
use super::feed::Feed;
use super::options::{Optimization, Settings};
use super::output::Output;
use super::port::{Dim, Element, Port};
use super::signature::Signature;

/// The version that is linked in. A test compares it with the lock file.
pub(super) const VERSION: &str = "0.27.0";

/// The thread pool that all graphs of a runtime share.
#[derive(Debug, Clone)]
pub(super) struct Threads(Arc<ThreadPool>);

impl Threads {
    pub(super) fn new(count: usize) -> Self {
        Self(Arc::new(ThreadPool::with_num_threads(count)))
    }
}

/// A loaded graph.
#[derive(Debug)]
pub(super) struct Session {
    model: Model,
    threads: Threads,
}

impl Session {
    /// Loads a graph. Returns it with its inputs and outputs. The error is the runtime's own text.
    pub(super) fn load(
        threads: &Threads,
        graph: RtenGraph<'_>,
        settings: &Settings,
    ) -> Result<(Self, Vec<Port>, Vec<Port>), String> {
        let mut options = ModelOptions::with_all_ops();
        // With packed weights a short text takes two thirds of the time, or a third if they are int8. The weights of
        // linear layers are in memory twice.
        options.enable_optimization(settings.optimization != Optimization::None).prepack_weights(true);
        catch_panic(|| {
            let model = match graph {
                RtenGraph::File(path) => options.load_file(path).map_err(one_line),
                RtenGraph::Memory { graph, data } => {
                    for (name, bytes) in data {
                        options.external_data(&name, bytes);
                    }
                    load_bytes(&options, graph)
                }
            }?;
            let ports = |ids: &[NodeId]| ids.iter().map(|&id| port(&model, id)).collect();
            let (inputs, outputs) = (ports(model.input_ids()), ports(model.output_ids()));
            Ok::<_, String>((Self { model, threads: threads.clone() }, inputs, outputs))
        })
    }

    /// Computes the wanted output for one feed. The error is the runtime's own text.
    pub(super) fn run(&mut self, feed: &Feed, signature: &Signature) -> Result<Output, String> {
        catch_panic(|| {
            let shape = [feed.texts, feed.sequence];
            let inputs = signature.inputs.iter().map(|input| {
                let values = NdTensorView::from_data(shape, feed.of(input.role));
                (self.model.input_ids()[input.index], values.into())
            });
            let wanted = self.model.output_ids()[signature.output];
            let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.threads.0)));
            let [value] = self.model.run_n(inputs.collect(), [wanted], Some(options)).map_err(one_line)?;
            let tensor: Tensor<f32> = value.try_into().map_err(one_line)?;
            Ok::<_, String>(Output { shape: tensor.shape().to_vec(), values: tensor.into_data() })
        })
    }
}

fn load_bytes(options: &ModelOptions, bytes: Vec<u8>) -> Result<Model, String> {
    options.load(bytes).map_err(|error| match error.kind() {
        // rten takes an unknown file for its own format, and its message would name that.
        LoadErrorKind::FormatNotEnabled | LoadErrorKind::UnknownFileType => "the file is not an ONNX graph".to_owned(),
        _ => one_line(error),
    })
}

fn port(model: &Model, id: NodeId) -> Port {
    let node = model.node_info(id);
    let name = node.as_ref().and_then(|node| node.name()).unwrap_or_default().to_owned();
    let element = match node.as_ref().and_then(|node| node.dtype()) {
        Some(ValueType::Tensor(DataType::Int32)) => Element::Int32,
        Some(ValueType::Tensor(DataType::Float)) => Element::Float32,
        Some(other) => Element::Other(other.to_string()),
        None => Element::Other("of unstated type".to_owned()),
    };
    let shape = node.and_then(|node| node.shape()).map(|dims| dims.into_iter().map(dim).collect());
    Port { name, element, shape }
}

fn dim(dimension: Dimension) -> Dim {
    match dimension {
        Dimension::Fixed(size) => Dim::Fixed(size),
        Dimension::Symbolic(name) if is_from_graph(&name) => Dim::Named(name),
        Dimension::Symbolic(_) => Dim::Any,
    }
}

/// Returns whether a dimension's name comes from the graph. rten numbers dimensions without a name, and names derived
/// ones by a formula: `broadcast(sequence, 64)`.
fn is_from_graph(name: &str) -> bool {
    let word = |character: char| character.is_alphanumeric() || matches!(character, '_' | '-' | '.');
    !name.is_empty() && name.chars().all(word) && !name.starts_with("unnamed_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_that_is_linked_in() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
        assert!(lock.contains(&format!("name = \"rten\"\nversion = \"{VERSION}\"\n")));
    }
}
