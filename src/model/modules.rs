//! The modules of a model: `modules.json` of sentence-transformers, which lists the steps from a text to its vector.
//!
//! A pipeline begins with an encoder: a transformer and its pooling, or a table of static vectors. Other modules may
//! follow, and change the vector of a text (`steps`). A directory without the file is a plain transformer, or a model
//! of model2vec.
//!
//! Invariant: a module that is not known, or stands in another place, is refused by name.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::error::CardError;
use super::file::read_json_if_present;
use super::static_table;

/// The file that lists a model's modules and their folders.
pub(super) const MODULES: &str = "modules.json";

/// The file of a module's weights.
pub(super) const WEIGHTS: &str = "model.safetensors";

/// The purpose of a list of modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Vectors of texts, from safetensors.
    Vectors,
    /// Vectors of texts, from an ONNX graph.
    VectorsOfGraph,
    /// Scores of pairs.
    Scores,
}

/// The prefix of the library's own module types. Other modules are code of the model.
const LIBRARY: &str = "sentence_transformers.";

/// The supported lists, for error messages.
const SUPPORTED: &str = "Transformer and Pooling, or StaticEmbedding; then any of Dense, LayerNorm, Normalize and \
                         Dropout, or nothing";

/// A module in `modules.json`.
#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    class: String,
    path: String,
}

impl Module {
    /// Returns the name without its path, which changes between versions: `sentence_transformers.models.Pooling` is
    /// `Pooling`.
    fn name(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or(&self.class)
    }
}

/// A module after the encoder, with the folder of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct After {
    pub kind: AfterKind,
    pub folder: PathBuf,
}

/// The kind of a module after the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterKind {
    Dense,
    LayerNorm,
    Normalize,
}

/// The modules of a model.
#[derive(Debug)]
pub(super) struct Modules {
    /// The folder of the encoder.
    pub encoder: PathBuf,
    /// The encoder is a table of static vectors.
    pub is_static: bool,
    /// The pooling module's settings.
    pub pooling: Option<PathBuf>,
    /// The modules that change the vector of a text, in order.
    pub after: Vec<After>,
    /// The list ends by scaling vectors to length 1. This step is not in `after`: vectors are compared at length 1.
    pub normalizes: bool,
    /// The settings of `LogitScore`, if a reranker has it.
    pub logit_score: Option<PathBuf>,
}

impl Modules {
    /// Reads the modules of the model in `directory`.
    pub(super) fn read(directory: &Path, purpose: Purpose) -> Result<Self, CardError> {
        let path = directory.join(MODULES);
        let Some(modules) = read_json_if_present::<Vec<Module>>(&path)? else {
            // sentence-transformers pools a plain transformer by the mean.
            let is_static = purpose == Purpose::Vectors && static_table::is_model2vec(directory)?;
            let encoder = directory.to_owned();
            let (after, logit_score) = (Vec::new(), None);
            return Ok(Self { encoder, is_static, pooling: None, after, normalizes: false, logit_score });
        };
        if let Some(module) = modules.iter().find(|module| !module.class.starts_with(LIBRARY)) {
            let supported = "modules of sentence_transformers itself; code that comes with a model is not run";
            return Err(CardError::unsupported(&path, "the type of a module", &module.class, supported));
        }
        let names: Vec<&str> = modules.iter().map(Module::name).collect();
        let unsupported =
            |supported| Err(CardError::unsupported(&path, "the list of modules", names.join(", "), supported));
        let (is_static, rest) = match (purpose, &names[..]) {
            (Purpose::Scores, ["Transformer"]) => (false, 1),
            (Purpose::Scores, ["Transformer", "LogitScore"]) => (false, 2),
            (Purpose::Scores, _) => return unsupported("Transformer alone, or Transformer and LogitScore"),
            (_, ["Transformer", "Pooling", ..]) => (false, 2),
            (Purpose::VectorsOfGraph, ["StaticEmbedding", ..]) => {
                return unsupported("Transformer and Pooling with `--backend onnx`; use `--backend candle`");
            }
            (_, ["StaticEmbedding", ..]) => (true, 1),
            _ => return unsupported(SUPPORTED),
        };
        let folder = |module: &Module| inside(directory, &module.path, &path);
        let mut after = Vec::new();
        for module in &modules[rest..] {
            let kind = match module.name() {
                "Dense" => AfterKind::Dense,
                "LayerNorm" => AfterKind::LayerNorm,
                "Normalize" => AfterKind::Normalize,
                // It drops nothing but in training.
                "Dropout" => continue,
                _ => return unsupported(SUPPORTED),
            };
            let folder = folder(module)?;
            if kind == AfterKind::Normalize {
                check_names(&folder.join("config.json"))?;
            }
            after.push(After { kind, folder });
        }
        let mut normalizes = false;
        while after.pop_if(|module| module.kind == AfterKind::Normalize).is_some() {
            normalizes = true;
        }
        let second = match &modules[1..rest] {
            [module] => Some(folder(module)?.join("config.json")),
            _ => None,
        };
        let (pooling, logit_score) = if purpose == Purpose::Scores { (None, second) } else { (second, None) };
        Ok(Self { encoder: folder(&modules[0])?, is_static, pooling, after, normalizes, logit_score })
    }
}

/// The names under which a module reads and writes its vector.
#[derive(Default, Deserialize)]
struct ModuleNames {
    module_input_name: Option<Value>,
    module_output_name: Option<Value>,
}

/// Checks that a module works on the vector of a text, and not on those of its tokens.
pub(super) fn check_names(config: &Path) -> Result<(), CardError> {
    const VECTOR: &str = "sentence_embedding";
    let names: ModuleNames = read_json_if_present(config)?.unwrap_or_default();
    for (setting, name) in
        [("module_input_name", names.module_input_name), ("module_output_name", names.module_output_name)]
    {
        if let Some(name) = name.filter(|name| name != VECTOR) {
            return Err(CardError::unsupported(config, setting, name.to_string(), VECTOR));
        }
    }
    Ok(())
}

/// Resolves a path in a model's file. The file is not trusted, so the path must stay inside the model.
pub(super) fn inside(directory: &Path, relative: &str, named_by: &Path) -> Result<PathBuf, CardError> {
    let mut path = directory.to_owned();
    for part in Path::new(relative).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => {
                let problem = format!("the path {relative:?} leads out of the model's directory");
                return Err(CardError::malformed(named_by, problem));
            }
        }
    }
    Ok(path)
}
