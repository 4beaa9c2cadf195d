//! The binary as a person or a script uses it.

use std::process::{Command, Output, Stdio};

use crate::harness::Server;

fn cognate(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(args).stdin(Stdio::null()).output().expect("the binary was built with the tests")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn all_mistakes_of_the_configuration_are_told_at_once() {
    let output = cognate(&["serve", "--threads", "many", "--max-k", "0", "--addr", "nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("3 mistakes"), "{text}");
    for flag in ["--threads", "--max-k", "--addr"] {
        assert!(text.contains(flag), "{flag} is not in: {text}");
    }
}

#[test]
fn a_device_that_is_not_there_fails_the_start_with_the_reason() {
    let output = cognate(&["serve", "--in-memory", "--addr", "127.0.0.1:0", "--device", "cuda:93"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("--device cpu"), "{text}");
}

#[test]
fn a_precision_of_accelerators_fails_the_start_on_a_cpu_with_those_of_a_cpu() {
    for precision in ["f16", "bf16"] {
        let flags = ["serve", "--in-memory", "--addr", "127.0.0.1:0", "--device", "cpu", "--precision", precision];
        let output = cognate(&flags);
        assert_eq!(output.status.code(), Some(2));
        let text = stderr(&output);
        assert!(text.contains(precision) && text.contains("--precision int8"), "{text}");
    }
}

#[test]
fn a_model_that_is_nowhere_fails_the_start_with_what_was_tried() {
    let output =
        cognate(&["serve", "--in-memory", "--addr", "127.0.0.1:0", "--offline", "--model", "nobody/has-this-model"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("nobody/has-this-model") && text.contains("offline"), "{text}");
    assert!(text.lines().count() < 24, "more than a screen:\n{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let server = Server::start(&[]).await;
    let addr = server.addr.to_string();
    let output = cognate(&["serve", "--in-memory", "--addr", &addr]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains(&addr) && text.contains("--addr"), "{text}");
}

/// Runs a client command against a server. Returns its standard output, line by line as JSON.
fn client(server: &Server, args: &[&str]) -> (Option<i32>, Vec<serde_json::Value>) {
    let output = cognate(&[args, &["--addr", &server.addr.to_string(), "--json"]].concat());
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    let json = lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    assert!(output.status.code() != Some(2), "{args:?}: {}", stderr(&output));
    (output.status.code(), json)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_uploaded_searched_listed_and_embedded() {
    let server = Server::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("animals.jsonl");
    let lines = [
        r#"{"id": "cat", "text": "a small animal that purrs", "metadata": {"legs": 4}}"#,
        r#"{"id": "fish", "text": "an animal that swims and has scales"}"#,
        "this is not JSON",
        r#"{"id": "", "text": "no id"}"#,
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let rejected = folder.path().join("rejected");
    let path = file.to_str().unwrap();
    let args = ["upload", path, "--collection", "animals", "--rejected", rejected.to_str().unwrap()];
    let (code, _) = client(&server, &args);
    assert_eq!(code, Some(1), "two lines are wrong");
    assert!(std::fs::read_to_string(&rejected).unwrap().contains("this is not JSON"));

    let (code, found) = client(&server, &["top-k", "something under water", "--collection", "animals", "-k", "1"]);
    assert_eq!((code, found.len()), (Some(0), 1));
    assert!(found[0].to_string().contains("fish"), "{found:?}");
    let varied = ["--group-by", "legs", "--group-size", "1", "--diversity", "0.3"];
    let (_, found) = client(&server, &[&["top-k", "an animal", "--collection", "animals"], &varied[..]].concat());
    let group = |id: &str| found.iter().find(|hit| hit["id"] == id).map(|hit| hit["group"].to_string());
    assert_eq!((group("cat"), group("fish")), (Some("4".to_owned()), Some("null".to_owned())), "{found:?}");
    let (_, collections) = client(&server, &["collections"]);
    assert_eq!((collections.len(), collections[0]["documents"].to_string()), (1, "2".to_owned()));
    let (_, info) = client(&server, &["info"]);
    assert!(info[0].to_string().contains("all-MiniLM-L6-v2"));
    let vectors = folder.path().join("vectors.npy");
    client(&server, &["embed", "one", "two", "three", "--output", vectors.to_str().unwrap()]);
    let npy = std::fs::read(&vectors).unwrap();
    let header = String::from_utf8_lossy(&npy[..128]).into_owned();
    assert!(header.contains("(3, 384)") && npy.len().is_multiple_of(64) && npy.len() > 3 * 384 * 4, "{header}");
    let (_, scores) = client(&server, &["similarity", "a cat", "a kitten"]);
    assert_eq!(scores.len(), 4);
    assert_eq!(client(&server, &["health"]).0, Some(0));
}

#[test]
fn the_demo_shows_everything_and_ends() {
    let output = cognate(&["demo", "--once", "--addr", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["5400 committed, 0 rejected", "aviator", "locomotive", "384 dimensions", "grpcurl -plaintext"] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}
