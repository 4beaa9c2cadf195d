//! Weights packed in panels, and the loop over panels that all matrix products share.
//!
//! W is cut into panels as wide as the tile of its format. A panel stores its columns side by side for each step of the
//! innermost loop, which so reads one stream. Columns are filled with zeros to whole panels, and so is the bias.
//! [`Matrix`] has space for them in every row, so no tile has a ragged edge.
//!
//! A row of the result has the same bits whatever rows are computed with it (see `gemm/tile.rs`). A format gives its
//! tile ([`Layer`]), and nothing else.

use std::ops::Range;

use super::epilogue::ColumnEpilogue;
use crate::kernel::matrix::{Aligned, Matrix, Number, SharedMatrix};
use crate::kernel::simd::{Kernel, Simd};
use crate::kernel::tiles::BLOCK;

/// Prefetch distance within a panel, in words of four bytes, if only the panel itself passes through the cache:
/// with one tile of rows. 4 KB: smaller and larger distances are slower, a whole panel by a tenth, because another
/// thread may take the next panel.
const NEAR: usize = 1024;

/// The form of a format's panels.
#[derive(Clone, Copy)]
pub(super) struct Form {
    /// Columns of a panel.
    pub width: usize,
    /// Inputs that a tile processes in a step.
    pub inputs: usize,
    /// Words of the weights of a step. `width`, or with tiles of the processor a whole block of them.
    pub words: usize,
}

/// A weight and a bias in panels.
pub(super) struct Packed<W> {
    pub form: Form,
    pub inputs: usize,
    pub outputs: usize,
    /// Steps of a tile.
    pub steps: usize,
    /// [panels, steps, words of a step]
    pub words: Aligned<W>,
    /// [panels, width]
    pub bias: Aligned,
}

impl<W: Number> Packed<W> {
    /// Makes panels of zeros for `weight`, [outputs, inputs], and packs `bias`, `[outputs]`. Panics if the lengths
    /// disagree.
    pub(super) fn zeros(form: Form, weight: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        let inputs = weight.len().checked_div(outputs).unwrap_or(0);
        assert_eq!(weight.len(), outputs * inputs, "a weight is [outputs, inputs]");
        let (panels, steps) = (outputs.div_ceil(form.width), inputs.div_ceil(form.inputs));
        let mut padded_bias = Aligned::zeros(panels * form.width);
        padded_bias[..outputs].copy_from_slice(bias);
        Self { form, inputs, outputs, steps, words: Aligned::zeros(panels * steps * form.words), bias: padded_bias }
    }

    /// Number of panels.
    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(self.form.width)
    }

    /// Number of words in a panel.
    pub(super) fn panel_words(&self) -> usize {
        self.steps * self.form.words
    }

    /// Checks that columns are whole panels, and that the input, the residual and the result have the shape of the
    /// product.
    fn check(&self, columns: &Range<usize>, x: (usize, usize), residual: Option<&Matrix>, y: SharedMatrix<'_>) {
        let (width, shape) = (self.form.width, (x.0, self.outputs));
        assert_eq!(x.1, self.inputs, "the input has a column for each column of the weight");
        assert!(columns.start.is_multiple_of(width), "a part begins with a panel");
        assert!(columns.end == self.outputs || columns.end.is_multiple_of(width), "a part ends with a panel");
        assert!(columns.end <= self.outputs, "columns of the result");
        assert_eq!(y.shape(), shape, "the result's shape");
        assert!(residual.is_none_or(|residual| (residual.rows(), residual.cols()) == shape), "the residual's shape");
    }
}

/// A linear layer packed for one number format.
pub(super) trait Layer: Sized {
    /// The type of its words.
    type Word: Number;
    /// The activations that it reads.
    type Input;
    /// Memory of a thread for the tiles of a product.
    type Scratch;

    /// The weight and the bias.
    fn packed(&self) -> &Packed<Self::Word>;
    /// Rows and columns of the activations.
    fn shape(x: &Self::Input) -> (usize, usize);
    /// Makes scratch memory.
    fn scratch(&self) -> Self::Scratch;
    /// Computes a tile.
    ///
    /// # Safety
    /// The tile is one of the product, whose shapes were checked, and no other thread uses its elements of y.
    unsafe fn tile<S: Simd>(
        &self,
        s: S,
        product: &Product<'_, Self>,
        tile: PanelTile<'_, Self::Word>,
        scratch: &mut Self::Scratch,
    );
}

/// Some rows of a panel.
pub(super) struct PanelTile<'a, W> {
    pub panel: usize,
    pub rows: Range<usize>,
    /// [steps, words of a step]
    pub weights: &'a [W],
    /// Data needed next, which the tile prefetches: `ahead_step` words in each step. Any address is valid.
    pub ahead: *const W,
    pub ahead_step: usize,
}

/// Some columns of `y = x · Wᵀ + b`, plus `residual` if given; x: [rows, inputs], y: [rows, outputs]. Columns begin at
/// a multiple of a panel and end at one or the last. No other thread uses them.
pub(super) struct Product<'a, L: Layer> {
    pub layer: &'a L,
    pub columns: Range<usize>,
    pub x: &'a L::Input,
    pub residual: Option<&'a Matrix>,
    pub y: SharedMatrix<'a>,
    /// The step that the rows of each tile go through while they are in cache.
    pub then: Option<&'a ColumnEpilogue<'a>>,
}

impl<L: Layer> Kernel for Product<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let packed = self.layer.packed();
        let shape = L::shape(self.x);
        packed.check(&self.columns, shape, self.residual, self.y);
        let (rows, panel_words) = (shape.0, packed.panel_words());
        let Form { width, words, .. } = packed.form;
        let panels = self.columns.start / width..self.columns.end.div_ceil(width);
        // A block of the processor's tiles prefetches whole lines, and a full block is cheaper than two smaller ones.
        let is_block = words > width;
        let (height, line) = if is_block { (BLOCK, 16) } else { (S::TILE_ROWS, 1) };
        let tiles = rows.div_ceil(height);
        // A model's weights do not fit into the second-level cache. The tiles of these panels prefetch the next
        // panels, in equal shares. Without that, 128 rows take a third more time (benches/encoder.rs).
        let ahead_step = (words / line).div_ceil(tiles.max(1)) * line;
        let next = if tiles == 1 { NEAR } else { panels.len() * panel_words };
        let mut scratch = self.layer.scratch();
        for turn in 0..tiles {
            let rows = match is_block {
                true => turn * height..rows.min((turn + 1) * height),
                false => turn * rows / tiles..(turn + 1) * rows / tiles,
            };
            for panel in panels.clone() {
                let weights = &packed.words[panel * panel_words..][..panel_words];
                let ahead = weights.as_ptr().wrapping_add(next + turn * ahead_step * packed.steps);
                let tile = PanelTile { panel, rows: rows.clone(), weights, ahead, ahead_step };
                // SAFETY: the shapes were checked; y is borrowed exclusively, and each panel belongs to one part.
                unsafe { self.layer.tile(s, &self, tile, &mut scratch) };
            }
            if let Some(then) = self.then {
                then.apply(rows, self.columns.clone());
            }
        }
    }
}
