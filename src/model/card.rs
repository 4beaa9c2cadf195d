//! The card of a model: all settings that the embedder needs, read from the model's own files and checked.

use std::path::PathBuf;

use super::Files;
use super::architecture::{Architecture, Names};
use super::digest;
use super::encoder::Encoder;
use super::error::CardError;
use super::fingerprint::{self, Fields, ONNX, PRECISIONS};
use super::layout::Layout;
use super::pooling::{Mode, Pooling};
use super::prompts::Prompts;
use super::reading::Reading;
use super::static_table::{self, MOST_TOKENS};
use super::steps::{Step, Steps};
use super::tokenizer::{Beside, TokenizerFile, TruncationSide};
use super::transformer::{Task, TransformerSettings};

/// A model's settings, which are consistent and in bounds, and the paths of its large files.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// Hub id or directory, as configured.
    pub id: String,
    /// The commit of the files, or a name in its place.
    pub revision: String,
    /// 32 hex digits. Vectors with equal fingerprints can be compared.
    pub fingerprint: String,
    /// The fingerprints of the same model in the other precisions. Their vectors are nearly the same.
    pub other_precisions: Vec<String>,
    /// The encoder and its sizes.
    pub encoder: Encoder,
    /// The length of a vector.
    pub dimensions: usize,
    /// Maximum tokens of a text, with special tokens and prompt: for a transformer at least 3, and at most the number
    /// of positions. The tokenizer truncates to it, whatever its file says.
    pub max_tokens: usize,
    /// The pooling of token vectors.
    pub pooling: Pooling,
    /// The steps after the pooling. They end with vectors of length [`Card::dimensions`].
    pub steps: Vec<Step>,
    /// The text is lowercased before it is tokenised.
    pub lowercase: bool,
    /// The prompts before texts.
    pub prompts: Prompts,
    /// The model's own pipeline scales vectors to length 1.
    pub normalizes: bool,
    /// A safetensors file, or shards in the order of their names; or an ONNX graph, if [`Files::kind`] is that.
    pub weights: Vec<PathBuf>,
    /// The path of `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// The content of `tokenizer.json`, with the changes of the settings beside it.
    pub tokenizer_json: Vec<u8>,
    /// The end at which a long text is cut off.
    pub truncation_side: TruncationSide,
}

impl Card {
    /// Reads the settings, and all of the weights once for their digest, which takes about 0.1 s for each 100 MB.
    /// `precision` is that of the embedder (`f32`), or [`ONNX`]; it is part of the fingerprint.
    ///
    /// # Errors
    /// The error names the file and its fault, or the unsupported setting and the supported values.
    pub fn read(files: &Files, precision: &str) -> Result<Self, CardError> {
        let layout = Layout::read(&files.directory, &files.kind)?;
        let Parts { encoder, pooling, tokenizer, reading } = match layout.is_static {
            true => Parts::of_table(&layout)?,
            false => Parts::of_transformer(&layout)?,
        };
        let steps = Steps::read(&files.directory, &layout.after, pooling.modes.len() * encoder.dimensions())?;
        let prompts = Prompts::read(&files.directory, &layout)?;
        let weights = digest::of_files(&layout.weights)?;
        check_weights(files, &layout, &weights)?;
        let description = steps.description()?;
        let fields = Fields {
            weights: &weights,
            tokenizer: &tokenizer.digest,
            encoder: &encoder,
            pooling: &pooling,
            steps: &description,
            reading,
            prompts: &prompts,
            precision,
        };
        let others = PRECISIONS.iter().filter(|other| precision != ONNX && **other != precision);
        Ok(Self {
            id: files.id.clone(),
            revision: files.revision.clone(),
            fingerprint: fingerprint::fingerprint(&fields),
            other_precisions: others
                .map(|precision| fingerprint::fingerprint(&Fields { precision, ..fields }))
                .collect(),
            dimensions: steps.dimensions,
            max_tokens: reading.max_tokens,
            lowercase: reading.lowercase,
            prompts,
            normalizes: layout.normalizes,
            weights: layout.weights,
            tokenizer: tokenizer.path,
            tokenizer_json: tokenizer.json,
            truncation_side: tokenizer.truncation_side,
            steps: steps.steps,
            encoder,
            pooling,
        })
    }
}

/// The settings of a model up to its pooling.
struct Parts {
    encoder: Encoder,
    pooling: Pooling,
    tokenizer: TokenizerFile,
    reading: Reading,
}

impl Parts {
    fn of_transformer(layout: &Layout) -> Result<Self, CardError> {
        let architecture = Architecture::read(&layout.config)?;
        let pooling = Pooling::read(layout, &architecture)?;
        let settings = TransformerSettings::read(&layout.encoder, Task::Vectors)?;
        let class = Names::read(&layout.config)?;
        let beside = Beside {
            model_type: class.model_type.as_deref(),
            class: class.tokenizer_class.as_deref(),
            settings: settings.tokenizer.clone(),
        };
        let tokenizer = TokenizerFile::read(&layout.encoder, beside)?;
        let reading = Reading::read(&settings, &tokenizer, &architecture)?;
        Ok(Self { encoder: Encoder::Transformer(architecture), pooling, tokenizer, reading })
    }

    /// Reads a model of static vectors. Its vectors are summed without special tokens.
    fn of_table(layout: &Layout) -> Result<Self, CardError> {
        let path = layout.weights.first().expect("a layout has one weights file or more");
        let (table, max_tokens) = static_table::read(path, &layout.config)?;
        let mut tokenizer = TokenizerFile::alone(&layout.encoder)?;
        let max_tokens = match max_tokens {
            // model2vec sets the truncation itself.
            Some(max_tokens) => {
                tokenizer.truncation_side = TruncationSide::Right;
                max_tokens
            }
            None => tokenizer.max_tokens.unwrap_or(MOST_TOKENS).clamp(1, MOST_TOKENS),
        };
        let reading = Reading { max_tokens, lowercase: false };
        Ok(Self { encoder: Encoder::Static(table), pooling: Mode::Mean.into(), tokenizer, reading })
    }
}

/// Checks the digest of the weights, if it is known.
fn check_weights(files: &Files, layout: &Layout, found: &str) -> Result<(), CardError> {
    match files.weights_sha256 {
        Some(expected) if found != expected => {
            let named = layout.weights.first().expect("a layout has one weights file or more");
            // In the hub cache this is a link. Deleting the link would keep the damaged file.
            let path = named.canonicalize().unwrap_or_else(|_| named.clone());
            Err(CardError::WrongWeights { path, found: found.to_owned(), expected })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::super::tests::{TestModel, config, module};
    use super::*;

    impl TestModel {
        fn card(&self) -> Result<Card, String> {
            Card::read(&Files::in_directory(self.path("")), "f32").map_err(|error| error.to_string())
        }

        /// The same model with weights in two files.
        fn sharded(self) -> Self {
            let map = json!({
                "b.weight": "model-00002-of-00002.safetensors",
                "a.weight": "model-00001-of-00002.safetensors",
                "c.weight": "model-00001-of-00002.safetensors",
            });
            self.without("model.safetensors")
                .with_text("model-00001-of-00002.safetensors", "first")
                .with_text("model-00002-of-00002.safetensors", "second")
                .with("model.safetensors.index.json", json!({"weight_map": map}))
        }
    }

    #[test]
    fn a_card_has_the_settings_of_the_files() {
        let model = TestModel::new();
        let card = model.card().unwrap();
        assert_eq!((card.dimensions, card.max_tokens, card.pooling), (32, 48, Mode::Mean.into()));
        assert_eq!(card.revision, "local");
        assert_eq!(card.id, model.path("").display().to_string());
        assert_eq!(card.weights, [model.path("model.safetensors")]);
        assert_eq!(card.tokenizer, model.path("tokenizer.json"));
        assert!(card.normalizes && !card.lowercase);
        assert!(card.fingerprint.len() == 32 && card.fingerprint.chars().all(|digit| digit.is_ascii_hexdigit()));
    }

    #[test]
    fn the_transformer_may_be_in_a_folder_of_its_own() {
        let modules = json!([module("0_Transformer", "Transformer"), module("1_Pooling", "Pooling")]);
        let model = TestModel::new().with("modules.json", modules);
        fs::create_dir(model.path("0_Transformer")).unwrap();
        for file in ["config.json", "tokenizer.json", "model.safetensors", "sentence_bert_config.json"] {
            fs::rename(model.path(file), model.path("0_Transformer").join(file)).unwrap();
        }
        let card = model.card().unwrap();
        assert_eq!(card.weights, [model.path("0_Transformer/model.safetensors")]);
        assert_eq!(card.max_tokens, 48);
        assert!(!card.normalizes);
    }

    #[test]
    fn shards_come_in_the_order_of_their_names() {
        let card = TestModel::new().sharded().card().unwrap();
        let names: Vec<_> = card.weights.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
    }

    #[test]
    fn a_model_that_cannot_be_used_is_refused_with_what_helps() {
        let model = TestModel::new;
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
        let own_code = json!([{"path": "", "type": "custom_st.Transformer"}, module("1_Pooling", "Pooling")]);
        let outside = |path| model().with("modules.json", json!([module("", "Transformer"), module(path, "Pooling")]));
        for (model, parts) in [
            (
                model().sharded().without("model-00002-of-00002.safetensors"),
                &["model-00002-of-00002.safetensors is missing, a shard"][..],
            ),
            (model().without("model.safetensors"), &["model.safetensors is missing"]),
            (
                model().without("model.safetensors").with_text("pytorch_model.bin", ""),
                &["model.safetensors is missing", "pytorch_model.bin is not read"],
            ),
            (
                model().with("modules.json", own_code),
                &["the type of a module is custom_st.Transformer, which is not supported"],
            ),
            (
                model().with("adapter_config.json", json!({"peft_type": "LORA"})),
                &["adapter_config.json", "merge the adapter"],
            ),
            (model().with_text("model.safetensors", pointer), &["model.safetensors is a Git LFS pointer"]),
            (outside("../1_Pooling"), &["leads out of"]),
            (outside("/etc"), &["leads out of"]),
            (outside("a/../../b"), &["leads out of"]),
        ] {
            let error = model.card().unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{parts:?}: {error}");
        }
    }

    #[test]
    fn modules_that_are_not_supported_are_named() {
        for (names, shown) in [
            (&["Transformer", "Pooling", "CNN", "Normalize"][..], "Transformer, Pooling, CNN, Normalize"),
            (&["StaticEmbedding", "Pooling"], "StaticEmbedding, Pooling"),
            (&["Transformer"], "Transformer,"),
            (&["Pooling", "Transformer"], "Pooling, Transformer"),
            (&["WordEmbeddings", "Pooling"], "WordEmbeddings, Pooling"),
        ] {
            let modules = names.iter().map(|name| module("", name)).collect::<Value>();
            let error = TestModel::new().with("modules.json", modules).card().unwrap_err();
            assert!(error.contains(&format!("the list of modules is {shown}")), "{error}");
        }
    }

    #[test]
    fn a_malformed_file_is_named_whichever_it_is() {
        for file in [
            "config.json",
            "modules.json",
            "1_Pooling/config.json",
            "sentence_bert_config.json",
            "config_sentence_transformers.json",
            "tokenizer.json",
            "tokenizer_config.json",
        ] {
            let error = TestModel::new().with_text(file, " ").card().unwrap_err();
            assert!(error.contains(&format!("{file} is malformed: EOF")), "{error}");
            let error = TestModel::new().with_text(file, "").card().unwrap_err();
            assert!(error.contains(&format!("{file} is empty")), "{error}");
        }
    }

    #[test]
    fn weights_with_another_digest_are_refused_with_both_digests_and_what_to_do() {
        let model = TestModel::new();
        let expected = super::super::default_model::DEFAULT_WEIGHTS_SHA256;
        let files = Files { weights_sha256: Some(expected), ..Files::in_directory(model.path("")) };
        let error = Card::read(&files, "f32").unwrap_err().to_string();
        let found = digest::of_file(&model.path("model.safetensors")).unwrap();
        for part in ["model.safetensors is damaged", expected, &found, "delete this file", "cognate model fetch"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn the_fingerprint_is_the_documented_encoding_and_stays_so() {
        // Computed from the table in fingerprint.rs by another program (Python's hashlib and struct). A change
        // separates every stored collection from its model: give the table a new version first.
        assert_eq!(TestModel::new().card().unwrap().fingerprint, "00d16600e92e87df40b8a51a3aa4ed62");
    }

    #[test]
    fn the_fingerprint_depends_on_the_content_and_not_on_the_place() {
        let (one, other) = (TestModel::new(), TestModel::new());
        let mut files = Files::in_directory(other.path(""));
        files.revision = "another".to_owned();
        let card = Card::read(&files, "f32").unwrap();
        assert_eq!(one.card().unwrap().fingerprint, card.fingerprint);
        assert_ne!(Card::read(&files, "int8").unwrap().fingerprint, card.fingerprint);
    }

    #[test]
    fn each_setting_that_decides_a_vector_changes_the_fingerprint_and_others_do_not() {
        let original = TestModel::new().card().unwrap().fingerprint;
        let changed = |file: &str, content: &str| TestModel::new().with_text(file, content).card().unwrap().fingerprint;
        let mut seen = vec![original.clone()];
        let with = |key: &str, value: Value| {
            let mut config = config();
            config[key] = value;
            config.to_string()
        };
        let of_family = |model_type: &str, class: &str, padding: u32| {
            let mut config = config();
            config["model_type"] = json!(model_type);
            config["architectures"] = json!([class]);
            config["pad_token_id"] = json!(padding);
            config.to_string()
        };
        for (file, content) in [
            ("model.safetensors", "other weights".to_owned()),
            ("tokenizer.json", "{\"other\": 1}".to_owned()),
            ("config.json", with("hidden_act", json!("relu"))),
            ("config.json", with("num_attention_heads", json!(8))),
            ("config.json", of_family("roberta", "RobertaModel", 1)),
            ("config.json", of_family("roberta", "RobertaModel", 2)),
            ("config.json", of_family("mpnet", "MPNetModel", 1)),
            ("1_Pooling/config.json", json!({"pooling_mode": "cls"}).to_string()),
            ("sentence_bert_config.json", json!({"max_seq_length": 47}).to_string()),
            ("sentence_bert_config.json", json!({"max_seq_length": 48, "do_lower_case": true}).to_string()),
            ("tokenizer_config.json", json!({"truncation_side": "left"}).to_string()),
            ("tokenizer_config.json", json!({"added_tokens_decoder": {"7": {"content": "<ent>"}}}).to_string()),
            ("config_sentence_transformers.json", json!({"prompts": {"query": "q"}}).to_string()),
            ("config_sentence_transformers.json", json!({"prompts": {"document": "q"}}).to_string()),
        ] {
            let fingerprint = changed(file, &content);
            assert!(!seen.contains(&fingerprint), "{file}: {content}");
            seen.push(fingerprint);
        }
        assert_eq!(changed("config.json", &with("transformers_version", json!("5.0"))), original);
        // Settings that only repeat the defaults give the same model.
        let usual = json!({"truncation_side": "right", "do_basic_tokenize": true, "padding_side": "left"});
        assert_eq!(changed("tokenizer_config.json", &usual.to_string()), original);
    }
}
