//! Model directories as other tools write them: settings that decide a vector take effect, and broken files are named.
//! The model is a tiny BERT with weights by a formula.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use candle_core::{Device, Tensor};
use cognate::wire::{EmbedRequest, EmbedResult, InfoRequest, embed_result};
use serde_json::{Value, json};

use crate::harness::Server;

const HIDDEN: usize = 16;
const WORDS: [&str; 11] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "world", "the", "fox", "##es", "Hello", "cafe"];

fn write(directory: &Path, file: &str, content: &Value) {
    let path = directory.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content.to_string()).unwrap();
}

fn tokenizer(lowercase: bool) -> Value {
    let vocabulary: serde_json::Map<String, Value> =
        WORDS.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": lowercase},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
}

/// Returns numbers without a short period.
fn tensor(seed: usize, shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|i| ((i * 37 + seed * 101) as f32 * 0.7).sin() * 0.4).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn weights() -> HashMap<String, Tensor> {
    let layer = "encoder.layer.0";
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![WORDS.len(), HIDDEN]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![32, HIDDEN]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, HIDDEN]),
    ];
    for norm in ["embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"] {
        shapes.push((format!("{norm}.LayerNorm.weight"), vec![HIDDEN]));
        shapes.push((format!("{norm}.LayerNorm.bias"), vec![HIDDEN]));
    }
    for (linear, outputs, inputs) in [
        ("attention.self.query", HIDDEN, HIDDEN),
        ("attention.self.key", HIDDEN, HIDDEN),
        ("attention.self.value", HIDDEN, HIDDEN),
        ("attention.output.dense", HIDDEN, HIDDEN),
        ("intermediate.dense", 2 * HIDDEN, HIDDEN),
        ("output.dense", HIDDEN, 2 * HIDDEN),
    ] {
        shapes.push((format!("{layer}.{linear}.weight"), vec![outputs, inputs]));
        shapes.push((format!("{layer}.{linear}.bias"), vec![outputs]));
    }
    shapes.into_iter().enumerate().map(|(seed, (name, shape))| (name, tensor(seed, &shape))).collect()
}

/// Writes a whole model whose tokenizer lowercases, in its file and in its settings.
fn model() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let config = json!({
        "model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu", "vocab_size": WORDS.len(),
        "hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 2 * HIDDEN,
        "max_position_embeddings": 32, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
    });
    write(directory, "config.json", &config);
    let module = |path: &str, name: &str| json!({"path": path, "type": format!("sentence_transformers.models.{name}")});
    write(directory, "modules.json", &json!([module("", "Transformer"), module("1_Pooling", "Pooling")]));
    write(directory, "1_Pooling/config.json", &json!({"pooling_mode_mean_tokens": 1, "pooling_mode_cls_token": 0}));
    write(directory, "sentence_bert_config.json", &json!({"max_seq_length": 6}));
    write(directory, "tokenizer.json", &tokenizer(true));
    write(directory, "tokenizer_config.json", &json!({"tokenizer_class": "BertTokenizer", "do_lower_case": true}));
    candle_core::safetensors::save(&weights(), directory.join("model.safetensors")).unwrap();
    folder
}

fn flags(directory: &Path) -> [String; 6] {
    let directory = directory.display().to_string();
    ["--model", &directory, "--classifier", "none", "--offline", "true"].map(str::to_owned)
}

async fn serve(directory: &Path) -> Server {
    Server::start(&flags(directory).each_ref().map(String::as_str)).await
}

async fn embed(server: &Server, texts: &[&str]) -> Vec<EmbedResult> {
    let request = EmbedRequest { texts: texts.iter().map(|text| (*text).to_owned()).collect(), ..Default::default() };
    server.client().await.embed(request).await.unwrap().into_inner().results
}

fn vector(result: &EmbedResult) -> &[f32] {
    match &result.result {
        Some(embed_result::Result::Vector(vector)) => &vector.values,
        other => panic!("{other:?}"),
    }
}

async fn fingerprint(server: &Server) -> String {
    server.client().await.info(InfoRequest {}).await.unwrap().into_inner().model.expect("a model").fingerprint
}

/// Returns the last line that the server prints when it cannot start with this model. It holds the whole message.
fn refusal(directory: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(["serve", "--in-memory", "--addr", "127.0.0.1:0"]).args(flags(directory));
    let output = command.env("RUST_BACKTRACE", "1").output().expect("the binary was built with the tests");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(!text.contains("stack backtrace") && !text.contains("   0: "), "{text}");
    let last = text.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("error: "), "{text}");
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_a_tokenizer_decide_its_tokens_and_the_fingerprint() {
    let folder = model();
    let lowercase = serve(folder.path()).await;
    let results = embed(&lowercase, &["Hello World", "hello world", "the café"]).await;
    assert_eq!(results.iter().map(|result| result.tokens).collect::<Vec<_>>(), [4, 4, 4]);
    assert_eq!(vector(&results[0]), vector(&results[1]));

    // The file says so, and its class lowercases unless the settings differ.
    write(folder.path(), "tokenizer.json", &tokenizer(false));
    write(folder.path(), "tokenizer_config.json", &json!({"tokenizer_class": "BertTokenizer"}));
    let by_class = serve(folder.path()).await;
    assert_eq!(vector(&embed(&by_class, &["Hello World"]).await[0]), vector(&results[1]));

    write(folder.path(), "tokenizer.json", &tokenizer(true));
    write(folder.path(), "tokenizer_config.json", &json!({"do_lower_case": false}));
    let cased = serve(folder.path()).await;
    let results = embed(&cased, &["Hello world", "hello world"]).await;
    assert_ne!(vector(&results[0]), vector(&results[1]));

    let fingerprints = [fingerprint(&lowercase).await, fingerprint(&by_class).await, fingerprint(&cased).await];
    assert!((1..3).all(|n| !fingerprints[..n].contains(&fingerprints[n])), "{fingerprints:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cuts_texts_at_their_beginning_reads_their_end() {
    let folder = model();
    write(folder.path(), "tokenizer_config.json", &json!({"truncation_side": "left"}));
    let server = serve(folder.path()).await;
    let results = embed(&server, &["hello hello the fox world fox", "the fox world fox"]).await;
    assert_eq!((results[0].tokens, results[0].tokens_total, results[0].truncated), (6, 8, true));
    assert_eq!(vector(&results[0]), vector(&results[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_length_may_be_in_a_file_with_the_name_of_the_family_or_in_newer_fields() {
    for (file, content, tokens) in [
        ("sentence_distilbert_config.json", json!({"max_seq_length": 4}), 4),
        ("sentence_bert_config.json", json!({"processing_kwargs": {"text": {"max_length": 5}}}), 5),
        ("sentence_bert_config.json", json!({"tokenizer_args": {"model_max_length": 3}}), 3),
    ] {
        let folder = model();
        fs::remove_file(folder.path().join("sentence_bert_config.json")).unwrap();
        write(folder.path(), file, &content);
        let server = serve(folder.path()).await;
        assert_eq!(embed(&server, &["hello world the fox world"]).await[0].tokens, tokens, "{file} {content}");
    }
}

#[test]
fn a_token_that_the_model_has_no_vector_for_ends_the_start_with_both_sizes() {
    let folder = model();
    let added = json!({"added_tokens_decoder": {"11": {"content": "<ent>"}, "12": {"content": "<other>"}}});
    write(folder.path(), "tokenizer_config.json", &added);
    let error = refusal(folder.path());
    assert!(error.contains("tokenizer.json has 13 tokens, and the model has vectors for 11"), "{error}");
}

#[test]
fn a_broken_file_is_named_once_with_what_to_do_and_without_a_backtrace() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90868376\n";
    let whole = fs::read(model().path().join("model.safetensors")).unwrap();
    for (file, content, reason) in [
        ("model.safetensors", pointer.as_bytes(), "is a Git LFS pointer"),
        ("tokenizer.json", pointer.as_bytes(), "is a Git LFS pointer"),
        ("config.json", pointer.as_bytes(), "is a Git LFS pointer"),
        ("model.safetensors", b"", "is empty"),
        ("tokenizer.json", b"", "is empty"),
        ("model.safetensors", &whole[..whole.len() / 2], "is damaged or not a safetensors file"),
        ("model.safetensors", b"<html>not found</html>", "is damaged or not a safetensors file"),
        ("tokenizer.json", b"{\"model\": ", "is malformed"),
        ("tokenizer.json", b"{\"model\": {}, \"normalizer\": {\"type\": \"BertNormalizer\"}}", "not a tokenizer file"),
        ("1_Pooling/config.json", b"[", "is malformed"),
    ] {
        let folder = model();
        fs::write(folder.path().join(file), content).unwrap();
        let error = refusal(folder.path());
        assert!(error.contains(reason), "{file}: {error}");
        assert_eq!(error.matches(file).count(), 1, "{error}");
        let said = error.rsplit(file).next().unwrap();
        let half = &said[..said.floor_char_boundary(said.len() / 2)];
        assert_eq!(said.matches(half).count(), 1, "{error}");
    }
}

#[test]
fn weights_that_do_not_fit_the_configuration_are_named_with_the_weight() {
    let folder = model();
    let mut other = weights();
    other.remove("encoder.layer.0.output.dense.weight");
    candle_core::safetensors::save(&other, folder.path().join("model.safetensors")).unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("model.safetensors does not fit config.json"), "{error}");
    assert!(error.contains("encoder.layer.0.output.dense.weight"), "{error}");
    // Quantised weights mean nothing without their scales.
    let whole = Tensor::zeros(&[HIDDEN, 2 * HIDDEN], candle_core::DType::U8, &Device::Cpu).unwrap();
    other.insert("encoder.layer.0.output.dense.weight".to_owned(), whole);
    candle_core::safetensors::save(&other, folder.path().join("model.safetensors")).unwrap();
    let error = refusal(folder.path());
    assert!(error.contains("encoder.layer.0.output.dense.weight has the type U8"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dimensions_that_are_all_zero_are_the_callers_to_change() {
    let folder = model();
    let mut first_is_zero = weights();
    for name in ["weight", "bias"] {
        let name = format!("encoder.layer.0.output.LayerNorm.{name}");
        let mut values: Vec<f32> = first_is_zero[&name].to_vec1().unwrap();
        values[0] = 0.0;
        first_is_zero.insert(name, Tensor::from_vec(values, HIDDEN, &Device::Cpu).unwrap());
    }
    candle_core::safetensors::save(&first_is_zero, folder.path().join("model.safetensors")).unwrap();
    let server = serve(folder.path()).await;
    let request = |dimensions| EmbedRequest { texts: vec!["hello".to_owned()], dimensions, ..Default::default() };
    let results = server.client().await.embed(request(1)).await.unwrap().into_inner().results;
    let Some(embed_result::Result::Error(error)) = &results[0].result else { panic!("{results:?}") };
    assert_eq!(error.code, i32::from(tonic::Code::InvalidArgument));
    assert!(
        error.message.contains("dimensions: the first 1 values of this text's vector are zero"),
        "{}",
        error.message
    );
    let results = server.client().await.embed(request(2)).await.unwrap().into_inner().results;
    assert_eq!(vector(&results[0])[0], 0.0);
}
