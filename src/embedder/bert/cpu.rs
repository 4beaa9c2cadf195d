//! The steps of the encoder on a processor, by the kernels of [`crate::kernel`].
//!
//! Activations are f32 throughout. In int8 each is also quantised as soon as it is made, while its row is in the
//! first cache, if a linear layer reads it next; attention, residuals and normalisations stay in f32.

use std::sync::Arc;

use candle_core::Result;

use super::backend::{Backend, Queries, Sequences, Tokens};
use super::checkpoint::{Norm, Weight};
use crate::embedder::Precision;
use crate::kernel::activation::Activation;
use crate::kernel::attention::{self, Attention};
use crate::kernel::cpu::Level;
use crate::kernel::gemm::{self, Then};
use crate::kernel::gemm_int8::LinearInt8;
use crate::kernel::gemm_pairs::LinearPairs;
use crate::kernel::matrix::Matrix;
use crate::kernel::norm::LayerNorm;
use crate::kernel::pairs::Pairs;
use crate::kernel::pass::{Before, Pass, To};
use crate::kernel::quantise::Quantised;
use crate::kernel::team::Team;

/// One worker's processor.
#[derive(Clone)]
pub struct Cpu {
    level: Level,
    precision: Precision,
    team: Arc<Team>,
}

/// [rows, columns] of activations.
#[derive(Default)]
pub struct Rows {
    f32: Matrix,
    /// The same, where the next step reads bytes.
    int8: Quantised,
    /// The same, where the next step reads pairs.
    pairs: Pairs,
}

/// Vectors to look up.
pub struct Table {
    /// [rows, columns]
    values: Vec<f32>,
    columns: usize,
}

impl Table {
    fn row(&self, row: u32) -> &[f32] {
        &self.values[row as usize * self.columns..][..self.columns]
    }
}

/// A linear layer in the precision of its model; f32 by pairs where the processor has tiles.
pub enum Linear {
    F32(gemm::Linear),
    Pairs(LinearPairs),
    Int8(LinearInt8),
}

impl Cpu {
    /// Instructions, arithmetic, and the threads that may help.
    pub fn new(level: Level, precision: Precision, team: Arc<Team>) -> Self {
        Self { level, precision, team }
    }

    /// Does `before` to the rows, and quantises them if a linear layer will want that.
    fn pass(&self, before: Before<'_>, rows: &mut Rows) {
        let to = match self.precision {
            Precision::Int8 => To::Bytes(&mut rows.int8),
            Precision::F32 if LinearPairs::is_for(self.level) => To::Pairs(&mut rows.pairs),
            Precision::F32 => To::Nothing,
        };
        Pass { before, x: &mut rows.f32, to }.apply(self.level, &self.team);
    }
}

impl Backend for Cpu {
    type Rows = Rows;
    type Table = Table;
    type Linear = Linear;
    type Norm = LayerNorm;
    type Bias = attention::Bias;

    fn table(&self, values: Vec<f32>, columns: usize) -> Result<Table> {
        Ok(Table { values, columns })
    }

    fn pack(&self, Weight { weight, bias }: Weight) -> Result<Linear> {
        Ok(match self.precision {
            Precision::F32 => match LinearPairs::pack(self.level, &weight, &bias) {
                Some(layer) => Linear::Pairs(layer),
                None => Linear::F32(gemm::Linear::pack(self.level, &weight, &bias)),
            },
            Precision::Int8 => Linear::Int8(LinearInt8::pack(self.level, &weight, &bias)),
        })
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

    fn embed(&self, tokens: Tokens<'_, Self>, norm: &LayerNorm, out: &mut Rows) -> Result<()> {
        out.f32.reshape(tokens.ids.len(), tokens.words.columns);
        for (i, (&id, &place)) in tokens.ids.iter().zip(tokens.places).enumerate() {
            let (word, place) = (tokens.words.row(id), tokens.positions.row(place));
            out.f32.row_mut(i).iter_mut().zip(word).zip(place).for_each(|((to, w), p)| *to = w + p);
        }
        self.pass(Before::Normalise(norm), out);
        Ok(())
    }

    fn linear(&self, layer: &Linear, x: &Rows, out: &mut Rows) -> Result<()> {
        match layer {
            Linear::F32(layer) => layer.apply(&self.team, &x.f32, Then::Nothing, &mut out.f32),
            Linear::Pairs(layer) => layer.apply(&self.team, &x.pairs, None, &mut out.f32),
            Linear::Int8(layer) => layer.apply(&self.team, &x.int8, None, &mut out.f32),
        }
        Ok(())
    }

    fn linear_activate(&self, layer: &Linear, x: &Rows, activation: Activation, out: &mut Rows) -> Result<()> {
        if let Linear::F32(layer) = layer {
            layer.apply(&self.team, &x.f32, Then::Activate(activation), &mut out.f32);
            return Ok(());
        }
        self.linear(layer, x, out)?;
        self.pass(Before::Activate(activation), out);
        Ok(())
    }

    fn linear_add_norm(
        &self,
        layer: &Linear,
        x: &Rows,
        residual: &Rows,
        norm: &LayerNorm,
        out: &mut Rows,
    ) -> Result<()> {
        match layer {
            Linear::F32(layer) => layer.apply(&self.team, &x.f32, Then::Add(&residual.f32), &mut out.f32),
            Linear::Pairs(layer) => layer.apply(&self.team, &x.pairs, Some(&residual.f32), &mut out.f32),
            Linear::Int8(layer) => layer.apply(&self.team, &x.int8, Some(&residual.f32), &mut out.f32),
        }
        self.pass(Before::Normalise(norm), out);
        Ok(())
    }

    fn attention(
        &self,
        qkv: &Rows,
        sequences: &Sequences,
        queries: Queries,
        bias: Option<&attention::Bias>,
        out: &mut Rows,
    ) -> Result<()> {
        let &Sequences { ref cu_seqlens, heads, head_dim } = sequences;
        let first_only = queries == Queries::First;
        let attention = Attention { qkv: &qkv.f32, cu_seqlens, heads, head_dim, first_only, bias };
        attention.apply(self.level, &self.team, &mut out.f32);
        self.pass(Before::Nothing, out);
        Ok(())
    }

    fn first(&self, x: &Rows, sequences: &Sequences, out: &mut Rows) -> Result<()> {
        out.f32.reshape(sequences.cu_seqlens.len() - 1, x.f32.cols());
        for (i, rows) in sequences.rows().enumerate() {
            out.f32.row_mut(i).copy_from_slice(x.f32.row(rows.start));
        }
        Ok(())
    }

    fn mean(&self, x: &Rows, sequences: &Sequences) -> Result<Vec<Vec<f32>>> {
        let mean = |rows: std::ops::Range<usize>| {
            let scale = 1.0 / rows.len() as f32;
            let mut sum = vec![0.0f32; x.f32.cols()];
            for row in rows {
                sum.iter_mut().zip(x.f32.row(row)).for_each(|(sum, x)| *sum += x);
            }
            sum.iter_mut().for_each(|x| *x *= scale);
            sum
        };
        Ok(sequences.rows().map(mean).collect())
    }

    fn values(&self, x: &Rows) -> Result<Vec<Vec<f32>>> {
        Ok((0..x.f32.rows()).map(|row| x.f32.row(row).to_vec()).collect())
    }
}
