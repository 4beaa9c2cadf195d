//! Documents whose texts are many times larger than the memory that documents may take: they are stored, found, listed,
//! exported, updated and read again after a restart, and the server's memory stays bounded.

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::query::Query as Asked;
use cognate::wire::{
    CreateCollectionRequest, Document, ExportRequest, GetDocumentsRequest, InfoRequest, Lexical, ListDocumentsRequest,
    Query, TopKRequest, UpdateDocumentsRequest, Vector,
};
use futures::StreamExt;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{NO_PROC, Server, document, upload};
use crate::skipped::skipped;

/// Documents of [`large`] texts: 128 MiB.
const DOCUMENTS: usize = 1_024;

fn id(n: usize) -> String {
    format!("d{n:04}")
}

/// A text of 128 KiB that no other document has. No part of it is repeated in short distance.
fn large(n: usize) -> String {
    let words = (0..).map(|word: usize| format!("{} ", (word * 7_919 + n * 104_729) % 1_000_003));
    let mut text = format!("text{n} ");
    for word in words {
        if text.len() + word.len() > 128 << 10 {
            return text;
        }
        text.push_str(&word);
    }
    unreachable!("words have no end")
}

fn vector(n: usize) -> Vector {
    let component = |d: usize| ((n * 31 + d * 7 + n * d) % 1_021) as f32 - 510.0;
    Vector { values: (0..384).map(component).collect(), ..Default::default() }
}

fn stored(n: usize) -> Document {
    let fields = serde_json::json!({ "n": n }).as_object().cloned().unwrap();
    let metadata = Some(cognate::wire::metadata::from_json(&fields));
    Document { vector: Some(vector(n)), metadata, ..document(&id(n), &large(n)) }
}

fn nearest_to(asked: Asked) -> TopKRequest {
    let queries = vec![Query { query: Some(asked), ..Default::default() }];
    TopKRequest { collection: "c".into(), queries, k: 3, with_text: true, ..Default::default() }
}

/// Checks that every document is returned with its text by each call.
async fn check(client: &mut CognateClient<Channel>, documents: usize) {
    for n in (0..documents).step_by(97) {
        let get = GetDocumentsRequest { collection: "c".into(), ids: vec![id(n)], ..Default::default() };
        let got = client.get_documents(get).await.unwrap().into_inner();
        assert!(got.documents[0].text == large(n), "another text");
        for asked in [Asked::Vector(vector(n)), Asked::Id(id(n))] {
            let found = client.top_k(nearest_to(asked)).await.unwrap().into_inner();
            let hits = &found.results[0].hits;
            assert_eq!((hits.len(), &hits[0].id), (3, &id(n)));
            assert!(hits[0].text == large(n), "another text");
        }
    }
    let (mut listed, mut token) = (0, String::new());
    loop {
        let request =
            ListDocumentsRequest { collection: "c".into(), page_size: 100, page_token: token, ..Default::default() };
        let page = client.list_documents(request).await.unwrap().into_inner();
        for document in page.documents {
            assert!(document.id == id(listed) && document.text == large(listed), "{}", document.id);
            listed += 1;
        }
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, documents);
    let mut export =
        client.export(ExportRequest { collection: "c".into(), ..Default::default() }).await.unwrap().into_inner();
    let mut exported = 0;
    while let Some(message) = export.next().await {
        for document in message.unwrap().documents {
            assert!(document.id == id(exported) && document.text == large(exported), "{}", document.id);
            exported += 1;
        }
    }
    assert_eq!(exported, documents);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_many_times_the_memory_of_documents_are_stored_and_served() {
    let directory = tempfile::tempdir().unwrap();
    let flags = [
        ["--data-dir", directory.path().to_str().unwrap()],
        ["--min-free-bytes", "1MiB"],
        ["--max-stored-bytes", "8MiB"],
        ["--text-cache-bytes", "1MiB"],
    ];
    let server = Server::start(&flags.concat()).await;
    let before = server.resident_bytes();
    let mut client = server.client().await;
    // Words would be counted until they are in a segment.
    let lexical = Some(Lexical { enabled: Some(false), ..Default::default() });
    let create = CreateCollectionRequest { name: "c".into(), lexical, ..Default::default() };
    client.create_collection(create).await.unwrap();
    for n in (0..DOCUMENTS).step_by(8) {
        let answer = upload(&mut client, "c", (n..n + 8).map(stored).collect()).await;
        assert_eq!((answer.committed, answer.errors.len()), (8, 0));
    }
    let counted = client.info(InfoRequest {}).await.unwrap().into_inner().storage.unwrap().memory_bytes;
    assert!(counted < 8 << 20, "{counted} bytes are counted");
    check(&mut client, DOCUMENTS).await;

    // An answer that is too large is refused before its texts are read.
    let all = GetDocumentsRequest { collection: "c".into(), ids: (0..200).map(id).collect(), ..Default::default() };
    assert_eq!(client.get_documents(all).await.unwrap_err().code(), Code::ResourceExhausted);
    let many = TopKRequest { k: 200, ..nearest_to(Asked::Vector(vector(0))) };
    assert_eq!(client.top_k(many.clone()).await.unwrap_err().code(), Code::ResourceExhausted);
    let without = TopKRequest { with_text: false, ..many };
    assert_eq!(client.top_k(without).await.unwrap().into_inner().results[0].hits.len(), 200);

    // Metadata changes, and the texts stay.
    let fields = serde_json::json!({ "seen": true }).as_object().cloned().unwrap();
    let (ids, patch) = ((0..DOCUMENTS).map(id).collect(), Some(cognate::wire::metadata::from_json(&fields)));
    let update = UpdateDocumentsRequest { collection: "c".into(), ids, patch, ..Default::default() };
    assert_eq!(client.update_documents(update).await.unwrap().into_inner().documents, DOCUMENTS as u64);
    check(&mut client, DOCUMENTS).await;
    server.kill();

    let server = Server::start(&flags.concat()).await;
    if let (Some(before), Some(after)) = (before, server.resident_bytes()) {
        // The start has read 128 MiB of texts. It keeps up to 32 MiB of the file's pages, and 8 MiB of texts that were
        // loaded together.
        assert!(after < before + (64 << 20), "{before} bytes are resident without documents, {after} with them");
    } else {
        skipped(NO_PROC);
    }
    check(&mut server.client().await, DOCUMENTS).await;
}
