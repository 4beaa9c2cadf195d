//! The hub, played by a small server with faults.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;

use super::super::digest;
use super::super::layout::Kind;
use super::super::tests::write_model;
use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// The commit of the revision `next`, which has the same files.
const NEXT_COMMIT: &str = "76543210fedcba9876543210fedcba9876543210";

/// The paths of files that were asked for.
type Asked = Arc<Mutex<Vec<String>>>;

fn named(id: &str, revision: &str) -> Options {
    Options { source: id.to_owned(), revision: Some(revision.to_owned()), ..Options::default() }
}

/// Starts a hub with one model, `owner/name`, whose files are those of a folder. Large files are those of weights.
fn serve(model: PathBuf, asked: Asked) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (model, asked) = (model.clone(), Arc::clone(&asked));
            std::thread::spawn(move || answer(&model, &asked, &stream.unwrap()));
        }
    });
    address
}

/// One request, one response, as the hub gives it: a list of files, or a range of one file's bytes.
fn answer(model: &Path, asked: &Asked, mut stream: &TcpStream) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let target = request.split_whitespace().nth(1).unwrap();
    let path = target.split('?').next().unwrap();
    let commits = [("main", COMMIT), ("next", NEXT_COMMIT)];
    let is_of = |prefix: &str, revision: &str| path.strip_prefix(&format!("{prefix}{revision}"));
    let mut about = "connection: close\r\n".to_owned();
    let listed = commits.iter().find(|(name, _)| is_of("/api/models/owner/name/revision/", name) == Some(""));
    let file = commits.iter().find_map(|(_, commit)| Some((commit, is_of("/owner/name/resolve/", commit)?.get(1..)?)));
    let (status, body) = if let Some((_, commit)) = listed {
        ("200 OK", json!({ "id": "owner/name", "sha": commit, "siblings": files(model) }).to_string().into())
    } else if let Some((commit, file)) = file
        && let Ok(bytes) = std::fs::read(model.join(file))
    {
        asked.lock().unwrap().push(file.to_owned());
        let (first, last) = range(&headers);
        let last = last.min(bytes.len() - 1);
        let (total, etag) = (bytes.len(), digest_of(file, &bytes));
        about += &format!("etag: \"{etag}\"\r\nx-repo-commit: {commit}\r\n");
        about += &format!("content-range: bytes {first}-{last}/{total}\r\n");
        ("206 Partial Content", bytes[first..=last].to_vec())
    } else {
        ("404 Not Found", Vec::new())
    };
    let head = format!("HTTP/1.1 {status}\r\n{about}content-length: {}\r\n\r\n", body.len());
    // A client may be gone.
    stream.write_all(head.as_bytes()).ok();
    stream.write_all(&body).ok();
}

/// The digest by which the hub names a content: SHA-256 of weights, and for the others one as long as that of git.
fn digest_of(file: &str, bytes: &[u8]) -> String {
    let digest = digest::of_bytes(bytes);
    if file.ends_with(".safetensors") { digest } else { digest[..40].to_owned() }
}

/// The first and the last byte that a request asks for.
fn range(headers: &[String]) -> (usize, usize) {
    let range = headers.iter().find_map(|line| line.strip_prefix("range: bytes=")).expect("hf-hub asks for ranges");
    let (first, last) = range.split_once('-').unwrap();
    (first.parse().unwrap(), last.parse().unwrap())
}

fn files(model: &Path) -> serde_json::Value {
    let mut folders = vec![model.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(model).unwrap().to_str().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let mut file = json!({ "rfilename": name, "size": bytes.len(), "blobId": "a".repeat(40) });
            match digest_of(name, &bytes) {
                large if large.len() == 64 => file["lfs"] = json!({ "sha256": large }),
                small => file["blobId"] = small.into(),
            }
            files.push(file);
        }
    }
    files.into()
}

/// A hub with a whole model, and an empty cache.
struct Played {
    root: tempfile::TempDir,
    hub: Hub,
    asked: Asked,
}

impl Played {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        write_model(&root.path().join("model"));
        let asked = Asked::default();
        let address = serve(root.path().join("model"), Arc::clone(&asked));
        let hub = Hub::at(&address, &root.path().join("cache"), ANSWER_TIMEOUT);
        Self { root, hub, asked }
    }

    /// The path of a file of the model.
    fn file(&self, name: &str) -> PathBuf {
        self.root.path().join("model").join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::create_dir_all(self.file(name).parent().unwrap()).unwrap();
        std::fs::write(self.file(name), content).unwrap();
    }

    fn fetch(&self) -> Result<Snapshot, Reason> {
        self.hub.fetch(&named("owner/name", "main"), &mut |_| {})
    }

    /// The snapshot in the cache.
    fn cached(&self, kind: Kind) -> Snapshot {
        Cache::new(self.root.path().join("cache"), kind).find("owner/name", "main", None).unwrap()
    }
}

#[test]
fn a_model_is_downloaded_into_the_cache_without_what_nobody_needs() {
    let played = Played::new();
    for other in ["onnx/model.onnx", "pytorch_model.bin", "README.md", "onnx/config.json"] {
        played.write(other, "not needed");
    }
    let mut bytes = Vec::new();
    let mut note = |event: Event<'_>| {
        if let Event::Bytes { done, total } = event {
            bytes.push((done, total));
        }
    };
    let snapshot = played.hub.fetch(&named("owner/name", "main"), &mut note).unwrap();
    assert_eq!(snapshot.revision, COMMIT);
    assert_eq!(played.cached(Kind::Encoder), snapshot);
    for other in ["onnx", "pytorch_model.bin", "README.md"] {
        assert!(!snapshot.directory.join(other).exists(), "{other}");
    }
    assert!(bytes.is_sorted_by_key(|(done, _)| *done), "{bytes:?}");
    let (done, total) = *bytes.last().unwrap();
    assert!(done == total && total > 0, "{bytes:?}");
}

#[test]
fn a_classifier_is_downloaded_by_its_graph_and_another_graph_when_it_is_asked_for() {
    let played = Played::new();
    for file in ["onnx/model.onnx", "onnx/model_quantized.onnx"] {
        played.write(file, "a graph");
    }
    let mut seen = Vec::new();
    for file in [None, Some("onnx/model_quantized.onnx".to_owned())] {
        let kind = Kind::Classifier(file);
        let wanted = Options { kind: kind.clone(), ..named("owner/name", "main") };
        let snapshot = played.hub.fetch(&wanted, &mut |_| {}).unwrap();
        assert_eq!(played.cached(kind), snapshot);
        let there = |name: &str| snapshot.directory.join(name).exists();
        assert!(there("tokenizer.json") && there("onnx/model.onnx") && !there("model.safetensors"));
        seen.push(there("onnx/model_quantized.onnx"));
    }
    assert_eq!(seen, [false, true]);
}

#[test]
fn a_model_without_modules_is_found_in_the_cache_afterwards() {
    let played = Played::new();
    std::fs::remove_file(played.file("modules.json")).unwrap();
    let snapshot = played.fetch().unwrap();
    assert_eq!(played.cached(Kind::Encoder), snapshot);
}

#[test]
fn a_model_that_the_hub_has_without_safetensors_names_what_is_missing() {
    let played = Played::new();
    std::fs::remove_file(played.file("model.safetensors")).unwrap();
    let error = played.fetch().unwrap_err().to_string();
    assert!(error.contains("model.safetensors is missing"), "{error}");
}

#[test]
fn an_unknown_revision_or_model_is_said_so() {
    let played = Played::new();
    for (id, revision) in [("owner/name", "v9"), ("owner/other", "main")] {
        let error = played.hub.fetch(&named(id, revision), &mut |_| {}).unwrap_err();
        assert!(matches!(error, Reason::NotOnHub { .. }), "{id} {revision}: {error}");
    }
}

#[test]
fn a_hub_that_does_not_answer_is_given_up_soon() {
    let root = tempfile::tempdir().unwrap();
    // The system accepts connections, and the test never does.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let hub = Hub::at(&address, root.path(), Duration::from_millis(200));
    let started = Instant::now();
    let error = hub.fetch(&named("owner/name", "main"), &mut |_| {}).unwrap_err();
    assert!(matches!(error, Reason::NoAnswer(_)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn an_unreachable_hub_gives_the_systems_reason() {
    let root = tempfile::tempdir().unwrap();
    let error = Hub::nowhere(root.path()).fetch(&named("owner/name", "main"), &mut |_| {}).unwrap_err().to_string();
    assert!(error.to_lowercase().contains("refused"), "{error}");
}

#[tokio::test]
async fn fetching_works_from_a_blocking_thread_of_an_async_program() {
    let played = Played::new();
    let fetched = tokio::task::spawn_blocking(move || played.fetch().is_ok());
    assert!(fetched.await.unwrap());
}

#[test]
fn a_second_fetch_downloads_only_the_files_that_are_missing() {
    let played = Played::new();
    let first = played.fetch().unwrap();
    // The hub has another text under the same commit now, which no true hub does: who asks again would see it.
    played.write("config.json", "changed");
    std::fs::remove_file(first.directory.join("tokenizer.json")).unwrap();
    let second = played.fetch().unwrap();
    assert_eq!(first, second);
    assert!(second.directory.join("tokenizer.json").exists());
    assert_ne!(std::fs::read_to_string(second.directory.join("config.json")).unwrap(), "changed");
}

#[test]
fn content_that_another_revision_has_is_not_downloaded_again() {
    let played = Played::new();
    let first = played.fetch().unwrap();
    // One content is damaged, and one is new.
    let damaged = std::fs::canonicalize(first.directory.join("tokenizer.json")).unwrap();
    std::fs::write(damaged, "{").unwrap();
    played.write("config.json", "{\"changed\": true}");
    played.asked.lock().unwrap().clear();
    let next = played.hub.fetch(&named("owner/name", "next"), &mut |_| {}).unwrap();
    let mut asked = std::mem::take(&mut *played.asked.lock().unwrap());
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked, ["config.json", "tokenizer.json"]);
    for file in ["config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"] {
        let read = |path: PathBuf| std::fs::read(path).unwrap();
        assert_eq!(read(next.directory.join(file)), read(played.file(file)), "{file}");
        assert!(next.directory.join(file).is_symlink(), "{file}");
    }
    assert_eq!(
        next,
        Cache::new(played.root.path().join("cache"), Kind::Encoder).find("owner/name", "next", None).unwrap()
    );
}
