//! The steps of the encoder on a CPU, by the kernels of [`crate::kernel`].
//!
//! Activations are f32. For int8, an activation that a linear layer reads next is also quantised as soon as it is made,
//! while its row is in the first-level cache. Attention, residuals and normalisations stay in f32.

use candle_core::Result;

use super::backend::{Backend, Queries, SelfAttention, Sequences, Tokens};
use super::checkpoint::{Norm, Weight};
use crate::embedder::{Precision, pooling};
use crate::kernel::activation::Activation;
use crate::kernel::attention::{self, Attention};
use crate::kernel::gemm::epilogue::{Epilogue, InPlace};
use crate::kernel::gemm::linear::{LayerInput, Linear, NumberFormat};
use crate::kernel::norm::LayerNorm;
use crate::machine::cpu::Level;
use crate::machine::team::Leader;
use crate::model::Mode;

/// The CPU of a worker.
pub struct Cpu {
    level: Level,
    /// The form in which linear layers read activations.
    form: NumberFormat,
    leader: Leader,
}

/// A table of vectors.
pub struct Table {
    /// [rows, columns]
    values: Vec<f32>,
    columns: usize,
}

impl Table {
    /// Returns a row.
    fn row(&self, row: u32) -> &[f32] {
        &self.values[row as usize * self.columns..][..self.columns]
    }
}

impl Cpu {
    /// Returns the form in which linear layers read activations, or `None` for an arithmetic of accelerators.
    pub fn form(level: Level, precision: Precision) -> Option<NumberFormat> {
        match precision {
            Precision::F32 => Some(NumberFormat::of_f32(level)),
            Precision::Int8 => Some(NumberFormat::Int8),
            Precision::F16 | Precision::Bf16 => None,
        }
    }

    /// Chooses the instructions, the form of activations and the team that helps.
    pub fn new(level: Level, form: NumberFormat, leader: Leader) -> Self {
        Self { level, form, leader }
    }

    /// Applies `before` to the rows, and converts them to the form that linear layers read.
    fn epilogue(&mut self, before: InPlace<'_>, rows: &mut LayerInput) {
        let (x, to) = rows.target(self.form);
        Epilogue { before, x, to }.apply(self.level, &mut self.leader);
    }
}

impl Backend for Cpu {
    type Rows = LayerInput;
    type Table = Table;
    type Linear = Linear;
    type Norm = LayerNorm;
    type Bias = attention::Bias;

    fn table(&self, values: Vec<f32>, columns: usize) -> Result<Table> {
        Ok(Table { values, columns })
    }

    fn pack(&self, Weight { weight, bias }: Weight) -> Result<Linear> {
        Ok(Linear::pack(self.level, self.form, &weight, &bias))
    }

    fn norm(&self, Norm { gain, shift }: Norm, epsilon: f64) -> Result<LayerNorm> {
        Ok(LayerNorm::new(gain, shift, epsilon as f32))
    }

    fn bias(
        &self,
        heads: usize,
        head_dim: usize,
        tokens: usize,
        of: &dyn Fn(usize, isize) -> f32,
    ) -> Result<attention::Bias> {
        Ok(attention::Bias::new(heads, head_dim, tokens, of))
    }

    fn embed(&mut self, tokens: Tokens<'_, Self>, norm: &LayerNorm, out: &mut LayerInput) -> Result<()> {
        out.f32.reshape(tokens.ids.len(), tokens.words.columns);
        for (i, (&id, &place)) in tokens.ids.iter().zip(tokens.places).enumerate() {
            let (word, place) = (tokens.words.row(id), tokens.positions.row(place));
            out.f32.row_mut(i).iter_mut().zip(word).zip(place).for_each(|((to, w), p)| *to = w + p);
        }
        self.epilogue(InPlace::Normalise(norm), out);
        Ok(())
    }

    fn linear_activate(
        &mut self,
        layer: &Linear,
        x: &LayerInput,
        activation: Activation,
        out: &mut LayerInput,
    ) -> Result<()> {
        layer.activate(self.level, &mut self.leader, x, activation, self.form, out);
        Ok(())
    }

    fn linear_add_norm(
        &mut self,
        layer: &Linear,
        x: &LayerInput,
        residual: &LayerInput,
        norm: &LayerNorm,
        out: &mut LayerInput,
    ) -> Result<()> {
        layer.apply(&mut self.leader, x, Some(&residual.f32), &mut out.f32);
        self.epilogue(InPlace::Normalise(norm), out);
        Ok(())
    }

    fn attention(
        &mut self,
        step: SelfAttention<'_, Self>,
        x: &LayerInput,
        qkv: &mut LayerInput,
        out: &mut LayerInput,
    ) -> Result<()> {
        let &Sequences { ref cu_seqlens, heads, head_dim, .. } = step.sequences;
        let first_only = step.queries == Queries::First;
        let attention = Attention { cu_seqlens, heads, head_dim, first_only, bias: step.bias };
        attention.of(self.level, &mut self.leader, step.qkv, x, &mut qkv.f32, &mut out.f32);
        self.epilogue(InPlace::Nothing, out);
        Ok(())
    }

    fn first(&self, x: &LayerInput, sequences: &Sequences, out: &mut LayerInput) -> Result<()> {
        out.f32.reshape(sequences.cu_seqlens.len() - 1, x.f32.cols());
        for (i, rows) in sequences.rows().enumerate() {
            out.f32.row_mut(i).copy_from_slice(x.f32.row(rows.start));
        }
        Ok(())
    }

    fn pool(&self, x: &LayerInput, sequences: &Sequences, modes: &[Mode]) -> Result<Vec<Vec<f32>>> {
        let pool = |(rows, &left_out): (std::ops::Range<usize>, &usize)| {
            let row = |row: usize| x.f32.row(row);
            pooling::Tokens { row: &|i| row(rows.start + i), columns: x.f32.cols(), count: rows.len(), left_out }
                .pool(modes)
        };
        Ok(sequences.rows().zip(&sequences.left_out).map(pool).collect())
    }

    fn values(&self, x: &LayerInput) -> Result<Vec<Vec<f32>>> {
        Ok((0..x.f32.rows()).map(|row| x.f32.row(row).to_vec()).collect())
    }
}
