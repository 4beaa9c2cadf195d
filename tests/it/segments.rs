//! Searches through segments: in a collection too large for an exact scan, over the wire, and after a crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::query::Query as By;
use cognate::wire::{
    Collection, Document, Hit, InfoRequest, ListCollectionsRequest, Query, SearchParams, TopKRequest, UploadRequest,
    Vector,
};
use tonic::transport::Channel;

use crate::harness::{Server, upload_all};

/// More than the 10,000 that have no graph, but so few more that the later ones do not become a segment of their own.
const N: usize = 10_400;
const CLUSTERS: usize = 60;
const DIMENSIONS: usize = 384;
/// Several times the time that a segment takes on two busy cores.
const PATIENCE: Duration = Duration::from_secs(120);

/// Returns the n-th of a set of vectors in clusters, as texts have them.
fn vector(n: usize) -> Vector {
    let noise = |seed: usize| {
        let mut random = fastrand::Rng::with_seed(seed as u64);
        std::iter::repeat_with(move || 2.0 * random.f32() - 1.0)
    };
    let component = |(around, own): (f32, f32)| around + 0.8 * own;
    let values = noise(n % CLUSTERS).zip(noise(1_000_000 + n)).map(component).take(DIMENSIONS).collect();
    Vector { values, ..Default::default() }
}

fn id(n: usize) -> String {
    format!("d{n:05}")
}

async fn fill(client: &mut CognateClient<Channel>) {
    let document = |n: usize| Document { id: id(n), vector: Some(vector(n)), ..Default::default() };
    let message = |first: usize| UploadRequest {
        collection: "many".to_owned(),
        documents: (first..N.min(first + 400)).map(document).collect(),
    };
    let responses = upload_all(client, (0..N).step_by(400).map(message).collect()).await.unwrap();
    assert_eq!(responses.last().unwrap().committed, N as u64);
}

async fn collection(client: &mut CognateClient<Channel>) -> Collection {
    let response = client.list_collections(ListCollectionsRequest::default()).await.unwrap().into_inner();
    response.collections.into_iter().next().unwrap()
}

/// Waits until the collection is in the expected state.
async fn until(client: &mut CognateClient<Channel>, what: &str, is: impl Fn(&Collection) -> bool) -> Collection {
    let begun = Instant::now();
    loop {
        let collection = collection(client).await;
        if is(&collection) {
            return collection;
        }
        assert!(begun.elapsed() < PATIENCE, "not {what} after {PATIENCE:?}: {collection:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn nearest(client: &mut CognateClient<Channel>, of: &[usize], k: u32, exact: bool) -> Vec<Vec<Hit>> {
    let request = TopKRequest {
        collection: "many".to_owned(),
        queries: of.iter().map(|&n| Query { query: Some(By::Vector(vector(n))), ..Default::default() }).collect(),
        k,
        params: exact.then(|| SearchParams { exact, ..Default::default() }),
        ..Default::default()
    };
    client.top_k(request).await.unwrap().into_inner().results.into_iter().map(|result| result.hits).collect()
}

/// Returns the files of all indexes, with the time when each was written.
fn files(data: &Path) -> Vec<(PathBuf, SystemTime)> {
    let list = |directory: PathBuf| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = list(data.join("index")).flat_map(list);
    files.map(|path| (path.clone(), fs::metadata(path).unwrap().modified().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_finds_what_a_scan_finds_says_how_well_and_outlives_a_crash() {
    let data = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", data.path().to_str().unwrap()];
    let server = Server::start(&flags).await;
    let mut client = server.client().await;
    fill(&mut client).await;
    let indexed = until(&mut client, "indexed", |collection| collection.unindexed == 0).await;
    // A copy of the vectors, and a graph.
    assert!(indexed.index_file_bytes > (N * DIMENSIONS * 4) as u64 * 9 / 10, "{indexed:?}");

    let stored: Vec<usize> = (0..N).step_by(101).collect();
    for (&n, hits) in stored.iter().zip(nearest(&mut client, &stored, 1, false).await) {
        assert!(hits[0].id == id(n) && hits[0].score > 0.9999, "{n}: {hits:?}");
    }
    // Searches with vectors that no document has.
    let others: Vec<usize> = (N..N + 100).collect();
    let (walked, scanned) =
        (nearest(&mut client, &others, 10, false).await, nearest(&mut client, &others, 10, true).await);
    let found = walked.iter().zip(&scanned).map(|(walked, scanned)| {
        assert_eq!((walked.len(), scanned.len()), (10, 10));
        walked.iter().filter(|hit| scanned.contains(hit)).count()
    });
    let recall = found.sum::<usize>() as f64 / 1_000.0;
    assert!(recall >= 0.95, "recall@10 {recall}");

    let checked = until(&mut client, "checked", |collection| collection.recall.is_some()).await;
    assert!(checked.recall.unwrap() >= 0.9 && checked.recall_queries > 0, "{checked:?}");
    let storage = client.info(InfoRequest {}).await.unwrap().into_inner().storage.unwrap();
    assert!(storage.recall.is_some() && storage.index_file_bytes == indexed.index_file_bytes, "{storage:?}");

    let written = files(data.path());
    assert!(!written.is_empty());
    server.kill();
    let server = Server::start(&flags).await;
    let mut client = server.client().await;
    let again = collection(&mut client).await;
    assert_eq!((again.unindexed, again.index_file_bytes), (0, indexed.index_file_bytes));
    assert!(nearest(&mut client, &others, 10, false).await == walked, "another graph finds others");
    assert_eq!(files(data.path()), written, "nothing was built again");
}
