//! The option `--reranker`: the name of a reranker and its source, `NAME=PLACE` (see `model::Options::at`).

use crate::model::{self, Kind};

/// A reranker to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The name that requests use.
    pub name: String,
    /// The model's source.
    pub model: model::Options,
}

impl Spec {
    /// Parses the option.
    ///
    /// # Errors
    /// The text says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, place) = model::split_named(text)?
            .ok_or("expected NAME=PLACE, where PLACE is a directory, a hub id or the path of an ONNX graph")?;
        Ok(Self { name: name.to_owned(), model: model::Options::at(place, Kind::Reranker) })
    }
}
