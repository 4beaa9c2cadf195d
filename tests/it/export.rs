//! Exports: one moment of a collection, in lines that create the same collection again.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use cognate::wire::filter::Condition;
use cognate::wire::{DeleteCollectionRequest, Document, ExportRequest, ExportResponse, Filter, ListDocumentsRequest};
use futures::StreamExt;
use tonic::{Code, Status};

use crate::harness::{Server, document, upload};

fn cognate(server: &Server, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(args).args(["--addr", &server.addr.to_string()]).output().expect("the binary was built with the tests")
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("JSON is UTF-8")
}

/// Creates a document with a vector of its own, so that nothing is embedded.
fn version(n: u32, version: u32) -> Document {
    let values = (0..384).map(|d| ((n * 31 + version * 17 + d * 7) % 101) as f32 - 50.0).collect();
    let vector = cognate::wire::Vector { values, ..Default::default() };
    let metadata =
        serde_json::json!({ "version": version, "parity": if n.is_multiple_of(2) { "even" } else { "odd" } });
    let metadata = cognate::wire::metadata::from_json(metadata.as_object().expect("it is one"));
    Document {
        metadata: Some(metadata),
        vector: Some(vector),
        ..document(&format!("d{n:04}"), &format!("version {version}"))
    }
}

async fn parts(server: &Server, request: ExportRequest) -> Result<Vec<ExportResponse>, Status> {
    let parts = server.client().await.export(request).await?.into_inner();
    parts.collect::<Vec<_>>().await.into_iter().collect()
}

fn whole(collection: &str) -> ExportRequest {
    ExportRequest { collection: collection.to_owned(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_one_moment_of_a_collection_that_changes_meanwhile() {
    const DOCUMENTS: u32 = 3_000;
    // Messages are small, so that the export takes many.
    let server = Server::start(&["--max-message-bytes", "512KiB"]).await;
    let mut client = server.client().await;
    let all = |v| (0..DOCUMENTS).map(move |n| version(n, v)).collect::<Vec<_>>();
    let replace = async |client: &mut _, v| {
        for some in all(v).chunks(100) {
            upload(client, "c", some.to_vec()).await;
        }
    };
    replace(&mut client, 0).await;
    let mut replacing = client.clone();
    let replacing = async {
        for v in 1..4 {
            replace(&mut replacing, v).await;
        }
    };
    let exporting = async {
        let mut moments = Vec::new();
        for _ in 0..6 {
            let request = ExportRequest { with_vector: true, ..whole("c") };
            let mut stream = client.export(request).await.unwrap().into_inner();
            let (mut versions, mut ids, mut messages) = (Vec::new(), Vec::new(), 0);
            while let Some(part) = stream.next().await {
                let part = part.unwrap();
                assert_eq!(part.total, u64::from(DOCUMENTS));
                messages += 1;
                // Documents keep changing between the messages.
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                for document in part.documents {
                    versions.push(document.text[8..].parse::<u32>().unwrap());
                    assert_eq!(document.vector.as_ref().map(|vector| vector.values.len()), Some(384));
                    ids.push(document.id);
                }
            }
            assert!(messages > 10, "{messages} messages");
            assert_eq!(ids, (0..DOCUMENTS).map(|n| format!("d{n:04}")).collect::<Vec<_>>(), "each once, in order");
            moments.push(versions);
        }
        moments
    };
    let ((), moments) = futures::join!(replacing, exporting);
    // Documents are replaced in the order of their ids, so at any moment new ones come first and old ones after them.
    for versions in &moments {
        let changes = versions.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let falls_by_one = versions.windows(2).all(|pair| pair[0] == pair[1] || pair[0] == pair[1] + 1);
        assert!(changes <= 1 && falls_by_one, "{changes} changes of version");
    }
    assert!(moments.iter().any(|versions| versions.first() != versions.last()), "one was taken between two versions");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_keeps_to_its_filter_and_goes_on_when_its_collection_is_gone() {
    let server = Server::start(&["--max-message-bytes", "64KiB"]).await;
    let mut client = server.client().await;
    for chunk in (0..500).map(|n| version(n, n % 3)).collect::<Vec<_>>().chunks(30) {
        upload(&mut client, "c", chunk.to_vec()).await;
    }
    let filter = Filter { condition: Some(Condition::Text("parity = even and version >= 1".to_owned())) };
    let some = parts(&server, ExportRequest { filter: Some(filter), ..whole("c") }).await.unwrap();
    let ids: Vec<String> = some.iter().flat_map(|part| &part.documents).map(|document| document.id.clone()).collect();
    let expected: Vec<String> = (0..500).filter(|n| n % 2 == 0 && n % 3 >= 1).map(|n| format!("d{n:04}")).collect();
    assert_eq!(ids, expected);
    assert!(some.iter().all(|part| part.total == expected.len() as u64));
    assert!(some[0].documents[0].vector.is_none(), "nobody asked for vectors");

    let nothing = Filter { condition: Some(Condition::Text("version = 9".to_owned())) };
    let nothing = parts(&server, ExportRequest { filter: Some(nothing), ..whole("c") }).await.unwrap();
    assert_eq!(nothing, [ExportResponse { documents: vec![], total: 0 }], "the one message says that this is all");
    let wrong = Filter { condition: Some(Condition::Text("parity =".to_owned())) };
    let wrong = parts(&server, ExportRequest { filter: Some(wrong), ..whole("c") }).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument, "{wrong:?}");

    let mut stream = client.export(ExportRequest { with_vector: true, ..whole("c") }).await.unwrap().into_inner();
    let mut got = stream.next().await.unwrap().unwrap().documents.len();
    client.delete_collection(DeleteCollectionRequest { name: "c".to_owned() }).await.unwrap();
    while let Some(part) = stream.next().await {
        got += part.unwrap().documents.len();
    }
    assert_eq!(got, 500, "what was there at the moment of the export");
    assert_eq!(parts(&server, whole("c")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_uploaded_again_makes_the_same_collection_to_the_bit() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let metadata =
        serde_json::json!({ "n": [1, 2.5, -1e-300], "deep": { "er": null }, "text": "not the text", "é": true });
    let metadata = cognate::wire::metadata::from_json(metadata.as_object().unwrap());
    let mut documents = vec![
        Document { metadata: Some(metadata), ..document("é/1", "Grüße\n\t\"quoted\" \u{2028}\u{1F600}") },
        Document { metadata: Some(prost_types::Struct::default()), ..document("empty metadata", "a text") },
        Document { text: String::new(), ..version(7, 1) },
    ];
    documents.extend((0..200).map(|n| document(&format!("e{n}"), &format!("text number {n}"))));
    documents.extend((0..200).map(|n| version(n, 2)));
    upload(&mut client, "first", documents).await;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("first.jsonl");
    let path = file.to_str().unwrap();
    let said = succeeded(cognate(&server, &["export", "first", "--with-vectors", "--output", path, "--json"]));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    succeeded(cognate(&server, &["upload", path, "--collection", "second"]));
    let all = async |collection: &str| {
        let mut client = server.client().await;
        let request = ListDocumentsRequest {
            collection: collection.to_owned(),
            page_size: 1_000,
            with_vector: true,
            ..Default::default()
        };
        let documents = client.list_documents(request).await.unwrap().into_inner().documents;
        documents.into_iter().map(|document| (document.id.clone(), document)).collect::<BTreeMap<_, _>>()
    };
    let (first, second) = (all("first").await, all("second").await);
    assert_eq!(said["documents"], first.len());
    assert!(first.len() > 400 && first == second, "ids, texts, metadata and every bit of the vectors");

    let lines = succeeded(cognate(&server, &["export", "first", "--where", "parity = odd", "--where", "version = 2"]));
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 100);
    let names = |line: &serde_json::Value| line.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert!(lines.iter().all(|line| names(line) == ["id", "metadata", "text"]), "{:?}", lines[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_fails_leaves_the_file_as_it_was() {
    let server = Server::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.jsonl");
    std::fs::write(&file, "of yesterday").unwrap();
    let output = cognate(&server, &["export", "nobody", "--output", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("NOT_FOUND"), "{output:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "of yesterday");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_where_it_is_sent_and_leaves_what_is_there_as_it_is() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    let server = Server::start(&[]).await;
    upload(&mut server.client().await, "c", (0..50).map(|n| version(n, 1)).collect()).await;
    let lines = succeeded(cognate(&server, &["export", "c"]));
    assert_eq!(lines.lines().count(), 50);
    assert_eq!(succeeded(cognate(&server, &["export", "c", "--output", "-"])), lines);

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let export = |name: &str| succeeded(cognate(&server, &["export", "c", "--output", path(name).to_str().unwrap()]));
    std::fs::write(path("target"), "of yesterday").unwrap();
    std::fs::set_permissions(path("target"), std::fs::Permissions::from_mode(0o600)).unwrap();
    symlink("target", path("link")).unwrap();
    export("link");
    assert!(path("link").is_symlink());
    assert_eq!(std::fs::read_to_string(path("target")).unwrap(), lines);
    assert_eq!(std::fs::metadata(path("target")).unwrap().permissions().mode() & 0o777, 0o600);

    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    let reading = std::thread::spawn({
        let pipe = path("pipe");
        move || std::fs::read_to_string(pipe).unwrap()
    });
    export("pipe");
    assert_eq!(reading.join().unwrap(), lines);
    assert!(std::fs::metadata(path("pipe")).unwrap().file_type().is_fifo());
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["link", "pipe", "target"], "nothing else is left");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_export_leaves_nothing_half_done() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    for some in (0..4_000).map(|n| version(n, 1)).collect::<Vec<_>>().chunks(200) {
        upload(&mut client, "c", some.to_vec()).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.jsonl");
    // Not SIGINT or SIGHUP: a shell may ignore them for tests that run in the background.
    for _ in 0..3 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
        command.args(["export", "c", "--with-vectors", "--addr", &server.addr.to_string(), "--output"]).arg(&file);
        let mut child =
            command.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().unwrap();
        while std::fs::read_dir(folder.path()).unwrap().count() == 0 && child.try_wait().unwrap().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        let code = child.wait().unwrap().code();
        // The file is whole if the signal came too late.
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.is_empty() || (code == Some(0) && left == ["c.jsonl"]), "{code:?}, {left:?}");
        let _ = std::fs::remove_file(&file);
    }
}
