//! `TopK`: the nearest documents and candidates.

use std::collections::BTreeMap;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::filter::Condition;
use cognate::wire::query::Query as By;
use cognate::wire::{
    Document, EqualsCondition, ExistsCondition, Filter, FilterList, GetDocumentsRequest, InCondition, Query,
    RangeCondition, SearchParams, SimilarityRequest, TopKRequest, TopKResult, Vector,
};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;

use crate::harness::{Server, document, upload, wrong_fields};

const TEXTS: [(&str, &str); 6] = [
    ("bread", "A man is eating a piece of bread."),
    ("cheetah", "A cheetah is running behind its prey."),
    ("food", "A man is eating food."),
    ("gorilla", "Someone in a gorilla costume is playing a set of drums."),
    ("horse", "A man is riding a white horse on an enclosed ground."),
    ("violin", "A woman is playing the violin."),
];

fn by_text(text: &str) -> Query {
    Query { query: Some(By::Text(text.to_owned())), ..Default::default() }
}

fn by_id(id: &str) -> Query {
    Query { query: Some(By::Id(id.to_owned())), ..Default::default() }
}

fn by_vector(values: Vec<f32>) -> Query {
    Query { query: Some(By::Vector(Vector { values, ..Default::default() })), ..Default::default() }
}

fn search(queries: Vec<Query>, k: u32) -> TopKRequest {
    TopKRequest { collection: "animals".to_owned(), queries, k, ..Default::default() }
}

fn ids(result: &TopKResult) -> Vec<&str> {
    result.hits.iter().map(|hit| hit.id.as_str()).collect()
}

fn string(s: &str) -> Value {
    Value { kind: Some(Kind::StringValue(s.to_owned())) }
}

fn number(n: f64) -> Value {
    Value { kind: Some(Kind::NumberValue(n)) }
}

async fn animals(server: &Server) -> CognateClient<Channel> {
    let mut client = server.client().await;
    let documents = TEXTS
        .iter()
        .enumerate()
        .map(|(n, (id, text))| Document {
            metadata: Some(Struct {
                fields: BTreeMap::from([("n".to_owned(), number(n as f64)), ("first".to_owned(), string(&text[..1]))])
                    .into_iter()
                    .collect(),
            }),
            ..document(id, text)
        })
        .collect();
    let last = upload(&mut client, "animals", documents).await;
    assert_eq!((last.received, last.committed, last.done), (6, 6, true));
    client
}

async fn one(client: &mut CognateClient<Channel>, request: TopKRequest) -> TopKResult {
    let mut results = client.top_k(request).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 1);
    results.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nearest_documents_come_first_with_the_scores_of_similarity() {
    let server = Server::start(&[]).await;
    let mut client = animals(&server).await;
    let query = "A person is having a meal.";
    let result = one(&mut client, search(vec![by_text(query)], 6)).await;
    assert_eq!(ids(&result)[..2], ["food", "bread"]);
    assert!(result.hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
    let b = result.hits.iter().map(|hit| TEXTS.iter().find(|(id, _)| *id == hit.id).unwrap().1.to_owned()).collect();
    let request = SimilarityRequest { a: vec![query.to_owned()], b, ..Default::default() };
    let rows = client.similarity(request).await.unwrap().into_inner().rows;
    for (hit, score) in result.hits.iter().zip(&rows[0].scores) {
        assert!((hit.score - score).abs() < 1e-6, "{} {score}", hit.score);
        assert!(hit.text.is_empty() && hit.metadata.is_none() && hit.vector.is_none() && hit.candidate.is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_may_be_texts_vectors_and_ids() {
    let server = Server::start(&[]).await;
    let mut client = animals(&server).await;
    let request = GetDocumentsRequest {
        collection: "animals".into(),
        ids: vec!["violin".into()],
        with_vector: true,
        ..Default::default()
    };
    let stored = client.get_documents(request).await.unwrap().into_inner().documents.remove(0).vector.unwrap().values;
    let doubled = stored.iter().map(|v| v * 2.0).collect();
    let queries = vec![by_text("A woman is playing the violin."), by_vector(doubled), by_id("violin")];
    let results = client.top_k(search(queries, 3)).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 3);
    for result in &results {
        assert_eq!(ids(result), ids(&results[0]));
        assert_eq!(result.hits[0].id, "violin");
        assert!((result.hits[0].score - 1.0).abs() < 1e-6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_carry_what_was_asked_for() {
    let server = Server::start(&[]).await;
    let mut client = animals(&server).await;
    let request = TopKRequest {
        with_text: true,
        with_metadata: true,
        with_vector: true,
        ..search(vec![by_text("A woman is playing the violin.")], 1)
    };
    let hit = one(&mut client, request).await.hits.remove(0);
    assert_eq!(hit.text, "A woman is playing the violin.");
    assert_eq!(hit.metadata.unwrap().fields["n"], number(5.0));
    assert_eq!(hit.vector.unwrap().values.len(), 384);
}

#[tokio::test(flavor = "multi_thread")]
async fn candidates_are_ranked_instead_of_a_collection() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let candidates = TEXTS.iter().map(|(_, text)| (*text).to_owned()).collect();
    let request = TopKRequest {
        queries: vec![by_text("A person is having a meal.")],
        k: 2,
        candidates,
        with_text: true,
        ..Default::default()
    };
    let hits = one(&mut client, request).await.hits;
    let found: Vec<_> = hits.iter().map(|hit| (hit.candidate, hit.text.as_str(), hit.id.as_str())).collect();
    assert_eq!(found, [(Some(2), TEXTS[2].1, ""), (Some(0), TEXTS[0].1, "")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn low_scores_are_left_out_on_request() {
    let server = Server::start(&[]).await;
    let mut client = animals(&server).await;
    let all = one(&mut client, search(vec![by_text("meal")], 6)).await;
    let least = all.hits[2].score;
    let some = one(&mut client, TopKRequest { min_score: Some(least), ..search(vec![by_text("meal")], 6) }).await;
    assert_eq!(some.hits, all.hits[..3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exact_search_and_any_ef_find_the_same_in_a_small_collection() {
    let server = Server::start(&[]).await;
    let mut client = animals(&server).await;
    let plain = one(&mut client, search(vec![by_text("music")], 4)).await;
    for params in [SearchParams { ef: 0, exact: true }, SearchParams { ef: 1, exact: false }] {
        let found = one(&mut client, TopKRequest { params: Some(params), ..search(vec![by_text("music")], 4) }).await;
        assert_eq!(found, plain);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_choose_among_documents_by_their_metadata() {
    let server = Server::start(&[]).await;
    let mut client = animals(&server).await;
    let range = |gte, lt| RangeCondition { path: Some("n".into()), gte: Some(gte), lt: Some(lt), ..Default::default() };
    let is = |condition| Filter { condition: Some(condition) };
    let first = |s: &str| EqualsCondition { path: Some("first".into()), value: Some(string(s)) };
    for (filter, expected) in [
        (is(Condition::Range(range(1.0, 3.0))), vec!["cheetah", "food"]),
        (is(Condition::Equals(first("S"))), vec!["gorilla"]),
        (
            is(Condition::OneOf(InCondition { path: Some("n".into()), values: vec![number(5.0), number(0.0)] })),
            vec!["bread", "violin"],
        ),
        (is(Condition::Negated(Box::new(is(Condition::Equals(first("A")))))), vec!["gorilla"]),
        (
            is(Condition::AllOf(FilterList {
                filters: vec![is(Condition::Range(range(2.0, 9.0))), is(Condition::Equals(first("A")))],
            })),
            vec!["food", "horse", "violin"],
        ),
        (is(Condition::Exists(ExistsCondition { path: Some("absent".into()) })), vec![]),
    ] {
        let request = TopKRequest { filter: Some(filter.clone()), ..search(vec![by_text("eating")], 6) };
        let result = one(&mut client, request).await;
        let mut found = ids(&result);
        found.sort_unstable();
        assert_eq!(found, expected, "{filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_scores_come_in_id_order() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let documents = ["d", "b", "c", "a"].map(|id| document(id, "the same text")).to_vec();
    upload(&mut client, "animals", documents).await;
    let result = one(&mut client, search(vec![by_text("a text")], 3)).await;
    assert_eq!(ids(&result), ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_query_that_fails_leaves_its_neighbours_answered() {
    let server = Server::start(&["--max-text-bytes", "100"]).await;
    let mut client = animals(&server).await;
    let queries = vec![by_id("nobody"), by_text("meal"), by_text(&"x".repeat(101)), by_vector(vec![1.0; 3])];
    let results = client.top_k(search(queries, 2)).await.unwrap().into_inner().results;
    let codes: Vec<_> = results.iter().map(|result| result.error.as_ref().map_or(0, |error| error.code)).collect();
    let invalid = i32::from(Code::InvalidArgument);
    assert_eq!(codes, [i32::from(Code::NotFound), 0, invalid, invalid]);
    assert_eq!(results.iter().map(|result| result.hits.len()).collect::<Vec<_>>(), [0, 2, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_collection_or_document_is_not_found_by_name() {
    let server = Server::start(&[]).await;
    let mut client = animals(&server).await;
    let status = client.top_k(search(vec![by_id("nobody")], 1)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let resource = status.get_details_resource_info().unwrap();
    assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), ("document", "nobody"));
    let request = TopKRequest { collection: "plants".into(), ..search(vec![by_text("a")], 1) };
    let status = client.top_k(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let resource = status.get_details_resource_info().unwrap();
    assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), ("collection", "plants"));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_name_their_field() {
    let server = Server::start(&["--max-k", "10", "--max-text-bytes", "100"]).await;
    let mut client = animals(&server).await;
    let a = || vec![by_text("a")];
    let with_filter = |condition| TopKRequest { filter: Some(Filter { condition }), ..search(a(), 1) };
    for (wrong, field) in [
        (search(a(), 0), "k"),
        (search(a(), 11), "k"),
        (search(vec![], 1), "queries"),
        (search(vec![Query::default()], 1), "queries[0]"),
        (search(vec![by_text(&"x".repeat(101))], 1), "queries[0].text"),
        (search(vec![by_id("")], 1), "queries[0].id"),
        (search(vec![by_vector(vec![1.0; 383])], 1), "queries[0].vector"),
        (search(vec![by_vector(vec![0.0; 384])], 1), "queries[0].vector"),
        (search(vec![by_vector(vec![f32::NAN; 384])], 1), "queries[0].vector"),
        (TopKRequest { collection: String::new(), ..search(a(), 1) }, "collection"),
        (TopKRequest { collection: "../etc".into(), ..search(a(), 1) }, "collection"),
        (TopKRequest { candidates: vec!["c".into(), "x".repeat(101)], ..search(a(), 1) }, "candidates[1]"),
        (TopKRequest { min_score: Some(f32::NAN), ..search(a(), 1) }, "min_score"),
        (TopKRequest { params: Some(SearchParams { ef: 5000, exact: false }), ..search(a(), 1) }, "params.ef"),
        (with_filter(None), "filter"),
        (with_filter(Some(Condition::AllOf(FilterList::default()))), "filter.all_of.filters"),
        (with_filter(Some(Condition::Exists(ExistsCondition { path: None }))), "filter.exists.path"),
        (
            with_filter(Some(Condition::Equals(EqualsCondition { path: Some("a".into()), value: None }))),
            "filter.equals.value",
        ),
        (
            with_filter(Some(Condition::Range(RangeCondition { path: Some("a".into()), ..Default::default() }))),
            "filter.range",
        ),
    ] {
        let status = client.top_k(wrong.clone()).await.expect_err(field);
        assert_eq!(
            (status.code(), wrong_fields(&status)),
            (Code::InvalidArgument, vec![field.to_owned()]),
            "{wrong:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_would_be_too_large_is_refused() {
    let server = Server::start(&["--max-message-bytes", "64KiB"]).await;
    let mut client = server.client().await;
    let documents = (0..40).map(|n| document(&format!("{n}"), &format!("{n} {}", "long ".repeat(200)))).collect();
    upload(&mut client, "animals", documents).await;
    let request = TopKRequest { with_text: true, with_vector: true, ..search(vec![by_text("long"); 2], 40) };
    let status = client.top_k(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("max_message_bytes of 65536"), "{status:?}");
}
