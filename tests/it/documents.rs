//! Documents and collections: get, list, delete.

use cognate::wire::{
    CreateCollectionRequest, DeleteCollectionRequest, DeleteDocumentsRequest, Document, GetDocumentsRequest,
    ListCollectionsRequest, ListDocumentsRequest, TopKRequest,
};
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Server, document, upload, wrong_fields};

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|&s| s.to_owned()).collect()
}

fn get(ids: &[&str]) -> GetDocumentsRequest {
    GetDocumentsRequest { collection: "c".into(), ids: strings(ids), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_come_back_as_they_were_sent() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let json = r#"{"lang": "en", "year": 2020, "score": 0.5, "tags": ["a", "b"],
        "author": {"name": "Ann"}, "none": null, "ok": true}"#;
    let metadata = cognate::wire::metadata::from_json(
        serde_json::from_str::<serde_json::Value>(json).unwrap().as_object().unwrap(),
    );
    let sent = Document { metadata: Some(metadata), ..document("é/1", "Grüße\0 from \u{1F600}") };
    upload(&mut client, "c", vec![sent.clone(), document("b", "plain")]).await;
    let response = client.get_documents(get(&["b", "nobody", "é/1", "b"])).await.unwrap().into_inner();
    assert_eq!(response.documents, [document("b", "plain"), sent, document("b", "plain")]);
    assert_eq!(response.missing, ["nobody"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_documents_are_found_no_more() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    upload(&mut client, "c", vec![document("a", "bread"), document("b", "trains"), document("d", "joy")]).await;
    let request =
        DeleteDocumentsRequest { collection: "c".into(), ids: strings(&["d", "nobody", "a", "a"]), filter: None };
    let response = client.delete_documents(request).await.unwrap().into_inner();
    assert_eq!((response.deleted, response.missing), (strings(&["d", "a"]), strings(&["nobody"])));
    assert_eq!(client.get_documents(get(&["a", "b"])).await.unwrap().into_inner().missing, ["a"]);
    let query =
        cognate::wire::Query { query: Some(cognate::wire::query::Query::Text("bread".into())), ..Default::default() };
    let request = TopKRequest { collection: "c".into(), queries: vec![query], k: 10, ..Default::default() };
    let hits = client.top_k(request).await.unwrap().into_inner().results.remove(0).hits;
    assert_eq!(hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_list_every_document_once_in_id_order() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let mut ids: Vec<String> = (0..25).map(|n| format!("id {}", n * 7 % 25)).collect();
    upload(&mut client, "c", ids.iter().map(|id| document(id, id)).collect()).await;
    ids.sort();
    let (mut token, mut seen, mut sizes) = (String::new(), Vec::new(), Vec::new());
    loop {
        let request = ListDocumentsRequest {
            collection: "c".into(),
            page_size: 10,
            page_token: token,
            with_vector: true,
            ..Default::default()
        };
        let page = client.list_documents(request).await.unwrap().into_inner();
        sizes.push(page.documents.len());
        assert!(page.documents.iter().all(|document| document.vector.as_ref().unwrap().values.len() == 384));
        seen.extend(page.documents.into_iter().map(|document| document.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((seen, sizes), (ids, vec![10, 10, 5]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_documents_is_shorter_and_never_too_large_to_send() {
    let server = Server::start(&["--max-message-bytes", "64KiB"]).await;
    let mut client = server.client().await;
    for n in 0..8 {
        upload(&mut client, "c", vec![document(&n.to_string(), &"large ".repeat(2000))]).await;
    }
    let request = ListDocumentsRequest { collection: "c".into(), ..Default::default() };
    let page = client.list_documents(request).await.unwrap().into_inner();
    assert!((1..8).contains(&page.documents.len()) && !page.next_page_token.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_are_made_listed_and_removed() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    for name in ["b", "a"] {
        let made = client
            .create_collection(CreateCollectionRequest { name: name.into(), ..Default::default() })
            .await
            .unwrap()
            .into_inner();
        let made = made.collection.unwrap();
        assert_eq!((made.name.as_str(), made.documents, made.dimensions), (name, 0, 384));
    }
    let status =
        client.create_collection(CreateCollectionRequest { name: "a".into(), ..Default::default() }).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(status.get_details_resource_info().unwrap().resource_name, "a");
    upload(&mut client, "a", vec![document("x", "text")]).await;
    let names = async |client: &mut cognate::wire::cognate_client::CognateClient<_>| {
        let list = client.list_collections(ListCollectionsRequest::default()).await.unwrap().into_inner().collections;
        list.into_iter().map(|c| (c.name, c.documents)).collect::<Vec<_>>()
    };
    assert_eq!(names(&mut client).await, [("a".to_owned(), 1), ("b".to_owned(), 0)]);
    let removed = client.delete_collection(DeleteCollectionRequest { name: "a".into() }).await.unwrap().into_inner();
    assert_eq!(removed.documents, 1);
    assert_eq!(names(&mut client).await, [("b".to_owned(), 0)]);
    let status = client.delete_collection(DeleteCollectionRequest { name: "a".into() }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_name_their_field() {
    let server = Server::start(&["--max-texts", "2"]).await;
    let mut client = server.client().await;
    client.create_collection(CreateCollectionRequest { name: "c".into(), ..Default::default() }).await.unwrap();
    let list = |page_size, page_token: &str| ListDocumentsRequest {
        collection: "c".into(),
        page_size,
        page_token: page_token.into(),
        ..Default::default()
    };
    let delete = |ids: &[&str]| DeleteDocumentsRequest { collection: "c".into(), ids: strings(ids), filter: None };
    let statuses = [
        (client.get_documents(get(&[])).await.unwrap_err(), "ids"),
        (client.get_documents(get(&["a", "b", "d"])).await.unwrap_err(), "ids"),
        (client.get_documents(get(&["a", ""])).await.unwrap_err(), "ids[1]"),
        (client.delete_documents(delete(&[])).await.unwrap_err(), "ids"),
        (client.list_documents(list(1001, "")).await.unwrap_err(), "page_size"),
        (client.list_documents(list(1, "mine")).await.unwrap_err(), "page_token"),
        (
            client
                .create_collection(CreateCollectionRequest { name: ".".into(), ..Default::default() })
                .await
                .unwrap_err(),
            "name",
        ),
        (client.delete_collection(DeleteCollectionRequest { name: String::new() }).await.unwrap_err(), "name"),
    ];
    for (status, field) in statuses {
        assert_eq!(
            (status.code(), wrong_fields(&status)),
            (Code::InvalidArgument, vec![field.to_owned()]),
            "{status:?}"
        );
    }
    let unknown = GetDocumentsRequest { collection: "nothing".into(), ..get(&["a"]) };
    assert_eq!(client.get_documents(unknown).await.unwrap_err().code(), Code::NotFound);
}
