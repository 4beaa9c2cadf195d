//! Filters as text: what `TopK`, `ListDocuments` and `DeleteDocuments` do with them.

use cognate::proto::cognate_client::CognateClient;
use cognate::proto::filter::{Condition, List};
use cognate::proto::query::Query as By;
use cognate::proto::{
    DeleteDocumentsRequest, Document, Filter, ListDocumentsRequest, Query, SearchParams, TopKRequest, Vector,
};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{Server, upload, wrong_fields};

fn text(filter: &str) -> Option<Filter> {
    Some(Filter { condition: Some(Condition::Text(filter.to_owned())) })
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

/// 300 documents with vectors of their own, every third in English, of the years 2000 to 2009, one of them with a note.
async fn library(server: &Server) -> CognateClient<Channel> {
    let mut client = server.client().await;
    let documents = (0..300u32).map(|n| {
        let lang = if n.is_multiple_of(3) { "en" } else { "de" };
        let mut fields = vec![
            ("lang".to_owned(), value(Kind::StringValue(lang.to_owned()))),
            ("year".to_owned(), value(Kind::NumberValue(f64::from(2000 + n % 10)))),
        ];
        if n == 7 {
            let name = ("name".to_owned(), value(Kind::StringValue("Ann".to_owned())));
            fields.push(("author".to_owned(), value(Kind::StructValue(Struct { fields: [name].into() }))));
        }
        let mut values = vec![1.0; 384];
        values[n as usize] = 5.0;
        Document {
            id: format!("d{n:03}"),
            text: String::new(),
            metadata: Some(Struct { fields: fields.into_iter().collect() }),
            vector: Some(Vector { values, ..Default::default() }),
        }
    });
    let last = upload(&mut client, "library", documents.collect()).await;
    assert_eq!((last.committed, last.done), (300, true));
    client
}

fn search(filter: Option<Filter>, k: u32, exact: bool) -> TopKRequest {
    TopKRequest {
        collection: "library".to_owned(),
        queries: vec![Query { query: Some(By::Id("d000".to_owned())) }],
        k,
        filter,
        params: Some(SearchParams { exact, ..Default::default() }),
        ..Default::default()
    }
}

async fn listed(client: &mut CognateClient<Channel>, filter: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListDocumentsRequest {
            collection: "library".to_owned(),
            page_size: 7,
            page_token,
            filter: text(filter),
            ..Default::default()
        };
        let page = client.list_documents(request).await.unwrap().into_inner();
        ids.extend(page.documents.into_iter().map(|document| document.id));
        if page.next_page_token.is_empty() {
            return ids;
        }
        page_token = page.next_page_token;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_as_text_does_what_the_message_does() {
    let server = Server::start(&[]).await;
    let mut client = library(&server).await;
    for (filter, expected) in [
        ("lang = \"en\"", 100),
        ("lang=en and 2000 <= year < 2005", 50),
        ("not (lang = en or year >= 2005)", 100),
        ("year in (2001, 2002) or author.name = 'Ann'", 61),
        ("author exists", 1),
        ("absent exists", 0),
    ] {
        for exact in [false, true] {
            let results = client.top_k(search(text(filter), 300, exact)).await.unwrap().into_inner().results;
            assert_eq!(results[0].hits.len(), expected, "{filter}");
        }
        assert_eq!(listed(&mut client, filter).await.len(), expected, "{filter}");
    }
    let both = List { filters: vec![text("lang = en").unwrap(), text("year > 2008 or author exists").unwrap()] };
    let both = Filter { condition: Some(Condition::And(both)) };
    let results = client.top_k(search(Some(both), 300, false)).await.unwrap().into_inner().results;
    assert_eq!(results[0].hits.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_matches_is_listed_in_the_order_of_ids_page_by_page() {
    let server = Server::start(&[]).await;
    let mut client = library(&server).await;
    let even: Vec<String> = (0..300).filter(|n| n % 2 == 0).map(|n| format!("d{n:03}")).collect();
    assert_eq!(listed(&mut client, "year in (2000, 2002, 2004, 2006, 2008)").await, even);
    // Few enough to be looked up one by one.
    let few: Vec<String> = (0..300).filter(|n| n % 30 == 9).map(|n| format!("d{n:03}")).collect();
    assert_eq!(listed(&mut client, "year = 2009 and lang = en").await, few);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_matches_is_deleted_and_nothing_else() {
    let server = Server::start(&[]).await;
    let mut client = library(&server).await;
    let delete = |filter: &str| DeleteDocumentsRequest {
        collection: "library".to_owned(),
        filter: text(filter),
        ..Default::default()
    };
    let deleted = client.delete_documents(delete("lang = de and year < 2005")).await.unwrap().into_inner();
    assert_eq!((deleted.documents, deleted.deleted.len(), deleted.missing.len()), (100, 0, 0));
    let again = client.delete_documents(delete("lang = de and year < 2005")).await.unwrap().into_inner();
    assert_eq!(again.documents, 0);
    assert_eq!(listed(&mut client, "year >= 0").await.len(), 200);
    assert_eq!(listed(&mut client, "lang = de and year < 2005").await, Vec::<String>::new());
    let results = client.top_k(search(None, 300, true)).await.unwrap().into_inner().results;
    assert_eq!(results[0].hits.len(), 200);

    let both = DeleteDocumentsRequest { ids: vec!["d000".to_owned()], ..delete("lang = en") };
    let refused = client.delete_documents(both).await.unwrap_err();
    assert_eq!((refused.code(), wrong_fields(&refused)), (Code::InvalidArgument, vec!["filter".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_a_filter_is_told_by_its_place() {
    let server = Server::start(&[]).await;
    let mut client = library(&server).await;
    let mut refused = async |filter: &str| client.top_k(search(text(filter), 1, false)).await.unwrap_err();
    let status = refused("lang == en").await;
    assert_eq!((status.code(), wrong_fields(&status)), (Code::InvalidArgument, vec!["filter.text".to_owned()]));
    let message = "filter.text: \"=\" at character 7: expected a value";
    assert!(status.message().starts_with(message), "{}", status.message());
    assert!(refused(&"(".repeat(100_000)).await.message().contains("exceed the limit of 65536"));
    assert!(refused(&"(".repeat(60_000)).await.message().contains("nested more than 32 deep"));
}
