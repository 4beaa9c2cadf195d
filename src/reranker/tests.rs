//! Tiny cross-encoders of each family against transformers in float64, and directories with one fault each.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::compute::{Deadline, Pools, WhenFull};
use crate::embedder::{self, Backend, DeviceChoice, Precision};
use crate::model::{Files, Kind};
use crate::onnx;

const REFUSE: WhenFull = WhenFull::Refuse(Deadline::NONE);

/// The greatest difference from float64 in f32. The numbers are between -7 and 5.
const TOLERANCE: f32 = 2e-5;

/// The greatest difference from float64 in int8, for models of 16 hidden units: bytes of so few numbers are coarse.
/// Measured: 0.23.
const INT8_TOLERANCE: f32 = 0.3;

/// The rerankers of the newer families in `tests/golden/families/rerankers`, with the greatest difference from float64
/// in int8. Measured: 0.39, 0.81, 0.26, 0.11, 0.025, 0.095, 0.088, 0.035 and 0.074. The numbers are between -9 and 11,
/// and the models have 8 or 16 hidden units: bytes of so few numbers are coarse.
const FAMILIES: [(&str, f32); 9] = [
    ("modernbert-mean", 0.5),
    ("modernbert-cls", 1.0),
    ("gte-new", 0.35),
    ("gte-library", 0.15),
    ("xlm-roberta-8192", 0.04),
    ("qwen3-labels", 0.13),
    ("qwen3-words", 0.12),
    ("qwen3-one-word", 0.05),
    ("qwen3-labels-template", 0.1),
];

/// A pair with the number that transformers computes; see `tests/fixtures/rerankers.py`.
#[derive(serde::Deserialize)]
struct Golden {
    model: String,
    query: String,
    text: String,
    tokens: usize,
    tokens_total: usize,
    logit: f32,
}

fn golden(model: &str) -> Vec<Golden> {
    golden_in(&fixture("../rerankers.jsonl"), model)
}

fn golden_in(path: &Path, model: &str) -> Vec<Golden> {
    let lines = fs::read_to_string(path).expect("it is in the repository");
    let all = lines.lines().map(|line| serde_json::from_str::<Golden>(line).expect("a golden line"));
    all.filter(|line| line.model == model).collect()
}

fn fixture(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rerankers").join(model)
}

fn family(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/families/rerankers").join(model)
}

/// Starts the reranker in a directory, or one of its graphs.
fn start(directory: &Path, graph: Option<&str>, precision: Precision) -> Result<Reranker, String> {
    let kind = Kind::Reranker(graph.map(str::to_owned));
    let files = Files { kind: kind.clone(), ..Files::in_directory(directory) };
    let source = directory.display().to_string();
    let model = crate::model::Options { source, revision: None, offline: true, kind };
    let options = Options {
        specs: Vec::new(),
        model: embedder::Options {
            device: DeviceChoice::Cpu,
            backend: Backend::Candle,
            threads: 1,
            batch_tokens: None,
            precision,
            queue_tokens: 100_000,
            cache_bytes: 0,
            pools: Pools::new(1),
        },
        onnx: onnx::Options { runtime: onnx::Choice::Rten, threads: 1, ..Default::default() },
    };
    Reranker::start(&Spec { name: "tiny".to_owned(), model }, &files, &options).map_err(|error| error.to_string())
}

async fn score(reranker: &Reranker, query: &str, texts: &[&str]) -> Vec<Scored> {
    let texts = texts.iter().map(|&text| text.to_owned()).collect();
    let scored = reranker.score(query, texts, Truncation::End, REFUSE).await.expect("the queue is empty");
    scored.into_iter().map(|scored| scored.expect("the pair has a score")).collect()
}

/// Compares all pairs of a model with transformers. Returns the greatest difference.
async fn worst_difference(reranker: &Reranker, model: &str) -> f32 {
    let lines = golden(model);
    assert_eq!(lines.len(), 16, "{model}");
    worst_difference_of(reranker, model, &lines).await
}

async fn worst_difference_of(reranker: &Reranker, model: &str, lines: &[Golden]) -> f32 {
    let mut worst = 0.0f32;
    for lines in lines.chunk_by(|a, b| a.query == b.query) {
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        for (line, scored) in lines.iter().zip(score(reranker, &lines[0].query, &texts).await) {
            assert_eq!(
                (scored.tokens, scored.tokens_total),
                (line.tokens, line.tokens_total),
                "{model} {:?}",
                line.text
            );
            worst = worst.max((scored.logit - line.logit).abs());
        }
    }
    worst
}

#[tokio::test]
async fn each_family_gives_the_numbers_of_transformers_in_f32_and_nearly_those_in_int8() {
    for model in ["bert", "distilbert", "roberta", "mpnet"] {
        let worst = worst_difference(&start(&fixture(model), None, Precision::F32).unwrap(), model).await;
        assert!(worst <= TOLERANCE, "{model}: off by {worst:e}");
        let worst = worst_difference(&start(&fixture(model), None, Precision::Int8).unwrap(), model).await;
        assert!(worst <= INT8_TOLERANCE && worst > 0.0, "{model} in int8: off by {worst:e}");
    }
}

#[tokio::test]
async fn each_newer_family_gives_the_numbers_of_its_library_alone_and_in_a_batch() {
    for (model, of_int8) in FAMILIES {
        let lines = golden_in(&family("../rerankers.jsonl"), model);
        let is_cut = lines.iter().any(|line| line.tokens < line.tokens_total);
        assert!(lines.len() >= 10 && is_cut != model.ends_with("labels"), "{model}");
        for precision in [Precision::F32, Precision::Int8] {
            let reranker = start(&family(model), None, precision).unwrap_or_else(|error| panic!("{model}: {error}"));
            let worst = worst_difference_of(&reranker, model, &lines).await;
            println!("{model} in {precision}: off by {worst:e}");
            match precision {
                Precision::F32 => assert!(worst <= TOLERANCE, "{model}: off by {worst:e}"),
                _ => assert!(worst <= of_int8 && worst > 0.0, "{model} in int8: off by {worst:e}"),
            }
            let lines = lines.iter().filter(|line| line.query == lines[0].query && line.tokens < 1000);
            let texts: Vec<&str> = lines.map(|line| line.text.as_str()).collect();
            let together = score(&reranker, &golden_query(model), &texts).await;
            for (text, together) in texts.iter().zip(&together) {
                let alone = score(&reranker, &golden_query(model), &[text]).await;
                assert_eq!(&alone[0], together, "{model} in {precision}: {text:?}");
            }
        }
    }
}

/// Returns the first query of a model.
fn golden_query(model: &str) -> String {
    golden_in(&family("../rerankers.jsonl"), model).remove(0).query
}

#[tokio::test]
async fn a_graph_gives_the_same_numbers_and_is_found_without_its_name_if_there_is_nothing_else() {
    let graph = start(&fixture("bert"), Some("onnx/model.onnx"), Precision::F32).unwrap();
    assert!(graph.about().runtime.starts_with("rten ") && graph.about().precision == "onnx");
    let worst = worst_difference(&graph, "bert").await;
    assert!(worst <= TOLERANCE, "off by {worst:e}");
    let copy = copy("bert");
    fs::remove_file(copy.path().join("model.safetensors")).unwrap();
    let found = start(copy.path(), None, Precision::F32).unwrap();
    assert_eq!((found.about().runtime.as_str(), found.about().max_tokens), (graph.about().runtime.as_str(), 64));
}

#[tokio::test]
async fn a_pair_has_the_same_bits_alone_and_in_any_batch() {
    let lines = golden("roberta");
    let texts: Vec<&str> = lines[..8].iter().map(|line| line.text.as_str()).collect();
    for precision in [Precision::F32, Precision::Int8] {
        let reranker = start(&fixture("roberta"), None, precision).unwrap();
        let together = score(&reranker, "refund", &texts).await;
        for (text, together) in texts.iter().zip(&together) {
            assert_eq!(&score(&reranker, "refund", &[text]).await[0], together, "{precision} {text:?}");
        }
    }
}

#[tokio::test]
async fn the_query_and_the_text_are_not_interchangeable_and_the_function_is_the_configured_one() {
    let bert = start(&fixture("bert"), None, Precision::F32).unwrap();
    let (one, other) = (score(&bert, "refund", &["late"]).await[0], score(&bert, "late", &["refund"]).await[0]);
    assert_ne!(one.logit, other.logit);
    assert_eq!(one.score, one.logit, "identity");
    let distilbert = start(&fixture("distilbert"), None, Precision::F32).unwrap();
    let scored = score(&distilbert, "refund", &["late"]).await[0];
    let sigmoid = 1.0 / (1.0 + (-scored.logit).exp());
    assert!((scored.score - sigmoid).abs() < 1e-6 && distilbert.about().function == ScoreFunction::Sigmoid);
}

#[tokio::test]
async fn only_the_text_is_cut_and_a_query_without_room_for_it_is_an_error() {
    let reranker = start(&fixture("bert"), None, Precision::F32).unwrap();
    let long = "good ".repeat(100);
    let scored = score(&reranker, "refund", &[&long, "good"]).await;
    assert_eq!((scored[0].tokens, scored[0].tokens_total, scored[1].tokens), (64, 104, 5));
    let all = |query: &str, truncation| {
        let (query, long) = (query.to_owned(), long.clone());
        let reranker = reranker.clone();
        async move { reranker.score(&query, vec![long], truncation, REFUSE).await.unwrap().remove(0) }
    };
    let refused = all("refund", Truncation::Reject).await.unwrap_err();
    assert_eq!(refused, TextError::TooLong { tokens_total: 104, max_tokens: 64 });
    // 60 tokens and 3 special ones leave one for the text; 61 leave none.
    assert_eq!(all(&"good ".repeat(60), Truncation::End).await.unwrap().tokens, 64);
    let error = all(&"good ".repeat(61), Truncation::End).await.unwrap_err().to_string();
    assert!(error.starts_with("64 tokens, special tokens included, leave no room for a second text"), "{error}");
}

#[tokio::test]
async fn the_text_of_a_chat_is_cut_and_a_query_without_room_for_it_is_an_error() {
    let reranker = start(&family("qwen3-words"), None, Precision::F32).unwrap();
    let long = "fox ".repeat(600);
    let scored = score(&reranker, "hello", &[&long]).await[0];
    assert!(scored.tokens == 512 && scored.tokens_total > 512, "{scored:?}");
    let texts = vec!["fox".to_owned()];
    let refused = reranker.score(&long, texts, Truncation::End, REFUSE).await.unwrap().remove(0);
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("leave no room for a second text"), "{error}");
}

/// Copies a fixture, to be changed.
fn copy(model: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(model)).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), copy.path().join(entry.file_name()));
        if from.is_dir() {
            fs::create_dir(&to).unwrap();
            fs::copy(from.join("model.onnx"), to.join("model.onnx")).unwrap();
        } else {
            fs::copy(from, to).unwrap();
        }
    }
    copy
}

/// Starts a copy of a fixture with other fields in `config.json`, and returns the error.
fn refusal(model: &str, graph: Option<&str>, fields: Value, change: impl FnOnce(&Path)) -> String {
    let copy = copy(model);
    let path = copy.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    fs::write(&path, config.to_string()).unwrap();
    change(copy.path());
    start(copy.path(), graph, Precision::F32).err().expect("it cannot be served")
}

#[test]
fn a_directory_with_a_fault_is_refused_with_its_reason() {
    let unchanged = |_: &Path| ();
    let remove = |file: &'static str| move |directory: &Path| fs::remove_file(directory.join(file)).unwrap();
    let labels = json!({"id2label": {"0": "a", "1": "b"}});
    for (error, reason) in [
        (refusal("bert", None, labels, unchanged), "the number of labels (id2label) is 2, which is not supported"),
        (
            refusal("bert", None, json!({"architectures": ["BertModel"]}), unchanged),
            "architectures is BertModel, which is not supported; supported: BertForSequenceClassification",
        ),
        (
            refusal("bert", None, json!({"sbert_ce_default_activation_function": "torch.nn.Tanh"}), unchanged),
            "sbert_ce_default_activation_function is torch.nn.Tanh, which is not supported",
        ),
        (refusal("bert", None, json!({"model_type": "deberta-v2"}), unchanged), "model_type is deberta-v2"),
        (refusal("bert", None, json!({}), remove("tokenizer.json")), "tokenizer.json is missing"),
        (refusal("bert", None, json!({}), remove("config.json")), "config.json is missing"),
        (refusal("bert", None, json!({"vocab_size": 150}), unchanged), "the model has vectors for 150"),
        // The weights of another family have no such head.
        (
            refusal("roberta", None, json!({}), |directory| {
                fs::copy(fixture("distilbert").join("model.safetensors"), directory.join("model.safetensors")).unwrap();
            }),
            "model.safetensors does not fit config.json: cannot find tensor",
        ),
        (refusal("roberta", None, json!({}), with_types), "has type_vocab_size 1"),
        (
            refusal("bert", Some("onnx/model.onnx"), json!({}), |directory| {
                let three = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/bert/onnx/model.onnx");
                fs::copy(three, directory.join("onnx/model.onnx")).unwrap();
            }),
            "has 3 numbers for a pair, and must have 1",
        ),
    ] {
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

/// Makes a tokenizer give types that RoBERTa does not have.
fn with_types(directory: &Path) {
    fs::copy(fixture("bert").join("tokenizer.json"), directory.join("tokenizer.json")).unwrap();
    fs::remove_file(directory.join("tokenizer_config.json")).unwrap();
    let config = directory.join("config.json");
    let text = fs::read_to_string(&config).unwrap().replacen('{', "{\"tokenizer_class\": \"Any\",", 1);
    fs::write(config, text).unwrap();
}

#[test]
fn a_model_without_its_head_is_refused_by_the_name_of_the_tensor() {
    let error = refusal("distilbert", None, json!({}), |directory| {
        let path = directory.join("model.safetensors");
        let text = fs::read(&path).unwrap();
        // The names have the same length, so the offsets of the file stay right.
        let (old, new) = (b"\"pre_classifier.weight\"", b"\"pre_classifier.wei___\"");
        let at = text.windows(old.len()).position(|window| window == old).expect("the head is there");
        let mut changed = text.clone();
        changed[at..at + old.len()].copy_from_slice(new);
        fs::write(path, changed).unwrap();
    });
    assert!(error.contains("does not fit config.json: cannot find tensor pre_classifier.weight"), "{error}");
}

#[test]
fn pairs_are_ranked_by_number_and_equal_ones_keep_their_order() {
    let scored = |logit| Scored { logit, score: 1.0, tokens: 1, tokens_total: 1 };
    let mut results: Vec<(usize, Scored)> = [40.0, 50.0, 40.0, -1.0].into_iter().map(scored).enumerate().collect();
    rank(&mut results);
    assert_eq!(results.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [1, 0, 2, 3]);
}
