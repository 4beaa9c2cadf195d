//! `cognate copy`: the copy is like the original, also after a crash in the middle, and what does not fit is refused
//! before anything is stored.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cognate::wire::{
    Collection, CountDocumentsRequest, CreateCollectionRequest, Document, ExportRequest, Lexical,
    ListCollectionsRequest, Passages, UploadRequest, Vector, VectorFormat,
};
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use crate::harness::{Server, document, new_texts, upload, upload_all};

/// Runs `cognate copy --json` on the servers. Returns its exit status, its line and its standard error.
fn copy(from: &str, to: &str, state: &Path, words: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(["copy", "--json", "--from", from, "--to", to, "--state-dir"]).arg(state).args(words);
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().expect("the binary was built");
    let line = serde_json::from_slice(&stdout).unwrap_or_default();
    (status.code(), line, String::from_utf8_lossy(&stderr).into_owned())
}

async fn described(server: &Server, name: &str) -> Collection {
    let listed = server.client().await.list_collections(ListCollectionsRequest::default()).await.unwrap().into_inner();
    listed.collections.into_iter().find(|collection| collection.name == name).expect("it exists")
}

/// All documents with the bits of their vectors.
async fn exported(server: &Server, collection: &str) -> Vec<Document> {
    let request = ExportRequest {
        collection: collection.to_owned(),
        with_vector: true,
        vector_format: VectorFormat::F32Bytes.into(),
        filter: None,
    };
    let parts = server.client().await.export(request).await.unwrap().into_inner();
    let parts: Vec<_> = parts.collect::<Result<_, _>>().await.unwrap();
    parts.into_iter().flat_map(|part| part.documents).collect()
}

async fn documents(server: &Server, collection: &str) -> u64 {
    let request = CountDocumentsRequest { collection: collection.to_owned(), filter: None };
    server.client().await.count_documents(request).await.map_or(0, |answer| answer.into_inner().documents)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_the_settings_the_documents_and_the_vectors_of_the_original() {
    let (from, to) = (Server::start(&[]).await, Server::start(&[]).await);
    let state = tempfile::tempdir().unwrap();
    let mut client = from.client().await;
    let create = CreateCollectionRequest {
        name: "c".to_owned(),
        passages: Some(Passages { enabled: Some(true), max_tokens: 64, overlap_tokens: Some(8) }),
        lexical: Some(Lexical { enabled: Some(true), language: "en".to_owned() }),
        ..CreateCollectionRequest::default()
    };
    client.create_collection(create).await.unwrap();
    let mut texts: Vec<Document> =
        new_texts(70, 4).iter().enumerate().map(|(n, text)| document(&format!("d{n:02}"), text)).collect();
    let fields = json!({ "k": [1, "two"], "deep": { "er": null } });
    texts[7].metadata = Some(cognate::wire::metadata::from_json(fields.as_object().unwrap()));
    texts.push(document("long", &"A train leaves the station. ".repeat(60)));
    upload(&mut client, "c", texts).await;

    let [from_addr, to_addr] = [&from, &to].map(|server| server.addr.to_string());
    let (code, line, said) = copy(&from_addr, &to_addr, state.path(), &["c", "--as", "d"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&line["documents"], &line["refused"], &line["copy"]), (&json!(71), &json!(0), &json!("d")));
    let (original, copied) = (described(&from, "c").await, described(&to, "d").await);
    assert_eq!((original.passages, &original.lexical), (copied.passages, &copied.lexical));
    assert!(original.passage_count == copied.passage_count && copied.passage_count > 75, "{copied:?}");
    assert!(exported(&from, "c").await == exported(&to, "d").await, "the same documents and bits");
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0, "a complete copy leaves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_a_crash_interrupts_is_continued_by_the_same_command() {
    const DOCUMENTS: u64 = 12_000;
    let folder = tempfile::tempdir().unwrap();
    let (state, data) = (folder.path().join("state"), folder.path().join("data"));
    let from = Server::start(&[]).await;
    let given = |n: u64| {
        let values = (0..384).map(|i| ((n * 31 + i * 17) % 101) as f32 - 50.5).collect();
        let vector = Some(Vector { values, ..Vector::default() });
        Document { vector, ..document(&format!("{n:06}"), "a text") }
    };
    let messages = (0..DOCUMENTS / 500).map(|message| UploadRequest {
        collection: "c".to_owned(),
        documents: (message * 500..(message + 1) * 500).map(given).collect(),
    });
    upload_all(&mut from.client().await, messages.collect()).await.unwrap();

    let to = Server::start(&["--data-dir", data.to_str().unwrap()]).await;
    let [from_addr, to_addr] = [&from, &to].map(|server| server.addr.to_string());
    let interrupted = std::thread::scope(|scope| {
        let copying = scope.spawn(|| copy(&from_addr, &to_addr, &state, &["c"]));
        let killing = async {
            while documents(&to, "c").await < 1_500 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(killing));
        to.kill();
        copying.join().unwrap()
    });
    let (code, line, said) = interrupted;
    assert_eq!(code, Some(2), "{line} {said}");
    assert!(
        line["error"].as_str().is_some_and(|error| error.ends_with("the same command continues the copy")),
        "{line}"
    );

    let mut again = Command::new(env!("CARGO_BIN_EXE_cognate"));
    again.args(["serve", "--addr", &to_addr, "--data-dir"]).arg(&data);
    let mut to = Server::of(again);
    to.wait_until_serving().await;
    let (code, line, said) = copy(&from_addr, &to_addr, &state, &["c"]);
    assert_eq!((code, line["documents"].as_u64()), (Some(0), Some(DOCUMENTS)), "{said}");
    let behind = said.split("behind ").nth(1).and_then(|rest| rest.split(' ').next()).expect("it continues");
    assert!(behind.replace(',', "").parse::<u64>().is_ok_and(|n| n >= 1_000 && n % 1_000 == 0), "{said}");
    assert!(exported(&from, "c").await == exported(&to, "c").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_before_anything_is_stored() {
    let (from, to) = (Server::start(&[]).await, Server::start(&["--max-text-bytes", "100"]).await);
    let folder = tempfile::tempdir().unwrap();
    let [from_addr, to_addr] = [&from, &to].map(|server| server.addr.to_string());
    let refused = |words: &[&str], to: &str, why: &[&str]| {
        let (code, line, said) = copy(&from_addr, to, folder.path(), words);
        assert_eq!((code, &line), (Some(2), &Value::Null), "{words:?}: {said}");
        why.iter().for_each(|why| assert!(said.contains(why), "{words:?}: {said}"));
    };
    refused(&["c"], &to_addr, &["has no collection \"c\"", "cognate collections --addr"]);
    let long = "a text ".repeat(20);
    let three = vec![document("a", "a text"), document("b", "a text"), document("c", &long)];
    upload(&mut from.client().await, "c", three).await;
    refused(&["c"], &from_addr, &["onto itself", "--as"]);

    let other = CreateCollectionRequest {
        name: "other".to_owned(),
        lexical: Some(Lexical { enabled: Some(false), ..Lexical::default() }),
        ..CreateCollectionRequest::default()
    };
    to.client().await.create_collection(other).await.unwrap();
    refused(&["c", "--as", "other"], &to_addr, &["another lexical index", "delete it"]);

    // A limit of the destination refuses one document, and the others are copied.
    let (code, line, said) = copy(&from_addr, &to_addr, folder.path(), &["c"]);
    assert_eq!((code, &line["documents"], &line["refused"]), (Some(1), &json!(2), &json!(1)), "{said}");
    assert!(said.contains("document \"c\" was refused"), "{said}");
    let difference = line["error"].as_str().unwrap();
    assert!(difference.contains("has 3 documents, and the copy 2"), "{difference}");
    refused(&["c"], &to_addr, &["has 2 documents already", "--merge"]);

    let int8 = Server::start(&["--precision", "int8"]).await;
    refused(&["c"], &int8.addr.to_string(), &["whose vectors cannot be compared", "cognate export c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_may_be_merged_into_a_collection_that_has_documents() {
    let (from, to) = (Server::start(&[]).await, Server::start(&[]).await);
    let state = tempfile::tempdir().unwrap();
    upload(&mut from.client().await, "c", vec![document("a", "new"), document("b", "new")]).await;
    upload(&mut to.client().await, "c", vec![document("a", "old"), document("z", "old")]).await;
    let [from_addr, to_addr] = [&from, &to].map(|server| server.addr.to_string());
    let (code, _, said) = copy(&from_addr, &to_addr, state.path(), &["c", "--merge"]);
    assert_eq!(code, Some(0), "{said}");
    let texts: Vec<_> = exported(&to, "c").await.into_iter().map(|found| found.text).collect();
    assert_eq!(texts, ["new", "new", "old"]);
}
