//! Filters as text in `TopK`, `ListDocuments` and `DeleteDocuments`.

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::filter::Condition;
use cognate::wire::query::Query as By;
use cognate::wire::{
    DeleteDocumentsRequest, Document, Filter, ListDocumentsRequest, Query, SearchParams, TopKRequest, Vector,
};
use cognate::wire::{EqualsCondition, ExistsCondition, FilterList, InCondition, RangeCondition};
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

/// Creates 300 documents with vectors of their own: every third in English, years 2000 to 2009, one of them with a
/// note.
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
            ..Default::default()
        }
    });
    let last = upload(&mut client, "library", documents.collect()).await;
    assert_eq!((last.committed, last.done), (300, true));
    client
}

fn search(filter: Option<Filter>, k: u32, exact: bool) -> TopKRequest {
    TopKRequest {
        collection: "library".to_owned(),
        queries: vec![Query { query: Some(By::Id("d000".to_owned())), ..Default::default() }],
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
    let both = FilterList { filters: vec![text("lang = en").unwrap(), text("year > 2008 or author exists").unwrap()] };
    let both = Filter { condition: Some(Condition::AllOf(both)) };
    let results = client.top_k(search(Some(both), 300, false)).await.unwrap().into_inner().results;
    assert_eq!(results[0].hits.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn matching_documents_are_listed_in_the_order_of_ids_page_by_page() {
    let server = Server::start(&[]).await;
    let mut client = library(&server).await;
    let even: Vec<String> = (0..300).filter(|n| n % 2 == 0).map(|n| format!("d{n:03}")).collect();
    assert_eq!(listed(&mut client, "year in (2000, 2002, 2004, 2006, 2008)").await, even);
    // The matches are few enough to be looked up one by one.
    let few: Vec<String> = (0..300).filter(|n| n % 30 == 9).map(|n| format!("d{n:03}")).collect();
    assert_eq!(listed(&mut client, "year = 2009 and lang = en").await, few);
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_matching_documents_are_deleted() {
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

/// Creates documents with vectors of their own, whose ids tell their contents.
async fn odd_keys(server: &Server) -> CognateClient<Channel> {
    let mut client = server.client().await;
    let number = |n: f64| value(Kind::NumberValue(n));
    let object =
        |key: &str, inner: Value| value(Kind::StructValue(Struct { fields: [(key.to_owned(), inner)].into() }));
    let list = |values: Vec<Value>| value(Kind::ListValue(prost_types::ListValue { values }));
    let documents = [
        ("dot", "a.b", number(1.0)),
        ("nested", "a", object("b", number(1.0))),
        ("empty", "", number(1.0)),
        ("dots", "..", number(1.0)),
        ("quoted", "\"q\"", number(1.0)),
        ("list", "l", list(vec![object("n", number(1.0)), object("n", list(vec![list(vec![number(9.0)])]))])),
    ];
    let documents = documents.into_iter().enumerate().map(|(n, (id, key, value))| {
        let mut values = vec![1.0; 384];
        values[n] = 5.0;
        Document {
            id: id.to_owned(),
            text: String::new(),
            metadata: Some(Struct { fields: [(key.to_owned(), value)].into() }),
            vector: Some(Vector { values, ..Default::default() }),
            ..Default::default()
        }
    });
    let last = upload(&mut client, "library", documents.collect()).await;
    assert_eq!((last.committed, last.done), (6, true));
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_is_reached_by_a_path_and_so_are_objects_in_lists() {
    let server = Server::start(&[]).await;
    let mut client = odd_keys(&server).await;
    for (filter, expected) in [
        ("a.b = 1", vec!["nested"]),
        ("'a.b' = 1", vec!["dot"]),
        ("'' = 1", vec!["empty"]),
        ("\"..\" exists", vec!["dots"]),
        ("'\"q\"' exists", vec!["quoted"]),
        ("l.n = 1 and l.n > 8", vec!["list"]),
        ("1 < l.n < 9", vec![]),
        ("l exists and not l.n = 2", vec!["list"]),
    ] {
        assert_eq!(listed(&mut client, filter).await, expected, "{filter}");
    }
    for (path, expected) in [
        ("a.b", vec!["dot", "nested"]),
        ("\"a.b\"", vec!["dot"]),
        ("a.'b'", vec!["nested"]),
        ("", vec!["empty"]),
        ("..", vec!["dots"]),
        ("\"q\"", vec!["quoted"]),
        ("l.n", vec!["list"]),
    ] {
        let equals = EqualsCondition { path: Some(path.to_owned()), value: Some(value(Kind::NumberValue(1.0))) };
        let filter = Some(Filter { condition: Some(Condition::Equals(equals)) });
        let request = ListDocumentsRequest { collection: "library".to_owned(), filter, ..Default::default() };
        let documents = client.list_documents(request).await.unwrap().into_inner().documents;
        assert_eq!(documents.into_iter().map(|document| document.id).collect::<Vec<_>>(), expected, "{path}");
    }
    for (group_by, groups) in [("a.b", 2), ("\"a.b\"", 1), ("..", 1), ("l.n", 0)] {
        let by_id = vec![Query { query: Some(By::Id("dot".to_owned())), ..Default::default() }];
        let request =
            TopKRequest { queries: by_id, group_by: group_by.to_owned(), group_size: 9, ..search(None, 9, true) };
        let hits = client.top_k(request).await.unwrap().into_inner().results.remove(0).hits;
        assert_eq!(hits.iter().filter(|hit| hit.group.is_some()).count(), groups, "{group_by}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_with_too_many_conditions_or_values_is_refused_before_it_costs_anything() {
    let server = Server::start(&[]).await;
    let mut client = library(&server).await;
    let range = |n: usize| {
        let at = n as f64;
        let range =
            RangeCondition { path: Some("year".to_owned()), gte: Some(at), lt: Some(at + 0.5), ..Default::default() };
        Filter { condition: Some(Condition::Range(range)) }
    };
    let ranges = |n: usize| {
        Some(Filter { condition: Some(Condition::AnyOf(FilterList { filters: (0..n).map(range).collect() })) })
    };
    let limits = client.info(cognate::wire::InfoRequest {}).await.unwrap().into_inner().limits.unwrap();
    let (most_conditions, most_values) = (limits.max_filter_conditions as usize, limits.max_filter_values as usize);

    let refused = client.top_k(search(ranges(60_000), 1, false)).await.unwrap_err();
    assert_eq!((refused.code(), wrong_fields(&refused)), (Code::InvalidArgument, vec!["filter".to_owned()]));
    let said = format!("filter: 60001 conditions exceed the limit of {most_conditions}");
    assert!(refused.message().starts_with(&said), "{}", refused.message());
    let results = client.top_k(search(ranges(most_conditions - 1), 1, false)).await.unwrap().into_inner().results;
    assert_eq!(results[0].hits.len(), 0);

    let written = vec!["year = 1"; most_conditions].join(" or ");
    let refused = client.top_k(search(text(&written), 1, false)).await.unwrap_err();
    assert_eq!(wrong_fields(&refused), ["filter.text"]);
    let years = (0..=most_values).map(|n| value(Kind::NumberValue(n as f64))).collect::<Vec<_>>();
    let one_of = |values: &[Value]| {
        let one_of = InCondition { path: Some("year".to_owned()), values: values.to_vec() };
        Some(Filter { condition: Some(Condition::OneOf(one_of)) })
    };
    let refused = client.top_k(search(one_of(&years), 1, false)).await.unwrap_err();
    assert!(refused.message().starts_with("filter: 65537 values exceed the limit of 65536"), "{}", refused.message());
    let results = client.top_k(search(one_of(&years[1..]), 300, false)).await.unwrap().into_inner().results;
    assert_eq!(results[0].hits.len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_whose_path_was_forgotten_is_refused() {
    let server = Server::start(&[]).await;
    let mut client = library(&server).await;
    let forgotten = Filter { condition: Some(Condition::Exists(ExistsCondition { path: None })) };
    let all_others = Some(Filter { condition: Some(Condition::Negated(Box::new(forgotten))) });
    let request = DeleteDocumentsRequest { collection: "library".to_owned(), filter: all_others, ..Default::default() };
    let refused = client.delete_documents(request).await.unwrap_err();
    assert_eq!(wrong_fields(&refused), ["filter.negated.exists.path"]);
    assert_eq!(listed(&mut client, "year exists").await.len(), 300);
}
