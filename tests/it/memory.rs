//! The memory of the server is bounded, and all of it is counted.

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::{
    BackupRequest, CreateCollectionRequest, DeleteCollectionRequest, Document, ExportRequest, InfoRequest,
    ListCollectionsRequest, Storage, Vector,
};
use futures::StreamExt;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;

use super::harness::{NO_PROC, Server, document, upload};
use crate::skipped::skipped;

/// Creates documents of 128 KiB with vectors of their own, so that nothing is embedded. 8 MiB exceed the windows of a
/// connection.
fn large(n: usize) -> Vec<Document> {
    let text = "x".repeat(128 << 10);
    (0..n).map(|n| Document { vector: Some(vector(n)), ..document(&format!("d{n:04}"), &text) }).collect()
}

fn vector(n: usize) -> Vector {
    Vector { values: (0..384).map(|d| ((n * 31 + d * 7) % 101) as f32 - 50.0).collect(), ..Default::default() }
}

async fn fill(client: &mut CognateClient<Channel>, collection: &str) {
    for some in large(64).chunks(16) {
        upload(client, collection, some.to_vec()).await;
    }
}

async fn storage(client: &mut CognateClient<Channel>) -> Storage {
    client.info(InfoRequest {}).await.unwrap().into_inner().storage.expect("it is always there")
}

/// Waits until the resident memory is stable, and returns it.
async fn settled(server: &Server) -> Option<usize> {
    let mut last = server.resident_bytes()?;
    for _ in 0..50 {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let now = server.resident_bytes()?;
        if now == last {
            break;
        }
        last = now;
    }
    Some(last)
}

/// Creates a document with 4,500 keys that no other document has.
fn own_keys(n: usize) -> Document {
    let fields: serde_json::Map<_, _> = (0..4_500).map(|key| (format!("{n:03}{key:05}"), 1.into())).collect();
    let metadata = Some(cognate::wire::metadata::from_json(&fields));
    Document { metadata, vector: Some(vector(n)), ..document(&format!("k{n}"), "short") }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_with_keys_of_their_own_count_as_much_memory_as_they_take() {
    let server = Server::start(&["--max-stored-bytes", "1GiB", "--max-collection-fields", "none"]).await;
    let mut client = server.client().await;
    // The first ones take the memory that loading the model has left to the allocator.
    let each = 150;
    for n in 0..each {
        upload(&mut client, "keys", vec![own_keys(n)]).await;
    }
    let (empty, counted_empty) = (settled(&server).await, storage(&mut client).await.memory_bytes);
    for n in each..2 * each {
        assert_eq!(upload(&mut client, "keys", vec![own_keys(n)]).await.committed, 1);
    }
    let (Some(empty), Some(full)) = (empty, settled(&server).await) else { return skipped(NO_PROC) };
    let counted = (storage(&mut client).await.memory_bytes - counted_empty) as f64;
    let taken = full.saturating_sub(empty) as f64;
    // A quarter more, for memory that the allocator keeps after use.
    let noise = f64::from(16 << 20);
    assert!(taken <= 1.25 * counted + noise && counted <= 1.25 * taken + noise, "{counted} of {taken} bytes");
}

#[tokio::test]
async fn memory_that_only_loading_the_model_took_is_left_to_documents() {
    let server = Server::start(&[]).await;
    server.has_logged("memory is divided").await;
    let log = server.log();
    let field = log.split_once(" process=").expect("the log line has the field").1;
    let process: usize = field.split_whitespace().next().unwrap().parse().unwrap();
    // The weights take 90 MB and the vocabulary 15 MB. The load takes twice as much for a time: 311 MB were counted
    // before that was returned, 170 MB after.
    assert!(process < 240 << 20, "{process} bytes are left out of what documents may take");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_a_deleted_collection_count_until_the_exports_that_keep_them_end() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    fill(&mut client, "c").await;
    let full = storage(&mut client).await.memory_bytes;
    let request = ExportRequest { collection: "c".into(), ..Default::default() };
    let mut export = server.client().await.export(request).await.unwrap().into_inner();
    export.next().await.expect("it begins").unwrap();
    client.delete_collection(DeleteCollectionRequest { name: "c".into() }).await.unwrap();
    let kept = storage(&mut client).await;
    assert_eq!(kept.documents, 0);
    assert!(kept.memory_bytes >= full - (1 << 20), "{} of {full} bytes are counted", kept.memory_bytes);
    fill(&mut client, "c").await;
    assert!(storage(&mut client).await.memory_bytes >= 2 * full - (1 << 20), "those that came instead too");
    drop(export);
    while storage(&mut client).await.memory_bytes > full {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_backup_is_held_at_a_time_and_its_space_is_free_when_its_call_ends() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&["--data-dir", directory.path().to_str().unwrap(), "--min-free-bytes", "1MiB"]).await;
    let mut client = server.client().await;
    fill(&mut client, "c").await;
    let mut held = server.client().await.backup(BackupRequest {}).await.unwrap().into_inner();
    held.next().await.expect("it begins").unwrap();
    let refused = client.backup(BackupRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted, "{refused:?}");
    drop(held);
    let mut again = loop {
        match client.backup(BackupRequest {}).await {
            Ok(parts) => break parts.into_inner(),
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
        }
    };
    let (mut bytes, mut total) = (0, 0);
    while let Some(part) = again.next().await {
        let part = part.unwrap();
        bytes += part.data.len() as u64;
        total = part.total_bytes;
    }
    assert_eq!(bytes, total);
    let names = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().starts_with("backup")), "a copy is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_room_says_how_much_it_needs() {
    let directory = tempfile::tempdir().unwrap();
    // More than any disk has, less the need of documents.
    let server =
        Server::start(&["--data-dir", directory.path().to_str().unwrap(), "--min-free-bytes", "8000000GiB"]).await;
    let refused = server.client().await.backup(BackupRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("are needed"), "{refused:?}");
}

#[tokio::test]
async fn collections_have_a_limit_and_are_listed_page_by_page() {
    let server = Server::start(&["--max-collections", "5"]).await;
    let mut client = server.client().await;
    for n in 0..5 {
        client
            .create_collection(CreateCollectionRequest { name: format!("c{n}"), ..Default::default() })
            .await
            .unwrap();
    }
    let refused = client
        .create_collection(CreateCollectionRequest { name: "c5".to_owned(), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let quota = refused.get_details_quota_failure().expect("it names the limit");
    assert_eq!(quota.violations[0].subject, "max_collections");

    let all = client.list_collections(ListCollectionsRequest::default()).await.unwrap().into_inner();
    assert_eq!((all.collections.len(), all.next_page_token.as_str()), (5, ""));
    let (mut names, mut request) = (Vec::new(), ListCollectionsRequest { page_size: 2, ..Default::default() });
    loop {
        let page = client.list_collections(request.clone()).await.unwrap().into_inner();
        assert!(page.collections.len() <= 2);
        names.extend(page.collections.into_iter().map(|collection| collection.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(names, ["c0", "c1", "c2", "c3", "c4"]);
    let strange = ListCollectionsRequest { page_token: "c1".to_owned(), ..Default::default() };
    assert_eq!(client.list_collections(strange).await.unwrap_err().code(), Code::InvalidArgument);
}
