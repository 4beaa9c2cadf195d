//! `UpdateDocuments`: metadata by JSON merge patch.

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::filter::Condition;
use cognate::wire::metadata::{from_json, to_json};
use cognate::wire::query::Query as By;
use cognate::wire::{
    Document, Filter, GetDocumentsRequest, Query, TopKRequest, UpdateDocumentsRequest, UpdateDocumentsResponse, Vector,
};
use prost_types::Struct;
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Server, document, upload, wrong_fields};

fn fields(value: &Value) -> Option<Struct> {
    value.as_object().map(from_json)
}

fn text(filter: &str) -> Option<Filter> {
    Some(Filter { condition: Some(Condition::Text(filter.to_owned())) })
}

/// Creates a document with a vector of its own, so that nothing is embedded.
fn with_vector(n: usize, metadata: &Value) -> Document {
    let mut values = vec![1.0; 384];
    values[n % 384] = 5.0 + n as f32;
    let vector = Some(Vector { values, ..Default::default() });
    Document { vector, metadata: fields(metadata), ..document(&format!("d{n:04}"), &format!("text {n}")) }
}

async fn update(
    client: &mut CognateClient<Channel>,
    ids: &[&str],
    filter: &str,
    patch: &Value,
) -> Result<UpdateDocumentsResponse, Status> {
    let request = UpdateDocumentsRequest {
        collection: "c".to_owned(),
        ids: ids.iter().map(|&id| id.to_owned()).collect(),
        filter: if filter.is_empty() { None } else { text(filter) },
        patch: fields(patch),
    };
    client.update_documents(request).await.map(tonic::Response::into_inner)
}

async fn get(client: &mut CognateClient<Channel>, id: &str) -> Document {
    let request = GetDocumentsRequest {
        collection: "c".to_owned(),
        ids: vec![id.to_owned()],
        with_vector: true,
        ..Default::default()
    };
    client.get_documents(request).await.unwrap().into_inner().documents.remove(0)
}

async fn metadata(client: &mut CognateClient<Channel>, id: &str) -> Value {
    get(client, id).await.metadata.map_or(Value::Null, |metadata| Value::Object(to_json(&metadata).unwrap()))
}

/// The ids of the documents that a search with a filter finds.
async fn found(client: &mut CognateClient<Channel>, filter: &str) -> Vec<String> {
    let queries = vec![Query { query: Some(By::Id("d0000".to_owned())), ..Default::default() }];
    let filter = text(filter);
    let request = TopKRequest { collection: "c".to_owned(), queries, k: 1_000, filter, ..Default::default() };
    let hits = client.top_k(request).await.unwrap().into_inner().results.remove(0).hits;
    let mut ids: Vec<String> = hits.into_iter().map(|hit| hit.id).collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_merges_the_patch_and_keeps_text_and_vector_through_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", directory.path().to_str().unwrap()];
    let server = Server::start(&flags).await;
    let mut client = server.client().await;
    let before = json!({"lang": "en", "author": {"name": "Ann", "age": 3}, "tags": ["a", "b"], "draft": true});
    upload(&mut client, "c", vec![with_vector(0, &before), with_vector(1, &Value::Null), document("d0002", "a boat")])
        .await;
    let stored = get(&mut client, "d0000").await;
    let embedded = get(&mut client, "d0002").await;

    let patch = json!({"draft": null, "author": {"age": null, "town": "Ulm"}, "tags": ["c"], "year": 2020});
    let answer = update(&mut client, &["d0001", "nobody", "d0000", "d0002", "d0000"], "", &patch).await.unwrap();
    assert_eq!((answer.documents, answer.missing, answer.refused), (3, vec!["nobody".to_owned()], 0));
    let after = json!({"lang": "en", "author": {"name": "Ann", "town": "Ulm"}, "tags": ["c"], "year": 2020});
    let of_others = json!({"author": {"town": "Ulm"}, "tags": ["c"], "year": 2020});
    let check = async |client: &mut CognateClient<Channel>| {
        assert_eq!(metadata(client, "d0000").await, after);
        assert_eq!(metadata(client, "d0001").await, of_others);
        for kept in [&stored, &embedded] {
            let now = get(client, &kept.id).await;
            assert_eq!((&now.text, &now.vector), (&kept.text, &kept.vector), "bit for bit");
        }
        assert_eq!(found(client, "author.town = Ulm").await, ["d0000", "d0001", "d0002"]);
        assert!(found(client, "draft exists or tags = a").await.is_empty());
    };
    check(&mut client).await;
    server.kill();
    let server = Server::start(&flags).await;
    check(&mut server.client().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_by_filter_changes_each_matching_document_once_in_several_commits() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let documents = (0..900).map(|n| with_vector(n, &json!({"even": n % 2 == 0, "n": n}))).collect();
    upload(&mut client, "c", documents).await;
    let answer = update(&mut client, &[], "even = true", &json!({"even": false, "was": "even"})).await.unwrap();
    assert_eq!((answer.documents, answer.refused), (450, 0));
    assert_eq!(found(&mut client, "even = true").await, [] as [&str; 0]);
    assert_eq!(found(&mut client, "even = false and was exists").await.len(), 450);
    let again = update(&mut client, &[], "even = true", &json!({"even": false, "was": "even"})).await.unwrap();
    assert_eq!(again, UpdateDocumentsResponse::default(), "nothing matches any more");
    let again = update(&mut client, &[], "was = even", &json!({"was": "even"})).await.unwrap();
    assert_eq!(again.documents, 450, "they have it already");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_may_not_have_the_result_is_reported_and_its_neighbours_are_updated() {
    let server = Server::start(&["--max-collection-fields", "3"]).await;
    let mut client = server.client().await;
    let long = json!({"a": "x".repeat(65_520)});
    upload(&mut client, "c", vec![with_vector(0, &long), with_vector(1, &json!({"a": 1})), with_vector(2, &json!({}))])
        .await;
    for (ids, filter) in [(&["d0000", "d0001"][..], ""), (&[], "a exists")] {
        let answer = update(&mut client, ids, filter, &json!({"b": "0123456789"})).await.unwrap();
        assert_eq!((answer.documents, answer.refused, answer.errors.len()), (1, 1, 1));
        assert_eq!((answer.errors[0].id.as_str(), answer.errors[0].status.as_ref().unwrap().code), ("d0000", 3));
        let said = &answer.errors[0].status.as_ref().unwrap().message;
        assert!(said.contains("patch") && said.contains("limit of 65536"), "{said}");
    }
    assert_eq!(metadata(&mut client, "d0000").await, long);
    assert_eq!(metadata(&mut client, "d0001").await, json!({"a": 1, "b": "0123456789"}));
    let answer = update(&mut client, &["d0001", "d0002"], "", &json!({"c": {"d": 1}})).await.unwrap();
    assert_eq!((answer.documents, answer.refused), (0, 2), "two fields more than there may be");
    let status = answer.errors[1].status.clone().unwrap();
    assert_eq!(status.code, i32::from(Code::ResourceExhausted));
    assert!(status.message.contains("max_collection_fields"), "{status:?}");
    let answer = update(&mut client, &["d0001", "d0002"], "", &json!({"c": 1})).await.unwrap();
    assert_eq!(answer.documents, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_updates_name_their_field() {
    let server = Server::start(&["--max-texts", "2"]).await;
    let mut client = server.client().await;
    upload(&mut client, "c", vec![with_vector(0, &json!({}))]).await;
    let patch = json!({"a": 1});
    let statuses = [
        (update(&mut client, &[], "", &patch).await, "ids"),
        (update(&mut client, &["a", "b", "c"], "", &patch).await, "ids"),
        (update(&mut client, &["a", ""], "", &patch).await, "ids[1]"),
        (update(&mut client, &["a"], "a = 1", &patch).await, "filter"),
        (update(&mut client, &[], "a =", &patch).await, "filter.text"),
        (update(&mut client, &["a"], "", &Value::Null).await, "patch"),
        (update(&mut client, &["a"], "", &json!({})).await, "patch"),
        (update(&mut client, &["a"], "", &json!({"a": "x".repeat(65_536)})).await, "patch"),
    ];
    for (answer, field) in statuses {
        let status = answer.unwrap_err();
        assert_eq!(
            (status.code(), wrong_fields(&status)),
            (Code::InvalidArgument, vec![field.to_owned()]),
            "{status:?}"
        );
    }
    let unknown = UpdateDocumentsRequest {
        collection: "nothing".to_owned(),
        ids: vec!["a".to_owned()],
        filter: None,
        patch: fields(&patch),
    };
    let status = client.update_documents(unknown).await.unwrap_err();
    assert_eq!(status.get_details_resource_info().unwrap().resource_name, "nothing");
}
