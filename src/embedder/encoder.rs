//! A model on the device that was chosen, and what each worker thread needs to run it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use super::bert::accelerator::Accelerator;
use super::bert::cpu::Cpu;
use super::bert::{self, Bert, CPU_BLOCK_TOKENS};
use super::onnx::OnnxEncoder;
use super::options::{Backend, Options, Precision};
use crate::inference::{Model, Run};
use crate::kernel::cpu;
use crate::kernel::team::Team;
use crate::model::{Card, Pooling};

/// A loaded model, shared by the workers.
pub enum Encoder {
    /// On a processor.
    Cpu(Arc<Bert<Cpu>>, Precision, Pooling),
    /// On an accelerator.
    Accelerator(Arc<Bert<Accelerator>>, Accelerator, Pooling),
    /// As an ONNX graph.
    Onnx(OnnxEncoder),
}

/// Why a model's files do not make a model.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file is damaged, or is none of safetensors.
    #[error(
        "{path} is damaged or is no safetensors file: {problem}; fetch or copy it again", path = .path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Weights are missing, or of other shapes than the configuration says.
    #[error("{path} does not fit config.json: {problem}", path = .path.display())]
    Weights {
        /// The file, or the first of them.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// An accelerator was chosen with an arithmetic that it does not have.
    #[error("int8 runs on the CPU: use `--device cpu`, or `--precision f32` on this device")]
    CpuOnly,
    /// The ONNX graph does not make an encoder.
    #[error(transparent)]
    Onnx(#[from] super::onnx::LoadError),
}

impl Encoder {
    /// Reads the weights onto the device.
    pub fn load(card: &Card, device: &Device, options: &Options) -> Result<Self, LoadError> {
        let precision = options.precision;
        if let Backend::Onnx(onnx) = &options.backend {
            return Ok(Self::Onnx(OnnxEncoder::load(card, device, precision, onnx)?));
        }
        if precision == Precision::Int8 && !device.is_cpu() {
            return Err(LoadError::CpuOnly);
        }
        // From the processor's memory in any case: it is packed there.
        let weights = VarBuilder::from_tensors(tensors(&card.weights)?, DType::F32, &Device::Cpu);
        let misfit = |error: bert::LoadError| LoadError::Weights {
            path: card.weights.first().cloned().unwrap_or_default(),
            problem: match &error {
                bert::LoadError::Weights(error) => plain(error),
                other => other.to_string(),
            },
        };
        Ok(match device {
            Device::Cpu => {
                let backend = Cpu::new(cpu::level(), precision, Arc::default());
                let bert = Bert::load(weights, &card.architecture, &backend, CPU_BLOCK_TOKENS).map_err(misfit)?;
                Self::Cpu(Arc::new(bert), precision, card.pooling)
            }
            _ => {
                let backend = Accelerator::new(device.clone());
                // Nothing is gained by blocks: a batch is what fits into its memory.
                let bert = Bert::load(weights, &card.architecture, &backend, usize::MAX).map_err(misfit)?;
                Self::Accelerator(Arc::new(bert), backend, card.pooling)
            }
        })
    }

    /// Tries the greatest token and the longest text, where only the model itself knows whether it takes them.
    pub fn probe(&self, last_token: u32, max_tokens: usize) -> Result<(), LoadError> {
        match self {
            Self::Onnx(encoder) => Ok(encoder.probe(last_token, max_tokens)?),
            Self::Cpu(..) | Self::Accelerator(..) => Ok(()),
        }
    }
}

impl Model for Encoder {
    /// Pooled vectors, `[texts][dimensions]`, not normalised. On a processor, threads that help `team` share its work.
    fn for_thread(&self, team: Arc<Team>) -> Run {
        match self {
            Self::Cpu(bert, precision, pooling) => {
                running(Arc::clone(bert), Cpu::new(cpu::level(), *precision, team), *pooling)
            }
            Self::Accelerator(bert, backend, pooling) => running(Arc::clone(bert), backend.clone(), *pooling),
            Self::Onnx(encoder) => encoder.run(),
        }
    }
}

fn running<B: bert::Backend + 'static>(bert: Arc<Bert<B>>, backend: B, pooling: Pooling) -> Run {
    let mut scratch = bert.scratch(backend);
    Box::new(move |batch| Ok(bert.pooled(batch, pooling, &mut scratch)?))
}

fn tensors(files: &[PathBuf]) -> Result<HashMap<String, Tensor>, LoadError> {
    let mut all = HashMap::new();
    for path in files {
        let tensors = candle_core::safetensors::load(path, &Device::Cpu)
            .map_err(|error| LoadError::File { path: path.clone(), problem: plain(&error) })?;
        // Whole numbers are quantised weights, which mean nothing without their scales; buffers may be whole numbers.
        let is_weight = |name: &str| name.ends_with("weight") || name.ends_with("bias");
        let whole = tensors.iter().find(|(name, tensor)| is_weight(name) && !tensor.dtype().is_float());
        if let Some((name, tensor)) = whole {
            let problem = format!("{name} has the type {:?}; weights must be of a float type", tensor.dtype());
            return Err(LoadError::Weights { path: path.clone(), problem });
        }
        all.extend(tensors);
    }
    Ok(all)
}

/// What candle says, without the backtrace and the path that it puts around it.
fn plain(error: &candle_core::Error) -> String {
    use candle_core::Error;
    match error {
        Error::WithBacktrace { inner, .. } | Error::WithPath { inner, .. } | Error::Context { inner, .. } => {
            plain(inner)
        }
        other => other.to_string(),
    }
}
