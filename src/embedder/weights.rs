//! The weights in safetensors files, and the reasons why a model does not load.
//!
//! The files are mapped. A tensor becomes f32 when it is read, whatever float type it has, one tensor at a time: a load
//! takes the memory of what is packed and of one layer. The table of word vectors stays in its file (`rows`).

mod rows;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::safetensors::SliceSafetensors;
use candle_core::{DType, Device, Error, Result as Loaded, Shape, Tensor};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;

use super::options::Precision;
use crate::machine::mapping::Mapping;
pub use rows::Rows;

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

/// The weights of safetensors files.
pub struct Weights<'a> {
    /// The tensors by their names, as f32.
    pub tensors: VarBuilder<'static>,
    stored: Stored,
    path: &'a Path,
}

/// The tensors in the files, by their names. A clone is cheap.
#[derive(Clone)]
pub struct Stored(Arc<HashMap<String, StoredTensor>>);

/// A tensor in a file.
struct StoredTensor {
    file: Arc<Mapping>,
    bytes: std::ops::Range<usize>,
    dtype: DType,
    shape: Shape,
}

impl<'a> Weights<'a> {
    /// Maps the files, and reads what tensors they have.
    pub fn read(files: &'a [PathBuf]) -> Result<Self, LoadError> {
        let stored = Stored(Arc::new(stored(files)?));
        let tensors = VarBuilder::from_backend(Box::new(stored.clone()), DType::F32, Device::Cpu);
        Ok(Self { tensors, stored, path: files.first().map_or(Path::new(""), PathBuf::as_path) })
    }

    /// Returns the tensors as they are stored.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Returns the bytes that they take when they are packed in a precision: linear layers in it, and everything else
    /// in f32 on a CPU. There the table of words, which is the largest one, stays as it is stored.
    pub fn packed_bytes(&self, precision: Precision, is_cpu: bool) -> u64 {
        let of_each = match precision {
            Precision::F32 => [4, 4],
            Precision::F16 | Precision::Bf16 => [2, 2],
            Precision::Int8 => [1, 4],
        };
        let (tables, others): (Vec<_>, Vec<_>) =
            self.stored.0.iter().partition(|(name, tensor)| tensor.shape.rank() == 2 && name.contains("embed"));
        let words = tables.iter().map(|(_, tensor)| tensor).max_by_key(|tensor| tensor.shape.elem_count());
        let mapped = words.filter(|_| is_cpu).map_or([0; 2], |words| [words.shape.elem_count(), words.bytes.len()]);
        let count = |tensors: &[(&String, &StoredTensor)], linear: bool| -> usize {
            let of_kind = tensors.iter().filter(|(_, tensor)| (tensor.shape.rank() == 2) == linear);
            of_kind.map(|(_, tensor)| tensor.shape.elem_count()).sum()
        };
        let in_tables = count(&tables, true) - mapped[0];
        let numbers = [count(&others, true), count(&others, false) + in_tables];
        (numbers.iter().zip(of_each).map(|(numbers, bytes)| numbers * bytes).sum::<usize>() + mapped[1]) as u64
    }

    /// Makes the error for weights that are missing or have other shapes.
    pub fn misfit(&self, error: &Error) -> LoadError {
        LoadError::Weights { path: self.path.to_owned(), problem: plain(error) }
    }
}

impl Drop for Weights<'_> {
    /// Takes the pages that were read out of the resident memory. A table that stays mapped brings its own back.
    fn drop(&mut self) {
        let mut files: Vec<&Arc<Mapping>> = Vec::new();
        for StoredTensor { file, .. } in self.stored.0.values() {
            if !files.iter().any(|known| Arc::ptr_eq(known, file)) {
                files.push(file);
            }
        }
        files.iter().for_each(|file| file.release(0..file.len()));
    }
}

impl Stored {
    /// Finds a table, to be read row by row. `None` if its file cannot stay mapped, or if its numbers are of a type
    /// that is not read in this way.
    pub fn rows(&self, name: &str, shape: (usize, usize)) -> Loaded<Option<Rows>> {
        let StoredTensor { file, bytes, dtype, .. } = self.tensor(name, &shape.into())?;
        Ok(Rows::of(Arc::clone(file), bytes.clone(), *dtype, shape))
    }

    fn tensor(&self, name: &str, expected: &Shape) -> Loaded<&StoredTensor> {
        let tensor = self.0.get(name).ok_or_else(|| Error::CannotFindTensor { path: name.to_owned() }.bt())?;
        if tensor.shape != *expected {
            let (expected, got) = (expected.clone(), tensor.shape.clone());
            return Err(Error::UnexpectedShape { msg: format!("shape mismatch for {name}"), expected, got }.bt());
        }
        Ok(tensor)
    }
}

impl SimpleBackend for Stored {
    fn get(&self, shape: Shape, name: &str, _: candle_nn::Init, dtype: DType, device: &Device) -> Loaded<Tensor> {
        self.tensor(name, &shape)?;
        self.get_unchecked(name, dtype, device)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Loaded<Tensor> {
        let tensor = self.0.get(name).ok_or_else(|| Error::CannotFindTensor { path: name.to_owned() }.bt())?;
        let bytes = &tensor.file[tensor.bytes.clone()];
        Tensor::from_raw_buffer(bytes, tensor.dtype, tensor.shape.dims(), device)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

/// Lists the tensors of all files.
fn stored(files: &[PathBuf]) -> Result<HashMap<String, StoredTensor>, LoadError> {
    let mut all = HashMap::new();
    for path in files {
        let damaged = |problem: String| LoadError::File { path: path.clone(), problem };
        // In the hub cache the file is a link.
        let open = || Mapping::open(&path.canonicalize()?);
        let file = Arc::new(open().map_err(|error| damaged(error.to_string()))?);
        let tensors = SliceSafetensors::new(&file).map_err(|error| damaged(plain(&error)))?;
        for (name, tensor) in tensors.tensors() {
            let dtype = DType::try_from(tensor.dtype()).map_err(|error| damaged(plain(&error)))?;
            // Integer weights are quantised, and useless without their scales. Buffers may be integers.
            if (name.ends_with("weight") || name.ends_with("bias")) && !dtype.is_float() {
                let problem = format!("{name} has the type {dtype:?}, and must have a float type");
                return Err(LoadError::Weights { path: path.clone(), problem });
            }
            let first = tensor.data().as_ptr() as usize - file.as_ptr() as usize;
            let bytes = first..first + tensor.data().len();
            all.insert(name, StoredTensor { file: Arc::clone(&file), bytes, dtype, shape: tensor.shape().into() });
        }
    }
    Ok(all)
}

/// Returns the text of candle's error without its backtrace and path.
fn plain(error: &Error) -> String {
    match error {
        Error::WithBacktrace { inner, .. } | Error::WithPath { inner, .. } | Error::Context { inner, .. } => {
            plain(inner)
        }
        other => other.to_string(),
    }
}
