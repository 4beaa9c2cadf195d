//! A model of static vectors: the vector of a text is the mean of the rows of its tokens.
//!
//! The table stays in its file, which is mapped: rows that no text uses take no memory, and processes share the others.
//! A row is converted to f32 when it is added. The work is a memory access for each token, so it is done on the CPU,
//! whatever other devices there are. To replace the model, write a new file and rename it: see [`Mapping`].
//!
//! Invariant: rows are added in the order of the tokens, so a text has the same bits in any batch.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::numbers::each;
use super::weights::LoadError;
use crate::inference::Sequence;
use crate::machine::mapping::Mapping;
use crate::model::{self, NumberKind, Numbers};

/// A table of vectors, shared by the workers.
pub struct StaticTable {
    file: Mapping,
    dimensions: usize,
    kind: NumberKind,
    vectors: Range<usize>,
    /// The factor of each token.
    weights: Option<Vec<f32>>,
    /// The row of each token.
    mapping: Option<Vec<u32>>,
}

/// The reason why a batch cannot be computed.
#[derive(Debug, thiserror::Error)]
#[error("token {token} has no vector; the table ends at {tokens}")]
struct UnknownToken {
    token: u32,
    tokens: usize,
}

impl StaticTable {
    /// Maps the file. Factors and rows of tokens are read into memory.
    pub fn load(table: &model::StaticTable) -> Result<Self, LoadError> {
        let damaged = |problem: String| LoadError::File { path: table.path.clone(), problem };
        // In the hub cache the file is a link.
        let open = |path: &Path| Mapping::open(&path.canonicalize()?);
        let file = open(&table.path).map_err(|error| damaged(error.to_string()))?;
        let bytes = |numbers: &Numbers| {
            let found = file.get(numbers.bytes.clone());
            found.ok_or_else(|| damaged(format!("it ends at byte {}; it was changed meanwhile", file.len())))
        };
        bytes(&table.vectors)?;
        let weights = match &table.weights {
            Some(numbers) => {
                let mut weights = vec![0.0; numbers.count];
                each(numbers.kind, bytes(numbers)?, &mut weights, |weight, x| *weight = x);
                Some(weights)
            }
            None => None,
        };
        let mapping = match &table.mapping {
            Some(numbers) => {
                let rows = rows(numbers.kind, bytes(numbers)?);
                let row = |(token, row): (usize, i64)| {
                    let within = u32::try_from(row).ok().filter(|row| (*row as usize) < table.rows);
                    within.ok_or_else(|| {
                        let problem =
                            format!("mapping has the row {row} for token {token}, and there are {} rows", table.rows);
                        LoadError::Weights { path: table.path.clone(), problem }
                    })
                };
                Some(rows.into_iter().enumerate().map(row).collect::<Result<_, _>>()?)
            }
            None => None,
        };
        let (dimensions, kind) = (table.dimensions, table.vectors.kind);
        Ok(Self { dimensions, kind, vectors: table.vectors.bytes.clone(), weights, mapping, file })
    }

    /// Returns the bytes of the vectors, which are mapped, and of the factors and rows in memory.
    pub fn bytes(&self) -> u64 {
        let of = |numbers: Option<usize>| numbers.map_or(0, |count| 4 * count);
        let in_memory = of(self.weights.as_ref().map(Vec::len)) + of(self.mapping.as_ref().map(Vec::len));
        (self.vectors.len() + in_memory) as u64
    }

    /// Computes the mean of each text's rows, `[texts][dimensions]`.
    pub fn means(&self, texts: &[Sequence<'_>]) -> Result<Vec<Vec<f32>>, impl std::error::Error + use<>> {
        texts.iter().map(|text| self.mean(text.ids)).collect::<Result<_, UnknownToken>>()
    }

    fn mean(&self, ids: &[u32]) -> Result<Vec<f32>, UnknownToken> {
        let mut sum = vec![0.0; self.dimensions];
        for &token in ids {
            let row = self.row(token).ok_or_else(|| UnknownToken { token, tokens: self.tokens() })?;
            match self.weights.as_ref().map(|weights| weights.get(token as usize)) {
                None => each(self.kind, row, &mut sum, |sum, x| *sum += x),
                Some(Some(weight)) => each(self.kind, row, &mut sum, |sum, x| *sum += x * weight),
                Some(None) => return Err(UnknownToken { token, tokens: self.tokens() }),
            }
        }
        let scale = 1.0 / ids.len() as f32;
        sum.iter_mut().for_each(|x| *x *= scale);
        Ok(sum)
    }

    /// Returns the bytes of a token's row.
    fn row(&self, token: u32) -> Option<&[u8]> {
        let row = match &self.mapping {
            Some(mapping) => *mapping.get(token as usize)?,
            None => token,
        };
        let length = self.dimensions * self.kind.bytes();
        self.file[self.vectors.clone()].get(row as usize * length..)?.get(..length)
    }

    /// Returns the number of tokens that have a vector.
    fn tokens(&self) -> usize {
        let rows = self.vectors.len() / (self.dimensions * self.kind.bytes());
        let tokens = self.mapping.as_ref().map_or(rows, Vec::len);
        self.weights.as_ref().map_or(tokens, |weights| tokens.min(weights.len()))
    }
}

/// Reads the rows of tokens.
fn rows(kind: NumberKind, bytes: &[u8]) -> Vec<i64> {
    match kind {
        NumberKind::I64 => bytes.as_chunks().0.iter().map(|row| i64::from_le_bytes(*row)).collect(),
        _ => bytes.as_chunks().0.iter().map(|row| i32::from_le_bytes(*row).into()).collect(),
    }
}

/// Makes the function of a worker.
pub fn running(table: Arc<StaticTable>) -> crate::inference::Run {
    Box::new(move |batch| Ok(table.means(batch)?))
}
