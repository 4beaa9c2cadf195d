//! Padding: the way from the packed rows of a block to [sequences, longest] and back. A device is fast at one large
//! product, so attention by candle's operations and the mean take all sequences of a block at once.

use candle_core::{Result, Tensor};

/// The way from the packed rows of a block to [sequences, longest] and back. It is made once for a block, because each
/// copy to the device takes as long as a step.
pub(super) struct Padding {
    pub(super) cu_seqlens: Vec<usize>,
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
    pub(super) rows: Tensor,
    /// The place of each packed row. `[tokens]`
    pub(super) places: Tensor,
    /// 0 for a token, -∞ behind a sequence. [sequences, 1, 1, longest]
    pub(super) mask: Tensor,
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
