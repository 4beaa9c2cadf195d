//! How an embedder runs.

use super::device::{DeviceChoice, DeviceError};
use crate::compute::Pools;
use crate::{inference, model, onnx};

/// How an [`Embedder`](super::Embedder) runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the model runs.
    pub device: DeviceChoice,
    /// What runs it.
    pub backend: Backend,
    /// Workers on a CPU. More than the cores of the container slows everything down.
    pub threads: usize,
    /// The most tokens in one batch, padding included. Higher: more throughput on accelerators, and
    /// a small call waits longer behind a batch that has begun. `None`: what suits the device.
    pub batch_tokens: Option<usize>,
    /// Arithmetic of the model.
    pub precision: Precision,
    /// Tokens of unary calls that may wait; beyond it they are refused. As many again for streams.
    pub queue_tokens: usize,
    /// Memory for vectors of texts that were computed before. Higher: more texts that are asked for
    /// again cost nothing. 0: each is computed again.
    pub cache_bytes: usize,
    /// The pools that tokenise texts.
    pub pools: Pools,
}

/// 512 on a CPU: a core is busy with it for less than a quarter of a second, so a small call waits no longer.
const CPU_BATCH_TOKENS: usize = 512;
/// 16,384 on an accelerator: enough rows to fill its multiprocessors.
const ACCELERATOR_BATCH_TOKENS: usize = 16_384;

impl Options {
    /// How texts are queued and batched for the device that was opened.
    pub(super) fn inference(&self, device: DeviceChoice) -> inference::Options {
        let threads = self.threads.max(1);
        let (workers, batch_tokens) = match (&self.backend, device) {
            // The runtime shares a batch out among threads of its own.
            (Backend::Onnx(_), _) => (1, CPU_BATCH_TOKENS * threads),
            (Backend::Candle, DeviceChoice::Cpu) => (threads, CPU_BATCH_TOKENS),
            // An accelerator runs one batch at a time; more workers would only hold more memory.
            _ => (1, ACCELERATOR_BATCH_TOKENS),
        };
        inference::Options {
            workers,
            batch_tokens: self.batch_tokens.unwrap_or(batch_tokens),
            queue_tokens: self.queue_tokens,
            cache_bytes: self.cache_bytes,
            pools: self.pools.clone(),
        }
    }

    /// The device to open: a graph runs on the processor.
    pub(super) fn device(&self) -> Result<DeviceChoice, DeviceError> {
        match (&self.backend, self.device) {
            (Backend::Onnx(_), DeviceChoice::Auto) => Ok(DeviceChoice::Cpu),
            (Backend::Onnx(_), device) if device != DeviceChoice::Cpu => Err(DeviceError::NotOnnx { device }),
            (_, device) => Ok(device),
        }
    }

    /// What the model computes in, as its fingerprint says it.
    pub fn arithmetic(&self) -> String {
        match &self.backend {
            Backend::Candle => self.precision.to_string(),
            Backend::Onnx(_) => model::ONNX.to_owned(),
        }
    }

    /// What the model's files must be.
    pub fn kind(&self) -> model::Kind {
        match &self.backend {
            Backend::Candle => model::Kind::Encoder,
            Backend::Onnx(_) => model::Kind::OnnxEncoder,
        }
    }
}

/// What runs the model.
#[derive(Debug, Clone, Default)]
pub enum Backend {
    /// Candle and our own kernels, from safetensors.
    #[default]
    Candle,
    /// An ONNX runtime, from the model's ONNX graph. On a processor only.
    Onnx(onnx::Options),
}

/// Arithmetic of the model; a part of its fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    F32,
    /// Linear layers on bytes with sums in 32 bits, everything else in f32. Faster, most of all where the processor has
    /// VNNI, and nearly as exact (docs/performance.md). On a processor only.
    Int8,
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "f32" => Ok(Self::F32),
            "int8" => Ok(Self::Int8),
            _ => Err("expected f32 or int8".to_owned()),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Int8 => "int8",
        })
    }
}
