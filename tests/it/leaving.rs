//! Callers who leave, and callers who cannot be served in time: nothing is computed for them, and nobody else waits.

use std::fs;
use std::time::Duration;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::query::Query as By;
use cognate::wire::{
    Document, EmbedRequest, ListCollectionsRequest, Query, SearchParams, TopKRequest, UploadRequest, Vector,
};
use futures::future::join_all;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::harness::{NO_PROC, Server, document, new_texts, upload, upload_all};
use crate::skipped::skipped;

const DIMENSIONS: usize = 384;
const DOCUMENTS: usize = 6_000;

/// The number of checks before the server counts as busy for good: half a minute.
const LOOKS: usize = 60;

/// Returns the n-th of a set of pseudo-random vectors.
fn vector(n: usize) -> Vector {
    let mut random = fastrand::Rng::with_seed(n as u64);
    Vector { values: (0..DIMENSIONS).map(|_| 2.0 * random.f32() - 1.0).collect(), ..Default::default() }
}

async fn fill(client: &mut CognateClient<Channel>) {
    let document = |n: usize| Document { id: n.to_string(), vector: Some(vector(n)), ..Default::default() };
    let message = |first: usize| UploadRequest {
        collection: "many".to_owned(),
        documents: (first..DOCUMENTS.min(first + 400)).map(document).collect(),
    };
    upload_all(client, (0..DOCUMENTS).step_by(400).map(message).collect()).await.unwrap();
}

/// The largest search that one call may ask for: a hundred queries for a thousand diverse hits.
fn heavy_search() -> TopKRequest {
    TopKRequest {
        collection: "many".to_owned(),
        queries: (0..100)
            .map(|n| Query { query: Some(By::Vector(vector(DOCUMENTS + n))), ..Default::default() })
            .collect(),
        k: 1_000,
        diversity: 0.9,
        params: Some(SearchParams { exact: true, ..Default::default() }),
        ..Default::default()
    }
}

/// Returns the CPU time that the server has used, in hundredths of a second; `None` if the system does not report it.
fn processor_time(server: &Server) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.process())).ok()?;
    // The name of the program, in brackets, may contain spaces.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    Some(fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?)
}

/// Returns the number of the server's threads.
fn threads(server: &Server) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{}/task", server.process())).ok()?.count())
}

/// Waits until the server computes no more.
pub async fn until_idle(server: &Server) {
    let Some(mut before) = processor_time(server) else { return skipped(NO_PROC) };
    for _ in 0..LOOKS {
        sleep(Duration::from_millis(500)).await;
        let now = processor_time(server).unwrap();
        if now - before < 5 {
            return;
        }
        before = now;
    }
    panic!("the server is still busy; its log:\n{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_end_with_their_callers_and_take_few_threads() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    fill(&mut client).await;
    let idle = threads(&server);
    let calls = (0..100).map(|_| {
        let mut client = client.clone();
        async move { timeout(Duration::from_millis(400), client.top_k(heavy_search())).await.is_err() }
    });
    let (left, most) = tokio::join!(join_all(calls), async {
        sleep(Duration::from_millis(300)).await;
        threads(&server)
    });
    assert!(left.into_iter().filter(|left| *left).count() > 50, "most had no answer when they left");
    match idle.zip(most) {
        Some((idle, most)) => assert!(most < idle + 50, "{idle} threads became {most}"),
        None => skipped(NO_PROC),
    }
    until_idle(&server).await;
    assert!(client.top_k(TopKRequest { k: 1, diversity: 0.0, ..heavy_search() }).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_callers_who_left_are_not_tokenised() {
    let server = Server::start(&[]).await;
    let client = server.client().await;
    // The model reads nothing of it, so the tokenizer goes through all of it.
    let blank = |n: usize| format!("{}{n}", " ".repeat(200_000));
    let calls = (0..40).map(|n| {
        let mut client = client.clone();
        let texts = (0..30).map(|text| blank(n * 100 + text)).collect();
        let request = EmbedRequest { texts, ..Default::default() };
        async move { timeout(Duration::from_millis(500), client.embed(request)).await }
    });
    join_all(calls).await;
    until_idle(&server).await;
    let mut request = Request::new(EmbedRequest { texts: new_texts(1, 5), ..Default::default() });
    request.set_timeout(Duration::from_secs(30));
    assert!(client.clone().embed(request).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_stored_and_collections_listed_while_searches_run() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    fill(&mut client).await;
    let searches: Vec<_> = (0..10)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.top_k(heavy_search()).await })
        })
        .collect();
    sleep(Duration::from_millis(300)).await;
    for n in 0..5 {
        let named = Document { vector: Some(vector(n)), ..document(&format!("new {n}"), "") };
        assert_eq!(upload(&mut client, "many", vec![named]).await.committed, 1);
        let listed = client.list_collections(ListCollectionsRequest::default()).await.unwrap().into_inner();
        assert_eq!(listed.collections[0].documents, (DOCUMENTS + n + 1) as u64);
    }
    assert!(searches.iter().any(|search| !search.is_finished()), "the writes waited for the searches");
    searches.iter().for_each(tokio::task::JoinHandle::abort);
    until_idle(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_be_done_by_its_deadline_is_refused_at_once_and_small_calls_go_on() {
    let server = Server::start(&["--queue-tokens", "100000000"]).await;
    let client = server.client().await;
    client.clone().embed(EmbedRequest { texts: new_texts(8, 50), ..Default::default() }).await.unwrap();
    // Minutes of work, for callers who have the time.
    let patient: Vec<_> = (0..6)
        .map(|_| {
            let mut client = client.clone();
            let request = EmbedRequest { texts: new_texts(1_000, 250), ..Default::default() };
            tokio::spawn(async move { client.embed(request).await })
        })
        .collect();
    let mut refused = None;
    for _ in 0..20 {
        let mut request = Request::new(EmbedRequest { texts: new_texts(100, 250), ..Default::default() });
        request.set_timeout(Duration::from_secs(2));
        let status =
            client.clone().embed(request).await.err().filter(|status| status.code() == Code::ResourceExhausted);
        if status.is_some() {
            refused = status;
            break;
        }
    }
    let refused = refused.expect("a call that would be too late is refused");
    assert!(refused.message().contains("the deadline is in"), "{refused:?}");
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    let mut small = Request::new(EmbedRequest { texts: new_texts(1, 3), ..Default::default() });
    small.set_timeout(Duration::from_secs(30));
    assert!(client.clone().embed(small).await.is_ok(), "it goes before the large ones");
    patient.iter().for_each(tokio::task::JoinHandle::abort);
    until_idle(&server).await;
}
