//! An encoder that is an ONNX graph. A runtime computes token vectors; pooling happens here.

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Device;

use super::options::Precision;
use super::pooling;
use crate::inference::{Run, Sequence};
use crate::model::{self, Card, Mode};
use crate::onnx::{self, Graph, GraphSource, Output, ProbeError, Runtime, RuntimeError, SharedGraph, Wanted};

/// An encoder. The one worker and the self-test share its graph.
pub struct OnnxEncoder {
    path: PathBuf,
    graph: SharedGraph,
}

/// The reason why a graph cannot be an encoder.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The wanted runtime is not available.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The graph does not load.
    #[error(transparent)]
    Graph(#[from] onnx::LoadError),
    /// The precision was set, and a graph has its own.
    #[error("{0} needs `--backend candle`; an ONNX graph keeps the precision it was exported with")]
    Precision(Precision),
    /// The graph does not take every text that its tokenizer and its settings allow.
    #[error("{path} does not fit its tokenizer: {reason}", path = .path.display())]
    Probe {
        /// The graph's file.
        path: PathBuf,
        /// The failed trial.
        reason: ProbeError,
    },
    /// The model has no graph.
    #[error("the model has no ONNX graph; use `--backend candle`, or export the model to onnx/model.onnx")]
    NoGraph,
}

impl OnnxEncoder {
    /// Loads the graph that the card names.
    pub fn load(
        card: &Card,
        device: &Device,
        precision: Precision,
        options: &onnx::Options,
    ) -> Result<Self, LoadError> {
        debug_assert!(device.is_cpu(), "another device was refused when it was opened");
        if precision != Precision::F32 {
            return Err(LoadError::Precision(precision));
        }
        let path = card.weights.first().ok_or(LoadError::NoGraph)?;
        let runtime = Runtime::find(options)?;
        let graph = Graph::load(&runtime, GraphSource::File(path), Wanted::Hidden)?;
        let padding = match &card.encoder {
            model::Encoder::Transformer(architecture) => architecture.padding,
            model::Encoder::Static(_) => None,
        };
        Ok(Self { path: path.clone(), graph: SharedGraph::new(graph, padding.unwrap_or(0)) })
    }

    /// Tries the greatest token id and the longest text.
    pub fn probe(&self, last_token: u32, max_tokens: usize) -> Result<(), LoadError> {
        let probed = self.graph.probe(last_token, max_tokens);
        probed.map_err(|reason| LoadError::Probe { path: self.path.clone(), reason })
    }

    /// Returns a function that computes pooled vectors, `[texts][modes · hidden]`, not normalised.
    pub fn run(&self, modes: Arc<[Mode]>) -> Run {
        let graph = self.graph.clone();
        Box::new(move |batch| Ok(pooled(&graph.run(batch.iter().map(Sequence::typed))?, batch, &modes)))
    }
}

/// Makes one vector for each text. The rows of the text's own tokens in `[texts, sequence, hidden]` are pooled.
/// `[texts, hidden]` is what the graph pooled itself.
fn pooled(output: &Output, batch: &[Sequence<'_>], modes: &[Mode]) -> Vec<Vec<f32>> {
    let columns = output.shape.last().copied().unwrap_or(0).max(1);
    let texts = output.values.chunks_exact((output.values.len() / batch.len().max(1)).max(1));
    let pool = |(values, text): (&[f32], &Sequence<'_>)| {
        if output.shape.len() != 3 {
            return values.to_vec();
        }
        let row = |row: usize| &values[row * columns..][..columns];
        pooling::Tokens { row: &row, columns, count: text.ids.len(), left_out: text.left_out }.pool(modes)
    };
    texts.zip(batch).map(pool).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_takes_no_part_in_the_mean_and_the_first_token_is_the_first() {
        let output = Output {
            values: vec![1.0, 2.0, 3.0, 4.0, 90.0, 91.0, 5.0, 6.0, 92.0, 93.0, 94.0, 95.0],
            shape: vec![2, 3, 2],
        };
        let batch = [[1, 1].as_slice(), &[1]].map(Sequence::from);
        assert_eq!(pooled(&output, &batch, &[Mode::Mean]), [[2.0, 3.0], [5.0, 6.0]]);
        assert_eq!(pooled(&output, &batch, &[Mode::Cls]), [[1.0, 2.0], [5.0, 6.0]]);
    }

    #[test]
    fn vectors_that_the_graph_pooled_stay_as_they_are() {
        let output = Output { values: vec![1.0, 2.0, 3.0, 4.0], shape: vec![2, 2] };
        let batch = [[1, 1].as_slice(), &[1]].map(Sequence::from);
        assert_eq!(pooled(&output, &batch, &[Mode::Mean]), [[1.0, 2.0], [3.0, 4.0]]);
    }
}
