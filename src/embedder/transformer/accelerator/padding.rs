//! Padding: the way from the packed rows of a block to [sequences, longest] and back. A device is fast at one large
//! product, so attention by candle's operations and the mean take all sequences of a block at once.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::super::backend::Sequences;
use super::Accelerator;

/// The way from the packed rows of a block to [sequences, longest] and back. It is made once for a block, because each
/// copy to the device takes as long as a step.
pub(super) struct Padding {
    cu_seqlens: Vec<usize>,
    /// The sequences of the block.
    pub(super) count: usize,
    /// The tokens of the longest one.
    pub(super) longest: usize,
    /// `None`: all sequences have the same length, so the packed rows are [sequences, longest] already.
    pub(super) gaps: Option<Gaps>,
}

/// The places behind shorter sequences.
pub(super) struct Gaps {
    /// The packed row of each place. Behind a sequence it is the sequence's first row. Any finite row will do, because
    /// the mask hides it. `[sequences · longest]`
    rows: Tensor,
    /// The place of each packed row. `[tokens]`
    places: Tensor,
    /// 0 for a token, -∞ behind a sequence. [sequences, 1, 1, longest]
    pub(super) mask: Tensor,
}

impl Accelerator {
    /// Returns the padding of a block.
    pub(super) fn padding(&self, sequences: &Sequences) -> Result<Arc<Padding>> {
        match &self.padding {
            Some(padding) if padding.cu_seqlens == sequences.cu_seqlens => Ok(Arc::clone(padding)),
            _ => self.pad(sequences).map(Arc::new),
        }
    }

    fn pad(&self, sequences: &Sequences) -> Result<Padding> {
        let cu_seqlens = sequences.cu_seqlens.clone();
        let count = cu_seqlens.len() - 1;
        let longest = sequences.rows().map(|rows| rows.len()).max().unwrap_or(0);
        if sequences.rows().all(|rows| rows.len() == longest) {
            return Ok(Padding { cu_seqlens, count, longest, gaps: None });
        }
        let (mut from, mut places, mut mask) = (Vec::new(), Vec::new(), Vec::new());
        for (i, rows) in sequences.rows().enumerate() {
            let (start, len) = (rows.start, rows.len());
            from.extend((0..longest).map(|j| if j < len { start + j } else { start } as u32));
            places.extend((0..len).map(|j| (i * longest + j) as u32));
            mask.extend((0..longest).map(|j| if j < len { 0.0 } else { f32::NEG_INFINITY }));
        }
        let gaps = Gaps {
            rows: self.indices(from)?,
            places: self.indices(places)?,
            mask: self.vector(mask)?.reshape((count, 1, 1, longest))?,
        };
        Ok(Padding { cu_seqlens, count, longest, gaps: Some(gaps) })
    }
}

impl Padding {
    /// Spreads packed rows, [tokens, columns] to [sequences · longest, columns].
    pub(super) fn spread(&self, packed: Tensor) -> Result<Tensor> {
        match &self.gaps {
            Some(gaps) => packed.index_select(&gaps.rows, 0),
            None => Ok(packed),
        }
    }

    /// Packs rows, [sequences · longest, columns] to [tokens, columns].
    pub(super) fn pack(&self, spread: Tensor) -> Result<Tensor> {
        match &self.gaps {
            Some(gaps) => spread.index_select(&gaps.places, 0),
            None => Ok(spread),
        }
    }
}
