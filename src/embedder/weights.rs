//! The weights in safetensors files, and the reasons why a model does not load.
//!
//! All tensors are read into the memory of the CPU as f32, whatever float type they have.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use super::options::Precision;

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
    /// The chosen arithmetic is that of linear layers, and a model of static vectors has none.
    #[error("{0} is for transformers; a model of static vectors keeps the numbers of its table, use `--precision f32`")]
    StaticPrecision(Precision),
    /// The ONNX graph cannot be an encoder.
    #[error(transparent)]
    Onnx(#[from] super::onnx::LoadError),
}

/// The weights of safetensors files, in the memory of the CPU.
pub struct Weights<'a> {
    /// The tensors by their names.
    pub tensors: VarBuilder<'static>,
    path: &'a Path,
    /// The numbers in matrices of linear layers, and all others.
    numbers: [usize; 2],
}

impl<'a> Weights<'a> {
    /// Reads all tensors.
    pub fn read(files: &'a [PathBuf]) -> Result<Self, LoadError> {
        let tensors = tensors(files)?;
        let is_linear = |name: &str, tensor: &Tensor| tensor.rank() == 2 && !name.contains("embed");
        let linear = tensors.iter().filter(|(name, tensor)| is_linear(name, tensor));
        let linear = linear.map(|(_, tensor)| tensor.elem_count()).sum();
        let all: usize = tensors.values().map(Tensor::elem_count).sum();
        let tensors = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let path = files.first().map_or(Path::new(""), PathBuf::as_path);
        Ok(Self { tensors, path, numbers: [linear, all - linear] })
    }

    /// Returns the bytes that they take when they are packed in a precision.
    pub fn packed_bytes(&self, precision: Precision) -> u64 {
        let of_each = match precision {
            Precision::F32 => [4, 4],
            Precision::F16 | Precision::Bf16 => [2, 2],
            Precision::Int8 => [1, 4],
        };
        self.numbers.iter().zip(of_each).map(|(numbers, bytes)| (numbers * bytes) as u64).sum()
    }

    /// Makes the error for weights that are missing or have other shapes.
    pub fn misfit(&self, error: &candle_core::Error) -> LoadError {
        LoadError::Weights { path: self.path.to_owned(), problem: plain(error) }
    }
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
