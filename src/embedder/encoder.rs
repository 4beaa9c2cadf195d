//! A model on the chosen device, and the state with which each worker thread runs it.

use std::sync::Arc;

use candle_core::Device;

use super::onnx::OnnxEncoder;
use super::options::{Backend, Options, Precision};
use super::static_table::{self, StaticTable};
use super::steps::Steps;
use super::transformer::accelerator::Accelerator;
use super::transformer::checkpoint::Checkpoint;
use super::transformer::cpu::Cpu;
use super::transformer::{self, CPU_BLOCK_TOKENS, Transformer};
use super::weights::{LoadError, Weights};
use crate::inference::{Model, Run};
use crate::kernel::gemm::linear::NumberFormat;
use crate::machine::cpu;
use crate::machine::leader::Leader;
use crate::model::{self, Architecture, Card, Mode};

/// A loaded model, shared by the workers.
pub struct Encoder {
    network: Network,
    /// The modes of pooling.
    modes: Arc<[Mode]>,
    /// The steps after it.
    steps: Steps,
    weight_bytes: u64,
}

/// The part of a model that gives vectors of tokens.
pub enum Network {
    /// A transformer on a CPU.
    Cpu(Arc<Transformer<Cpu>>, NumberFormat),
    /// A transformer on an accelerator.
    Accelerator(Arc<Transformer<Accelerator>>, Accelerator),
    /// A table of static vectors.
    Static(Arc<StaticTable>),
    /// An ONNX graph.
    Onnx(OnnxEncoder),
}

impl Encoder {
    /// Loads the weights onto the device.
    pub fn load(card: &Card, device: &Device, options: &Options) -> Result<Self, LoadError> {
        let of_files = || card.weights.iter().filter_map(|path| Some(std::fs::metadata(path).ok()?.len())).sum();
        let (network, weight_bytes) = match (&options.backend, &card.encoder) {
            (Backend::Onnx(onnx), _) => {
                (Network::Onnx(OnnxEncoder::load(card, device, options.precision, onnx)?), of_files())
            }
            (Backend::Candle, model::Encoder::Transformer(architecture)) => {
                let weights = Weights::read(&card.weights)?;
                let network = network(&weights, &architecture.up_to(card.max_tokens), device, options.precision)?;
                (network, weights.packed_bytes(options.precision, device.is_cpu()))
            }
            (Backend::Candle, model::Encoder::Static(_)) if options.precision != Precision::F32 => {
                return Err(LoadError::StaticPrecision(options.precision));
            }
            (Backend::Candle, model::Encoder::Static(table)) => {
                let table = StaticTable::load(table)?;
                let bytes = table.bytes();
                (Network::Static(Arc::new(table)), bytes)
            }
        };
        let steps = Steps::load(&card.steps, device)?;
        Ok(Self { network, modes: card.pooling.modes.clone().into(), steps, weight_bytes })
    }

    /// Returns the bytes of the weights as they are held, or mapped from a file.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Takes a transformer with the head of a reranker: the mode of its pooling, and the steps after it.
    pub fn with_head(network: Network, pooling: Mode, steps: Steps) -> Self {
        Self { network, modes: [pooling].into(), steps, weight_bytes: 0 }
    }

    /// Tries the greatest token id and the longest text. Only an ONNX graph needs it: the others state their limits.
    pub fn probe(&self, last_token: u32, max_tokens: usize) -> Result<(), LoadError> {
        match &self.network {
            Network::Onnx(encoder) => Ok(encoder.probe(last_token, max_tokens)?),
            Network::Cpu(..) | Network::Accelerator(..) | Network::Static(..) => Ok(()),
        }
    }
}

/// Packs a transformer for the device. The weights are always packed in the memory of the CPU.
pub fn network(
    weights: &Weights<'_>,
    architecture: &Architecture,
    device: &Device,
    precision: Precision,
) -> Result<Network, LoadError> {
    let checkpoint = Checkpoint::new(weights.tensors.clone(), architecture).stored(weights.stored());
    let misfit = |error| weights.misfit(&error);
    Ok(match device {
        Device::Cpu => {
            let level = cpu::level();
            let form = Cpu::form(level, precision).ok_or(LoadError::AcceleratorOnly(precision))?;
            let backend = Cpu::new(level, form, Leader::default());
            let encoder = Transformer::of(&checkpoint, architecture, &backend, CPU_BLOCK_TOKENS).map_err(misfit)?;
            Network::Cpu(Arc::new(encoder), form)
        }
        _ => {
            let float = Accelerator::float(precision).ok_or(LoadError::CpuOnly)?;
            let backend = Accelerator::new(device.clone(), float);
            // Blocks bring nothing here: a batch fits into the memory of the device.
            let encoder = Transformer::of(&checkpoint, architecture, &backend, usize::MAX).map_err(misfit)?;
            // The workers do not wait for what this thread has asked of the device.
            device.synchronize().map_err(|error| weights.misfit(&error))?;
            Network::Accelerator(Arc::new(encoder), backend)
        }
    })
}

impl Model for Encoder {
    /// Returns a function that computes vectors of texts, `[texts][dimensions]`, not normalised. On a CPU the team of
    /// `leader` shares its work.
    fn for_thread(&self, leader: Leader) -> Run {
        let modes = Arc::clone(&self.modes);
        let mut pooled = match &self.network {
            Network::Cpu(encoder, form) => running(Arc::clone(encoder), Cpu::new(cpu::level(), *form, leader), modes),
            Network::Accelerator(encoder, backend) => running(Arc::clone(encoder), backend.clone(), modes),
            Network::Static(table) => static_table::running(Arc::clone(table)),
            Network::Onnx(encoder) => encoder.run(modes),
        };
        if self.steps.is_empty() {
            return pooled;
        }
        let steps = self.steps.clone();
        Box::new(move |batch| Ok(steps.apply(pooled(batch)?)?))
    }
}

/// Makes the function of a worker, with its own scratch memory.
fn running<B: transformer::Backend + 'static>(encoder: Arc<Transformer<B>>, backend: B, modes: Arc<[Mode]>) -> Run {
    let mut scratch = encoder.scratch(backend);
    Box::new(move |batch| Ok(encoder.pooled(batch, &modes, &mut scratch)?))
}
