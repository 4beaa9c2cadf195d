//! The card of a reranker: a cross-encoder, which gives a score to a pair of texts.
//!
//! `config.json` has the head, the number of its labels and, from older versions of sentence-transformers, the function
//! that makes a score of the head's number. Newer versions write a `modules.json`, and the function beside it. The
//! tokenizer is read as for encoders.
//!
//! Invariant: a head that is not known, or a function that is not honoured exactly, is refused by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::architecture::Architecture;
use super::error::CardError;
use super::file::{read_json, read_json_if_present};
use super::head::Head;
use super::layout::Layout;
use super::pair_template::PairTemplate;
use super::reading::Reading;
use super::tokenizer::{Beside, TokenizerFile, TruncationSide};
use super::transformer::{Task, TransformerSettings};
use super::{Files, classifier, digest, layout, modules};

/// The number of labels of a configuration without any, in transformers.
const USUAL_LABELS: usize = 2;

/// The function that makes a score of the model's number (logit).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreFunction {
    /// The number itself.
    Identity,
    /// 1 / (1 + e⁻ˣ), a score from 0 to 1.
    Sigmoid,
}

impl ScoreFunction {
    /// Parses the path of a class of torch.
    fn parse(class: &str) -> Option<Self> {
        match class {
            "torch.nn.modules.linear.Identity" | "torch.nn.Identity" => Some(Self::Identity),
            "torch.nn.modules.activation.Sigmoid" | "torch.nn.Sigmoid" => Some(Self::Sigmoid),
            _ => None,
        }
    }
}

impl std::fmt::Display for ScoreFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::Sigmoid => "sigmoid",
        })
    }
}

/// The weights of a reranker.
#[derive(Debug, Clone, PartialEq)]
pub enum RerankerWeights {
    /// A safetensors file, or shards in the order of their names, of an encoder with a head.
    Safetensors(Vec<PathBuf>, Box<Architecture>, Head),
    /// An ONNX graph.
    Graph(PathBuf),
}

/// A reranker's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankerCard {
    /// Hub id or directory, as configured.
    pub id: String,
    /// The commit of the files, or a name in its place.
    pub revision: String,
    /// Hexadecimal digest of weights and tokenizer.
    pub fingerprint: String,
    /// The weights.
    pub weights: RerankerWeights,
    /// The function that makes the score.
    pub function: ScoreFunction,
    /// Maximum tokens of a pair, with special tokens.
    pub max_tokens: usize,
    /// Texts are lowercased before they are tokenised.
    pub lowercase: bool,
    /// The token that pads the shorter pairs of a batch of a graph.
    pub pad_token: u32,
    /// The path of `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// The content of `tokenizer.json`, with the changes of the settings beside it.
    pub tokenizer_json: Vec<u8>,
    /// The end at which a long second text is cut off.
    pub truncation_side: TruncationSide,
    /// The model gets the types of tokens, which tell the second text from the first.
    pub typed: bool,
    /// The fixed texts around both texts, if the model reads pairs as chats.
    pub template: Option<PairTemplate>,
}

/// The fields of `config.json` about the score.
#[derive(Deserialize)]
struct Score {
    num_labels: Option<usize>,
    sentence_transformers: Option<Saved>,
    sbert_ce_default_activation_function: Option<String>,
}

/// The settings that sentence-transformers saves, in `config.json` or in a file of their own.
#[derive(Default, Deserialize)]
struct Saved {
    activation_fn: Option<String>,
    default_prompt_name: Option<String>,
    prompts: Option<BTreeMap<String, Option<String>>>,
}

impl RerankerCard {
    /// Reads a reranker's files.
    ///
    /// # Errors
    /// The error names the file and its fault, or the unsupported setting and the supported values.
    pub fn read(files: &Files) -> Result<Self, CardError> {
        let layout = Layout::read(&files.directory, &files.kind)?;
        let encoder = if layout.is_graph { None } else { Some(encoder(&layout)?) };
        let config: classifier::Config = read_json(&layout.config)?;
        let score: Score = read_json(&layout.config)?;
        check_labels(&config, &score, &layout)?;
        // The library reads its own files only beside this one.
        let is_saved = files.directory.join(modules::MODULES).is_file();
        let settings = match is_saved {
            true if layout.logit_score.is_some() => TransformerSettings::read(&layout.encoder, Task::Words)?,
            true => TransformerSettings::read(&layout.encoder, Task::Scores)?,
            false => TransformerSettings::default(),
        };
        let saved_path = files.directory.join(layout::SENTENCE_SETTINGS);
        let saved: Option<Saved> = if is_saved { read_json_if_present(&saved_path)? } else { None };
        let saved = saved.unwrap_or_default();
        let function = function(&layout.config, &score, &saved_path, saved.activation_fn.as_deref())?;
        let beside = Beside {
            model_type: config.model_type.as_deref(),
            class: config.tokenizer_class.as_deref(),
            settings: settings.tokenizer.clone(),
        };
        let tokenizer = TokenizerFile::read(&layout.encoder, beside)?;
        let chats = Chats { layout: &layout, settings: &settings, tokenizer: &tokenizer };
        let template = chats.template(&saved_path, saved)?;
        let mut fingerprint = [digest::of_files(&layout.weights)?, tokenizer.digest.clone()].concat();
        if let Some(template) = &template {
            fingerprint.push_str(&format!(" template={}", template.digest()));
        }
        if let Some((_, head)) = &encoder {
            fingerprint.push_str(&format!(" {head:?}"));
        }
        let (weights, max_tokens) = match encoder {
            Some((architecture, head)) => {
                let Reading { max_tokens, .. } = Reading::read(&settings, &tokenizer, &architecture)?;
                let architecture = Box::new(architecture.up_to(max_tokens));
                (RerankerWeights::Safetensors(layout.weights, architecture, head), max_tokens)
            }
            None => {
                let length = classifier::max_tokens(&config, settings.max_tokens.or(tokenizer.max_tokens));
                let graph = layout.weights.into_iter().next().expect("a layout has one weights file or more");
                (RerankerWeights::Graph(graph), length)
            }
        };
        Ok(Self {
            id: files.id.clone(),
            revision: files.revision.clone(),
            fingerprint,
            weights,
            function,
            max_tokens,
            lowercase: settings.lowercase,
            pad_token: classifier::pad_token(&config),
            tokenizer: tokenizer.path,
            tokenizer_json: tokenizer.json,
            truncation_side: tokenizer.truncation_side,
            typed: tokenizer.typed,
            template,
        })
    }
}

/// Reads the architecture of an encoder with a head.
fn encoder(layout: &Layout) -> Result<(Architecture, Head), CardError> {
    let architecture = Architecture::read(&layout.config)?;
    let head = Head::read(&layout.config, &architecture, layout.logit_score.as_deref())?;
    Ok((architecture, head))
}

/// The files that decide whether pairs are chats.
struct Chats<'a> {
    layout: &'a Layout,
    settings: &'a TransformerSettings,
    tokenizer: &'a TokenizerFile,
}

impl Chats<'_> {
    /// Reads the template of pairs that are chats. Other pairs have no prompt.
    fn template(&self, saved_path: &Path, saved: Saved) -> Result<Option<PairTemplate>, CardError> {
        let (directory, fields) = (&self.layout.encoder, &self.tokenizer.fields);
        let unsupported = |path: &Path, setting, value: String, supported| {
            Err(CardError::unsupported(path, setting, value, supported))
        };
        let Some(messages) = self.settings.messages else {
            if let Some(prompt) = saved.default_prompt_name {
                return unsupported(saved_path, "default_prompt_name", prompt, "null: pairs without a prompt");
            }
            // Newer versions of the library take the template, and older ones do not.
            if !self.layout.is_graph && !self.settings.has_forms && PairTemplate::is_there(directory, fields) {
                let supported = "a modality_config in sentence_bert_config.json, which says if pairs are chats";
                return unsupported(
                    &directory.join(layout::TOKENIZER),
                    "chat_template",
                    "one for pairs".to_owned(),
                    supported,
                );
            }
            return Ok(None);
        };
        if self.layout.is_graph {
            let supported = "text alone with an ONNX graph";
            return unsupported(&self.settings.path, "modality_config.message", "there".to_owned(), supported);
        }
        if self.settings.lowercase {
            let supported = "false, with pairs that are chats";
            return unsupported(&self.settings.path, "do_lower_case", "true".to_owned(), supported);
        }
        if self.tokenizer.truncation_side == TruncationSide::Left {
            let supported = "right, with pairs that are chats";
            return unsupported(
                &directory.join("tokenizer_config.json"),
                "truncation_side",
                "left".to_owned(),
                supported,
            );
        }
        let prompts = saved.prompts.unwrap_or_default();
        let prompt = match saved.default_prompt_name {
            Some(name) => Some(prompts.get(&name).ok_or_else(|| {
                let problem = format!("default_prompt_name is {name:?}, and prompts has no prompt of that name");
                CardError::malformed(saved_path, problem)
            })?),
            None => None,
        };
        let prompt = prompt.and_then(|prompt| prompt.as_deref()).filter(|prompt| !prompt.is_empty());
        PairTemplate::read(directory, fields, messages, prompt).map(Some)
    }
}

/// Checks that the head gives one number. A graph without labels shows their number itself.
fn check_labels(config: &classifier::Config, score: &Score, layout: &Layout) -> Result<(), CardError> {
    if layout.logit_score.is_some() {
        return Ok(());
    }
    let given = config.id2label.as_ref().map(|labels| labels.len()).or(score.num_labels);
    match given.unwrap_or(if layout.is_graph { 1 } else { USUAL_LABELS }) {
        1 => Ok(()),
        labels => {
            let supported = "1, because a pair has one score; serve a graph with several labels as a classifier";
            let setting = "the number of labels (id2label)";
            Err(CardError::unsupported(&layout.config, setting, labels.to_string(), supported))
        }
    }
}

/// Determines the function as sentence-transformers does: without a setting it is the sigmoid.
fn function(config: &Path, score: &Score, saved_path: &Path, saved: Option<&str>) -> Result<ScoreFunction, CardError> {
    let of_config = score.sentence_transformers.as_ref().and_then(|saved| saved.activation_fn.clone());
    let given = saved
        .map(|class| (saved_path, "activation_fn", class.to_owned()))
        .or_else(|| of_config.map(|class| (config, "sentence_transformers.activation_fn", class)))
        .or_else(|| {
            let class = score.sbert_ce_default_activation_function.clone()?;
            Some((config, "sbert_ce_default_activation_function", class))
        });
    match given {
        None => Ok(ScoreFunction::Sigmoid),
        Some((path, setting, class)) => ScoreFunction::parse(&class)
            .ok_or_else(|| CardError::unsupported(path, setting, class, "torch.nn.Sigmoid and torch.nn.Identity")),
    }
}

#[cfg(test)]
mod tests;
