//! The settings of embedders, and the models to serve.

use std::path::Path;

use super::device::{DeviceChoice, DeviceError};
use crate::compute::Pools;
use crate::{inference, model, onnx};

/// An embedding model to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The name that requests use.
    pub name: String,
    /// The model's source.
    pub model: model::Options,
}

impl Spec {
    /// The name of a model that the settings give none.
    pub const UNNAMED: &'static str = "default";

    /// Parses the option `--model`: `NAME=PLACE` (see `model::Options::at`), or an id on the hub or a directory alone.
    ///
    /// # Errors
    /// The text says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        // A directory may have `=` in its name.
        let named = if Path::new(text).exists() { None } else { model::split_named(text)? };
        let Some((name, place)) = named else {
            let model = model::Options { source: text.to_owned(), ..model::Options::default() };
            return Ok(Self { name: Self::UNNAMED.to_owned(), model });
        };
        let model = model::Options::at(place, model::Kind::Reranker);
        match &model.kind {
            model::Kind::Reranker(Some(file)) => Err(format!(
                "{file} is a file of the model; expected its directory or its id on the hub: `--backend onnx` finds \
                 its graph"
            )),
            _ => Ok(Self { name: name.to_owned(), model }),
        }
    }
}

/// The settings of an [`Embedder`](super::Embedder).
#[derive(Debug, Clone)]
pub struct Options {
    /// The device of the model.
    pub device: DeviceChoice,
    /// The backend that runs the model.
    pub backend: Backend,
    /// Workers on a CPU. More workers than the container has cores slow everything down.
    pub threads: usize,
    /// Maximum tokens in a batch, with padding. Higher: more throughput on accelerators, and a small call waits longer
    /// for a batch that has begun. `None`: a value for the device.
    pub batch_tokens: Option<usize>,
    /// The arithmetic of the model.
    pub precision: Precision,
    /// Tokens of unary calls that may wait. More are refused. Streams have as many again.
    pub queue_tokens: usize,
    /// Memory for the vectors of earlier texts. Higher: more repeated texts cost nothing. 0: no cache.
    pub cache_bytes: usize,
    /// The thread pools that tokenise texts.
    pub pools: Pools,
}

/// 512 on a CPU: a core is busy with it for less than a quarter of a second, so a small call waits no longer.
const CPU_BATCH_TOKENS: usize = 512;
/// 16,384 for static vectors: about two milliseconds, in which the cost of forming the batch disappears.
const STATIC_BATCH_TOKENS: usize = 16_384;
/// 16,384 on an accelerator: enough rows to fill its multiprocessors.
const ACCELERATOR_BATCH_TOKENS: usize = 16_384;

impl Options {
    /// Returns the settings of the queue and the batches for a device, and for a model of static vectors or another
    /// one.
    pub fn inference(&self, device: DeviceChoice, is_static: bool) -> inference::Options {
        let threads = self.threads.max(1);
        let on_cores = matches!(self.backend, Backend::Candle) && device == DeviceChoice::Cpu;
        let (workers, batch_tokens) = match (&self.backend, device) {
            // The runtime divides a batch among its own threads.
            (Backend::Onnx(_), _) => (1, CPU_BATCH_TOKENS * threads),
            (Backend::Candle, DeviceChoice::Cpu) if is_static => (threads, STATIC_BATCH_TOKENS),
            (Backend::Candle, DeviceChoice::Cpu) => (threads, CPU_BATCH_TOKENS),
            // An accelerator runs one batch at a time. More workers would only take more memory.
            _ => (1, ACCELERATOR_BATCH_TOKENS),
        };
        inference::Options {
            workers,
            express_worker: on_cores,
            batch_tokens: self.batch_tokens.unwrap_or(batch_tokens),
            queue_tokens: self.queue_tokens,
            cache_bytes: self.cache_bytes,
            pools: self.pools.clone(),
        }
    }

    /// Returns the device to open. A graph runs on the CPU, and so does a model of static vectors.
    pub(super) fn device(&self, is_static: bool) -> Result<DeviceChoice, DeviceError> {
        match (&self.backend, self.device) {
            (Backend::Candle, DeviceChoice::Auto) if is_static => Ok(DeviceChoice::Cpu),
            (Backend::Candle, device) if is_static && device != DeviceChoice::Cpu => {
                Err(DeviceError::NotStatic { device })
            }
            (Backend::Onnx(_), DeviceChoice::Auto) => Ok(DeviceChoice::Cpu),
            (Backend::Onnx(_), device) if device != DeviceChoice::Cpu => Err(DeviceError::NotOnnx { device }),
            (_, device) => Ok(device),
        }
    }

    /// Returns the arithmetic as the fingerprint names it.
    pub fn arithmetic(&self) -> String {
        match &self.backend {
            Backend::Candle => self.precision.to_string(),
            Backend::Onnx(_) => model::ONNX.to_owned(),
        }
    }

    /// Returns the kind of files that the backend needs.
    pub fn kind(&self) -> model::Kind {
        match &self.backend {
            Backend::Candle => model::Kind::Encoder,
            Backend::Onnx(_) => model::Kind::OnnxEncoder,
        }
    }
}

/// The backend that runs the model.
#[derive(Debug, Clone, Default)]
pub enum Backend {
    /// Candle and our own kernels, from safetensors.
    #[default]
    Candle,
    /// An ONNX runtime, from the model's ONNX graph. On a CPU only.
    Onnx(onnx::Options),
}

/// The arithmetic of the model. It is part of the fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    F32,
    /// 16-bit floats with 11 bits of precision, summed in f32. On an accelerator only.
    F16,
    /// 16-bit floats with 8 bits of precision and the range of f32, summed in f32. On an accelerator only.
    Bf16,
    /// Linear layers multiply bytes and sum in 32 bits; everything else is f32. It is faster, most of all with VNNI,
    /// and nearly as exact (docs/performance.md). On a CPU only.
    Int8,
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => Err("expected f32, int8 on a CPU, or f16 or bf16 on an accelerator".to_owned()),
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}
