//! `TopK` with hits that differ, by diversity and by groups of documents; and many queries in one call.

use std::collections::HashMap;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::filter::Condition;
use cognate::wire::query::Query as By;
use cognate::wire::{Document, Filter, Hit, Query, SearchParams, TopKRequest, Vector};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{Server, dot, upload, wrong_fields};

/// The number of documents on the shelf. Their distance from the first grows with their number.
const N: usize = 300;

fn query(by: By) -> Query {
    Query { query: Some(by), ..Default::default() }
}

fn direction(n: usize) -> Vector {
    let (turn, mut values) = (n as f32 / N as f32 * 3.0, vec![0.0; 384]);
    (values[0], values[1], values[2]) = (turn.cos(), turn.sin(), 0.02 * (n as f32).sin());
    Vector { values, ..Default::default() }
}

fn string(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

/// Returns the author: nine tenths are by Ann, and they come first. The others each have an author of their own; a few
/// have several authors or none.
fn author(n: usize) -> Option<Value> {
    match n {
        0..270 => Some(string("Ann")),
        270..290 => Some(string(&format!("Bob {}", n / 2))),
        290..295 => Some(Value { kind: Some(Kind::ListValue(ListValue { values: vec![string("Ann")] })) }),
        _ => None,
    }
}

/// Returns the group of a hit. A document that must be a group of its own is named by its id.
fn group_of(hit: &Hit) -> String {
    let n = hit.id[1..].parse().unwrap();
    match author(n).and_then(|value| value.kind) {
        Some(Kind::StringValue(name)) => name,
        _ => hit.id.clone(),
    }
}

async fn shelf(server: &Server) -> CognateClient<Channel> {
    let mut client = server.client().await;
    let documents = (0..N).map(|n| {
        let book = author(n).map(|author| Struct { fields: [("author".to_owned(), author)].into() });
        let book = Value { kind: Some(Kind::StructValue(book.unwrap_or_default())) };
        Document {
            id: format!("d{n:03}"),
            metadata: Some(Struct { fields: [("book".to_owned(), book)].into() }),
            vector: Some(direction(n)),
            ..Default::default()
        }
    });
    let last = upload(&mut client, "shelf", documents.collect()).await;
    assert_eq!(last.committed, N as u64);
    client
}

fn search(k: u32) -> TopKRequest {
    TopKRequest {
        collection: "shelf".to_owned(),
        queries: vec![query(By::Id("d000".to_owned()))],
        k,
        ..Default::default()
    }
}

fn by_author(k: u32, group_size: u32) -> TopKRequest {
    TopKRequest { group_by: "book.author".to_owned(), group_size, ..search(k) }
}

async fn hits(client: &mut CognateClient<Channel>, request: TopKRequest) -> Vec<Hit> {
    let mut results = client.top_k(request).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 1);
    results.remove(0).hits
}

fn ids(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_of_each_group_are_found_and_k_hits_however_large_one_group_is() {
    let server = Server::start(&[]).await;
    let mut client = shelf(&server).await;
    let all = hits(&mut client, search(N as u32)).await;
    assert_eq!(all.len(), N);
    // 1 by Ann, 10 by others, 10 that are groups of their own; then up to twice as many of those that have more.
    for (k, size, possible) in [(1, 1, 21), (5, 0, 21), (100, 1, 21), (300, 2, 32), (300, 300, 300)] {
        let grouped = hits(&mut client, by_author(k, size)).await;
        assert_eq!(grouped.len(), possible.min(k as usize), "k {k}, size {size}");
        let mut members: HashMap<String, u32> = HashMap::new();
        let mut expected = all.clone();
        expected.retain(|hit| {
            let members = members.entry(group_of(hit)).or_default();
            *members += 1;
            *members <= size.max(1)
        });
        expected.truncate(k as usize);
        assert_eq!(ids(&grouped), ids(&expected), "k {k}, size {size}");
        for hit in grouped {
            let alone = group_of(&hit) == hit.id;
            assert_eq!(hit.group, (!alone).then(|| string(&group_of(&hit))), "{}", hit.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_keep_to_filters_and_the_least_score() {
    let server = Server::start(&[]).await;
    let mut client = shelf(&server).await;
    let filter = Condition::Text("book.author = Ann or book.author = 'Bob 140'".to_owned());
    let request = TopKRequest { filter: Some(Filter { condition: Some(filter) }), ..by_author(100, 2) };
    // A list matches by one of its elements, and is a group of its own.
    let expected = ["d000", "d001", "d280", "d281", "d290", "d291", "d292", "d293", "d294"];
    assert_eq!(ids(&hits(&mut client, request).await), expected);
    let all = hits(&mut client, search(N as u32)).await;
    let least = all.iter().find(|hit| hit.id == "d271").unwrap().score;
    let some = hits(&mut client, TopKRequest { min_score: Some(least), ..by_author(100, 1) }).await;
    assert_eq!(ids(&some), ["d000", "d270"]);
    let unknown = TopKRequest { group_by: "absent".to_owned(), ..search(7) };
    assert_eq!(hits(&mut client, unknown).await, hits(&mut client, search(7)).await);
}

/// The formula, applied literally to hits with their vectors, best first.
fn marginal_relevance(pool: &[Hit], diversity: f32, k: usize) -> Vec<&str> {
    let vector = |hit: &Hit| hit.vector.clone().unwrap().values;
    let mut chosen: Vec<&Hit> = vec![&pool[0]];
    while chosen.len() < k {
        let worth = |hit: &Hit| {
            let likeness = chosen.iter().map(|other| dot(&vector(hit), &vector(other))).fold(-1.0, f32::max);
            (1.0 - diversity) * hit.score - diversity * likeness
        };
        let left = pool.iter().filter(|hit| chosen.iter().all(|other| other.id != hit.id));
        chosen.push(left.max_by(|a, b| worth(a).total_cmp(&worth(b))).unwrap());
    }
    chosen.into_iter().map(|hit| hit.id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn diversity_chooses_hits_by_marginal_relevance_and_leaves_their_scores() {
    let server = Server::start(&[]).await;
    let mut client = shelf(&server).await;
    // The query is beside the documents: otherwise scores would equal the cosines to the nearest document.
    let mut beside = direction(200);
    beside.values[3] = 0.5;
    let queries = || vec![query(By::Vector(beside.clone()))];
    let search = |k| TopKRequest { queries: queries(), ..search(k) };
    let by_author = |k, group_size| TopKRequest { queries: queries(), ..by_author(k, group_size) };
    let all = hits(&mut client, TopKRequest { with_vector: true, ..search(N as u32) }).await;
    let plain = hits(&mut client, search(20)).await;
    assert_eq!(hits(&mut client, TopKRequest { diversity: 0.0, ..search(20) }).await, plain);
    for (diversity, k, pool) in [(0.5, 5, 64), (0.6, 20, 80), (1.0, 4, 64)] {
        let varied = hits(&mut client, TopKRequest { diversity, ..search(k) }).await;
        assert_ne!(ids(&varied), ids(&plain[..k as usize]), "{diversity}");
        assert_eq!(ids(&varied), marginal_relevance(&all[..pool], diversity, k as usize), "{diversity}");
        for hit in &varied {
            assert_eq!(Some(hit.score), all.iter().find(|other| other.id == hit.id).map(|other| other.score));
        }
    }
    // Groups are formed first: the choice is among these 21.
    let grouped = hits(&mut client, TopKRequest { with_vector: true, ..by_author(100, 1) }).await;
    let varied = hits(&mut client, TopKRequest { diversity: 0.5, ..by_author(5, 1) }).await;
    assert_eq!(ids(&varied), marginal_relevance(&grouped, 0.5, 5));
    let varied = hits(&mut client, TopKRequest { diversity: 0.5, ..search(1000) }).await;
    assert_eq!(varied.len(), N);
}

#[tokio::test(flavor = "multi_thread")]
async fn candidates_are_diverse_on_request() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let texts = ["How to get a refund", "How do I get a refund?", "Refunds: how to get one", "Where is my parcel?"];
    let rank = |diversity| TopKRequest {
        queries: vec![query(By::Text("I want my money back".to_owned()))],
        candidates: texts.map(str::to_owned).to_vec(),
        k: 2,
        diversity,
        ..Default::default()
    };
    let parcel = |hits: &[Hit]| hits.iter().position(|hit| hit.candidate == Some(3));
    let (alike, varied) = (hits(&mut client, rank(0.0)).await, hits(&mut client, rank(0.6)).await);
    assert_eq!((parcel(&alike), parcel(&varied)), (None, Some(1)));
    assert_eq!(alike[0], varied[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_queries_are_answered_as_each_alone() {
    let server = Server::start(&[]).await;
    let mut client = shelf(&server).await;
    let nobody = 13;
    let queries: Vec<Query> = (0..67)
        .map(|n| match n {
            _ if n == nobody => query(By::Id("nobody".to_owned())),
            _ if n % 2 == 0 => query(By::Id(format!("d{:03}", n * 4))),
            _ => query(By::Vector(direction(n * 3))),
        })
        .collect();
    let variants = [search(4), by_author(4, 1), TopKRequest { diversity: 0.4, ..search(4) }];
    for variant in variants {
        for exact in [false, true] {
            let params = Some(SearchParams { exact, ..Default::default() });
            let request = TopKRequest { queries: queries.clone(), params, ..variant.clone() };
            let results = client.top_k(request).await.unwrap().into_inner().results;
            assert_eq!(results.len(), queries.len());
            assert_eq!(results[nobody].error.as_ref().map(|error| error.code), Some(i32::from(Code::NotFound)));
            for (n, query) in queries.iter().enumerate().filter(|(n, _)| *n != nobody) {
                let alone = TopKRequest { queries: vec![query.clone()], params, ..variant.clone() };
                assert_eq!(results[n].hits, hits(&mut client, alone).await, "query {n}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_name_their_field_and_what_it_may_be() {
    let server = Server::start(&["--max-k", "50"]).await;
    let mut client = shelf(&server).await;
    let candidates = || vec!["c".to_owned()];
    for (wrong, field, reason) in [
        (TopKRequest { diversity: 1.5, ..search(1) }, "diversity", "1.5 is not between 0 and 1"),
        (TopKRequest { diversity: -0.1, ..search(1) }, "diversity", "-0.1 is not between 0 and 1"),
        (TopKRequest { diversity: f32::NAN, ..search(1) }, "diversity", "NaN is not between 0 and 1"),
        (
            TopKRequest { group_by: ".".repeat(1_025), ..search(1) },
            "group_by",
            &format!("\"{}\"… is neither a path of keys joined by dots nor short enough to be one key", ".".repeat(97)),
        ),
        (by_author(1, 51), "group_size", "51 exceeds the limit of 50"),
        (TopKRequest { group_size: 2, ..search(1) }, "group_size", "is 2 without group_by: set group_by too"),
        (
            TopKRequest { candidates: candidates(), ..by_author(1, 1) },
            "group_by",
            "applies to a collection, but candidates are given: remove one of them",
        ),
    ] {
        let status = client.top_k(wrong).await.expect_err(field);
        assert_eq!((status.code(), wrong_fields(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
        assert_eq!(status.message(), format!("{field}: {reason}"));
    }
}
