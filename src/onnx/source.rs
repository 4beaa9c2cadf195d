//! The source of a graph: a file or bytes.

use std::path::Path;

/// The source of a graph.
#[derive(Debug, Clone, Copy)]
pub enum GraphSource<'a> {
    /// A file. Weights in files beside it are found.
    File(&'a Path),
    /// The whole graph as bytes.
    Memory(&'a [u8]),
}

impl std::fmt::Display for GraphSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Memory(bytes) => write!(f, "the graph of {} bytes in memory", bytes.len()),
        }
    }
}
