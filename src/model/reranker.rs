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
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{TestModel, config};
    use super::super::{Function, HeadLayer, HeadOutput, Kind, Mode};
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

    const LOGIT_SCORE: &str = "1_LogitScore/config.json";

    /// A template that has the messages one after another.
    const CHAT: &str = "{% for message in messages %}{{ message.role }}: {{ message.content }}. {% endfor %}Answer:";

    /// The small model as another family, with other fields.
    fn of_family(model_type: &str, class: &str, fields: Value) -> TestModel {
        let own = json!({
            "model_type": model_type, "architectures": [class], "hidden_act": null, "type_vocab_size": null,
            "position_embedding_type": null, "layer_norm_eps": null,
        });
        let mut all = own.as_object().unwrap().clone();
        all.extend(fields.as_object().unwrap().clone());
        plain(Value::Object(all))
    }

    fn modernbert(fields: Value) -> TestModel {
        of_family("modernbert", "ModernBertForSequenceClassification", fields)
    }

    /// The small model in the form of Qwen3-Reranker.
    fn qwen3(fields: Value) -> TestModel {
        let modules = json!([
            {"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
            {"path": "1_LogitScore", "type": "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"},
        ]);
        let form = json!({"method": "forward", "method_output_name": "logits"});
        let mut message = form.clone();
        message["format"] = "flat".into();
        let transformer = json!({
            "transformer_task": "text-generation", "module_output_name": "causal_logits",
            "modality_config": {"text": form, "message": message},
        });
        of_family("qwen3", "Qwen3ForCausalLM", fields)
            .with("modules.json", modules)
            .with("sentence_bert_config.json", transformer)
            .with(LOGIT_SCORE, json!({"true_token_id": 7, "false_token_id": 3}))
            .with("tokenizer_config.json", json!({"chat_template": CHAT}))
    }

    #[test]
    fn the_words_of_a_language_model_are_a_head_and_its_template_stands_around_a_pair() {
        let prompts = json!({"prompts": {"query": "Find it"}, "default_prompt_name": "query"});
        let card = read(&qwen3(json!({"id2label": null, "tie_word_embeddings": true}))).unwrap();
        let RerankerWeights::Safetensors(_, _, head) = &card.weights else { panic!("{card:?}") };
        let words = HeadOutput::Words { yes: 7, no: Some(3), tied: true };
        assert_eq!((head.pooling, head.output, head.dense), (Mode::LastToken, words, None));
        let parts = |before: &str| PairTemplate {
            before: before.to_owned(),
            between: ". document: ".to_owned(),
            after: ". Answer:".to_owned(),
        };
        assert_eq!(card.template, Some(parts("query: ")));
        let prompted = read(&qwen3(json!({})).with(layout::SENTENCE_SETTINGS, prompts)).unwrap();
        assert_eq!(prompted.template, Some(parts("system: Find it. query: ")));
        assert_ne!(prompted.fingerprint, card.fingerprint);
        let other = read(&qwen3(json!({})).with(LOGIT_SCORE, json!({"true_token_id": 7}))).unwrap();
        assert_ne!(other.fingerprint, card.fingerprint);
    }

    #[test]
    fn modernberts_head_is_in_its_configuration() {
        let head = |fields: Value| match read(&modernbert(fields)).unwrap().weights {
            RerankerWeights::Safetensors(_, _, head) => (head.pooling, head.dense.expect("it has a layer")),
            RerankerWeights::Graph(graph) => panic!("{graph:?}"),
        };
        let layer = |function, bias| HeadLayer { function, bias, normalises: true };
        assert_eq!(head(json!({})), (Mode::Cls, layer(Function::Gelu, false)));
        let fields = json!({"classifier_pooling": "mean", "classifier_activation": "relu", "classifier_bias": true});
        assert_eq!(head(fields), (Mode::Mean, layer(Function::Relu, true)));
    }

    fn read(model: &TestModel) -> Result<RerankerCard, String> {
        let files = Files { kind: Kind::Reranker(None), ..Files::in_directory(model.path("")) };
        RerankerCard::read(&files).map_err(|error| error.to_string())
    }

    #[test]
    fn a_card_has_the_settings_of_the_files() {
        let card = read(&plain(json!({"pad_token_id": 3}))).unwrap();
        let RerankerWeights::Safetensors(files, architecture, head) = &card.weights else { panic!("{card:?}") };
        assert!(files[0].ends_with("model.safetensors") && architecture.hidden_size == 32);
        assert_eq!((head.pooling, head.output), (Mode::Cls, HeadOutput::Layer { bias: true }));
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
                plain(json!({"model_type": "nomic_bert", "architectures": ["NomicBertForSequenceClassification"],
                             "position_embedding_type": null})),
                "architectures is NomicBertForSequenceClassification, which is not supported; supported: Bert",
            ),
            (modernbert(json!({"classifier_pooling": "max"})), "classifier_pooling is max"),
            (modernbert(json!({"classifier_activation": "mish"})), "classifier_activation is mish"),
            (qwen3(json!({})).without("modules.json"), "architectures is Qwen3ForCausalLM, which is not supported"),
            (qwen3(json!({"architectures": ["Qwen3ForSequenceClassification"]})), "Qwen3ForCausalLM with the module"),
            (qwen3(json!({})).with(LOGIT_SCORE, json!({"true_token_id": 100})), "token 100 has no number"),
            (
                qwen3(json!({})).with(LOGIT_SCORE, json!({"true_token_id": 1, "module_input_name": "x"})),
                "module_input_name is x",
            ),
            (qwen3(json!({})).without(LOGIT_SCORE), "1_LogitScore/config.json is missing"),
            (qwen3(json!({})).with("tokenizer_config.json", json!({})), "chat_template.jinja is missing"),
            (
                qwen3(json!({}))
                    .with("tokenizer_config.json", json!({"chat_template": CHAT, "truncation_side": "left"})),
                "truncation_side is left",
            ),
            (
                qwen3(json!({})).with(layout::SENTENCE_SETTINGS, json!({"default_prompt_name": "web"})),
                "prompts has no prompt of that name",
            ),
            // The library reads this one by the template since 5.4, and as a pair before.
            (
                plain(json!({})).with("tokenizer_config.json", json!({"chat_template": CHAT})),
                "chat_template is one for pairs",
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
