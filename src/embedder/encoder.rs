//! A model on the chosen device, and the state with which each worker thread runs it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use super::bert::accelerator::Accelerator;
use super::bert::cpu::Cpu;
use super::bert::{self, Bert, CPU_BLOCK_TOKENS};
use super::onnx::OnnxEncoder;
use super::options::{Backend, Options, Precision};
use crate::inference::{Model, Run};
use crate::kernel::gemm::linear::NumberFormat;
use crate::machine::cpu;
use crate::machine::team::Leader;
use crate::model::{Architecture, Card, Pooling};

/// A loaded model, shared by the workers.
pub enum Encoder {
    /// A model on a CPU.
    Cpu(Arc<Bert<Cpu>>, NumberFormat, Pooling),
    /// A model on an accelerator.
    Accelerator(Arc<Bert<Accelerator>>, Accelerator, Pooling),
    /// An ONNX graph.
    Onnx(OnnxEncoder),
}

/// The reason why a model does not load.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file is damaged or has another format.
    #[error(
        "{path} is damaged or not a safetensors file: {problem}; fetch or copy it again", path = .path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// The fault.
        problem: String,
    },
    /// Weights are missing or have other shapes than in the configuration.
    #[error("{path} does not fit config.json: {problem}", path = .path.display())]
    Weights {
        /// The first file of the weights.
        path: PathBuf,
        /// The difference.
        problem: String,
    },
    /// The chosen accelerator does not have the chosen arithmetic.
    #[error("int8 runs on the CPU only; use `--device cpu`, or `--precision f32`, `f16` or `bf16` on this device")]
    CpuOnly,
    /// The CPU does not have the chosen arithmetic.
    #[error("{0} runs on accelerators only, and the device is the CPU; use `--precision f32` or `--precision int8`")]
    AcceleratorOnly(Precision),
    /// The ONNX graph cannot be an encoder.
    #[error(transparent)]
    Onnx(#[from] super::onnx::LoadError),
}

impl Encoder {
    /// Loads the weights onto the device.
    pub fn load(card: &Card, device: &Device, options: &Options) -> Result<Self, LoadError> {
        if let Backend::Onnx(onnx) = &options.backend {
            return Ok(Self::Onnx(OnnxEncoder::load(card, device, options.precision, onnx)?));
        }
        let weights = Weights::read(&card.weights)?;
        weights.encoder(&card.architecture, card.pooling, device, options.precision)
    }

    /// Tries the greatest token id and the longest text. Only an ONNX graph needs it: the others state their limits.
    pub fn probe(&self, last_token: u32, max_tokens: usize) -> Result<(), LoadError> {
        match self {
            Self::Onnx(encoder) => Ok(encoder.probe(last_token, max_tokens)?),
            Self::Cpu(..) | Self::Accelerator(..) => Ok(()),
        }
    }
}

impl Model for Encoder {
    /// Returns a function that computes pooled vectors, `[texts][dimensions]`, not normalised. On a CPU the team of
    /// `leader` shares its work.
    fn for_thread(&self, leader: Leader) -> Run {
        match self {
            Self::Cpu(bert, form, pooling) => {
                running(Arc::clone(bert), Cpu::new(cpu::level(), *form, leader), *pooling)
            }
            Self::Accelerator(bert, backend, pooling) => running(Arc::clone(bert), backend.clone(), *pooling),
            Self::Onnx(encoder) => encoder.run(),
        }
    }
}

/// The weights of safetensors files, in the memory of the CPU.
pub struct Weights<'a> {
    /// The tensors by their names.
    pub tensors: VarBuilder<'static>,
    path: &'a Path,
}

impl<'a> Weights<'a> {
    /// Reads all tensors.
    pub fn read(files: &'a [PathBuf]) -> Result<Self, LoadError> {
        let tensors = VarBuilder::from_tensors(tensors(files)?, DType::F32, &Device::Cpu);
        Ok(Self { tensors, path: files.first().map_or(Path::new(""), PathBuf::as_path) })
    }

    /// Packs an encoder for the device. The weights are always packed in the memory of the CPU.
    pub fn encoder(
        &self,
        architecture: &Architecture,
        pooling: Pooling,
        device: &Device,
        precision: Precision,
    ) -> Result<Encoder, LoadError> {
        let tensors = self.tensors.clone();
        let misfit = |error| match error {
            bert::LoadError::Weights(error) => self.misfit(&error),
            other => LoadError::Weights { path: self.path.to_owned(), problem: other.to_string() },
        };
        Ok(match device {
            Device::Cpu => {
                let level = cpu::level();
                let form = Cpu::form(level, precision).ok_or(LoadError::AcceleratorOnly(precision))?;
                let backend = Cpu::new(level, form, Leader::default());
                let bert = Bert::load(tensors, architecture, &backend, CPU_BLOCK_TOKENS).map_err(misfit)?;
                Encoder::Cpu(Arc::new(bert), form, pooling)
            }
            _ => {
                let float = Accelerator::float(precision).ok_or(LoadError::CpuOnly)?;
                let backend = Accelerator::new(device.clone(), float);
                // Blocks bring nothing here: a batch fits into the memory of the device.
                let bert = Bert::load(tensors, architecture, &backend, usize::MAX).map_err(misfit)?;
                // The workers do not wait for what this thread has asked of the device.
                device.synchronize().map_err(|error| self.misfit(&error))?;
                Encoder::Accelerator(Arc::new(bert), backend, pooling)
            }
        })
    }

    /// Makes the error for weights that are missing or have other shapes.
    pub fn misfit(&self, error: &candle_core::Error) -> LoadError {
        LoadError::Weights { path: self.path.to_owned(), problem: plain(error) }
    }
}

/// Makes the function of a worker, with its own scratch memory.
fn running<B: bert::Backend + 'static>(bert: Arc<Bert<B>>, backend: B, pooling: Pooling) -> Run {
    let mut scratch = bert.scratch(backend);
    Box::new(move |batch| Ok(bert.pooled(batch, pooling, &mut scratch)?))
}

/// Loads all tensors of the weights.
fn tensors(files: &[PathBuf]) -> Result<HashMap<String, Tensor>, LoadError> {
    let mut all = HashMap::new();
    for path in files {
        let tensors = candle_core::safetensors::load(path, &Device::Cpu)
            .map_err(|error| LoadError::File { path: path.clone(), problem: plain(&error) })?;
        // Integer weights are quantised, and useless without their scales. Buffers may be integers.
        let is_weight = |name: &str| name.ends_with("weight") || name.ends_with("bias");
        let whole = tensors.iter().find(|(name, tensor)| is_weight(name) && !tensor.dtype().is_float());
        if let Some((name, tensor)) = whole {
            let problem = format!("{name} has the type {:?}, and must have a float type", tensor.dtype());
            return Err(LoadError::Weights { path: path.clone(), problem });
        }
        all.extend(tensors);
    }
    Ok(all)
}

/// Returns the text of candle's error without its backtrace and path.
fn plain(error: &candle_core::Error) -> String {
    use candle_core::Error;
    match error {
        Error::WithBacktrace { inner, .. } | Error::WithPath { inner, .. } | Error::Context { inner, .. } => {
            plain(inner)
        }
        other => other.to_string(),
    }
}
