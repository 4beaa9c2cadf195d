//! An encoder as an ONNX graph: token vectors come from a runtime, pooling is ours.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Device;

use super::options::Precision;
use crate::inference::Run;
use crate::model::{Card, Pooling};
use crate::onnx::{self, Graph, Output, ProbeError, Runtime, RuntimeError, Source, Wanted};

/// A graph that the one worker and the self-test take turns with.
pub struct OnnxEncoder {
    path: PathBuf,
    graph: Arc<Mutex<Graph>>,
    pad_token: u32,
    pooling: Pooling,
}

/// Why a graph does not make an encoder.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no runtime for it.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// It does not load.
    #[error(transparent)]
    Graph(#[from] onnx::LoadError),
    /// It has its own arithmetic.
    #[error("`--precision int8` is of the backend candle: a graph has the arithmetic that it was exported with")]
    Precision,
    /// It does not take what its tokenizer and its settings allow.
    #[error("{path} does not fit its tokenizer: {reason}", path = .path.display())]
    Probe {
        /// The graph.
        path: PathBuf,
        /// What it does not take.
        reason: ProbeError,
    },
    /// The model has no graph.
    #[error("the model has no ONNX graph")]
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
        if precision == Precision::Int8 {
            return Err(LoadError::Precision);
        }
        let path = card.weights.first().ok_or(LoadError::NoGraph)?;
        let runtime = Runtime::find(options)?;
        let graph = Graph::load(&runtime, Source::File(path), Wanted::Hidden)?;
        let pad_token = card.architecture.padding.unwrap_or(0);
        Ok(Self { path: path.clone(), graph: Arc::new(Mutex::new(graph)), pad_token, pooling: card.pooling })
    }

    /// Tries the greatest token and the longest text.
    pub fn probe(&self, last_token: u32, max_tokens: usize) -> Result<(), LoadError> {
        let mut graph = self.graph.lock().unwrap_or_else(PoisonError::into_inner);
        graph
            .probe(last_token, max_tokens, self.pad_token)
            .map_err(|reason| LoadError::Probe { path: self.path.clone(), reason })
    }

    /// A way to run it: pooled vectors, `[texts][hidden]`, not normalised.
    pub fn run(&self) -> Run {
        let (graph, pad, pooling) = (Arc::clone(&self.graph), self.pad_token, self.pooling);
        Box::new(move |batch| {
            // A run that panicked left no state behind: a graph is read only.
            let output = graph.lock().unwrap_or_else(PoisonError::into_inner).run(batch, pad)?;
            Ok(pooled(&output, batch, pooling))
        })
    }
}

/// One vector for each text: of `[texts, sequence, hidden]` the mean or the first of its own tokens, of
/// `[texts, hidden]` its row, which the graph pooled itself.
fn pooled(output: &Output, batch: &[&[u32]], pooling: Pooling) -> Vec<Vec<f32>> {
    let hidden = output.shape.last().copied().unwrap_or(0).max(1);
    let texts = output.values.chunks_exact((output.values.len() / batch.len().max(1)).max(1));
    texts
        .zip(batch)
        .map(|(rows, ids)| match pooling {
            Pooling::Mean if output.shape.len() == 3 => mean(rows, hidden, ids.len()),
            _ => rows[..hidden.min(rows.len())].to_vec(),
        })
        .collect()
}

/// The mean of the first `tokens` rows.
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
        let batch: [&[u32]; 2] = [&[1, 1], &[1]];
        assert_eq!(pooled(&output, &batch, Pooling::Mean), [[2.0, 3.0], [5.0, 6.0]]);
        assert_eq!(pooled(&output, &batch, Pooling::Cls), [[1.0, 2.0], [5.0, 6.0]]);
    }

    #[test]
    fn what_the_graph_pooled_stays_as_it_is() {
        let output = Output { values: vec![1.0, 2.0, 3.0, 4.0], shape: vec![2, 2] };
        let batch: [&[u32]; 2] = [&[1, 1], &[1]];
        assert_eq!(pooled(&output, &batch, Pooling::Mean), [[1.0, 2.0], [3.0, 4.0]]);
    }
}
