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
    /// They are damaged, missing, or of other shapes than the configuration says.
    #[error("the weights cannot be used: {0}")]
    Weights(#[from] candle_core::Error),
    /// The sizes do not fit each other.
    #[error("the weights cannot be used: {0}")]
    Sizes(#[from] bert::LoadError),
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
        Ok(match device {
            Device::Cpu => {
                let backend = Cpu::new(cpu::level(), precision, Arc::default());
                let bert = Bert::load(weights, &card.architecture, &backend, CPU_BLOCK_TOKENS)?;
                Self::Cpu(Arc::new(bert), precision, card.pooling)
            }
            _ => {
                let backend = Accelerator::new(device.clone());
                // Nothing is gained by blocks: a batch is what fits into its memory.
                let bert = Bert::load(weights, &card.architecture, &backend, usize::MAX)?;
                Self::Accelerator(Arc::new(bert), backend, card.pooling)
            }
        })
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

fn tensors(files: &[PathBuf]) -> candle_core::Result<HashMap<String, Tensor>> {
    let mut all = HashMap::new();
    for file in files {
        all.extend(candle_core::safetensors::load(file, &Device::Cpu)?);
    }
    Ok(all)
}
