//! The pooling of each sequence's rows, in f32.

use std::ops::Range;

use candle_core::{DType, Result, Tensor};

use super::super::backend::Sequences;
use super::{Accelerator, Rows};
use crate::embedder::pooling;
use crate::model::Mode;

impl Accelerator {
    /// Returns these packed rows, in f32. [rows, columns]
    pub(super) fn rows(&self, x: &Rows, rows: impl Iterator<Item = usize>) -> Result<Tensor> {
        x.tensor()?.index_select(&self.indices(rows.map(|row| row as u32).collect())?, 0)?.to_dtype(DType::F32)
    }

    /// Sums the rows of each sequence in f32, with the weights and the scale of the mode. [sequences, columns]
    pub(super) fn sum(&self, x: &Rows, sequences: &Sequences, mode: Mode) -> Result<Tensor> {
        let padding = self.padding(sequences)?;
        let (count, longest) = (padding.count, padding.longest);
        // A product with the share of each token, and 0 behind the sequence, sums all sequences at once.
        let shares = |(rows, &left_out): (Range<usize>, &usize)| {
            let scale = pooling::scale(mode, left_out, rows.len());
            (0..longest).map(move |place| match place {
                place if place < left_out || place >= rows.len() => 0.0,
                place if mode == Mode::WeightedMean => scale * pooling::weight(place),
                _ => scale,
            })
        };
        let shares = sequences.rows().zip(&sequences.left_out).flat_map(shares).collect::<Vec<f32>>();
        let shares = Tensor::from_vec(shares, (count, 1, longest), &self.device)?;
        let rows = padding.spread(x.tensor()?.to_dtype(DType::F32)?)?;
        let columns = rows.dim(1)?;
        shares.matmul(&rows.reshape((count, longest, columns))?)?.reshape((count, columns))
    }

    /// Returns the greatest of each column of a sequence, in f32. [sequences, columns]
    pub(super) fn max(&self, x: &Rows, sequences: &Sequences) -> Result<Tensor> {
        let longest = sequences.rows().map(|rows| rows.len()).max().unwrap_or(0);
        // A place before the first token that takes part, or behind the last one, repeats that token.
        let places = |(rows, &left_out): (Range<usize>, &usize)| {
            let first = rows.start + left_out;
            (0..longest).map(move |place| (rows.start + place).clamp(first, rows.end - 1) as u32)
        };
        let places = sequences.rows().zip(&sequences.left_out).flat_map(places).collect();
        let rows = x.tensor()?.index_select(&self.indices(places)?, 0)?.to_dtype(DType::F32)?;
        let columns = rows.dim(1)?;
        rows.reshape((sequences.left_out.len(), longest, columns))?.max(1)
    }
}
