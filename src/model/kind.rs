//! The purposes of models. The purpose decides which files a model must have and which of them a hub sends.

use std::path::{Path, PathBuf};

use super::error::CardError;
use super::file::require;
use super::layout::{self, Layout};
use crate::onnx;

/// The usual paths of an exported graph: at the top, or in the folder that the hub's exporters use.
const GRAPHS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];

/// The files of a classifier beside its graph.
const SETTINGS: [&str; 5] =
    ["config.json", "special_tokens_map.json", layout::TOKENIZER, "tokenizer_config.json", "vocab.txt"];

/// The purpose of a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Kind {
    /// Vectors from safetensors, by candle.
    #[default]
    Encoder,
    /// Vectors from an ONNX graph.
    OnnxEncoder,
    /// Labels from an ONNX graph: from this file of the model, or from the usual one.
    Classifier(Option<String>),
}

impl Kind {
    /// Checks that a directory has all files. A model that is whole but not supported passes: fetching it again would
    /// not help, and reading its card reports the fault.
    pub(super) fn check_complete(&self, directory: &Path) -> Result<(), CardError> {
        match self {
            Self::Encoder | Self::OnnxEncoder => match Layout::read(directory, self) {
                Ok(_) | Err(CardError::Unsupported { .. } | CardError::UnsupportedField { .. }) => Ok(()),
                Err(error) => Err(error),
            },
            Self::Classifier(file) => {
                match graph_and_data(directory, file.as_deref()) {
                    Ok(_) | Err(CardError::Malformed { .. }) => {}
                    Err(error) => return Err(error),
                }
                layout::tokenizer(directory).map(drop)
            }
        }
    }

    /// Returns patterns (globset) of the files that a hub sends.
    pub(super) fn patterns(&self) -> Vec<String> {
        let graphs = |files: &[&str]| files.iter().flat_map(|file| with_data(file)).collect::<Vec<_>>();
        let settings = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        match self {
            Self::Encoder => [settings(&layout::SETTINGS), settings(&layout::WEIGHTS)].concat(),
            Self::OnnxEncoder => [settings(&layout::SETTINGS), graphs(&GRAPHS)].concat(),
            Self::Classifier(None) => [settings(&SETTINGS), graphs(&GRAPHS)].concat(),
            Self::Classifier(Some(file)) => [settings(&SETTINGS), graphs(&[file])].concat(),
        }
    }

    /// Returns the flag that names such a model by a directory.
    pub(super) fn flag(&self) -> &'static str {
        match self {
            Self::Encoder | Self::OnnxEncoder => "--model DIR",
            Self::Classifier(_) => "--classifier NAME=DIR",
        }
    }

    /// Returns whether modules beside the model describe the pooling, as they do for encoders.
    pub(super) fn has_modules(&self) -> bool {
        !matches!(self, Self::Classifier(_))
    }
}

/// Lists a graph and the usual files of its large weights.
fn with_data(graph: &str) -> [String; 3] {
    [graph.to_owned(), format!("{graph}_data"), format!("{graph}.data")]
}

/// Finds the graph of the model in `directory`: the named file, or the usual one.
pub(super) fn graph(directory: &Path, file: Option<&str>) -> Result<PathBuf, CardError> {
    if let Some(file) = file {
        let path = layout::inside(directory, file, directory)?;
        require(&path, "; it is the file after `#`")?;
        return Ok(path);
    }
    let found = GRAPHS.iter().map(|name| directory.join(name)).find(|path| path.exists());
    let path = found.ok_or_else(|| CardError::Missing {
        path: directory.join(GRAPHS[0]),
        hint: ", and so is onnx/model.onnx; export the model as ONNX, or name a classifier's graph: NAME=DIR#FILE.onnx",
    })?;
    require(&path, "")?;
    Ok(path)
}

/// Finds the graph, followed by its weight files in the order of their names. All of them exist.
pub(super) fn graph_and_data(directory: &Path, file: Option<&str>) -> Result<Vec<PathBuf>, CardError> {
    let graph = graph(directory, file)?;
    let names = onnx::external_data(&graph).map_err(|problem| CardError::Malformed { path: graph.clone(), problem })?;
    let folder = graph.parent().unwrap_or(directory);
    let mut files = vec![graph.clone()];
    for name in names {
        let path = layout::inside(folder, &name, &graph)?;
        require(&path, "; the graph beside it keeps weights there: fetch or copy it too")?;
        files.push(path);
    }
    Ok(files)
}
