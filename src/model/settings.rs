//! The settings beside the architecture: pooling, length and prompts, each as sentence-transformers
//! reads them, so that a vector made here equals one made there.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::architecture::Architecture;
use super::error::CardError;
use super::file::{read_json, read_json_if_present};
use super::layout::Layout;
use super::switch;
use super::tokenizer::TokenizerFile;
use super::transformer::TransformerSettings;

/// How the vectors of a text's tokens become the vector of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// The mean over all tokens of the text, special tokens included, padding not.
    Mean,
    /// The vector of the first token.
    Cls,
}

impl std::fmt::Display for Pooling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
        })
    }
}

impl Pooling {
    /// From the pooling module's `config.json`; the mean where the model has no modules.
    pub(super) fn read(layout: &Layout, architecture: &Architecture) -> Result<Self, CardError> {
        let Some(path) = &layout.pooling else { return Ok(Self::Mean) };
        let config: PoolingConfig = read_json(path)?;
        if let Some(length) = config.word_embedding_dimension.or(config.embedding_dimension)
            && length != architecture.hidden_size
        {
            let problem = format!("it pools vectors of length {length}; the model's have {}", architecture.hidden_size);
            return Err(CardError::Malformed { path: path.clone(), problem });
        }
        if config.include_prompt == Some(false) {
            return Err(CardError::Unsupported {
                path: path.clone(),
                setting: "include_prompt",
                value: "false".to_owned(),
                supported: "true",
            });
        }
        config.refuse_unknown(path)?;
        match config.modes(path)?.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["mean"] => Ok(Self::Mean),
            ["cls"] => Ok(Self::Cls),
            ref modes => Err(CardError::Unsupported {
                path: path.clone(),
                setting: "the pooling mode",
                value: if modes.is_empty() { "none".to_owned() } else { modes.join(" and ") },
                supported: "mean or cls, one of them",
            }),
        }
    }
}

#[derive(Deserialize)]
struct PoolingConfig {
    word_embedding_dimension: Option<usize>,
    embedding_dimension: Option<usize>,
    #[serde(default, deserialize_with = "switch::optional")]
    include_prompt: Option<bool>,
    /// The newer style: one name, names joined by `+`, or a list.
    pooling_mode: Option<OneOrMany>,
    /// The older style has a switch for each mode, `pooling_mode_cls_token`, among these.
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Where the older style does not say, sentence-transformers takes the mean.
const MEAN_SWITCH: &str = "mean_tokens";

/// What the older style's switches begin with.
const SWITCH: &str = "pooling_mode_";

/// The modes that the older style has switches for.
const SWITCHES: [&str; 6] =
    ["cls_token", "max_tokens", MEAN_SWITCH, "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"];

impl PoolingConfig {
    /// A field that the library would not know could decide anything.
    fn refuse_unknown(&self, path: &Path) -> Result<(), CardError> {
        let known = |key: &str| key.strip_prefix(SWITCH).is_some_and(|switch| SWITCHES.contains(&switch));
        // One that is off asks for nothing.
        match self.other.iter().find(|(key, value)| !known(key) && switch::of(value) != Some(false)) {
            Some((key, value)) => Err(CardError::UnsupportedField {
                path: path.to_owned(),
                field: key.clone(),
                value: value.to_string(),
                supported: "pooling_mode (mean or cls) or its older switches, embedding_dimension and include_prompt",
            }),
            None => Ok(()),
        }
    }

    fn modes(&self, path: &Path) -> Result<Vec<String>, CardError> {
        match &self.pooling_mode {
            Some(OneOrMany::One(modes)) => return Ok(modes.split('+').map(str::to_owned).collect()),
            Some(OneOrMany::Many(modes)) => return Ok(modes.clone()),
            None => {}
        }
        let mut switches: BTreeMap<&str, bool> = BTreeMap::from([(MEAN_SWITCH, true)]);
        for (key, value) in &self.other {
            let Some(mode) = key.strip_prefix(SWITCH) else { continue };
            let on = switch::of(value).ok_or_else(|| CardError::Malformed {
                path: path.to_owned(),
                problem: format!("{key} is {value}, and must be true or false"),
            })?;
            switches.insert(mode, on);
        }
        let on = switches.into_iter().filter(|(_, on)| *on);
        Ok(on.map(|(mode, _)| mode.trim_end_matches("_tokens").trim_end_matches("_token").to_owned()).collect())
    }
}

/// What is done to a text before and by the tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// Tokens that the model reads, special tokens included; 3 or more.
    pub max_tokens: usize,
    /// The text is lowercased first, whatever the tokenizer does.
    pub lowercase: bool,
}

/// `[CLS]`, `[SEP]` and one token between.
const FEWEST_TOKENS: usize = 3;

impl Reading {
    /// From `sentence_bert_config.json`; without a length there, the least of what positions and
    /// tokenizer allow. The length inside `tokenizer.json` is never asked: it is what someone once
    /// exported (128 in the default model, whose length is 256).
    pub(super) fn read(
        settings: &TransformerSettings,
        tokenizer: &TokenizerFile,
        architecture: &Architecture,
    ) -> Result<Self, CardError> {
        let positions = architecture.positions();
        let (length, path) = match settings.max_tokens {
            Some(length) => (length, settings.path.clone()),
            None => (
                tokenizer.max_tokens.unwrap_or(positions).min(positions),
                tokenizer.path.with_file_name("tokenizer_config.json"),
            ),
        };
        if length < FEWEST_TOKENS {
            let problem = format!("a text may have {length} tokens, which leaves none beside the special tokens");
            return Err(CardError::Malformed { path, problem });
        }
        // Beyond the last position there is nothing to look up.
        Ok(Self { max_tokens: length.min(positions), lowercase: settings.lowercase })
    }
}

/// What the model wants before a text; none where it wants nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prompts {
    /// Before a question or search phrase: the prompt that the card names `query`.
    pub query: Option<String>,
    /// Before a text to be found: the first of `document`, `passage` and `corpus` that the card has, even if it is
    /// empty.
    pub document: Option<String>,
    /// Before a text of neither kind: the one that `default_prompt_name` names.
    pub default: Option<String>,
}

#[derive(Default, Deserialize)]
struct CardConfig {
    prompts: Option<BTreeMap<String, Option<String>>>,
    default_prompt_name: Option<String>,
    similarity_fn_name: Option<String>,
}

impl Prompts {
    /// From `config_sentence_transformers.json`.
    pub(super) fn read(directory: &Path, layout: &Layout) -> Result<Self, CardError> {
        let path = directory.join("config_sentence_transformers.json");
        let config: CardConfig = read_json_if_present(&path)?.unwrap_or_default();
        if let Some(similarity) = config.similarity_fn_name.filter(|name| name != "cosine" && !layout.normalizes) {
            tracing::warn!(similarity, "the model was trained for another similarity; vectors are compared by cosine");
        }
        let prompts = config.prompts.unwrap_or_default();
        let named = |name: &str| prompts.get(name).cloned().flatten().filter(|prompt| !prompt.is_empty());
        let default = match config.default_prompt_name {
            Some(name) if !prompts.contains_key(&name) => {
                let problem = format!("default_prompt_name is {name:?}, and prompts has none of that name");
                return Err(CardError::Malformed { path, problem });
            }
            Some(name) => named(&name),
            None => None,
        };
        let given = |name: &&str| prompts.get(*name).is_some_and(Option::is_some);
        let document = ["document", "passage", "corpus"].into_iter().find(given).and_then(named);
        Ok(Self { query: named("query"), document, default })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::super::tests::{write_json, write_model};
    use super::super::tokenizer::Beside;
    use super::*;

    struct Model {
        directory: tempfile::TempDir,
    }

    impl Model {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            write_model(directory.path());
            Self { directory }
        }

        fn with(self, file: &str, content: Value) -> Self {
            write_json(&self.path(file), &content);
            self
        }

        fn without(self, file: &str) -> Self {
            std::fs::remove_file(self.path(file)).unwrap();
            self
        }

        fn path(&self, file: &str) -> PathBuf {
            self.directory.path().join(file)
        }

        fn pooling(&self) -> Result<Pooling, String> {
            let layout = Layout::read(self.directory.path(), &super::super::kind::Kind::Encoder).unwrap();
            Pooling::read(&layout, &Architecture::read(&layout.config).unwrap()).map_err(|error| error.to_string())
        }

        fn reading(&self) -> Result<Reading, String> {
            let layout = Layout::read(self.directory.path(), &super::super::kind::Kind::Encoder).unwrap();
            let read = || {
                let settings = TransformerSettings::read(&layout.transformer)?;
                let beside = Beside { settings: settings.tokenizer.clone(), ..Beside::default() };
                let tokenizer = TokenizerFile::read(&layout.transformer, beside)?;
                Reading::read(&settings, &tokenizer, &Architecture::read(&layout.config)?)
            };
            read().map_err(|error: CardError| error.to_string())
        }

        fn prompts(&self) -> Result<Prompts, String> {
            let layout = Layout::read(self.directory.path(), &super::super::kind::Kind::Encoder).unwrap();
            Prompts::read(self.directory.path(), &layout).map_err(|error| error.to_string())
        }
    }

    const POOLING: &str = "1_Pooling/config.json";
    const LENGTH: &str = "sentence_bert_config.json";
    const CARD: &str = "config_sentence_transformers.json";

    #[test]
    fn mean_and_cls_are_read_in_both_styles() {
        for (config, pooling) in [
            (json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false}), Pooling::Mean),
            (json!({"pooling_mode_mean_tokens": false, "pooling_mode_cls_token": true}), Pooling::Cls),
            (json!({"pooling_mode": "mean", "embedding_dimension": 32}), Pooling::Mean),
            (json!({"pooling_mode": "cls", "include_prompt": true}), Pooling::Cls),
            (json!({"pooling_mode": ["cls"]}), Pooling::Cls),
            (json!({"pooling_mode_mean_tokens": 0, "pooling_mode_cls_token": 1}), Pooling::Cls),
            (json!({"pooling_mode_mean_tokens": 1, "pooling_mode_other": 0, "include_prompt": 1}), Pooling::Mean),
            (json!({}), Pooling::Mean),
        ] {
            assert_eq!(Model::new().with(POOLING, config.clone()).pooling(), Ok(pooling), "{config}");
        }
    }

    #[test]
    fn a_model_without_modules_is_pooled_by_the_mean() {
        assert_eq!(Model::new().without("modules.json").without(POOLING).pooling(), Ok(Pooling::Mean));
    }

    #[test]
    fn other_poolings_are_refused_by_name() {
        let off = |switch: &str| json!({"pooling_mode_mean_tokens": false, switch: true});
        for (config, name) in [
            (off("pooling_mode_max_tokens"), "max"),
            (off("pooling_mode_weightedmean_tokens"), "weightedmean"),
            (off("pooling_mode_lasttoken"), "lasttoken"),
            (off("pooling_mode_mean_sqrt_len_tokens"), "mean_sqrt_len"),
            (json!({"pooling_mode_mean_tokens": false}), "none"),
            (json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}), "cls and mean"),
            (json!({"pooling_mode": "lasttoken"}), "lasttoken"),
            (json!({"pooling_mode": "mean+max"}), "mean and max"),
        ] {
            let error = Model::new().with(POOLING, config).pooling().unwrap_err();
            assert!(error.contains(&format!("pooling mode is {name}, which")), "{name}: {error}");
            assert!(error.contains("mean or cls"), "{error}");
        }
    }

    #[test]
    fn fields_of_a_pooling_that_nobody_knows_are_refused_by_name() {
        for (config, reason) in [
            (json!({"pooling_mode_first_last": true}), "pooling_mode_first_last is true"),
            (json!({"weights": [1, 2]}), "weights is [1,2]"),
            (json!({"pooling_mode_mean_tokens": "yes"}), "pooling_mode_mean_tokens is \"yes\""),
        ] {
            let error = Model::new().with(POOLING, config).pooling().unwrap_err();
            assert!(error.contains(reason) && error.contains(POOLING), "{error}");
        }
    }

    #[test]
    fn prompts_left_out_of_the_mean_are_refused() {
        let error = Model::new().with(POOLING, json!({"include_prompt": false})).pooling().unwrap_err();
        assert!(error.contains("include_prompt is false"), "{error}");
    }

    #[test]
    fn a_pooling_for_another_length_is_malformed() {
        let error = Model::new().with(POOLING, json!({"word_embedding_dimension": 768})).pooling().unwrap_err();
        assert!(error.contains("768") && error.contains("32"), "{error}");
    }

    #[test]
    fn the_length_is_the_cards_and_never_beyond_the_positions() {
        // The small model has 64 positions.
        let length = |value: Value| Model::new().with(LENGTH, json!({"max_seq_length": value})).reading();
        assert_eq!(length(json!(48)).unwrap().max_tokens, 48);
        assert_eq!(length(json!(512)).unwrap().max_tokens, 64);
        assert!(length(json!(2)).unwrap_err().contains("sentence_bert_config.json is malformed"));
    }

    #[test]
    fn without_a_length_in_the_card_positions_and_tokenizer_decide() {
        let length = |config: Value| {
            let model = Model::new().with(LENGTH, json!({"max_seq_length": null}));
            model.with("tokenizer_config.json", config).reading().unwrap().max_tokens
        };
        assert_eq!(length(json!({"model_max_length": 40})), 40);
        assert_eq!(length(json!({"model_max_length": 1e30})), 64);
        assert_eq!(length(json!({})), 64);
        assert_eq!(Model::new().without(LENGTH).reading().unwrap().max_tokens, 64);
    }

    #[test]
    fn the_file_of_lengths_may_have_the_name_of_the_family() {
        for family in ["roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"] {
            let file = format!("sentence_{family}_config.json");
            let model = Model::new().with(&file, json!({"max_seq_length": 40}));
            assert_eq!(model.reading().unwrap().max_tokens, 48, "the usual name comes first");
            assert_eq!(model.without(LENGTH).reading().unwrap().max_tokens, 40, "{family}");
        }
    }

    #[test]
    fn a_length_may_be_an_argument_of_the_tokenizer_or_of_its_calls() {
        let length = |config: Value| Model::new().with(LENGTH, config).reading().map(|reading| reading.max_tokens);
        let arguments = json!({"model_max_length": 16});
        assert_eq!(length(json!({"max_seq_length": 48, "tokenizer_args": arguments})), Ok(16));
        assert_eq!(length(json!({"processor_kwargs": arguments})), Ok(16));
        let call = json!({"text": {"max_length": 12, "truncation": true}});
        assert_eq!(length(json!({"processing_kwargs": call, "tokenizer_args": arguments})), Ok(12));
    }

    #[test]
    fn fields_that_would_change_a_vector_otherwise_are_refused_by_name() {
        for (config, reason) in [
            (json!({"query_length": 32}), "query_length is 32"),
            (json!({"document_length": 32}), "document_length is 32"),
            (json!({"query_expansion": {"strategy": "fixed"}}), "query_expansion is"),
            (json!({"transformer_task": "fill-mask"}), "transformer_task is \"fill-mask\""),
            (json!({"module_output_name": "logits"}), "module_output_name is"),
            (json!({"modality_config": {"text": {"method": "get_text_features"}}}), "modality_config.text.method is"),
            (json!({"tokenizer_args": {"use_fast": false, "bos_token": "x"}}), "tokenizer_args.bos_token is \"x\""),
            (json!({"config_args": {"hidden_act": "relu"}}), "config_args.hidden_act is \"relu\""),
            (json!({"model_args": {"subfolder": "x"}}), "model_args.subfolder is \"x\""),
            (json!({"processing_kwargs": {"text": {"add_special_tokens": false}}}), "text.add_special_tokens is false"),
            (json!({"processing_kwargs": {"text": {"truncation": false}}}), "text.truncation is false"),
            (json!({"something": 1}), "something is 1"),
        ] {
            let error = Model::new().with(LENGTH, config).reading().unwrap_err();
            assert!(error.contains(reason) && error.contains(LENGTH), "{reason}: {error}");
        }
        let harmless = json!({
            "max_seq_length": 48, "model_args": {"torch_dtype": "float16", "attn_implementation": "sdpa"},
            "query_length": null, "transformer_task": "feature-extraction", "module_output_name": "token_embeddings",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "processing_kwargs": {"text": {"padding": true}, "image": {"size": 3}}, "unpad_inputs": false,
        });
        assert_eq!(Model::new().with(LENGTH, harmless).reading().unwrap().max_tokens, 48);
    }

    #[test]
    fn rows_of_the_position_table_that_no_token_uses_are_no_length() {
        // As XLM-RoBERTa's 514 rows are 512 positions.
        let roberta = json!({"model_type": "roberta", "architectures": ["RobertaModel"], "pad_token_id": 1});
        let mut config = super::super::tests::config();
        config.as_object_mut().unwrap().extend(roberta.as_object().unwrap().clone());
        let model = || Model::new().with("config.json", config.clone());
        let length = |model: Model| model.reading().unwrap().max_tokens;
        assert_eq!(length(model().with(LENGTH, json!({"max_seq_length": 64}))), 62);
        assert_eq!(length(model().without(LENGTH)), 62);
        assert_eq!(length(model().without(LENGTH).with("tokenizer_config.json", json!({"model_max_length": 64}))), 62);
        assert_eq!(length(model().without(LENGTH).with("tokenizer_config.json", json!({"model_max_length": 50}))), 50);
    }

    #[test]
    fn lowercasing_is_off_unless_the_card_wants_it() {
        assert!(!Model::new().reading().unwrap().lowercase);
        assert!(Model::new().with(LENGTH, json!({"do_lower_case": true})).reading().unwrap().lowercase);
    }

    #[test]
    fn prompts_go_by_their_names() {
        let some = |text: &str| Some(text.to_owned());
        let config = json!({"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "query"});
        let prompts = Model::new().with(CARD, config).prompts().unwrap();
        assert_eq!(prompts, Prompts { query: some("query: "), document: some("passage: "), default: some("query: ") });
        let config =
            json!({"prompts": {"document": "d: ", "passage": "p: ", "query": ""}, "default_prompt_name": null});
        let prompts = Model::new().with(CARD, config).prompts().unwrap();
        assert_eq!(prompts, Prompts { query: None, document: some("d: "), default: None });
        assert_eq!(Model::new().prompts().unwrap(), Prompts::default());
        // An empty prompt for documents is one; the next name is not asked.
        let document =
            |prompts: Value| Model::new().with(CARD, json!({"prompts": prompts})).prompts().unwrap().document;
        assert_eq!(document(json!({"document": "", "passage": "p: "})), None);
        assert_eq!(document(json!({"document": null, "passage": "p: "})), some("p: "));
        assert_eq!(document(json!({"corpus": "c: "})), some("c: "));
    }

    #[test]
    fn a_default_prompt_that_is_not_there_is_malformed() {
        let config = json!({"prompts": {"query": "q"}, "default_prompt_name": "search"});
        let error = Model::new().with(CARD, config).prompts().unwrap_err();
        assert!(error.contains("\"search\""), "{error}");
    }
}
