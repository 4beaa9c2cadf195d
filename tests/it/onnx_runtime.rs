//! ONNX Runtime, if its library is there: here it comes from Python's wheel and is found by its path. It gives the same
//! numbers as rten, for classifiers and for the embedding model itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use cognate::wire::InfoRequest;

use crate::classify::{assert_agrees_with_the_golden_file, flags, start};
use crate::embed::assert_agrees_with_the_reference;
use crate::harness::Server;
use crate::installed::{install, python, repository, target_dir};

/// The folder of the wheel that holds the library.
fn library() -> PathBuf {
    let code = "import importlib.util, pathlib; \
                print(pathlib.Path(importlib.util.find_spec('onnxruntime').origin).parent / 'capi')";
    let output = Command::new(python("tests/fixtures")).args(["-c", code]).output().expect("python runs");
    PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
}

/// The default model as an ONNX graph, written from its own weights.
fn embedding_model() -> PathBuf {
    let place = target_dir().join("minilm-onnx");
    let output = Command::new(env!("CARGO_BIN_EXE_cognate")).args(["model", "fetch"]).output().expect("it was built");
    let text = String::from_utf8(output.stdout).expect("text");
    let directory = text.lines().find_map(|line| line.strip_prefix("directory")).expect("the model's place").trim();
    if !place.join("onnx/model.onnx").is_file() {
        let mut make = Command::new(python("tests/fixtures"));
        let script = repository().join("tests/fixtures/embedding.py");
        install(make.arg(script).arg(directory).arg(&place), "tests/fixtures/requirements.txt");
    }
    place
}

async fn start_onnx(model: &Path, more: &[&str]) -> Server {
    let model = model.display().to_string();
    Server::start(&[&["--backend", "onnx", "--model", &model, "--classifier", "none"], more].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python and PyPI: cargo test -- --ignored"]
async fn onnx_runtime_gives_the_scores_of_the_golden_file_too() {
    let mut flags = flags("onnxruntime");
    flags.extend(["--onnxruntime".to_owned(), library().display().to_string()]);
    let server = start(&flags).await;
    assert_agrees_with_the_golden_file(&server).await;
    let info = server.client().await.info(InfoRequest {}).await.unwrap().into_inner();
    assert!(info.classifiers.iter().all(|classifier| classifier.runtime.starts_with("onnxruntime 1.")), "{info:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python and PyPI: cargo test -- --ignored"]
async fn an_embedding_model_as_a_graph_gives_the_reference_vectors_by_either_runtime() {
    let (model, library) = (embedding_model(), library().display().to_string());
    let mut fingerprints = Vec::new();
    for runtime in [&["--onnx-runtime", "rten"][..], &["--onnx-runtime", "onnxruntime", "--onnxruntime", &library]] {
        let server = start_onnx(&model, runtime).await;
        assert_agrees_with_the_reference(&server).await;
        let model = server.client().await.info(InfoRequest {}).await.unwrap().into_inner().model.expect("a model");
        assert_eq!((&*model.precision, &*model.device), ("onnx", "cpu"));
        fingerprints.push(model.fingerprint);
    }
    assert_eq!(fingerprints[0], fingerprints[1], "the runtime decides nothing");
}

#[test]
#[ignore = "needs Python and PyPI: cargo test -- --ignored"]
fn a_file_that_is_not_a_library_ends_the_start_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read_dir(library()).unwrap().map(|entry| entry.unwrap().path());
    let whole =
        whole.into_iter().find(|path| path.to_string_lossy().contains("libonnxruntime.so")).expect("the library");
    let (text, half) = (folder.path().join("libonnxruntime.so"), folder.path().join("half.so"));
    std::fs::write(&text, "not a library").unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    for path in [text, half, folder.path().join("nowhere.so")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
        command
            .args(["bench", "classify", "--texts", "1", "--onnx-runtime", "onnxruntime", "--onnxruntime"])
            .arg(&path);
        let output = command.output().expect("the binary was built with the tests");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{}: {text}", path.display());
        assert!(text.contains(&path.display().to_string()), "{text}");
    }
}
