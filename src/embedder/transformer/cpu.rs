//! The steps of the encoder on a CPU, by the kernels of [`crate::kernel`].
//!
//! Activations are f32. For int8, an activation that a linear layer reads next is also quantised as soon as it is made,
//! while its row is in the first-level cache. Attention, residuals and normalisations stay in f32.

use std::ops::Range;

use candle_core::Result;

use super::backend::{Backend, Heads, Queries, Residual, SelfAttention, Sequences, Sum, Tokens};
use super::checkpoint::{NormWeight, Weight};
use crate::embedder::weights::Rows;
use crate::embedder::{Precision, pooling};
use crate::kernel::activation::Activation;
use crate::kernel::attention::{self, Attention};
use crate::kernel::gemm::epilogue::{Conversion, Epilogue, InPlace};
use crate::kernel::gemm::linear::{Gate, LayerInput, Linear, NumberFormat};
use crate::kernel::norm::{LayerNorm, Norm, RmsNorm};
use crate::machine::cpu::Level;
use crate::machine::leader::Leader;
use crate::model::Mode;

/// The CPU of a worker.
pub struct Cpu {
    level: Level,
    /// The form in which linear layers read activations.
    form: NumberFormat,
    leader: Leader,
}

/// A table of vectors. [rows, columns]
pub enum Table {
    /// In memory.
    Values {
        /// Row-major.
        values: Vec<f32>,
        /// The length of a row.
        columns: usize,
    },
    /// In a file, which is mapped.
    Rows(Rows),
}

impl Table {
    /// Returns the length of a row.
    fn columns(&self) -> usize {
        match self {
            Self::Values { columns, .. } => *columns,
            Self::Rows(rows) => rows.columns(),
        }
    }

    /// Copies a row.
    fn read(&self, row: u32, to: &mut [f32]) {
        match self {
            Self::Values { values, columns } => to.copy_from_slice(&values[row as usize * columns..][..*columns]),
            Self::Rows(rows) => rows.read(row as usize, to),
        }
    }

    /// Adds a row.
    fn add(&self, row: u32, to: &mut [f32]) {
        match self {
            Self::Values { values, columns } => {
                let row = &values[row as usize * columns..][..*columns];
                to.iter_mut().zip(row).for_each(|(to, x)| *to += x);
            }
            Self::Rows(rows) => rows.add(row as usize, to),
        }
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
    type Norm = Norm;
    type HeadNorm = RmsNorm;
    type Bias = attention::Bias;
    type Rope = attention::Rope;

    fn table(&self, values: Vec<f32>, columns: usize) -> Result<Table> {
        Ok(Table::Values { values, columns })
    }

    fn mapped(&self, rows: Rows) -> Result<Table> {
        Ok(Table::Rows(rows))
    }

    fn pack(&self, Weight { weight, bias }: Weight) -> Result<Linear> {
        Ok(Linear::pack(self.level, self.form, &weight, &bias))
    }

    fn pack_gated(&self, [a, b]: [Weight; 2]) -> Result<Linear> {
        let parts = [(&a.weight[..], &a.bias[..]), (&b.weight[..], &b.bias[..])];
        Ok(Linear::pack_gated(self.level, self.form, parts))
    }

    fn norm(&self, norm: NormWeight, epsilon: f64) -> Result<Norm> {
        Ok(match norm {
            NormWeight::Layer { gain, shift } => Norm::Layer(LayerNorm::new(gain, shift, epsilon as f32)),
            NormWeight::Rms { gain } => Norm::Rms(RmsNorm::new(gain, epsilon as f32)),
        })
    }

    fn head_norm(&self, gain: Vec<f32>, epsilon: f64) -> Result<RmsNorm> {
        Ok(RmsNorm::new(gain, epsilon as f32))
    }

    fn bias(&self, heads: Heads, tokens: usize, of: &dyn Fn(usize, isize) -> f32) -> Result<attention::Bias> {
        Ok(attention::Bias::new(heads.count(), heads.divisor, tokens, of))
    }

    fn rope(&self, dim: usize, tokens: usize, angle: &dyn Fn(usize) -> f64) -> Result<attention::Rope> {
        Ok(attention::Rope::new(dim, tokens, angle))
    }

    fn embed(&mut self, tokens: Tokens<'_, Self>, norm: Option<&Norm>, out: &mut LayerInput) -> Result<()> {
        out.f32.reshape(tokens.ids.len(), tokens.words.columns());
        for (i, (&id, &place)) in tokens.ids.iter().zip(tokens.places).enumerate() {
            let to = out.f32.row_mut(i);
            tokens.words.read(id, to);
            if let Some(positions) = tokens.positions {
                positions.add(place, to);
            }
        }
        self.epilogue(norm.map_or(InPlace::Nothing, InPlace::Normalise), out);
        Ok(())
    }

    fn normalise(&mut self, x: &LayerInput, norm: Option<&Norm>, out: &mut LayerInput) -> Result<()> {
        out.f32.reshape(x.f32.rows(), x.f32.cols());
        let step = norm.map_or(InPlace::Copy(&x.f32, 0), |norm| InPlace::CopyNormalise(norm, &x.f32));
        self.epilogue(step, out);
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

    fn linear_gate(
        &mut self,
        layer: &Linear,
        x: &LayerInput,
        activation: Activation,
        products: &mut LayerInput,
        out: &mut LayerInput,
    ) -> Result<()> {
        let step = Gate { x, activation, form: self.form };
        layer.gate(step, self.level, &mut self.leader, &mut products.f32, out);
        Ok(())
    }

    fn linear_add(
        &mut self,
        Residual { layer, sum }: &Residual<Self>,
        x: &LayerInput,
        residual: &LayerInput,
        out: &mut LayerInput,
    ) -> Result<()> {
        let residual = &residual.f32;
        match sum {
            Sum::Normalised(norm) => {
                layer.apply(&mut self.leader, x, Some(residual), &mut out.f32);
                self.epilogue(InPlace::Normalise(norm), out);
            }
            // No linear layer reads the sum itself.
            Sum::Plain => layer.apply(&mut self.leader, x, Some(residual), &mut out.f32),
            Sum::OfNormalised(norm) => {
                layer.apply(&mut self.leader, x, None, &mut out.f32);
                Epilogue { before: InPlace::NormaliseAdd(norm, residual), x: &mut out.f32, to: Conversion::Nothing }
                    .apply(self.level, &mut self.leader);
            }
        }
        Ok(())
    }

    fn attention(
        &mut self,
        step: SelfAttention<'_, Self>,
        x: &LayerInput,
        qkv: &mut LayerInput,
        out: &mut LayerInput,
    ) -> Result<()> {
        let SelfAttention { heads, queries, span, bias, rope, .. } = step;
        let norms = step.norms.map(|[of_query, of_key]| [of_query, of_key]);
        let attention = Attention { cu_seqlens: &step.sequences.cu_seqlens, heads, queries, span, bias, norms, rope };
        attention.of(self.level, &mut self.leader, step.qkv, x, &mut qkv.f32, &mut out.f32);
        self.epilogue(InPlace::Nothing, out);
        Ok(())
    }

    fn ends(&self, x: &LayerInput, sequences: &Sequences, queries: Queries, out: &mut LayerInput) -> Result<()> {
        out.f32.reshape(sequences.cu_seqlens.len() - 1, x.f32.cols());
        for (i, row) in sequences.ends(queries).enumerate() {
            out.f32.row_mut(i).copy_from_slice(x.f32.row(row));
        }
        Ok(())
    }

    fn take(&mut self, x: &LayerInput, rows: Range<usize>, out: &mut LayerInput) -> Result<()> {
        out.f32.reshape(rows.len(), x.f32.cols());
        self.epilogue(InPlace::Copy(&x.f32, rows.start), out);
        Ok(())
    }

    fn put(&mut self, x: &LayerInput, rows: Range<usize>, out: &mut LayerInput) -> Result<()> {
        let is_last = rows.end == out.f32.rows();
        rows.enumerate().for_each(|(i, row)| out.f32.row_mut(row).copy_from_slice(x.f32.row(i)));
        if is_last {
            self.epilogue(InPlace::Nothing, out);
        }
        Ok(())
    }

    fn pool(&self, x: &LayerInput, sequences: &Sequences, modes: &[Mode]) -> Result<Vec<Vec<f32>>> {
        let pool = |(rows, &left_out): (Range<usize>, &usize)| {
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
