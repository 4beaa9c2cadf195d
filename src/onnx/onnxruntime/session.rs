//! A graph that ONNX Runtime has loaded.

use ort::ep;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{OutputSelector, RunOptions, SessionInputValue};
use ort::value::{DynValue, Outlet, Tensor, TensorElementType, ValueType};

use super::super::catch_panic::catch_panic;
use super::super::feed::Feed;
use super::super::options::{Optimization, Settings};
use super::super::output::Output;
use super::super::port::{Dim, Element, Port};
use super::super::signature::Signature;
use super::super::source::GraphSource;
use super::Library;

/// A loaded graph.
#[derive(Debug)]
pub(in super::super) struct Session {
    session: ort::session::Session,
}

impl Session {
    /// Loads a graph. Returns it with its inputs and outputs. The error is the runtime's own text.
    pub(in super::super) fn load(
        library: &Library,
        source: GraphSource<'_>,
        settings: &Settings,
    ) -> Result<(Self, Vec<Port>, Vec<Port>), String> {
        catch_panic(|| {
            let mut builder = ort::session::Session::builder(&library.environment)?
                .with_optimization_level(level(settings.optimization))?
                .with_intra_threads(settings.threads)?
                .with_inter_threads(1)?
                // Threads that spin while idle take the cores from the rest of this process. With spinning a short text
                // is 20 % faster on two idle cores, and half as fast on two busy ones.
                .with_intra_op_spinning(false)?
                // The memory pattern keeps memory for each shape that was seen, and the arena for the largest one, for
                // good. Our shapes differ from call to call. Without both, MiniLM is 5 % slower and does not grow.
                .with_memory_pattern(false)?
                .with_execution_providers([ep::CPU::default()
                    .with_arena_allocator(false)
                    .build()
                    .error_on_failure()])?;
            let session = match source {
                GraphSource::File(path) => builder.commit_from_file(path),
                GraphSource::Memory(bytes) => builder.commit_from_memory(bytes),
            }?;
            let ports = |outlets: &[Outlet]| outlets.iter().map(port).collect();
            let (inputs, outputs) = (ports(session.inputs()), ports(session.outputs()));
            Ok::<_, ort::Error>((Self { session }, inputs, outputs))
        })
    }

    /// Computes the wanted output for one feed. The error is the runtime's own text.
    pub(in super::super) fn run(&mut self, feed: &Feed, signature: &Signature) -> Result<Output, String> {
        let session = &mut self.session;
        catch_panic(|| {
            let shape = [feed.texts, feed.sequence];
            let inputs: Vec<(String, SessionInputValue<'_>)> = signature
                .inputs
                .iter()
                .map(|input| {
                    let values = feed.of(input.role);
                    let value: SessionInputValue<'_> = if input.wide {
                        Tensor::from_array((shape, values.iter().copied().map(i64::from).collect::<Vec<i64>>()))?.into()
                    } else {
                        Tensor::from_array((shape, values.to_vec()))?.into()
                    };
                    Ok((session.inputs()[input.index].name().to_owned(), value))
                })
                .collect::<ort::Result<_>>()?;
            let wanted = session.outputs()[signature.output].name().to_owned();
            let options = RunOptions::new()?.with_outputs(OutputSelector::no_default().with(wanted));
            let outputs = session.run_with_options(inputs, &options)?;
            let (_, value) = outputs.iter().next().ok_or_else(|| ort::Error::new("the wanted output is missing"))?;
            floats(&value)
        })
    }
}

/// Converts an output to 32-bit floats.
fn floats(value: &DynValue) -> ort::Result<Output> {
    let (shape, values) = match value.dtype().tensor_type() {
        Some(TensorElementType::Float16) => {
            let (shape, values) = value.try_extract_tensor::<half::f16>()?;
            (shape, values.iter().map(|value| value.to_f32()).collect())
        }
        Some(TensorElementType::Float64) => {
            let (shape, values) = value.try_extract_tensor::<f64>()?;
            (shape, values.iter().map(|&value| value as f32).collect())
        }
        _ => {
            let (shape, values) = value.try_extract_tensor::<f32>()?;
            (shape, values.to_vec())
        }
    };
    let shape = shape.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
    Ok(Output { values, shape })
}

/// Translates the level of optimisation.
fn level(optimization: Optimization) -> GraphOptimizationLevel {
    match optimization {
        Optimization::None => GraphOptimizationLevel::Disable,
        Optimization::Basic => GraphOptimizationLevel::Level1,
        Optimization::Extended => GraphOptimizationLevel::Level2,
        Optimization::All => GraphOptimizationLevel::All,
    }
}

/// Describes an input or output.
fn port(outlet: &Outlet) -> Port {
    let name = outlet.name().to_owned();
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Port { name, element: Element::Other(outlet.dtype().to_string()), shape: None };
    };
    let element = match ty {
        TensorElementType::Int64 => Element::Int64,
        TensorElementType::Int32 => Element::Int32,
        TensorElementType::Float32 => Element::Float32,
        TensorElementType::Float16 => Element::Float16,
        TensorElementType::Float64 => Element::Float64,
        other => Element::Other(other.to_string()),
    };
    let dims = shape.iter().zip(dimension_symbols.iter()).map(|(&size, symbol)| match usize::try_from(size) {
        Ok(size) => Dim::Fixed(size),
        Err(_) if symbol.is_empty() => Dim::Any,
        Err(_) => Dim::Named(symbol.clone()),
    });
    // A shape that the graph does not state is reported as that of a scalar. No port here is a scalar.
    Port { name, element, shape: (!shape.is_empty()).then(|| dims.collect()) }
}
