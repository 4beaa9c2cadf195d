//! The weights of a reranker's head. The names are those of transformers' classes, and of GTE's own code.

use candle_core::Result;

use super::{Checkpoint, Weight, values, weight};
use crate::model::{Family, Head, HeadOutput};

/// The weights of a head: `w · N(f(D x + b)) + c`.
pub struct HeadWeights {
    /// D and b. [hidden_size, hidden_size]
    pub dense: Option<Weight>,
    /// The gain and the shift of N. `[hidden_size]` each
    pub norm: Option<[Vec<f32>; 2]>,
    /// w and c. [1, hidden_size]
    pub output: Weight,
}

impl Checkpoint<'_> {
    /// Reads the head of a model for sequences with one label. The pooler of BERT and GTE belongs to the encoder.
    pub fn head(&self, head: &Head) -> Result<HeadWeights> {
        let n = self.architecture.hidden_size;
        let (vb, dense, output) = match self.architecture.family {
            Family::Bert | Family::GteNew => (&self.vb, "pooler.dense", "classifier"),
            Family::Roberta | Family::Mpnet => (&self.outside, "classifier.dense", "classifier.out_proj"),
            Family::DistilBert => (&self.outside, "pre_classifier", "classifier"),
            Family::ModernBert => (&self.outside, "head.dense", "classifier"),
            Family::Qwen3 | Family::NomicBert | Family::Gemma3 => (&self.outside, "", "score"),
        };
        let norm = || {
            let vb = self.outside.pp("head.norm");
            let shift = if self.architecture.design.biases.norm { values(vb.get(n, "bias")?)? } else { vec![0.0; n] };
            Ok::<_, candle_core::Error>([values(vb.get(n, "weight")?)?, shift])
        };
        let layer = head.dense;
        Ok(HeadWeights {
            dense: layer.map(|layer| weight(vb, dense, (n, n), layer.bias)).transpose()?,
            norm: layer.is_some_and(|layer| layer.normalises).then(norm).transpose()?,
            output: match head.output {
                HeadOutput::Layer { bias } => weight(&self.outside, output, (1, n), bias)?,
                HeadOutput::Words { yes, no, tied } => self.odds(yes, no, tied)?,
            },
        })
    }

    /// Reads the layer that gives the number of one token, less that of another one.
    fn odds(&self, yes: u32, no: Option<u32>, tied: bool) -> Result<Weight> {
        let vb = if tied { self.vb.pp(self.names.words) } else { self.outside.pp("lm_head") };
        let table = self.table(&vb, self.architecture.vocab_size)?;
        let mut weight = table.row(yes as usize);
        if let Some(no) = no {
            weight.iter_mut().zip(table.row(no as usize)).for_each(|(yes, no)| *yes -= no);
        }
        Ok(Weight { weight, bias: vec![0.0] })
    }
}
