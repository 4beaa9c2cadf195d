//! ONNX Runtime: a shared library that is loaded once and stays.
//!
//! Invariant: no function of `ort` is called before a library is loaded. Each of them, making an error included, would
//! load one of its own choice and panic without it.
//!
//! The library is settled for the life of the process: `ort` keeps the first that it loads and its environment can be
//! made once. Loading runs in a thread of its own, because the library's code then runs for the first time and nothing
//! can stop it.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use ort::environment::Environment;
use ort::ep;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{OutputSelector, RunOptions, SessionInputValue};
use ort::value::{DynValue, Outlet, Tensor, TensorElementType, ValueType};

use super::caught::{caught, one_line};
use super::feed::Feed;
use super::graph::{Output, Source};
use super::library::{self, Unusable};
use super::options::Optimization;
use super::port::{Dim, Element, Port};
use super::runtime::Settings;
use super::signature::Signature;

/// The second number of the oldest version that has the interface we are built for.
const OLDEST: u32 = ort::MINOR_VERSION;

/// It takes a fifth of a second; a disk that is far away may take longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The library of this process.
#[derive(Debug, Clone)]
pub(super) struct Library {
    /// Its file, links followed.
    pub path: PathBuf,
    /// Its version, as far as it is known.
    pub version: String,
    environment: Environment,
}

/// What became of the one attempt that a process has.
enum State {
    /// None was loaded yet; those that were refused left nothing behind.
    Free,
    /// Here it is.
    Loaded(Library),
    /// Its code ran and then it would not work, or is still running.
    Spoilt { path: PathBuf, by: Spoiler },
}

#[derive(Clone)]
enum Spoiler {
    Reason(String),
    Stuck,
}

static STATE: Mutex<State> = Mutex::new(State::Free);

impl Library {
    /// Examines and loads a library, or gives the one that this process has if it is the same.
    pub(super) fn load(path: &Path) -> Result<Self, Unusable> {
        let library::Library { path, version } = library::check(path, OLDEST)?;
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Free => {}
            State::Loaded(loaded) if loaded.path == path => return Ok(loaded.clone()),
            State::Spoilt { path: spoilt, by } if *spoilt == path => return Err(by.clone().into()),
            State::Loaded(Self { path, .. }) | State::Spoilt { path, .. } => {
                return Err(Unusable::OtherLoaded { path: path.clone() });
            }
        }
        let result = in_time({
            let path = path.clone();
            move || start(&path)
        });
        let (new, result) = match result {
            Ok(environment) => {
                let version = version.or_else(|| Some(format!("1.{}", ort::util::probe(&path)?)));
                let library =
                    Self { path, version: version.unwrap_or_else(|| "of unknown version".to_owned()), environment };
                (State::Loaded(library.clone()), Ok(library))
            }
            Err(Failure::Refused(reason)) => (State::Free, Err(Unusable::Load { reason })),
            Err(Failure::Spoilt(by)) => (State::Spoilt { path, by: by.clone() }, Err(by.into())),
        };
        *state = new;
        result
    }
}

/// How far loading came.
enum Failure {
    /// Not loaded, and nothing lost.
    Refused(String),
    /// The process has no second attempt.
    Spoilt(Spoiler),
}

impl From<Spoiler> for Unusable {
    fn from(by: Spoiler) -> Self {
        match by {
            Spoiler::Reason(reason) => Self::Load { reason },
            Spoiler::Stuck => Self::Stuck(PATIENCE),
        }
    }
}

fn start(path: &Path) -> Result<Environment, Failure> {
    let builder = caught(|| ort::init_from(path).map_err(because)).map_err(Failure::Refused)?;
    let build = || {
        let environment = builder.with_name("onnx").with_telemetry(false).with_logger(Arc::new(log)).build()?;
        // It logs everything until told otherwise.
        environment.set_log_level(LogLevel::Warning);
        Ok::<_, ort::Error>(environment)
    };
    caught(build).map_err(|reason| Failure::Spoilt(Spoiler::Reason(reason)))
}

/// The system says which file or symbol it misses in the source alone.
fn because(error: ort::LoadDynamicError) -> String {
    match &error {
        ort::LoadDynamicError::Dlopen { error: system, .. } => {
            system.source().map_or_else(|| error.to_string(), ToString::to_string)
        }
        _ => error.to_string(),
    }
}

/// Waits for `work` for [`PATIENCE`] and leaves it alone after that.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        let _ = sender.send(work());
    };
    let thread = thread::Builder::new().name("onnxruntime".to_owned());
    thread.spawn(work).map_err(|error| Failure::Refused(one_line(error)))?;
    receiver.recv_timeout(PATIENCE).unwrap_or(Err(Failure::Spoilt(Spoiler::Stuck)))
}

/// Its own errors come back as results too, and are told there.
fn log(level: LogLevel, _category: &str, _id: &str, location: &str, message: &str) {
    let message = message.trim_end();
    match level {
        LogLevel::Fatal => tracing::error!(location, "ONNX Runtime: {message}"),
        LogLevel::Error | LogLevel::Warning => tracing::debug!(location, "ONNX Runtime: {message}"),
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(location, "ONNX Runtime: {message}"),
    }
}

/// A loaded graph.
#[derive(Debug)]
pub(super) struct Session {
    session: ort::session::Session,
}

impl Session {
    /// The graph, its inputs and its outputs; or the runtime's reason.
    pub(super) fn load(
        library: &Library,
        source: Source<'_>,
        settings: &Settings,
    ) -> Result<(Self, Vec<Port>, Vec<Port>), String> {
        caught(|| {
            let mut builder = ort::session::Session::builder(&library.environment)?
                .with_optimization_level(level(settings.optimization))?
                .with_intra_threads(settings.threads)?
                .with_inter_threads(1)?
                // Idle threads that spin take the cores from everything else in this process: on two idle cores a short
                // text is 20 % faster with it, on two busy ones half as fast.
                .with_intra_op_spinning(false)?
                // The first keeps memory for each shape that was seen, the second for the largest one, for good. Ours
                // differ from call to call; without them MiniLM is 5 % slower and stays at its size.
                .with_memory_pattern(false)?
                .with_execution_providers([ep::CPU::default()
                    .with_arena_allocator(false)
                    .build()
                    .error_on_failure()])?;
            let session = match source {
                Source::File(path) => builder.commit_from_file(path),
                Source::Memory(bytes) => builder.commit_from_memory(bytes),
            }?;
            let ports = |outlets: &[Outlet]| outlets.iter().map(port).collect();
            let (inputs, outputs) = (ports(session.inputs()), ports(session.outputs()));
            Ok::<_, ort::Error>((Self { session }, inputs, outputs))
        })
    }

    /// The wanted output for one feed; or the runtime's reason.
    pub(super) fn run(&mut self, feed: &Feed, signature: &Signature) -> Result<Output, String> {
        let session = &mut self.session;
        caught(|| {
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
            let (_, value) = outputs.iter().next().ok_or_else(|| ort::Error::new("no output came"))?;
            floats(&value)
        })
    }
}

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

fn level(optimization: Optimization) -> GraphOptimizationLevel {
    match optimization {
        Optimization::None => GraphOptimizationLevel::Disable,
        Optimization::Basic => GraphOptimizationLevel::Level1,
        Optimization::Extended => GraphOptimizationLevel::Level2,
        Optimization::All => GraphOptimizationLevel::All,
    }
}

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
    // An unstated shape is reported as that of a single number, which nothing here could be.
    Port { name, element, shape: (!shape.is_empty()).then(|| dims.collect()) }
}
