//! A graph that several threads use in turn.

use std::sync::{Arc, Mutex, PoisonError};

use super::error::RunError;
use super::feed::Typed;
use super::graph::Graph;
use super::output::Output;
use super::precheck::Scale;
use super::probe::ProbeError;

/// A loaded graph with its padding token. A clone is cheap and stands for the same graph.
#[derive(Debug, Clone)]
pub struct SharedGraph {
    graph: Arc<Mutex<Graph>>,
    pad_token: u32,
    scale: Scale,
}

impl SharedGraph {
    /// Shares a graph. `pad_token` fills up the shorter texts of a batch.
    pub fn new(graph: Graph, pad_token: u32) -> Self {
        let scale = graph.scale();
        Self { graph: Arc::new(Mutex::new(graph)), pad_token, scale }
    }

    /// Returns the meaning of the wanted output's numbers.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// Runs a batch when the graph is free; see [`Graph::run_typed`].
    pub fn run<'a>(&self, batch: impl IntoIterator<Item = Typed<'a>>) -> Result<Output, RunError> {
        let batch: Vec<Typed<'a>> = batch.into_iter().collect();
        self.with(|graph| graph.run_typed(&batch, self.pad_token))
    }

    /// Tries the greatest token and the longest text; see [`Graph::probe`].
    pub fn probe(&self, last_token: u32, max_tokens: usize) -> Result<(), ProbeError> {
        self.with(|graph| graph.probe(last_token, max_tokens, self.pad_token))
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Graph) -> T) -> T {
        // A run that panicked left no state behind: a graph does not change.
        use_it(&mut self.graph.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
