//! The promise of `committed`: documents are on disk, survive a kill, and are there whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::metadata::{from_json, to_json};
use cognate::wire::query::Query as Asked;
use cognate::wire::{
    CreateCollectionRequest, DeleteCollectionRequest, DeleteDocumentsRequest, Document, GetDocumentsRequest,
    InfoRequest, ListCollectionsRequest, ListDocumentsRequest, Passage, Query, SearchMode, TopKRequest,
    UpdateDocumentsRequest, UploadRequest, Vector,
};
use futures::StreamExt;
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{Server, document, dot, upload};

/// Returns the directory as the value of a flag.
fn flag(directory: &tempfile::TempDir) -> &str {
    directory.path().to_str().expect("temporary directories have plain names")
}

/// Creates a document with a vector of its own, so that nothing is embedded.
fn with_vector(id: &str, text: &str, seed: u32) -> Document {
    let mut random = fastrand::Rng::with_seed(seed.into());
    let values = (0..384).map(|_| 2.0 * random.f32() - 1.0).collect();
    Document { vector: Some(Vector { values, ..Vector::default() }), ..document(id, text) }
}

/// Creates a version of a document whose vectors follow from its seed. One version in three has two to five passages.
fn version(id: &str, seed: u32) -> Document {
    let text = format!("version {seed}");
    if !seed.is_multiple_of(3) {
        return with_vector(id, &text, seed);
    }
    let passage = |n: u32| {
        let vector = with_vector(id, "", seed + 1_000_003 * n).vector;
        Passage { start: n, end: n + 4, vector, ..Passage::default() }
    };
    Document { passages: (0..2 + seed % 4).map(passage).collect(), ..document(id, &text) }
}

/// Checks that each document of a collection is a version as it was sent, with all its passages and vectors.
async fn check_versions(client: &mut CognateClient<Channel>, ids: &[String], at: &str) {
    for ids in ids.chunks(100) {
        let request = GetDocumentsRequest {
            collection: "c".to_owned(),
            ids: ids.to_vec(),
            with_vector: true,
            ..Default::default()
        };
        let found = client.get_documents(request).await.unwrap().into_inner().documents;
        assert_eq!(found.len(), ids.len(), "{at}");
        for document in found {
            let seed = document.text.strip_prefix("version ").and_then(|seed| seed.parse().ok()).expect("a version");
            let sent = version(&document.id, seed);
            let spans = |document: &Document| document.passages.iter().map(|p| (p.start, p.end)).collect::<Vec<_>>();
            assert_eq!(spans(&document), spans(&sent), "{at}: {}", document.id);
            let vectors = |document: &Document| {
                let passages = document.passages.iter().filter_map(|passage| passage.vector.clone());
                document.vector.iter().cloned().chain(passages).map(|vector| vector.values).collect::<Vec<_>>()
            };
            for (is, was) in vectors(&document).iter().zip(vectors(&sent)) {
                assert!(dot(is, &was) / dot(&was, &was).sqrt() > 0.9999, "{at}: {}", document.id);
            }
        }
    }
}

/// Checks that words find each document by the number in its text, and no version that was replaced or removed.
/// `known`: id to text, with metadata behind it.
async fn check_words(client: &mut CognateClient<Channel>, known: &BTreeMap<String, String>, at: &str) {
    let queries = |texts: &mut dyn Iterator<Item = &String>| {
        let query = |text: &String| Query { query: Some(Asked::Text(text.clone())), ..Default::default() };
        texts.map(query).collect::<Vec<_>>()
    };
    let text = |known: &String| known.split('{').next().unwrap_or_default().to_owned();
    let texts: Vec<String> = known.values().map(text).collect();
    for texts in texts.chunks(100) {
        let request = TopKRequest {
            collection: "c".to_owned(),
            queries: queries(&mut texts.iter()),
            k: 1,
            with_text: true,
            mode: SearchMode::Lexical.into(),
            ..TopKRequest::default()
        };
        let results = client.top_k(request).await.unwrap().into_inner().results;
        for (text, result) in texts.iter().zip(results) {
            assert_eq!(result.hits.first().map(|hit| &hit.text), Some(text), "{at}");
        }
    }
    let request = TopKRequest {
        collection: "c".to_owned(),
        queries: queries(&mut [&"version".to_owned()].into_iter()),
        k: 1_000,
        mode: SearchMode::Lexical.into(),
        ..TopKRequest::default()
    };
    let results = client.top_k(request).await.unwrap().into_inner().results;
    let ids: BTreeSet<&String> = results[0].hits.iter().map(|hit| &hit.id).collect();
    assert_eq!(ids, known.keys().collect(), "{at}");
}

/// Returns every document of a collection: id to text and, if it has some, metadata.
async fn contents(client: &mut CognateClient<Channel>, collection: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = ListDocumentsRequest {
            collection: collection.to_owned(),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let page = match client.list_documents(request).await {
            Ok(page) => page.into_inner(),
            Err(status) if status.code() == Code::NotFound => return all,
            Err(status) => panic!("{status:?}"),
        };
        let state = |document: Document| {
            let metadata = document.metadata.map(|metadata| Value::Object(to_json(&metadata).unwrap()));
            (document.id, document.text + &metadata.map(|metadata| metadata.to_string()).unwrap_or_default())
        };
        all.extend(page.documents.into_iter().map(state));
        if page.next_page_token.is_empty() {
            return all;
        }
        page_token = page.next_page_token;
    }
}

/// Returns, for each id, the id of the document that is nearest to it.
async fn nearest(client: &mut CognateClient<Channel>, collection: &str, ids: &[String]) -> Vec<String> {
    let queries = ids.iter().map(|id| Query { query: Some(Asked::Id(id.clone())), ..Default::default() }).collect();
    let request = TopKRequest { collection: collection.to_owned(), queries, k: 1, ..TopKRequest::default() };
    let results = client.top_k(request).await.unwrap().into_inner().results;
    results.into_iter().map(|mut result| result.hits.remove(0).id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_documents_are_there_after_a_kill_and_deleted_ones_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--data-dir", flag(&directory)]).await;
    let mut client = server.client().await;
    let documents = (0..300).map(|n| document(&format!("d{n:03}"), &format!("the number {n}"))).collect();
    assert_eq!(upload(&mut client, "numbers", documents).await.committed, 300);
    assert_eq!(upload(&mut client, "numbers", vec![document("d007", "an agent")]).await.committed, 1);
    let ids = vec!["d001".to_owned(), "d002".to_owned(), "none".to_owned()];
    let request = DeleteDocumentsRequest { collection: "numbers".to_owned(), ids, filter: None };
    assert_eq!(client.delete_documents(request).await.unwrap().into_inner().deleted, ["d001", "d002"]);
    let create = |name: &str| CreateCollectionRequest { name: name.to_owned(), ..Default::default() };
    client.create_collection(create("empty")).await.unwrap();
    client.create_collection(create("gone")).await.unwrap();
    client.delete_collection(DeleteCollectionRequest { name: "gone".to_owned() }).await.unwrap();
    let before = contents(&mut client, "numbers").await;
    let question = |client: &CognateClient<Channel>| {
        let mut client = client.clone();
        async move {
            let queries = vec![Query { query: Some(Asked::Text("James Bond".to_owned())), ..Default::default() }];
            let request = TopKRequest { collection: "numbers".to_owned(), queries, k: 5, ..TopKRequest::default() };
            client.top_k(request).await.unwrap().into_inner()
        }
    };
    let found = question(&client).await;
    server.kill();

    let server = Server::start(&["--data-dir", flag(&directory)]).await;
    let mut client = server.client().await;
    let after = contents(&mut client, "numbers").await;
    assert_eq!(after, before);
    assert_eq!((after.len(), &*after["d007"]), (298, "an agent"));
    assert_eq!(question(&client).await, found, "the same hits with the same scores");
    let ids: Vec<String> = after.keys().cloned().collect();
    assert_eq!(nearest(&mut client, "numbers", &ids).await, ids, "each is found by its own vector");
    let listed = client.list_collections(ListCollectionsRequest::default()).await.unwrap().into_inner().collections;
    let names: Vec<(&str, u64)> = listed.iter().map(|c| (&*c.name, c.documents)).collect();
    assert_eq!(names, [("empty", 0), ("numbers", 298)]);
    let model = client.info(InfoRequest {}).await.unwrap().into_inner().model.unwrap();
    assert!(listed.iter().all(|c| c.model_fingerprint == model.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_a_directory_is_refused_and_the_first_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let first = Server::start(&["--data-dir", flag(&directory)]).await;
    let mut second = Server::spawn(&["--data-dir", flag(&directory)]);
    assert_eq!(second.exit_code().await, Some(2));
    tokio::time::sleep(Duration::from_millis(100)).await; // for the last lines of its log
    let log = second.log();
    assert!(log.contains(flag(&directory)) && log.contains("in use by another process"), "{log}");
    assert!(log.contains(&first.process().to_string()), "which process: {log}");
    assert_eq!(upload(&mut first.client().await, "c", vec![document("a", "a text")]).await.committed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_ends_the_start_with_what_to_do_and_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--data-dir", flag(&directory)]).await;
    let documents = (0..50).map(|n| with_vector(&format!("d{n}"), "a text that is easily found", n)).collect();
    upload(&mut server.client().await, "c", documents).await;
    server.kill();
    let file = directory.path().join("documents.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let text = b"a text that is easily found";
    // Replaced pages keep their old contents, so every copy is changed.
    let places: Vec<usize> = (0..bytes.len() - text.len()).filter(|&at| bytes[at..].starts_with(text)).collect();
    assert!(places.len() >= 50);
    places.iter().for_each(|&at| bytes[at] ^= 1);
    std::fs::write(&file, &bytes).unwrap();

    let mut server = Server::spawn(&["--data-dir", flag(&directory)]);
    assert_eq!(server.exit_code().await, Some(2));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let log = server.log();
    assert!(log.contains("documents.redb") && log.contains("damaged"), "{log}");
    assert!(log.contains("backup"), "what to do: {log}");
    assert!(log.lines().count() < 24, "one screen: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_at_one_time_to_one_collection_lose_nothing_and_share_commits() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--data-dir", flag(&directory)]).await;
    let uploads = (0..8u32).map(|stream| {
        let server = &server;
        async move {
            let mut client = server.client().await;
            for n in 0..20 {
                let document = with_vector(&format!("{stream}-{n}"), "", 100 * stream + n);
                assert_eq!(upload(&mut client, "c", vec![document]).await.committed, 1);
            }
        }
    });
    futures::future::join_all(uploads).await;
    let before = contents(&mut server.client().await, "c").await;
    assert_eq!(before.len(), 160);
    server.kill();
    let server = Server::start(&["--data-dir", flag(&directory)]).await;
    assert_eq!(contents(&mut server.client().await, "c").await, before);
}

/// The knowledge of a client about a collection: the acknowledged state, and the operation in progress.
#[derive(Default)]
struct Oracle {
    known: BTreeMap<String, String>,
    /// The states that each document may have if the operation without an answer took effect.
    perhaps: BTreeMap<String, Option<String>>,
    /// The number of versions that were sent. No two have equal vectors, so each is the nearest to itself.
    versions: u32,
}

impl Oracle {
    /// The next version of a document.
    fn version(&mut self, id: &str) -> Document {
        self.versions += 1;
        version(id, self.versions)
    }

    /// Compares with the contents after a restart, and takes these as known.
    fn check(&mut self, found: BTreeMap<String, String>, round: usize, seed: u32) {
        let at = format!("kill {round}, seed {seed}");
        let ids: BTreeSet<&String> = self.known.keys().chain(found.keys()).collect();
        for id in ids {
            let (was, is) = (self.known.get(id), found.get(id));
            let perhaps = self.perhaps.get(id);
            let allowed = was == is || perhaps.is_some_and(|perhaps| perhaps.as_ref() == is);
            assert!(allowed, "{at}: {id} was {was:?}, is {is:?}, and could have become {perhaps:?}");
        }
        // A message is one chunk, and a chunk is one commit: it is there whole or not at all.
        let applied = |(id, after): (&String, &Option<String>)| found.get(id) == after.as_ref();
        let count = self.perhaps.iter().filter(|&change| applied(change)).count();
        let unchanged = |(id, _): &(&String, &Option<String>)| found.get(*id) == self.known.get(*id);
        let none = self.perhaps.iter().all(|change| unchanged(&change));
        assert!(none || count == self.perhaps.len(), "{at}: half of a batch: {:?}", self.perhaps);
        self.known = found;
        self.perhaps.clear();
    }
}

/// Changes the collection until the server is gone. Notes each operation before it is sent, and its result after it is
/// answered.
async fn disturb(client: &mut CognateClient<Channel>, oracle: &mut Oracle, random: &mut impl FnMut(u32) -> u32) {
    loop {
        oracle.perhaps.clear();
        let what = random(8);
        let n = if what < 2 { 5 } else { 20 };
        let ids: BTreeSet<String> = (0..n).map(|_| format!("d{}", random(200))).collect();
        let ids: Vec<String> = ids.into_iter().collect();
        if what < 2 {
            oracle.perhaps.extend(ids.iter().map(|id| (id.clone(), None)));
            let request = DeleteDocumentsRequest { collection: "c".to_owned(), ids, filter: None };
            match client.delete_documents(request).await {
                Ok(_) => {}
                Err(status) if status.code() == Code::NotFound => {} // no upload yet
                Err(_) => return,
            }
        } else if what < 4 {
            let mark = json!({ "mark": random(1_000_000) });
            let updated =
                |text: &String| Some(text.split('{').next().unwrap_or_default().to_owned() + &mark.to_string());
            let known = ids.iter().filter_map(|id| Some((id.clone(), updated(oracle.known.get(id)?))));
            oracle.perhaps.extend(known);
            let patch = mark.as_object().map(from_json);
            let request = UpdateDocumentsRequest { collection: "c".to_owned(), ids, filter: None, patch };
            match client.update_documents(request).await {
                Ok(answer) => assert_eq!(answer.into_inner().documents as usize, oracle.perhaps.len()),
                Err(status) if status.code() == Code::NotFound => {} // no upload yet
                Err(_) => return,
            }
        } else {
            let documents: Vec<Document> = ids.iter().map(|id| oracle.version(id)).collect();
            oracle.perhaps.extend(documents.iter().map(|d| (d.id.clone(), Some(d.text.clone()))));
            let message = UploadRequest { collection: "c".to_owned(), documents };
            let Ok(responses) = client.upload(tokio_stream::iter([message])).await else { return };
            let responses: Vec<_> = responses.into_inner().collect().await;
            if !responses
                .iter()
                .any(|response| response.as_ref().is_ok_and(|r| r.committed as usize == oracle.perhaps.len()))
            {
                return;
            }
        }
        for (id, after) in std::mem::take(&mut oracle.perhaps) {
            match after {
                Some(text) => oracle.known.insert(id, text),
                None => oracle.known.remove(&id),
            };
        }
    }
}

/// `COGNATE_KILLS` sets the number of kills; a release takes 500.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a start of the server for each kill; .ci/run has a step for it"]
async fn crashes_at_any_moment_lose_nothing_that_was_acknowledged() {
    let kills = std::env::var("COGNATE_KILLS").map_or(50, |kills| kills.parse().expect("COGNATE_KILLS is a number"));
    let seed = std::env::var("COGNATE_SEED").map_or_else(|_| std::process::id(), |s| s.parse().expect("a number"));
    println!("seed {seed}");
    let mut state = u64::from(seed) | 1;
    let mut random = move |below: u32| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as u32 % below
    };
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", flag(&directory), "--min-free-bytes", "1MiB"];
    let mut oracle = Oracle::default();
    for round in 0..kills {
        if random(5) == 0 {
            // Kills it during a start: while it reads, or repairs after the kill before.
            let server = Server::spawn(&flags);
            tokio::time::sleep(Duration::from_millis(random(300).into())).await;
            server.kill();
        }
        let (code, said) = cognate(&["verify", "--data-dir", flag(&directory)]);
        assert_eq!(code, Some(0), "kill {round}, seed {seed}: {said}");
        let server = Server::start(&flags).await;
        let mut client = server.client().await;
        oracle.check(contents(&mut client, "c").await, round, seed);
        let ids: Vec<String> = oracle.known.keys().cloned().collect();
        if !ids.is_empty() {
            assert_eq!(nearest(&mut client, "c", &ids).await, ids, "each is found by its own vectors");
            check_versions(&mut client, &ids, &format!("kill {round}, seed {seed}")).await;
            check_words(&mut client, &oracle.known, &format!("kill {round}, seed {seed}")).await;
        }
        let after = Duration::from_millis(random(400).into());
        let disturbing = async { disturb(&mut client, &mut oracle, &mut random).await };
        let killing = async {
            tokio::time::sleep(after).await;
            server.kill();
        };
        futures::join!(disturbing, killing);
    }
    let server = Server::start(&flags).await;
    oracle.check(contents(&mut server.client().await, "c").await, kills, seed);
    assert!(!oracle.known.is_empty(), "nothing was ever stored");
}

/// Runs a command of the command line. Returns its exit code and its whole output.
fn cognate(args: &[&str]) -> (Option<i32>, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_cognate")).args(args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_server_is_restored_with_every_document_and_vector() {
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(&["--data-dir", flag(&directory)]).await;
    let mut client = server.client().await;
    let documents = (0..500).map(|n| with_vector(&format!("d{n}"), &format!("text {n}"), n)).collect();
    upload(&mut client, "c", documents).await;
    let before = contents(&mut client, "c").await;
    let (file, restored) = (elsewhere.path().join("b.redb"), elsewhere.path().join("data"));
    let (file, restored) = (file.to_str().unwrap(), restored.to_str().unwrap());
    let addr = server.addr.to_string();
    let uploading = async {
        for n in 500..600 {
            upload(&mut client, "c", vec![with_vector(&format!("d{n}"), "later", n)]).await;
        }
    };
    let (arguments, address) = (["backup".to_owned(), file.to_owned(), "--addr".to_owned()], addr.clone());
    let backing_up =
        tokio::task::spawn_blocking(move || cognate(&[&arguments[0], &arguments[1], &arguments[2], &address]));
    let (_, backed_up) = futures::join!(uploading, backing_up);
    assert_eq!(backed_up.unwrap().0, Some(0));
    let (code, said) = cognate(&["backup", file, "--addr", &addr]);
    assert!(code == Some(2) && said.contains("exists"), "a backup is not written over: {said}");
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("backup")), "{left:?}");

    assert_eq!(cognate(&["restore", file, "--data-dir", restored]).0, Some(0));
    let (code, said) = cognate(&["verify", "--data-dir", restored]);
    assert!(code == Some(0) && said.contains("all is as it was stored"), "{said}");
    let server = Server::start(&["--data-dir", restored]).await;
    let mut client = server.client().await;
    let after = contents(&mut client, "c").await;
    assert!(before.iter().all(|document| after.get(document.0) == Some(document.1)), "all from before the backup");
    let ids: Vec<String> = after.keys().cloned().collect();
    assert_eq!(nearest(&mut client, "c", &ids).await, ids);

    let (code, said) = cognate(&["restore", file, "--data-dir", restored]);
    assert!(code == Some(2) && said.contains(restored), "documents are not written over: {said}");
    let (code, said) = cognate(&["verify", "--data-dir", restored]);
    assert!(code == Some(2) && said.contains("in use by another process"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_each_damaged_document() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--data-dir", flag(&directory)]).await;
    let documents = (0..20).map(|n| with_vector(&format!("d{n}"), &format!("findable {n:02}"), n)).collect();
    upload(&mut server.client().await, "c", documents).await;
    drop(server);
    let file = directory.path().join("documents.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    let text = b"findable 07";
    let places: Vec<usize> = (0..bytes.len() - text.len()).filter(|&at| bytes[at..].starts_with(text)).collect();
    places.iter().for_each(|&at| bytes[at] ^= 1);
    std::fs::write(&file, bytes).unwrap();
    let (code, said) = cognate(&["verify", "--data-dir", flag(&directory)]);
    assert!(code != Some(0) && said.contains("documents.redb") && said.contains("damaged"), "{said}");
}

/// Here the growth of the file fails: a process can be given a limit for the size of its files.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_ends_uploads_and_says_so_while_all_that_was_acknowledged_is_served() {
    use tonic_health::pb::health_check_response::ServingStatus;
    let directory = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("sh");
    // When the signal is ignored, the write returns an error.
    let script = "trap '' XFSZ; ulimit -f 8192; exec \"$@\"";
    command.args(["-c", script, "sh", env!("CARGO_BIN_EXE_cognate"), "serve", "--addr", "127.0.0.1:0"]);
    command.args(["--data-dir", flag(&directory), "--min-free-bytes", "1MiB"]);
    let mut server = Server::of(command);
    server.wait_until_serving().await;
    let mut client = server.client().await;
    assert_eq!(server.health("writes").await, Ok(ServingStatus::Serving));
    let mut acknowledged = BTreeMap::new();
    let refused = loop {
        let n = acknowledged.len() as u32;
        let documents: Vec<Document> = (n..n + 200).map(|n| with_vector(&format!("d{n:05}"), "text", n)).collect();
        let ids: Vec<String> = documents.iter().map(|d| d.id.clone()).collect();
        let message = UploadRequest { collection: "c".to_owned(), documents };
        match crate::harness::upload_all(&mut client, vec![message]).await {
            Ok(_) => acknowledged.extend(ids.into_iter().map(|id| (id, "text".to_owned()))),
            Err(status) => break status,
        }
        assert!(acknowledged.len() < 50_000, "the limit does not bind");
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(refused.message().contains("documents.redb accepts no writes until a restart"), "{refused:?}");
    assert!(!acknowledged.is_empty());

    // Reads continue. Whole chunks of the refused upload may be there.
    let here = contents(&mut client, "c").await;
    assert!(acknowledged.iter().all(|(id, text)| here.get(id) == Some(text)));
    let ids: Vec<String> = acknowledged.keys().take(100).cloned().collect();
    assert_eq!(nearest(&mut client, "c", &ids).await, ids);
    let again = DeleteDocumentsRequest { collection: "c".to_owned(), ids, filter: None };
    assert_eq!(client.delete_documents(again).await.unwrap_err().code(), Code::Unavailable);
    let storage = client.info(InfoRequest {}).await.unwrap().into_inner().storage.unwrap();
    assert!(storage.stopped.contains("documents.redb") && storage.directory == flag(&directory), "{storage:?}");
    while server.health("writes").await != Ok(ServingStatus::NotServing) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.health("").await, Ok(ServingStatus::Serving), "searches are served");
    let (code, said) = cognate(&["health", "--service", "writes", "--addr", &server.addr.to_string()]);
    assert!(code == Some(1) && said.contains("accepts no writes until a restart"), "{said}");
    server.kill();

    let server = Server::start(&["--data-dir", flag(&directory)]).await;
    let mut client = server.client().await;
    let here = contents(&mut client, "c").await;
    assert!(acknowledged.iter().all(|(id, text)| here.get(id) == Some(text)), "nothing acknowledged is missing");
    assert_eq!(upload(&mut client, "c", vec![document("later", "a text")]).await.committed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_a_data_directory_ends_the_start_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a file");
    std::fs::write(&file, "not a directory").unwrap();
    let within = file.join("data");
    for place in [&file, &within] {
        let place = place.to_str().unwrap();
        let mut server = Server::spawn(&["--data-dir", place]);
        assert_eq!(server.exit_code().await, Some(2));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let log = server.log();
        assert!(log.contains(place) && log.lines().count() < 24, "{log}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "not a directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_memory_has_nothing_to_back_up() {
    let server = Server::start(&[]).await;
    let status = server.client().await.backup(cognate::wire::BackupRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("in memory"), "{status:?}");
}
