//! An encoder that is an ONNX graph. A runtime computes token vectors; pooling happens here.

use std::path::PathBuf;

use candle_core::Device;

use super::options::Precision;
use crate::inference::{Run, Sequence};
use crate::model::{Card, Pooling};
use crate::onnx::{self, Graph, GraphSource, Output, ProbeError, Runtime, RuntimeError, SharedGraph, Wanted};

/// An encoder. The one worker and the self-test share its graph.
pub struct OnnxEncoder {
    path: PathBuf,
    graph: SharedGraph,
    pooling: Pooling,
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
        let graph = SharedGraph::new(graph, card.architecture.padding.unwrap_or(0));
        Ok(Self { path: path.clone(), graph, pooling: card.pooling })
    }

    /// Tries the greatest token id and the longest text.
    pub fn probe(&self, last_token: u32, max_tokens: usize) -> Result<(), LoadError> {
        let probed = self.graph.probe(last_token, max_tokens);
        probed.map_err(|reason| LoadError::Probe { path: self.path.clone(), reason })
    }

    /// Returns a function that computes pooled vectors, `[texts][hidden]`, not normalised.
    pub fn run(&self) -> Run {
        let (graph, pooling) = (self.graph.clone(), self.pooling);
        Box::new(move |batch| Ok(pooled(&graph.run(batch.iter().map(Sequence::typed))?, batch, pooling)))
    }
}

/// Makes one vector for each text. `[texts, sequence, hidden]` is pooled to the mean or the first of the text's own
/// tokens. `[texts, hidden]` is what the graph pooled itself.
fn pooled(output: &Output, batch: &[Sequence<'_>], pooling: Pooling) -> Vec<Vec<f32>> {
    let hidden = output.shape.last().copied().unwrap_or(0).max(1);
    let texts = output.values.chunks_exact((output.values.len() / batch.len().max(1)).max(1));
    texts
        .zip(batch)
        .map(|(rows, text)| match pooling {
            Pooling::Mean if output.shape.len() == 3 => mean(rows, hidden, text.ids.len()),
            _ => rows[..hidden.min(rows.len())].to_vec(),
        })
        .collect()
}

/// Computes the mean of the first `tokens` rows.
fn mean(rows: &[f32], hidden: usize, tokens: usize) -> Vec<f32> {
    let mut sums = vec![0.0; hidden];
    for row in rows.chunks_exact(hidden).take(tokens) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    let scale = 1.0 / tokens as f32;
    sums.iter_mut().for_each(|sum| *sum *= scale);
    sums
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
        assert_eq!(pooled(&output, &batch, Pooling::Mean), [[2.0, 3.0], [5.0, 6.0]]);
        assert_eq!(pooled(&output, &batch, Pooling::Cls), [[1.0, 2.0], [5.0, 6.0]]);
    }

    #[test]
    fn vectors_that_the_graph_pooled_stay_as_they_are() {
        let output = Output { values: vec![1.0, 2.0, 3.0, 4.0], shape: vec![2, 2] };
        let batch = [[1, 1].as_slice(), &[1]].map(Sequence::from);
        assert_eq!(pooled(&output, &batch, Pooling::Mean), [[1.0, 2.0], [3.0, 4.0]]);
    }
}
