//! What a cluster promises through Cognate: what was acknowledged survives a node, every server finds it at once, and
//! no call fails while nodes restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::query::Query as By;
use cognate::wire::{
    CountDocumentsRequest, Document, GetDocumentsRequest, Hit, Query, SearchMode, SearchParams, TopKRequest,
    UploadRequest, UploadResponse, Vector,
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_types::StatusExt;

use crate::harness::{Server, document, upload, upload_all};
use crate::opensearch::{Cluster, Node, turn};

type Client = CognateClient<Channel>;

/// A unit vector of its own for each number: no other one is near it.
fn vector(n: u64) -> Vector {
    let mut state = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let values = (0..384).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    });
    Vector { values: values.collect(), ..Vector::default() }
}

fn id(n: u64) -> String {
    format!("{n:06}")
}

/// A document with a vector, so that no time goes into embedding.
fn numbered(n: u64) -> Document {
    Document { vector: Some(vector(n)), ..document(&id(n), "a text") }
}

fn message(numbers: std::ops::Range<u64>) -> UploadRequest {
    UploadRequest { collection: "c".to_owned(), documents: numbers.map(numbered).collect() }
}

/// The ways in which documents are searched.
#[derive(Debug, Clone, Copy)]
enum Way {
    Graph,
    Exact,
    /// By vectors and words.
    Both,
}

/// Finds the one document that is nearest to the vector of `n`.
async fn nearest(client: &mut Client, n: u64, way: Way) -> Result<Vec<Hit>, Status> {
    let mode = if matches!(way, Way::Both) { SearchMode::Hybrid } else { SearchMode::Vector };
    let lexical_text = if matches!(way, Way::Both) { "a text".to_owned() } else { String::new() };
    let request = TopKRequest {
        collection: "c".to_owned(),
        queries: vec![Query { query: Some(By::Vector(vector(n))), lexical_text }],
        k: 1,
        mode: mode.into(),
        params: Some(SearchParams { exact: matches!(way, Way::Exact), ..SearchParams::default() }),
        ..TopKRequest::default()
    };
    Ok(client.top_k(request).await?.into_inner().results.remove(0).hits)
}

/// Asks for documents by their ids, and returns those that are missing.
async fn missing(client: &mut Client, numbers: std::ops::Range<u64>) -> Result<Vec<String>, Status> {
    let ids = numbers.map(id).collect();
    let request = GetDocumentsRequest { collection: "c".to_owned(), ids, ..GetDocumentsRequest::default() };
    Ok(client.get_documents(request).await?.into_inner().missing)
}

/// Demands that each of the first `n` documents can be read, and that searches find a sample of them.
async fn all_found(client: &mut Client, n: u64) {
    for begin in (0..n).step_by(500) {
        let missing = missing(client, begin..n.min(begin + 500)).await.unwrap();
        assert_eq!(missing, Vec::<String>::new(), "of {n} acknowledged documents");
    }
    for n in (0..n).step_by(1 + n as usize / 40) {
        for way in [Way::Graph, Way::Exact] {
            let hits = nearest(client, n, way).await.unwrap();
            assert_eq!(hits.iter().map(|hit| &hit.id).collect::<Vec<_>>(), [&id(n)], "{way:?}");
        }
    }
}

/// Starts a server before a cluster whose collections have three shards, each on every node.
async fn server(cluster: &Cluster) -> Server {
    Server::start(&["--store", &cluster.store(), "--store-shards", "3", "--store-replicas", "2"]).await
}

/// Waits until the server's health is as demanded.
async fn health_becomes(server: &Server, service: &str, wanted: ServingStatus) {
    let waiting = async {
        while server.health(service).await != Ok(wanted) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(120), waiting).await;
    waited.unwrap_or_else(|_| panic!("{service:?} does not become {wanted:?}; log:\n{}", server.log()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Maven and its central repository: cargo test -- --ignored"]
async fn opensearch_keeps_what_was_acknowledged_when_a_node_dies_in_the_middle_of_an_upload() {
    const DOCUMENTS: u64 = 6_000;
    let _turn = turn().await;
    let mut cluster = Cluster::start().await;
    let server = server(&cluster).await;
    let mut client = server.client().await;
    let messages = (0..DOCUMENTS).step_by(200).map(|begin| message(begin..begin + 200)).collect::<Vec<_>>();
    let mut responses = client.upload(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let mut last = UploadResponse::default();
    let mut killed = false;
    while let Some(Ok(response)) = responses.next().await {
        assert!(response.errors.is_empty(), "{response:?}");
        last = response;
        if !killed && last.committed >= DOCUMENTS / 4 {
            cluster.nodes[1].kill();
            killed = true;
        }
    }
    assert!(killed && last.committed >= DOCUMENTS / 4, "{last:?}");
    all_found(&mut client, last.committed).await;
    assert!(last.done, "the upload goes on with two nodes: {last:?}; log:\n{}", server.log());
    cluster.nodes[1].restart();
    cluster.wait_for("wait_for_status=green&wait_for_nodes=3").await;
    all_found(&mut client, last.committed).await;
    let count = CountDocumentsRequest { collection: "c".to_owned(), filter: None };
    assert_eq!(client.count_documents(count).await.unwrap().into_inner().documents, DOCUMENTS);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Maven and its central repository: cargo test -- --ignored"]
async fn opensearch_shows_a_document_to_every_server_as_soon_as_it_is_acknowledged() {
    let _turn = turn().await;
    let cluster = Cluster::start().await;
    let (one, other) = (server(&cluster).await, server(&cluster).await);
    let (mut writer, mut reader) = (one.client().await, other.client().await);
    for n in 0..40 {
        upload(&mut writer, "c", vec![numbered(n)]).await;
        // Each search may go to another copy of the shard.
        for way in [Way::Graph, Way::Exact, Way::Both] {
            let hits = nearest(&mut reader, n, way).await.unwrap();
            assert_eq!(hits.iter().map(|hit| &hit.id).collect::<Vec<_>>(), [&id(n)]);
        }
    }
}

/// Documents of an upload while nodes restart.
const UPLOADED: u64 = 20;
/// A caller's pause between two calls, so that nodes have cores left for their restart. Callers without pauses would
/// only wait for each other.
const PAUSE: Duration = Duration::from_millis(50);

/// Makes the call number `call` about the document `n`, and demands the right answer.
async fn read(client: &mut Client, call: u64, n: u64) -> Result<(), String> {
    let failed = |what: &str| {
        let what = format!("call {call}, {what} of {n}");
        move |status: Status| format!("{what}: {status:?}")
    };
    let way = match call % 5 {
        0 => Way::Exact,
        1 => Way::Both,
        2 => {
            let missing = missing(client, n..n + 3).await.map_err(failed("get"))?;
            return if missing.is_empty() { Ok(()) } else { Err(format!("call {call}: {missing:?} are missing")) };
        }
        _ => Way::Graph,
    };
    let hits = nearest(client, n, way).await.map_err(failed(&format!("{way:?}")))?;
    let ids: Vec<&str> = hits.iter().map(|hit| hit.id.as_str()).collect();
    if ids == [id(n)] { Ok(()) } else { Err(format!("call {call}, {way:?} of {n}: {ids:?}")) }
}

/// Stores the documents from `n` on, and demands that each is acknowledged.
async fn store(client: &mut Client, n: u64) -> Result<(), String> {
    let stored = upload_all(client, vec![message(n..n + UPLOADED)]).await;
    match stored.as_deref().map(<[_]>::last) {
        Ok(Some(last)) if last.done && last.committed == UPLOADED && last.errors.is_empty() => Ok(()),
        _ => Err(format!("upload from {n}: {stored:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Maven and its central repository: cargo test -- --ignored"]
async fn opensearch_answers_every_call_while_its_nodes_restart_one_by_one() {
    const DOCUMENTS: u64 = 1_000;
    let _turn = turn().await;
    let mut cluster = Cluster::start().await;
    let servers = [server(&cluster).await, server(&cluster).await];
    upload(&mut servers[0].client().await, "c", message(0..DOCUMENTS).documents).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..6 {
        let (mut client, stop) = (servers[caller % 2].client().await, Arc::clone(&stop));
        callers.spawn(async move {
            let (mut calls, mut failures, is_writer) = (0, Vec::new(), caller < 2);
            while !stop.load(Ordering::Relaxed) {
                // Each writer has its own documents behind those that are there.
                let done = match is_writer {
                    true => store(&mut client, DOCUMENTS + (2 * calls + caller as u64) * UPLOADED).await,
                    false => read(&mut client, calls, (calls * 7 + caller as u64) % (DOCUMENTS - 3)).await,
                };
                failures.extend(done.err());
                calls += 1;
                tokio::time::sleep(PAUSE).await;
            }
            (is_writer, calls, failures)
        });
    }
    for n in 0..3 {
        cluster.nodes[n].stop().await;
        cluster.wait_for("wait_for_nodes=2").await;
        cluster.nodes[n].restart();
        cluster.wait_for("wait_for_status=green&wait_for_nodes=3").await;
    }
    stop.store(true, Ordering::Relaxed);
    let (mut read, mut uploads, mut failures) = (0, Vec::new(), Vec::new());
    for (is_writer, calls, failed) in callers.join_all().await {
        failures.extend(failed);
        if is_writer { uploads.push(calls) } else { read += calls }
    }
    let logs = || format!("{}\n\nThe other server's log:\n{}", servers[0].log(), servers[1].log());
    assert!(failures.is_empty(), "{} calls failed:\n{}\n\nA log:\n{}", failures.len(), failures.join("\n"), logs());
    assert!(read > 200 && uploads.iter().all(|uploads| *uploads > 3), "{read} reads, {uploads:?} uploads; {}", logs());
    let fewest = uploads.into_iter().min().unwrap_or_default();
    all_found(&mut servers[0].client().await, DOCUMENTS + 2 * fewest * UPLOADED).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Maven and its central repository: cargo test -- --ignored"]
async fn opensearch_that_stops_for_a_while_is_waited_for() {
    let _turn = turn().await;
    let mut node = Node::start().await;
    let store = format!("opensearch+{}", node.url());
    let server = Server::start(&["--store", &store, "--store-replicas", "0"]).await;
    let mut client = server.client().await;
    let (send, receive) = mpsc::channel(1);
    let mut responses = client.clone().upload(ReceiverStream::new(receive)).await.unwrap().into_inner();
    send.send(message(0..100)).await.unwrap();
    let mut committed = 0;
    while committed < 100 {
        committed = responses.next().await.unwrap().unwrap().committed;
    }

    node.kill();
    send.send(message(100..200)).await.unwrap();
    let failed = loop {
        match nearest(&mut client, 1, Way::Graph).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(failed) => break failed,
        }
    };
    assert_eq!(failed.code(), Code::Unavailable, "{failed:?}");
    assert!(failed.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{failed:?}");
    for service in ["", "writes"] {
        health_becomes(&server, service, ServingStatus::NotServing).await;
    }

    node.restart();
    node.wait_for("wait_for_no_initializing_shards=true").await;
    for service in ["", "writes"] {
        health_becomes(&server, service, ServingStatus::Serving).await;
    }
    all_found(&mut client, 100).await;
    send.send(message(200..300)).await.unwrap();
    drop(send);
    let mut last = UploadResponse::default();
    while let Some(response) = responses.next().await {
        last = response.unwrap_or_else(|status| panic!("the upload goes on: {status:?}; log:\n{}", server.log()));
    }
    assert!(last.done && last.committed == 300, "{last:?}");
    all_found(&mut client, 300).await;
}
