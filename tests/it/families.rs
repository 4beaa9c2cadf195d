//! The families of models and the modules of their pipelines: tiny models with random weights, and the vectors that
//! their own libraries give in float64. `tests/golden/families` has both, and says how they were made.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cognate::wire::{EmbedRequest, InfoRequest, InputType, embed_result};
use serde::Deserialize;

use crate::embed::values;
use crate::harness::{Server, dot};

/// The most by which a number may differ: f32 beside f64.
const TOLERANCE: f32 = 2e-5;

/// The least cosine of int8 to the reference, by base. Measured: 0.99975, 0.9966, 0.9971, 0.9982, 0.9988, 0.99978,
/// 0.99971, 0.99994. These models have 8 to 24 hidden units, and errors of int8 are less in wider ones.
const LEAST_INT8_COSINE: [(&str, f32); 8] = [
    ("bert", 0.9995),
    ("modernbert", 0.995),
    ("qwen3", 0.995),
    ("nomic-bert", 0.997),
    ("gte-new", 0.998),
    ("gemma3", 0.9995),
    ("gemma3-causal", 0.9995),
    ("xlm-roberta-8192", 0.9995),
];

/// A model with the vectors of its texts.
#[derive(Deserialize)]
struct Case {
    model: String,
    base: String,
    kind: String,
    texts: Vec<String>,
    vectors: Vec<Vec<f32>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/families")
}

fn cases() -> Vec<Case> {
    let lines = fs::read_to_string(folder().join("cases.jsonl")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => assert!(fs::copy(&path, &target).is_ok()),
        }
    }
}

impl Case {
    /// Puts the files of the model together.
    fn directory(&self) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        copy(&folder().join(&self.base), directory.path());
        copy(&folder().join("models").join(&self.model), directory.path());
        directory
    }

    async fn serve(&self, directory: &Path, precision: &str) -> Server {
        let directory = directory.display().to_string();
        let flags = ["--model", &directory, "--classifier", "none", "--offline", "true", "--precision", precision];
        Server::start(&[&flags[..], &["--embed-cache-bytes", "0"]].concat()).await
    }

    async fn embed(&self, server: &Server, texts: &[String]) -> Vec<Vec<f32>> {
        let input_type = match self.kind.as_str() {
            "query" => InputType::Query,
            "document" => InputType::Document,
            _ => InputType::Unspecified,
        };
        let request = EmbedRequest { texts: texts.to_vec(), input_type: input_type.into(), ..EmbedRequest::default() };
        let results = server.client().await.embed(request).await.unwrap().into_inner().results;
        results.iter().map(|result| values(result).to_vec()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_family_and_each_module_gives_the_vectors_of_its_library_alone_and_in_a_batch() {
    let mut fingerprints = HashSet::new();
    for case in cases() {
        let directory = case.directory();
        let server = case.serve(directory.path(), "f32").await;
        let together = case.embed(&server, &case.texts).await;
        for ((text, vector), expected) in case.texts.iter().zip(&together).zip(&case.vectors) {
            let name = &case.model;
            assert_eq!(vector.len(), expected.len(), "{name}");
            let worst = vector.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= TOLERANCE, "{name}, {text:?}: off by {worst:e}");
            let alone = case.embed(&server, std::slice::from_ref(text)).await;
            assert_eq!(&alone[0], vector, "{name}, {text:?}: other bits alone");
        }
        let model = server.client().await.info(InfoRequest {}).await.unwrap().into_inner().model.expect("a model");
        assert_eq!(model.dimensions as usize, case.vectors[0].len(), "{}", case.model);
        // A query and a document are texts of the same model.
        if case.kind != "document" {
            assert!(fingerprints.insert(model.fingerprint), "{} has the fingerprint of another model", case.model);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn int8_gives_nearly_the_vectors_of_each_pipeline() {
    let mut found = Vec::new();
    for (base, expected) in LEAST_INT8_COSINE {
        let mut least = f32::INFINITY;
        for case in cases().iter().filter(|case| case.base == base) {
            let directory = case.directory();
            let server = case.serve(directory.path(), "int8").await;
            for (vector, expected) in case.embed(&server, &case.texts).await.iter().zip(&case.vectors) {
                least = least.min(dot(vector, expected));
            }
        }
        found.push((base, least, expected));
    }
    println!("least cosines to f64: {found:?}");
    assert!(found.iter().all(|(_, least, expected)| least >= expected), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_without_tokens_or_without_a_direction_is_an_error_in_its_place() {
    let cases = cases();
    let case = cases.iter().find(|case| case.model == "model2vec-f32").expect("it is there");
    let directory = case.directory();
    let server = case.serve(directory.path(), "f32").await;
    let texts = ["hello", "", "unknown", "[PAD]"].map(str::to_owned).to_vec();
    let request = EmbedRequest { texts, ..EmbedRequest::default() };
    let results = server.client().await.embed(request).await.unwrap().into_inner().results;
    assert_eq!(values(&results[0]), case.embed(&server, &["hello".to_owned()]).await[0]);
    for (result, expected) in
        results[1..].iter().zip(["has no tokens", "has no tokens", "is zero and has no direction"])
    {
        let Some(embed_result::Result::Error(error)) = &result.result else { panic!("{result:?}") };
        // INVALID_ARGUMENT
        assert!(error.code == 3 && error.message.contains(expected), "{expected}: {error:?}");
    }
}

#[test]
fn a_model_of_static_vectors_has_one_precision_and_one_device() {
    let cases = cases();
    let directory = cases.iter().find(|case| case.model == "model2vec-f32").expect("it is there").directory();
    let model = directory.path().display().to_string();
    for (flag, value, expected) in [
        ("--precision", "int8", "int8 is for transformers; a model of static vectors keeps the numbers of its table"),
        ("--device", "cuda", "a model of static vectors runs on the CPU only, and the device is cuda:0"),
        ("--backend", "onnx", "config.json"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
        command.args(["serve", "--in-memory", "--addr", "127.0.0.1:0", "--classifier", "none", "--offline", "true"]);
        let output = command.args(["--model", &model, flag, value]).output().expect("the binary was built");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(expected), "{flag} {value}: {text}");
    }
}
