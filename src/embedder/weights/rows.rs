//! A table in a file, which is read row by row.
//!
//! The rows that no text uses take no memory: a model that nobody calls costs address space there. To replace a model,
//! write a new file and rename it: see [`Mapping`].

use std::ops::Range;
use std::sync::Arc;

use candle_core::DType;

use crate::embedder::numbers::each;
use crate::machine::mapping::Mapping;
use crate::model::NumberKind;

/// A table of numbers in a file. [rows, columns]
pub struct Rows {
    file: Arc<Mapping>,
    bytes: Range<usize>,
    kind: NumberKind,
    columns: usize,
    /// The factor of each number.
    scale: f32,
}

impl Rows {
    /// Takes the bytes of a table. `None` if its numbers are of another type than those of weights, or if the whole
    /// file is in memory, because others could change it.
    pub(super) fn of(
        file: Arc<Mapping>,
        bytes: Range<usize>,
        dtype: DType,
        (rows, columns): (usize, usize),
    ) -> Option<Self> {
        if !file.is_file() {
            return None;
        }
        let kind = match dtype {
            DType::F64 => NumberKind::F64,
            DType::F32 => NumberKind::F32,
            DType::F16 => NumberKind::F16,
            DType::BF16 => NumberKind::Bf16,
            _ => return None,
        };
        debug_assert_eq!(bytes.len(), rows * columns * kind.bytes(), "the shape is that of the bytes");
        Some(Self { file, bytes, kind, columns, scale: 1.0 })
    }

    /// Multiplies each number by a factor when it is read.
    pub fn scaled(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// Returns the length of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Copies a row, as f32.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn read(&self, row: usize, to: &mut [f32]) {
        match self.scale {
            1.0 => each(self.kind, self.bytes_of(row), to, |to, x| *to = x),
            scale => each(self.kind, self.bytes_of(row), to, |to, x| *to = x * scale),
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn add(&self, row: usize, to: &mut [f32]) {
        each(self.kind, self.bytes_of(row), to, |to, x| *to += x * self.scale);
    }

    fn bytes_of(&self, row: usize) -> &[u8] {
        let length = self.columns * self.kind.bytes();
        &self.file[self.bytes.clone()][row * length..][..length]
    }

    /// Copies all rows.
    pub fn values(&self) -> Vec<f32> {
        let rows = self.bytes.len() / (self.columns * self.kind.bytes());
        let mut values = vec![0.0; rows * self.columns];
        values.chunks_mut(self.columns).enumerate().for_each(|(row, to)| self.read(row, to));
        values
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;
    use std::path::PathBuf;

    use candle_core::{Device, Tensor};

    use super::super::Weights;
    use super::*;
    use crate::kernel::matrix::filled;

    /// Writes a table of this type, and returns its file.
    fn table(directory: &tempfile::TempDir, dtype: DType) -> PathBuf {
        let path = directory.path().join(format!("{dtype:?}"));
        let values = filled(1, 7 * 9, 3).row(0).to_vec();
        let tensor = Tensor::from_vec(values, (7, 9), &Device::Cpu).and_then(|tensor| tensor.to_dtype(dtype));
        candle_core::safetensors::save(&HashMap::from([("a.weight", tensor.unwrap())]), &path).unwrap();
        path
    }

    #[test]
    fn rows_of_each_type_are_those_of_the_tensor() {
        let directory = tempfile::tempdir().unwrap();
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            let files = [table(&directory, dtype)];
            let weights = Weights::read(&files).unwrap();
            let tensor: Vec<f32> =
                weights.tensors.get((7, 9), "a.weight").unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let rows = weights.stored().rows("a.weight", (7, 9)).unwrap().expect("the file is mapped");
            assert_eq!((rows.values(), rows.columns()), (tensor.clone(), 9), "{dtype:?}");
            let (mut sum, scaled) = (vec![1.0; 9], rows.scaled(4.0));
            scaled.add(6, &mut sum);
            assert_eq!(sum, tensor[54..].iter().map(|x| 1.0 + 4.0 * x).collect::<Vec<_>>(), "{dtype:?}");
            let mut row = vec![0.0; 9];
            scaled.read(1, &mut row);
            drop(weights);
            assert_eq!(row, tensor[9..18].iter().map(|x| 4.0 * x).collect::<Vec<_>>(), "{dtype:?}");
        }
    }

    #[test]
    fn a_table_is_not_read_from_a_file_that_others_could_change_nor_in_another_shape() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let files = [table(&directory, DType::F32)];
        let weights = Weights::read(&files).unwrap();
        let error = weights.stored().rows("a.weight", (9, 7)).err().expect("the table has 7 rows");
        assert!(weights.misfit(&error).to_string().contains("shape mismatch for a.weight"), "{error}");
        let error = weights.stored().rows("b.weight", (7, 9)).err().expect("no tensor has this name");
        assert!(weights.misfit(&error).to_string().contains("cannot find tensor b.weight"), "{error}");
        fs::set_permissions(&files[0], fs::Permissions::from_mode(0o666)).unwrap();
        assert!(Weights::read(&files).unwrap().stored().rows("a.weight", (7, 9)).unwrap().is_none());
    }

    #[test]
    fn packed_bytes_are_those_of_the_precision_and_of_the_table_as_it_is_stored() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights");
        let tensor = |shape: &[usize]| Tensor::zeros(shape, DType::F16, &Device::Cpu).unwrap();
        let tensors = [
            ("words_embeddings.weight", &[100, 8][..]),
            ("places_embeddings.weight", &[10, 8]),
            ("w", &[8, 8]),
            ("b", &[8]),
        ];
        let tensors: HashMap<&str, Tensor> = tensors.into_iter().map(|(name, shape)| (name, tensor(shape))).collect();
        candle_core::safetensors::save(&tensors, &path).unwrap();
        let files = [path];
        let weights = Weights::read(&files).unwrap();
        use crate::embedder::Precision::{F32, Int8};
        let found = [(F32, true), (Int8, true), (F32, false)]
            .map(|(precision, is_cpu)| weights.packed_bytes(precision, is_cpu));
        assert_eq!(found, [1600 + 4 * (80 + 64 + 8), 1600 + 64 + 4 * (80 + 8), 4 * (800 + 80 + 64 + 8)]);
    }
}
