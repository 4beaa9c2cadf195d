//! What a model is wanted for, which decides the files that it must have and that a hub should send.

use std::path::{Path, PathBuf};

use super::error::CardError;
use super::file::require;
use super::layout::{self, Layout};
use crate::onnx;

/// Where an export puts its graph: at the top, or in the folder that the hub's own exporters use.
const GRAPHS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];

/// The files of a classifier beside its graph.
const SETTINGS: [&str; 5] =
    ["config.json", "special_tokens_map.json", layout::TOKENIZER, "tokenizer_config.json", "vocab.txt"];

/// What a model is wanted for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Kind {
    /// Vectors, by candle, from safetensors.
    #[default]
    Encoder,
    /// Vectors, by an ONNX graph.
    OnnxEncoder,
    /// Labels, by an ONNX graph: by this file of the model, or the usual one.
    Classifier(Option<String>),
}

impl Kind {
    /// Whether a directory holds all that is needed. One that does and is beyond us counts: fetching it again would not
    /// help, and reading its card says what is wrong.
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

    /// Patterns (globset) for the files that a hub should send.
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

    /// The flag that names such a model, with a directory.
    pub(super) fn flag(&self) -> &'static str {
        match self {
            Self::Encoder | Self::OnnxEncoder => "--model DIR",
            Self::Classifier(_) => "--classifier NAME=DIR",
        }
    }

    /// How token vectors become one is written beside it, in modules: for encoders.
    pub(super) fn has_modules(&self) -> bool {
        !matches!(self, Self::Classifier(_))
    }
}

/// A graph and the files that exporters put large weights into.
fn with_data(graph: &str) -> [String; 3] {
    [graph.to_owned(), format!("{graph}_data"), format!("{graph}.data")]
}

/// The graph of a model in `directory`: the file that was asked for, or the usual one.
pub(super) fn graph(directory: &Path, file: Option<&str>) -> Result<PathBuf, CardError> {
    if let Some(file) = file {
        let path = layout::inside(directory, file, directory)?;
        require(&path, "; it was named behind `#`")?;
        return Ok(path);
    }
    let found = GRAPHS.iter().map(|name| directory.join(name)).find(|path| path.exists());
    let path = found.ok_or_else(|| CardError::Missing {
        path: directory.join(GRAPHS[0]),
        hint: ", and so is onnx/model.onnx; export the model as ONNX, or name its graph: #FILE.onnx behind a classifier's place",
    })?;
    require(&path, "")?;
    Ok(path)
}

/// The same, and then the files that it keeps weights in, in the order of their names. All of them are there.
pub(super) fn graph_and_data(directory: &Path, file: Option<&str>) -> Result<Vec<PathBuf>, CardError> {
    let graph = graph(directory, file)?;
    let names = onnx::external_data(&graph).map_err(|problem| CardError::Malformed { path: graph.clone(), problem })?;
    let folder = graph.parent().unwrap_or(directory);
    let mut files = vec![graph.clone()];
    for name in names {
        let path = layout::inside(folder, &name, &graph)?;
        require(&path, ", and the graph beside it keeps its weights there; fetch or copy it too")?;
        files.push(path);
    }
    Ok(files)
}
