//! The card of a reranker: a cross-encoder, which gives a score to a pair of texts.
//!
//! `config.json` has the head, the number of its labels and, from older versions of sentence-transformers, the function
//! that makes a score of the head's number. Newer versions write a `modules.json`, and the function beside it. The
//! tokenizer is read as for encoders.
//!
//! Invariant: a head that is not known, or a function that is not honoured exactly, is refused by name.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::architecture::{Architecture, Names, Positions};
use super::error::CardError;
use super::file::{read_json, read_json_if_present};
use super::layout::Layout;
use super::reading::Reading;
use super::tokenizer::{Beside, TokenizerFile, TruncationSide};
use super::transformer::{Task, TransformerSettings};
use super::{Files, classifier, digest, layout, modules};

/// The end of the names of classes with a head for sequences.
const HEAD: &str = "ForSequenceClassification";

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
    Safetensors(Vec<PathBuf>, Architecture),
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
}

/// The fields of `config.json` about the head.
#[derive(Deserialize)]
struct Head {
    num_labels: Option<usize>,
    sentence_transformers: Option<Saved>,
    sbert_ce_default_activation_function: Option<String>,
}

/// The settings that sentence-transformers saves, in `config.json` or in a file of their own.
#[derive(Default, Deserialize)]
struct Saved {
    activation_fn: Option<String>,
    default_prompt_name: Option<String>,
}

impl RerankerCard {
    /// Reads a reranker's files.
    ///
    /// # Errors
    /// The error names the file and its fault, or the unsupported setting and the supported values.
    pub fn read(files: &Files) -> Result<Self, CardError> {
        let layout = Layout::read(&files.directory, &files.kind)?;
        let architecture = if layout.is_graph { None } else { Some(architecture(&layout.config)?) };
        let config: classifier::Config = read_json(&layout.config)?;
        let head: Head = read_json(&layout.config)?;
        check_labels(&config, &head, &layout)?;
        // The library reads its own files only beside this one.
        let is_saved = files.directory.join(modules::MODULES).is_file();
        let settings = match is_saved {
            true => TransformerSettings::read(&layout.encoder, Task::Scores)?,
            false => TransformerSettings::default(),
        };
        let saved_path = files.directory.join(layout::SENTENCE_SETTINGS);
        let saved: Option<Saved> = if is_saved { read_json_if_present(&saved_path)? } else { None };
        let function = function(&layout.config, &head, &saved_path, saved.unwrap_or_default())?;
        let beside = Beside {
            model_type: config.model_type.as_deref(),
            class: config.tokenizer_class.as_deref(),
            settings: settings.tokenizer.clone(),
        };
        let tokenizer = TokenizerFile::read(&layout.encoder, beside)?;
        let fingerprint = [digest::of_files(&layout.weights)?, tokenizer.digest.clone()].concat();
        let (weights, max_tokens) = match architecture {
            Some(architecture) => {
                let Reading { max_tokens, .. } = Reading::read(&settings, &tokenizer, &architecture)?;
                (RerankerWeights::Safetensors(layout.weights, architecture), max_tokens)
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
        })
    }
}

/// Reads the architecture of an encoder with a head.
fn architecture(config: &Path) -> Result<Architecture, CardError> {
    let architecture = Architecture::read(config)?;
    if architecture.design.positions == Positions::Rotary {
        let supported = "bert, roberta, xlm-roberta, camembert, distilbert and mpnet; or export the model as ONNX";
        return Err(CardError::unsupported(config, "model_type", architecture.family.to_string(), supported));
    }
    let class = Names::read(config)?.architectures.and_then(|classes| classes.into_iter().next());
    match class {
        Some(class) if class.ends_with(HEAD) => Ok(architecture),
        other => {
            let value = other.unwrap_or_else(|| "missing".to_owned());
            let supported = "a class with a head for pairs, for example BertForSequenceClassification";
            Err(CardError::unsupported(config, "architectures", value, supported))
        }
    }
}

/// Checks that the head gives one number. A graph without labels shows their number itself.
fn check_labels(config: &classifier::Config, head: &Head, layout: &Layout) -> Result<(), CardError> {
    let given = config.id2label.as_ref().map(|labels| labels.len()).or(head.num_labels);
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
fn function(config: &Path, head: &Head, saved_path: &Path, saved: Saved) -> Result<ScoreFunction, CardError> {
    if let Some(prompt) = saved.default_prompt_name {
        let supported = "null: pairs without a prompt";
        return Err(CardError::unsupported(saved_path, "default_prompt_name", prompt, supported));
    }
    let of_head = head.sentence_transformers.as_ref().and_then(|saved| saved.activation_fn.clone());
    let given = saved
        .activation_fn
        .map(|class| (saved_path, "activation_fn", class))
        .or_else(|| of_head.map(|class| (config, "sentence_transformers.activation_fn", class)))
        .or_else(|| {
            let class = head.sbert_ce_default_activation_function.clone()?;
            Some((config, "sbert_ce_default_activation_function", class))
        });
    match given {
        None => Ok(ScoreFunction::Sigmoid),
        Some((path, setting, class)) => ScoreFunction::parse(&class)
            .ok_or_else(|| CardError::unsupported(path, setting, class, "torch.nn.Sigmoid and torch.nn.Identity")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{TestModel, config};
    use super::super::{Architecture, Kind};
    use super::*;

    /// `config.json` of the small model as a cross-encoder, with other fields.
    fn cross_encoder(fields: Value) -> Value {
        let mut config = config();
        let own = json!({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}});
        for (key, value) in own.as_object().into_iter().chain(fields.as_object()).flatten() {
            config[key] = value.clone();
        }
        config
    }

    /// The small model without the files of an embedding model.
    fn plain(fields: Value) -> TestModel {
        TestModel::new().without("modules.json").with("config.json", cross_encoder(fields))
    }

    /// The small model as sentence-transformers saves a cross-encoder.
    fn saved() -> TestModel {
        let module = json!([{"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]);
        let transformer = json!({
            "transformer_task": "sequence-classification", "module_output_name": "scores",
            "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
        });
        plain(json!({})).with("modules.json", module).with("sentence_bert_config.json", transformer)
    }

    fn read(model: &TestModel) -> Result<RerankerCard, String> {
        let files = Files { kind: Kind::Reranker(None), ..Files::in_directory(model.path("")) };
        RerankerCard::read(&files).map_err(|error| error.to_string())
    }

    #[test]
    fn a_card_has_the_settings_of_the_files() {
        let card = read(&plain(json!({"pad_token_id": 3}))).unwrap();
        let RerankerWeights::Safetensors(files, Architecture { hidden_size: 32, .. }) = &card.weights else {
            panic!("{card:?}")
        };
        assert!(files[0].ends_with("model.safetensors"));
        // The 48 tokens of sentence_bert_config.json count only beside a modules.json.
        assert_eq!((card.max_tokens, card.pad_token, card.typed, card.lowercase), (64, 3, true, false));
    }

    #[test]
    fn the_function_is_that_of_any_version_of_the_library_or_the_sigmoid() {
        use ScoreFunction::{Identity, Sigmoid};
        let (identity, sigmoid) = ("torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid");
        for (fields, function) in [
            (json!({}), Sigmoid),
            (json!({"sbert_ce_default_activation_function": null}), Sigmoid),
            (json!({"sbert_ce_default_activation_function": identity}), Identity),
            (json!({"sentence_transformers": {"activation_fn": identity, "version": "4.0.1"}}), Identity),
            (json!({"sentence_transformers": {"activation_fn": sigmoid}}), Sigmoid),
        ] {
            assert_eq!(read(&plain(fields.clone())).unwrap().function, function, "{fields}");
        }
        let own = json!({"activation_fn": identity, "default_prompt_name": null, "model_type": "CrossEncoder"});
        assert_eq!(read(&saved()).unwrap().function, Sigmoid);
        assert_eq!(read(&saved().with(layout::SENTENCE_SETTINGS, own.clone())).unwrap().function, Identity);
        assert_eq!(read(&plain(json!({})).with(layout::SENTENCE_SETTINGS, own)).unwrap().function, Sigmoid);
    }

    #[test]
    fn what_is_not_honoured_is_refused_by_name() {
        let several = json!({"id2label": {"0": "a", "1": "b", "2": "c"}});
        let tanh = "torch.nn.modules.activation.Tanh";
        let dense = json!([
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Dense", "type": "sentence_transformers.models.Dense"},
        ]);
        for (model, reason) in [
            (plain(json!({"architectures": ["BertModel"]})), "architectures is BertModel, which is not supported"),
            (plain(json!({"architectures": null})), "architectures is missing"),
            (plain(json!({"model_type": "deberta-v2"})), "model_type is deberta-v2"),
            (
                plain(json!({"model_type": "modernbert", "architectures": ["ModernBertForSequenceClassification"],
                             "type_vocab_size": null, "hidden_act": null})),
                "model_type is modernbert",
            ),
            (plain(several), "the number of labels (id2label) is 3"),
            (plain(json!({"id2label": null})), "the number of labels (id2label) is 2"),
            (
                plain(json!({"sbert_ce_default_activation_function": tanh})),
                "sbert_ce_default_activation_function is torch.nn.modules.activation.Tanh",
            ),
            (
                plain(json!({"sentence_transformers": {"activation_fn": "my.code.Scale"}})),
                "sentence_transformers.activation_fn is my.code.Scale",
            ),
            (saved().with(layout::SENTENCE_SETTINGS, json!({"activation_fn": tanh})), ": activation_fn is torch"),
            (
                saved().with(layout::SENTENCE_SETTINGS, json!({"default_prompt_name": "web"})),
                "default_prompt_name is web",
            ),
            (saved().with("modules.json", dense), "the list of modules is Transformer, Dense"),
            (TestModel::new().with("config.json", cross_encoder(json!({}))), "Transformer, Pooling, Normalize"),
            (
                saved().with("sentence_bert_config.json", json!({"transformer_task": "feature-extraction"})),
                "transformer_task is \"feature-extraction\"",
            ),
            (plain(json!({})).without("model.safetensors"), "model.safetensors is missing"),
            (plain(json!({})).without("tokenizer.json"), "tokenizer.json is missing"),
        ] {
            let error = read(&model).unwrap_err();
            assert!(error.contains(reason), "{reason}: {error}");
        }
        assert!(read(&plain(json!({"id2label": null, "num_labels": 1}))).is_ok());
    }

    #[test]
    fn token_types_are_for_tokenizers_that_give_them() {
        let typed = |settings: Value| read(&plain(json!({})).with("tokenizer_config.json", settings)).unwrap().typed;
        assert!(typed(json!({})) && typed(json!({"tokenizer_class": "BertTokenizerFast"})));
        assert!(!typed(json!({"tokenizer_class": "RobertaTokenizerFast"})));
        assert!(!typed(json!({"model_input_names": ["input_ids", "attention_mask"]})));
        let both = json!({"tokenizer_class": "RobertaTokenizer", "model_input_names": ["input_ids", "token_type_ids"]});
        assert!(typed(both));
    }
}
