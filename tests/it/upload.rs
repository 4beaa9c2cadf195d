//! `Upload`: committed documents are there, wrong ones are reported, and both hold when a stream breaks.

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::query::Query as By;
use cognate::wire::{
    CreateCollectionRequest, DeleteCollectionRequest, Document, GetDocumentsRequest, InfoRequest,
    ListCollectionsRequest, ListDocumentsRequest, Query, TopKRequest, UploadRequest, Vector,
};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;

use crate::harness::{Server, document, has_engine, needs_the_local_store, upload, upload_all, wrong_fields};

fn message(collection: &str, documents: Vec<Document>) -> UploadRequest {
    UploadRequest { collection: collection.to_owned(), documents }
}

fn numbered(range: std::ops::Range<usize>) -> Vec<Document> {
    range.map(|n| document(&format!("{n:05}"), &format!("document number {n}"))).collect()
}

async fn ids(client: &mut CognateClient<Channel>, collection: &str) -> Vec<String> {
    let request = ListDocumentsRequest { collection: collection.to_owned(), page_size: 1000, ..Default::default() };
    let documents = client.list_documents(request).await.unwrap().into_inner().documents;
    documents.into_iter().map(|document| document.id).collect()
}

async fn first_hit(client: &mut CognateClient<Channel>, collection: &str, text: &str) -> (String, f32) {
    let request = TopKRequest {
        collection: collection.to_owned(),
        queries: vec![Query { query: Some(By::Text(text.to_owned())), ..Default::default() }],
        k: 1,
        ..Default::default()
    };
    let hit = client.top_k(request).await.unwrap().into_inner().results.remove(0).hits.remove(0);
    (hit.id, hit.score)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_creates_the_collection_reports_progress_and_is_done() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let messages = vec![message("c", numbered(0..150)), message("", numbered(150..151)), message("c", vec![])];
    let responses = upload_all(&mut client, messages).await.unwrap();
    assert!(responses.windows(2).all(|pair| pair[0].committed <= pair[1].committed));
    assert!(responses.iter().all(|response| response.committed <= response.received && response.errors.is_empty()));
    assert!(responses.len() > 2, "progress comes as batches commit: {responses:?}");
    let done: Vec<bool> = responses.iter().map(|response| response.done).collect();
    assert_eq!(done.iter().position(|done| *done), Some(done.len() - 1));
    let last = responses.last().unwrap();
    assert_eq!((last.received, last.committed), (151, 151));

    let collections =
        client.list_collections(ListCollectionsRequest::default()).await.unwrap().into_inner().collections;
    assert_eq!(collections.len(), 1);
    let c = &collections[0];
    assert_eq!((c.name.as_str(), c.documents, c.dimensions), ("c", 151, 384));
    assert!(c.model_fingerprint.len() >= 16);
    // An engine tells the bytes of what it has written to its segments, which may be later.
    assert!(c.bytes > 151 * 384 * 4 || has_engine());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_searchable_when_committed_counts_it() {
    let server = Server::start(&[]).await;
    let (mut client, mut searcher) = (server.client().await, server.client().await);
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let mut responses = client.upload(ReceiverStream::new(receive)).await.unwrap().into_inner();
    for n in 0..5 {
        let text = format!("sentence {n} about {}", ["trains", "bread", "joy", "rain", "war"][n]);
        send.send(message("c", vec![document(&n.to_string(), &text)])).await.unwrap();
        let response = responses.next().await.unwrap().unwrap();
        assert_eq!(response.committed, n as u64 + 1);
        let (id, score) = first_hit(&mut searcher, "c", &text).await;
        assert_eq!(id, n.to_string());
        assert!(score > 0.9999, "{score}");
    }
    drop(send);
    assert!(responses.next().await.unwrap().unwrap().done);
    assert!(responses.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_with_a_known_id_is_replaced() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    upload(&mut client, "c", vec![document("a", "a loaf of bread"), document("b", "a violin")]).await;
    let last = upload(&mut client, "c", vec![document("a", "an express train")]).await;
    assert_eq!((last.received, last.committed), (1, 1));
    assert_eq!(ids(&mut client, "c").await, ["a", "b"]);
    assert_eq!(first_hit(&mut client, "c", "an express train").await.0, "a");
    assert!(first_hit(&mut client, "c", "a loaf of bread").await.1 < 0.9);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_equal_ids_in_one_message_stays() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let last = upload(&mut client, "c", vec![document("a", "first"), document("a", "second")]).await;
    assert_eq!((last.received, last.committed), (2, 2));
    let request = GetDocumentsRequest { collection: "c".into(), ids: vec!["a".into()], ..Default::default() };
    assert_eq!(client.get_documents(request).await.unwrap().into_inner().documents, [document("a", "second")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_with_a_vector_is_not_embedded() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let mut values = vec![0.0; 384];
    values[7] = 5.0;
    let vector = Vector { values: values.clone(), ..Default::default() };
    let documents = vec![Document { vector: Some(vector), ..document("v", "this text is about trains") }];
    assert_eq!(upload(&mut client, "c", documents).await.committed, 1);
    let request =
        GetDocumentsRequest { collection: "c".into(), ids: vec!["v".into()], with_vector: true, ..Default::default() };
    let stored = client.get_documents(request).await.unwrap().into_inner().documents.remove(0).vector.unwrap();
    values[7] = 1.0;
    assert_eq!(stored.values, values);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_documents_are_reported_by_position_and_their_neighbours_committed() {
    let server = Server::start(&["--max-text-bytes", "100"]).await;
    let mut client = server.client().await;
    let with_vector = |id: &str, values: Vec<f32>| Document {
        id: id.to_owned(),
        vector: Some(Vector { values, ..Default::default() }),
        ..Default::default()
    };
    let unit = |first: f32| std::iter::once(first).chain(std::iter::repeat_n(0.0, 383)).collect::<Vec<f32>>();
    let nan = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(f64::NAN)) };
    let odd_metadata = prost_types::Struct { fields: [("x".to_owned(), nan)].into() };
    let first = vec![
        document("good-1", "fine"),
        document("", "no id"),
        document("long", &"x".repeat(101)),
        document("empty", ""),
    ];
    let second = vec![
        with_vector("short", vec![1.0; 383]),
        with_vector("nan", unit(f32::NAN)),
        with_vector("infinite", unit(f32::INFINITY)),
        with_vector("zero", unit(0.0)),
        Document { metadata: Some(odd_metadata), ..document("odd", "odd metadata") },
        document(&"i".repeat(513), "long id"),
        with_vector("good-2", unit(2.0)),
    ];
    let responses = upload_all(&mut client, vec![message("c", first), message("", second)]).await.unwrap();
    let last = responses.last().unwrap();
    assert_eq!((last.received, last.committed), (11, 2));
    let errors: Vec<_> = responses.iter().flat_map(|response| &response.errors).collect();
    assert_eq!(errors.iter().map(|error| error.position).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(errors[1].id, "long");
    let status = errors[1].status.as_ref().unwrap();
    assert_eq!(status.code, i32::from(Code::InvalidArgument));
    assert_eq!(status.message, "documents[2].text: 101 bytes exceed the limit of 100");
    assert!(errors[4].status.as_ref().unwrap().message.starts_with("documents[1].vector: value 0 is not finite"));
    assert_eq!(ids(&mut client, "c").await, ["good-1", "good-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_one_collection_with_a_proper_name() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    for messages in [
        vec![],
        vec![message("", numbered(0..1))],
        vec![message("no/slash", numbered(0..1))],
        vec![message("c", numbered(0..1)), message("d", numbered(1..2))],
    ] {
        let status = upload_all(&mut client, messages).await.unwrap_err();
        assert_eq!((status.code(), wrong_fields(&status)), (Code::InvalidArgument, vec!["collection".to_owned()]));
    }
    // The documents before the wrong message were committed.
    assert_eq!(ids(&mut client, "c").await, ["00000"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_keeps_committed_documents_when_the_stream_breaks() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let mut responses = client.upload(ReceiverStream::new(receive)).await.unwrap().into_inner();
    send.send(message("c", numbered(0..64))).await.unwrap();
    let committed = responses.next().await.unwrap().unwrap().committed;
    assert!(committed > 0);
    send.send(message("c", numbered(64..500))).await.unwrap();
    // The client dies: both halves and the connection go at once.
    drop((send, responses, client));
    let mut client = server.client().await;
    assert!(ids(&mut client, "c").await.len() as u64 >= committed);
    let last = upload(&mut client, "c", numbered(0..500)).await;
    assert_eq!(last.committed, 500);
    assert_eq!(ids(&mut client, "c").await.len(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_refuses_and_what_is_stored_stays() {
    if needs_the_local_store("an engine has limits of its own") {
        return;
    }
    let server = Server::start(&["--max-stored-bytes", "300KiB"]).await;
    let mut client = server.client().await;
    let messages = (0..20).map(|n| message("c", numbered(n * 10..n * 10 + 10))).collect();
    let status = upload_all(&mut client, messages).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("max_stored_bytes"), "{status:?}");
    let kept = ids(&mut client, "c").await.len();
    assert!((10..200).contains(&kept), "{kept}");
    client.delete_collection(DeleteCollectionRequest { name: "c".into() }).await.unwrap();
    assert_eq!(upload(&mut client, "c", numbered(0..10)).await.committed, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_and_all_have_limits_of_their_own() {
    if needs_the_local_store("an engine has limits of its own") {
        return;
    }
    let server = Server::start(&["--max-collection-documents", "15", "--max-documents", "25"]).await;
    let mut client = server.client().await;
    assert_eq!(upload(&mut client, "a", numbered(0..15)).await.committed, 15);
    assert_eq!(upload(&mut client, "a", numbered(0..15)).await.committed, 15, "replacing needs no room");
    let status = upload_all(&mut client, vec![message("a", numbered(15..16))]).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let quota = status.get_details_quota_failure().unwrap();
    assert_eq!(quota.violations[0].subject, "max_collection_documents");
    let said = "max_collection_documents: 1 documents more would exceed the limit of 15: 15 are in use";
    assert_eq!(status.message(), said);
    assert_eq!(upload(&mut client, "b", numbered(0..10)).await.committed, 10);
    let status = upload_all(&mut client, vec![message("b", numbered(10..11))]).await.unwrap_err();
    assert!(status.message().starts_with("max_documents: 1 documents more"), "{status:?}");
    let limits = client.info(InfoRequest {}).await.unwrap().into_inner().limits.unwrap();
    assert_eq!((limits.max_documents, limits.max_collection_documents, limits.max_collection_bytes), (25, 15, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_collection_ends_the_uploads_into_it() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let mut responses = client.upload(ReceiverStream::new(receive)).await.unwrap().into_inner();
    send.send(message("c", numbered(0..1))).await.unwrap();
    assert_eq!(responses.next().await.unwrap().unwrap().committed, 1);
    let mut other = server.client().await;
    other.delete_collection(DeleteCollectionRequest { name: "c".into() }).await.unwrap();
    other.create_collection(CreateCollectionRequest { name: "c".into(), ..Default::default() }).await.unwrap();
    send.send(message("c", numbered(1..2))).await.unwrap();
    assert_eq!(responses.next().await.unwrap().unwrap_err().code(), Code::NotFound);
    assert!(ids(&mut other, "c").await.is_empty());
}
