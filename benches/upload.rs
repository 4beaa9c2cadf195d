//! Measures the cost of durability and indexing: texts per second by `Upload` into a data directory and into memory,
//! compared with `EmbedStream`, which only computes vectors. The graph is completed later: the time from the last
//! commit until it has all documents is printed too.
//!
//! Run `cargo bench --bench upload`. The three methods take turns, each on its own server, and the best rounds are
//! compared. The client shares the machine's cores with the server. The cache of vectors is off. `COGNATE_CORPUS=FILE`
//! names a file with one text on each line. By default the texts are made from the example, enough of them for a graph.

mod server;
#[allow(dead_code, unused_imports, reason = "other benches use the rest")]
#[path = "../src/cli/bench/workload.rs"]
mod workload;

use std::time::{Duration, Instant};

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::{Document, EmbedRequest, ListCollectionsRequest, UploadRequest};
use futures::{StreamExt, stream};
use server::Server;
use tonic::transport::Channel;

const TEXTS_A_MESSAGE: usize = 64;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    // Without `--bench`, `cargo test` is the caller: a few texts show that the bench runs.
    let measuring = std::env::args().any(|arg| arg == "--bench");
    let mut texts = texts()?;
    if !measuring {
        texts.truncate(200);
    }
    let rounds = if measuring { 3 } else { 1 };
    println!("{} texts; texts per second", texts.len());
    println!("{:>12} {:>20} {:>20} {:>16}", "EmbedStream", "Upload in memory", "Upload to disk", "graph complete");
    let (mut embedded, mut in_memory, mut on_disk) = (0.0f64, 0.0f64, 0.0f64);
    for _ in 0..rounds {
        let server = Server::start(&["--in-memory"])?;
        embedded = embedded.max(embed(server.client().await?, &texts).await?);
        in_memory = in_memory.max(upload(server.client().await?, &texts).await?);
        drop(server);
        let directory = tempfile::tempdir()?;
        let server = Server::start(&["--data-dir", directory.path().to_str().ok_or("the path is not UTF-8")?])?;
        on_disk = on_disk.max(upload(server.client().await?, &texts).await?);
        let shown = |rate: f64| format!("{rate:.0} ({:.0} %)", 100.0 * rate / embedded);
        let after = indexed(server.client().await?).await?.as_secs_f32();
        println!("{embedded:12.0} {:>20} {:>20} {after:>12.1} s on", shown(in_memory), shown(on_disk));
    }
    Ok(())
}

fn texts() -> Result<Vec<String>> {
    if let Some(path) = std::env::var_os("COGNATE_CORPUS") {
        return Ok(std::fs::read_to_string(path)?.lines().map(str::to_owned).collect());
    }
    let mut all = [Vec::new(), Vec::new(), Vec::new()];
    for (word, gloss) in workload::dictionary() {
        all[1].push(format!("{word}: {gloss}"));
        all[2].push(format!("{gloss}, as in {word}"));
        all[0].push(gloss);
    }
    Ok(all.concat())
}

/// Returns the texts per second.
async fn embed(mut client: CognateClient<Channel>, texts: &[String]) -> Result<f64> {
    let request = |texts: &[String]| EmbedRequest { texts: texts.to_vec(), ..EmbedRequest::default() };
    let requests: Vec<EmbedRequest> = texts.chunks(TEXTS_A_MESSAGE).map(request).collect();
    let begun = Instant::now();
    let mut responses = client.embed_stream(stream::iter(requests)).await?.into_inner();
    let mut received = 0;
    while let Some(response) = responses.next().await {
        received += response?.results.len();
    }
    assert_eq!(received, texts.len());
    Ok(texts.len() as f64 / begun.elapsed().as_secs_f64())
}

/// Returns the texts per second until the last one is committed.
async fn upload(mut client: CognateClient<Channel>, texts: &[String]) -> Result<f64> {
    let document =
        |(n, text): (usize, &String)| Document { id: n.to_string(), text: text.clone(), ..Document::default() };
    let documents: Vec<Document> = texts.iter().enumerate().map(document).collect();
    let message = |documents: &[Document]| UploadRequest { collection: "c".to_owned(), documents: documents.to_vec() };
    let messages: Vec<UploadRequest> = documents.chunks(TEXTS_A_MESSAGE).map(message).collect();
    let begun = Instant::now();
    let mut responses = client.upload(stream::iter(messages)).await?.into_inner();
    let mut committed = 0;
    while let Some(response) = responses.next().await {
        committed = response?.committed;
    }
    assert_eq!(committed as usize, texts.len());
    Ok(texts.len() as f64 / begun.elapsed().as_secs_f64())
}

/// Waits until the graph of the only collection is complete, and returns the time that this took.
async fn indexed(mut client: CognateClient<Channel>) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        let listed = client.list_collections(ListCollectionsRequest::default()).await?.into_inner().collections;
        if listed.iter().all(|collection| collection.unindexed == 0) {
            return Ok(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
