//! The files of a model, by its purpose. Their names are known here and nowhere else.
//!
//! `modules.json` decides where the other files are. Reading it also shows whether a download was interrupted. Then the
//! search goes on to the next source instead of using half a model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::CardError;
use super::file::{read_json_if_present, require};
use super::modules::{After, AfterKind, MODULES, Modules, Purpose, WEIGHTS as OF_MODULE, inside};
use super::{pair_template, static_table};
use crate::onnx;

/// The file with the prompts of an encoder, or the activation function of a reranker.
pub(super) const SENTENCE_SETTINGS: &str = "config_sentence_transformers.json";

/// The file of the fast tokenizer.
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// The file that says that other weights change these first (PEFT).
const ADAPTER: &str = "adapter_config.json";

/// Patterns (globset) for the settings and the tokenizer of an encoder, at the top and in the folders that
/// `modules.json` numbers (`1_Pooling`).
const ENCODER_SETTINGS: [&str; 10] = [
    ADAPTER,
    "config.json",
    SENTENCE_SETTINGS,
    MODULES,
    "sentence_*_config.json",
    "special_tokens_map.json",
    TOKENIZER,
    "tokenizer_config.json",
    "vocab.txt",
    "[0-9]_*/*.{json,txt}",
];

/// Patterns for the weights of an encoder. OpenVINO files and pickles are not fetched.
const WEIGHTS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "model-[0-9]*-of-[0-9]*.safetensors", MODULE_WEIGHTS];

/// Pattern for the weights in the folders that `modules.json` numbers.
const MODULE_WEIGHTS: &str = "[0-9]_*/*.safetensors";

/// The usual paths of an exported graph: at the top, or in the folder that the hub's exporters use.
const GRAPHS: [&str; 2] = ["model.onnx", "onnx/model.onnx"];

/// The settings of a reranker that sentence-transformers saved.
const RERANKER_SETTINGS: [&str; 6] =
    [ADAPTER, MODULES, SENTENCE_SETTINGS, "sentence_*_config.json", pair_template::FILE, "[0-9]_*/config.json"];

/// The files of a classifier beside its graph.
const CLASSIFIER_SETTINGS: [&str; 5] =
    ["config.json", "special_tokens_map.json", TOKENIZER, "tokenizer_config.json", "vocab.txt"];

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
    /// Scores of pairs: from this ONNX graph of the model, or from its safetensors. A directory without safetensors has
    /// the usual graph.
    Reranker(Option<String>),
}

impl Kind {
    /// Checks that a directory has all files. A model that is whole but not supported passes: fetching it again would
    /// not help, and reading its card reports the fault.
    pub(super) fn check_complete(&self, directory: &Path) -> Result<(), CardError> {
        match self {
            Self::Encoder | Self::OnnxEncoder | Self::Reranker(_) => match Layout::read(directory, self) {
                Ok(_) | Err(CardError::Unsupported { .. }) => Ok(()),
                Err(error) => Err(error),
            },
            Self::Classifier(file) => {
                match graph_and_data(directory, file.as_deref()) {
                    Ok(_) | Err(CardError::Malformed { .. }) => {}
                    Err(error) => return Err(error),
                }
                tokenizer(directory).map(drop)
            }
        }
    }

    /// Returns patterns (globset) of the files that a hub sends.
    pub(super) fn patterns(&self) -> Vec<String> {
        let graphs = |files: &[&str]| files.iter().flat_map(|file| with_data(file)).collect::<Vec<_>>();
        let settings = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        match self {
            Self::Encoder => [settings(&ENCODER_SETTINGS), settings(&WEIGHTS)].concat(),
            Self::OnnxEncoder => [settings(&ENCODER_SETTINGS), graphs(&GRAPHS), settings(&[MODULE_WEIGHTS])].concat(),
            Self::Classifier(None) => [settings(&CLASSIFIER_SETTINGS), graphs(&GRAPHS)].concat(),
            Self::Classifier(Some(file)) => [settings(&CLASSIFIER_SETTINGS), graphs(&[file])].concat(),
            Self::Reranker(file) => {
                let weights = file.as_ref().map_or_else(|| settings(&WEIGHTS), |file| graphs(&[file]));
                [settings(&CLASSIFIER_SETTINGS), settings(&RERANKER_SETTINGS), weights].concat()
            }
        }
    }

    /// Returns the flag that names such a model by a directory.
    pub(super) fn flag(&self) -> &'static str {
        match self {
            Self::Encoder | Self::OnnxEncoder => "--model DIR",
            Self::Classifier(_) => "--classifier NAME=DIR",
            Self::Reranker(_) => "--reranker NAME=DIR",
        }
    }

    /// Returns what the modules of such a model are for.
    fn purpose(&self) -> Purpose {
        match self {
            Self::OnnxEncoder => Purpose::VectorsOfGraph,
            Self::Reranker(_) => Purpose::Scores,
            Self::Encoder | Self::Classifier(_) => Purpose::Vectors,
        }
    }

    /// Returns whether modules beside the model describe the pooling, as they do for encoders.
    pub(super) fn has_modules(&self) -> bool {
        !matches!(self, Self::Classifier(_) | Self::Reranker(_))
    }
}

/// The files of a model. All of them exist, but a model of static vectors may have no `config.json`.
#[derive(Debug)]
pub(super) struct Layout {
    /// The file with the architecture and its sizes.
    pub config: PathBuf,
    /// The folder with the settings of the encoder and its tokenizer.
    pub encoder: PathBuf,
    /// The encoder is a table of static vectors.
    pub is_static: bool,
    /// The weights: one file, or shards in the order of their names, or an ONNX graph followed by its weight files.
    pub weights: Vec<PathBuf>,
    /// The weights are an ONNX graph.
    pub is_graph: bool,
    /// The pooling module's settings; `None` without a `modules.json`.
    pub pooling: Option<PathBuf>,
    /// The modules that change the vector of a text, in order.
    pub after: Vec<After>,
    /// The model's own pipeline ends by scaling vectors to length 1.
    pub normalizes: bool,
    /// The settings of the module that makes a score of two tokens' numbers.
    pub logit_score: Option<PathBuf>,
}

impl Layout {
    /// Finds the files of a model. The error names the one that is missing.
    pub(super) fn read(directory: &Path, kind: &Kind) -> Result<Self, CardError> {
        let Modules { encoder, is_static, pooling, after, normalizes, logit_score } =
            Modules::read(directory, kind.purpose())?;
        let config = encoder.join("config.json");
        if !is_static {
            require(&config, "")?;
        }
        tokenizer(&encoder)?;
        let file = match kind {
            Kind::Reranker(file) => file.as_deref(),
            _ => None,
        };
        let is_graph = match kind {
            Kind::OnnxEncoder => true,
            Kind::Reranker(None) => {
                weights(&encoder).is_err_and(|error| matches!(error, CardError::Missing { .. }))
                    && graph(&encoder, None).is_ok()
            }
            _ => file.is_some(),
        };
        let weights = if is_graph {
            graph_and_data(if file.is_some() { directory } else { &encoder }, file)?
        } else if is_static {
            vec![static_table::file(&encoder)?]
        } else {
            refuse_adapter(&encoder)?;
            weights(&encoder)?
        };
        if let Some(pooling) = &pooling {
            require(pooling, "")?;
        }
        for module in after.iter().filter(|module| module.kind != AfterKind::Normalize) {
            require(&module.folder.join("config.json"), "")?;
            require(&module.folder.join(OF_MODULE), "; pytorch_model.bin is not read: save it as safetensors")?;
        }
        if let Some(settings) = &logit_score {
            require(settings, "")?;
        }
        Ok(Self { config, encoder, is_static, weights, is_graph, pooling, after, normalizes, logit_score })
    }
}

/// Lists a graph and the usual files of its large weights.
fn with_data(graph: &str) -> [String; 3] {
    [graph.to_owned(), format!("{graph}_data"), format!("{graph}.data")]
}

/// Finds the graph of the model in `directory`: the named file, or the usual one.
pub(super) fn graph(directory: &Path, file: Option<&str>) -> Result<PathBuf, CardError> {
    if let Some(file) = file {
        let path = inside(directory, file, directory)?;
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
    let names = onnx::external_data(&graph).map_err(|problem| CardError::malformed(&graph, problem))?;
    let folder = graph.parent().unwrap_or(directory);
    let mut files = vec![graph.clone()];
    for name in names {
        let path = inside(folder, &name, &graph)?;
        require(&path, "; the graph beside it keeps weights there: fetch or copy it too")?;
        files.push(path);
    }
    Ok(files)
}

/// Finds the tokenizer of the model in `directory`.
pub(super) fn tokenizer(directory: &Path) -> Result<PathBuf, CardError> {
    let path = directory.join(TOKENIZER);
    require(&path, "; a vocabulary alone is not enough: save the model with a fast tokenizer")?;
    Ok(path)
}

/// Refuses a model with an adapter: its weights alone are another model.
fn refuse_adapter(directory: &Path) -> Result<(), CardError> {
    let path = directory.join(ADAPTER);
    if !path.exists() {
        return Ok(());
    }
    let supported = "whole weights: merge the adapter (merge_and_unload) and save the model";
    Err(CardError::unsupported(&path, "the model", "a PEFT adapter on other weights", supported))
}

/// The index of a model with several weight files.
#[derive(Deserialize)]
struct WeightsIndex {
    weight_map: BTreeMap<String, String>,
}

/// Finds the weights in `directory`.
fn weights(directory: &Path) -> Result<Vec<PathBuf>, CardError> {
    let whole = directory.join("model.safetensors");
    if whole.exists() {
        require(&whole, "")?;
        return Ok(vec![whole]);
    }
    let index_path = directory.join("model.safetensors.index.json");
    let Some(index) = read_json_if_present::<WeightsIndex>(&index_path)? else {
        let hint = if directory.join("pytorch_model.bin").is_file() {
            "; pytorch_model.bin is not read: save the model with safe_serialization=True"
        } else {
            ", and so is model.safetensors.index.json"
        };
        return Err(CardError::Missing { path: whole, hint });
    };
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    if names.is_empty() {
        return Err(CardError::malformed(&index_path, "weight_map names no file"));
    }
    let mut shards = Vec::with_capacity(names.len());
    for name in names {
        let shard = inside(directory, name, &index_path)?;
        require(&shard, ", a shard named by model.safetensors.index.json")?;
        shards.push(shard);
    }
    Ok(shards)
}
