//! `Rerank`: the order of the texts, errors in their place, limits, and deadlines. The numbers of each model are tested
//! beside the code (`src/reranker/tests.rs`).

use std::time::Duration;

use cognate::wire::EqualsCondition;
use cognate::wire::filter::Condition;
use cognate::wire::query::Query as By;
use cognate::wire::rerank_result::Result as Outcome;
use cognate::wire::{
    Document, Filter, Hit, InfoRequest, Query, Rerank, RerankRequest, RerankResponse, RerankResult, Scores, SearchMode,
    TopKRequest, TopKResult, Truncation, Vector, metadata,
};
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::harness::{Server, document, new_texts, upload, wrong_fields};
use crate::installed::repository;

/// A pair with the number that transformers computes.
#[derive(serde::Deserialize)]
struct Golden {
    model: String,
    query: String,
    text: String,
    tokens: u32,
    tokens_total: u32,
    logit: f32,
}

/// The pairs of a model with this query.
fn golden(model: &str, query: &str) -> Vec<Golden> {
    let lines = include_str!("../fixtures/rerankers.jsonl").lines();
    let all = lines.map(|line| serde_json::from_str::<Golden>(line).expect("a golden line"));
    all.filter(|line| line.model == model && line.query == query).collect()
}

/// The flags that serve two tiny cross-encoders, and one of them as an ONNX graph.
fn flags() -> Vec<String> {
    let folder = repository().join("tests/fixtures/rerankers");
    let named = ["bert", "distilbert"].map(|name| format!("{name}={}", folder.join(name).display()));
    let graph = format!("graph={}#onnx/model.onnx", folder.join("bert").display());
    let rerankers = named.into_iter().chain([graph]).flat_map(|named| ["--reranker".to_owned(), named]);
    rerankers.chain(["--onnx-runtime".to_owned(), "rten".to_owned()]).collect()
}

/// Starts a server with them.
pub async fn start(more: &[&str]) -> Server {
    let flags = flags();
    Server::start(&flags.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>()).await
}

fn request(query: &str, texts: &[&str]) -> RerankRequest {
    let texts = texts.iter().map(|&text| text.to_owned()).collect();
    RerankRequest { query: query.to_owned(), texts, ..Default::default() }
}

async fn rerank(server: &Server, request: RerankRequest) -> RerankResponse {
    server.client().await.rerank(request).await.unwrap().into_inner()
}

fn score(result: &RerankResult) -> f32 {
    match result.result {
        Some(Outcome::Score(score)) => score,
        ref other => panic!("no score but {other:?}"),
    }
}

fn order(response: &RerankResponse) -> Vec<u32> {
    response.results.iter().map(|result| result.index).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_come_in_the_order_of_transformers_with_their_scores() {
    let server = start(&[]).await;
    for (name, model) in [("bert", "bert"), ("distilbert", "distilbert"), ("graph", "bert")] {
        let mut lines = golden(model, "refund");
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        let asked = RerankRequest { model: name.to_owned(), with_text: true, ..request("refund", &texts) };
        let answer = rerank(&server, asked).await;
        lines.sort_by(|a, b| b.logit.total_cmp(&a.logit));
        assert_eq!(answer.results.len(), lines.len());
        for (result, line) in answer.results.iter().zip(&lines) {
            let expected = if model == "bert" { line.logit } else { 1.0 / (1.0 + (-line.logit).exp()) };
            assert!((score(result) - expected).abs() < 1e-4, "{name}: {result:?}, not {expected}");
            assert_eq!(result.text, line.text, "{name}");
            assert_eq!(result.truncated, result.tokens_total > result.tokens, "{name}");
        }
        assert!(answer.results.iter().any(|result| result.truncated), "the last text is too long");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rerankers_of_the_newer_families_give_the_scores_of_their_libraries() {
    let folder = repository().join("tests/golden/families");
    let lines = std::fs::read_to_string(folder.join("rerankers.jsonl")).unwrap();
    let lines: Vec<Golden> = lines.lines().map(|line| serde_json::from_str(line).expect("a golden line")).collect();
    let mut names: Vec<&str> = lines.iter().map(|line| line.model.as_str()).collect();
    names.dedup();
    let named = names.iter().map(|name| format!("{name}={}", folder.join("rerankers").join(name).display()));
    let flags: Vec<String> = named.flat_map(|named| ["--reranker".to_owned(), named]).collect();
    let server = Server::start(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for pairs in lines.chunk_by(|a, b| (&a.model, &a.query) == (&b.model, &b.query)) {
        let (name, query) = (&pairs[0].model, &pairs[0].query);
        let texts: Vec<&str> = pairs.iter().map(|line| line.text.as_str()).collect();
        let answer = rerank(&server, RerankRequest { model: name.clone(), ..request(query, &texts) }).await;
        assert_eq!(answer.results.len(), pairs.len(), "{name}");
        for result in &answer.results {
            let Golden { text, logit, tokens, tokens_total, .. } = &pairs[result.index as usize];
            let is_number = ["qwen3-words", "qwen3-one-word", "qwen3-labels-template"].contains(&name.as_str());
            let expected = if is_number { *logit } else { 1.0 / (1.0 + (-logit).exp()) };
            assert!((score(result) - expected).abs() < 2e-5, "{name} {text:?}: {result:?}, not {expected}");
            assert_eq!((result.tokens, result.tokens_total), (*tokens, *tokens_total), "{name} {text:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_are_counted_and_equal_texts_keep_their_order() {
    let server = start(&[]).await;
    let texts = ["late", "good", "late", "thanks", "good"];
    let all = rerank(&server, request("my order", &texts)).await;
    assert!(all.results.is_sorted_by(|a, b| score(a) >= score(b)), "{all:?}");
    let place = |index| order(&all).iter().position(|&other| other == index).unwrap();
    assert!(place(0) < place(2) && place(1) < place(4), "{all:?}");
    assert_eq!(score(&all.results[place(0)]), score(&all.results[place(2)]));
    assert!(all.results.iter().all(|result| result.text.is_empty()), "no text was asked for");
    let best = rerank(&server, RerankRequest { top_n: 2, ..request("my order", &texts) }).await;
    assert_eq!(order(&best), order(&all)[..2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_text_is_an_error_with_its_position_behind_the_others() {
    let server = start(&["--max-text-bytes", "1000"]).await;
    let (huge, long) = ("x".repeat(1001), "good ".repeat(100));
    let wrong = RerankRequest { truncation: Truncation::Reject.into(), ..request("refund", &[&huge, "a", &long, "b"]) };
    let answer = rerank(&server, RerankRequest { top_n: 1, with_text: true, ..wrong }).await;
    assert_eq!(answer.results.len(), 3, "one best text and two errors");
    assert!(!answer.results[0].text.is_empty());
    let errors = answer.results[1..].iter().map(|result| match &result.result {
        Some(Outcome::Error(status)) => (result.index, status.code, status.message.clone()),
        other => panic!("{other:?}"),
    });
    let errors: Vec<_> = errors.collect();
    assert_eq!((errors[0].0, errors[1].0, errors[0].1), (0, 2, Code::InvalidArgument as i32));
    assert!(errors[0].2.contains("texts[0]: 1001 bytes exceed the limit of 1000"), "{errors:?}");
    assert!(errors[1].2.contains("texts[2]: 104 tokens exceed the model's limit of 64"), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_name_their_field() {
    let server = start(&["--max-texts", "2", "--max-text-bytes", "500"]).await;
    let mut client = server.client().await;
    let huge = "x".repeat(501);
    for (wrong, field) in [
        (request("a", &[]), "texts"),
        (request("a", &["a", "b", "c"]), "texts"),
        (request(&huge, &["a"]), "query"),
        (request(&"good ".repeat(61), &["a", "b"]), "query"),
        (RerankRequest { truncation: 7, ..request("a", &["a"]) }, "truncation"),
    ] {
        let status = client.rerank(wrong).await.unwrap_err();
        assert_eq!(
            (status.code(), wrong_fields(&status)),
            (Code::InvalidArgument, vec![field.to_owned()]),
            "{status:?}"
        );
    }
    let status = client.rerank(RerankRequest { model: "none".into(), ..request("a", &["a"]) }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let resource = status.get_details_resource_info().expect("the reranker is named");
    assert_eq!((&*resource.resource_type, &*resource.resource_name), ("reranker", "none"));
    assert!(status.message().contains("this server has bert, distilbert, graph"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_reranker_says_so() {
    let server = Server::start(&[]).await;
    let status = server.client().await.rerank(request("a", &["a"])).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("this server has none"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn info_says_what_each_reranker_is() {
    let server = start(&["--reranker-precision", "int8"]).await;
    let info = server.client().await.info(InfoRequest {}).await.unwrap().into_inner();
    let [bert, distilbert, graph] = info.rerankers.as_slice() else { panic!("{info:?}") };
    assert_eq!((&*bert.name, &*bert.activation, bert.max_tokens), ("bert", "identity", 64));
    assert_eq!((&*bert.runtime, &*bert.precision, &*bert.revision), ("cpu", "int8", "local"));
    assert_eq!(distilbert.activation, "sigmoid");
    assert!(graph.runtime.starts_with("rten ") && graph.precision == "onnx", "{graph:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_be_done_by_its_deadline_is_refused_or_ends_and_others_are_answered() {
    let server = start(&["--max-texts", "20000"]).await;
    let mut client = server.client().await;
    let texts = |n| RerankRequest { texts: new_texts(n, 40), ..request("refund", &[]) };
    client.rerank(texts(200)).await.unwrap();
    let mut hurried = Request::new(texts(20_000));
    hurried.set_timeout(Duration::from_millis(20));
    let status = client.rerank(hurried).await.unwrap_err();
    assert!(matches!(status.code(), Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    assert_eq!(client.rerank(texts(3)).await.unwrap().into_inner().results.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_prints_the_texts_best_first_and_says_when_one_has_no_score() {
    let server = start(&["--max-text-bytes", "1000"]).await;
    let run = |texts: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cognate"));
        command.args(["rerank", "--json", "--addr", &server.addr.to_string(), "refund"]).args(texts).output().unwrap()
    };
    let texts = ["the package is late again", "refund", "please login"];
    let output = run(&texts);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<serde_json::Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected = rerank(&server, request("refund", &texts)).await;
    let indices: Vec<_> = printed.iter().map(|line| line["index"].as_u64().unwrap() as u32).collect();
    assert_eq!(indices, order(&expected));
    assert!(printed.iter().all(|line| line["text"] == texts[line["index"].as_u64().unwrap() as usize]), "{printed:?}");
    let output = run(&["a", &"x".repeat(1001)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1001 bytes exceed the limit"));
}

#[test]
fn a_server_does_not_start_with_a_reranker_that_is_no_cross_encoder() {
    let encoder = repository().join("tests/fixtures/bert");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(["model", "fetch", "--reranker", &format!("mine={}#onnx/model.onnx", encoder.display())]);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("the number of labels (id2label) is 3"), "{error}");
}

/// A server with a collection of short texts, in groups of four, half of them of the colour red.
async fn filled() -> Server {
    let server = start(&[]).await;
    let words = ["late", "good", "order", "refund", "thanks", "login", "broken", "today", "money", "wrong"];
    let documents = (0..40).map(|n| {
        let text = format!("{} {} {}", words[n % 10], words[(n / 2) % 10], words[(n * 7 + 3) % 10]);
        let fields = serde_json::json!({ "group": n / 4, "colour": if n % 2 == 0 { "red" } else { "blue" } });
        let metadata = fields.as_object().map(metadata::from_json);
        Document { metadata, ..document(&format!("{n:02}"), &text) }
    });
    upload(&mut server.client().await, "tickets", documents.collect()).await;
    server
}

fn search(query: By, k: u32) -> TopKRequest {
    let queries = vec![Query { query: Some(query), ..Default::default() }];
    TopKRequest { collection: "tickets".to_owned(), queries, k, with_text: true, ..Default::default() }
}

fn reranked(candidates: u32, request: TopKRequest) -> TopKRequest {
    TopKRequest { rerank: Some(Rerank { model: "bert".to_owned(), candidates }), ..request }
}

async fn results(server: &Server, request: TopKRequest) -> Vec<TopKResult> {
    server.client().await.top_k(request).await.unwrap().into_inner().results
}

async fn hits(server: &Server, request: TopKRequest) -> Vec<Hit> {
    results(server, request).await.remove(0).hits
}

fn ids(hits: &[Hit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_hits_of_a_search_come_in_the_order_of_the_reranker() {
    let server = filled().await;
    let query = || By::Text("my refund is late".to_owned());
    let found = hits(&server, search(query(), 12)).await;
    let texts: Vec<&str> = found.iter().map(|hit| hit.text.as_str()).collect();
    let expected = rerank(&server, request("my refund is late", &texts)).await.results;
    let ordered = hits(&server, reranked(12, search(query(), 5))).await;
    let expected: Vec<_> = expected[..5].iter().map(|r| (found[r.index as usize].id.as_str(), score(r))).collect();
    assert_eq!(ordered.iter().map(|hit| (hit.id.as_str(), hit.score)).collect::<Vec<_>>(), expected);
    // Of five candidates the same five come, in another order.
    let few = hits(&server, reranked(3, search(query(), 5))).await;
    let (mut few, mut nearest) = (ids(&few), ids(&found[..5]));
    few.sort_unstable();
    nearest.sort_unstable();
    assert_eq!(few, nearest);
    // A document's own text is the query.
    let by_id = hits(&server, reranked(40, search(By::Id("07".to_owned()), 40))).await;
    let texts: Vec<&str> = by_id.iter().map(|hit| hit.text.as_str()).collect();
    let own = &by_id.iter().find(|hit| hit.id == "07").expect("it is a hit").text;
    assert_eq!(score(&rerank(&server, request(own, &texts[..1])).await.results[0]), by_id[0].score);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_groups_hold_and_the_minimum_is_of_the_rerankers_score() {
    let server = filled().await;
    let query = || By::Text("money".to_owned());
    let red =
        EqualsCondition { path: Some("colour".to_owned()), value: Some(metadata::value_from_json(&"red".into())) };
    let filter = Some(Filter { condition: Some(Condition::Equals(red)) });
    let found = hits(&server, reranked(0, TopKRequest { filter, ..search(query(), 20) })).await;
    assert_eq!(found.len(), 20);
    assert!(found.iter().all(|hit| hit.id.parse::<u32>().unwrap() % 2 == 0), "{found:?}");

    let grouped = TopKRequest { group_by: "group".to_owned(), group_size: 1, ..search(query(), 10) };
    let plain = hits(&server, grouped.clone()).await;
    let found = hits(&server, reranked(10, grouped)).await;
    let (mut plain, mut found_ids) = (ids(&plain), ids(&found));
    plain.sort_unstable();
    found_ids.sort_unstable();
    assert_eq!(found_ids, plain, "the best of each group by the search");

    let least = found[4].score;
    let some = TopKRequest { min_score: Some(least), ..search(query(), 40) };
    let some = hits(&server, reranked(40, some)).await;
    let all = hits(&server, reranked(40, search(query(), 40))).await;
    assert_eq!(some.len(), all.iter().filter(|hit| hit.score >= least).count());
    assert!(some.iter().all(|hit| hit.score >= least) && some.len() < all.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_by_words_and_by_both_are_reranked_and_keep_the_scores_that_found_them() {
    let server = filled().await;
    let words = "my refund is late";
    for mode in [SearchMode::Lexical, SearchMode::Hybrid] {
        let of = |k| TopKRequest { mode: mode.into(), ..search(By::Text(words.to_owned()), k) };
        let found = hits(&server, of(9)).await;
        let texts: Vec<&str> = found.iter().map(|hit| hit.text.as_str()).collect();
        let expected = rerank(&server, request(words, &texts)).await.results;
        let ordered = hits(&server, reranked(9, of(4))).await;
        assert_eq!((found.len(), ordered.len()), (9, 4), "{mode:?}");
        for (hit, expected) in ordered.iter().zip(&expected) {
            let before = &found[expected.index as usize];
            let scores = before.scores.map(|parts| Scores { rerank: Some(hit.score), ..parts });
            assert_eq!((&hit.id, hit.score, hit.scores), (&before.id, score(expected), scores), "{mode:?}");
            assert!(scores.is_some_and(|parts| parts.vector.is_some() == (mode == SearchMode::Hybrid)), "{scores:?}");
        }
        assert_ne!(ids(&ordered), ids(&found[..4]), "{mode:?}: the reranker has another order");
        // The search chooses the candidates: of four the same four come.
        let (few, mut chosen) = (hits(&server, reranked(1, of(4))).await, ids(&found[..4]));
        let mut few = ids(&few);
        few.sort_unstable();
        chosen.sort_unstable();
        assert_eq!(few, chosen, "{mode:?}");

        let grouped = TopKRequest { group_by: "group".to_owned(), ..of(6) };
        let (plain, found) = (hits(&server, grouped.clone()).await, hits(&server, reranked(6, grouped)).await);
        let (mut plain, mut best) = (ids(&plain), ids(&found));
        plain.sort_unstable();
        best.sort_unstable();
        assert_eq!(best, plain, "{mode:?}: the best of each group by the search");
        assert!(found.is_sorted_by(|a, b| a.score >= b.score) && found.len() == 6, "{mode:?}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn candidates_of_a_request_are_reranked_too() {
    let server = start(&[]).await;
    let texts = ["late", "good", "order", "refund"];
    let candidates = texts.map(str::to_owned).to_vec();
    let asked = TopKRequest { candidates, with_text: false, ..search(By::Text("today".to_owned()), 3) };
    let found = hits(&server, reranked(0, TopKRequest { collection: String::new(), ..asked })).await;
    let expected = rerank(&server, request("today", &texts)).await;
    assert_eq!(found.iter().filter_map(|hit| hit.candidate).collect::<Vec<_>>(), order(&expected)[..3]);
    assert!(found.iter().all(|hit| hit.text.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reranker_cannot_do_is_refused_by_name() {
    let server = filled().await;
    let mut client = server.client().await;
    let query = || By::Text("money".to_owned());
    let vector = || By::Vector(Vector { values: vec![0.5; 384], ..Default::default() });
    for (wrong, field) in [
        (reranked(0, TopKRequest { diversity: 0.5, ..search(query(), 2) }), "diversity"),
        (reranked(2_000, search(query(), 2)), "rerank.candidates"),
        (reranked(0, TopKRequest { min_score: Some(f32::NAN), ..search(query(), 2) }), "min_score"),
        (reranked(0, search(vector(), 2)), "queries[0].vector"),
        (reranked(0, search(By::Text("good ".repeat(61)), 2)), "queries[0]"),
    ] {
        let status = client.top_k(wrong).await.unwrap_err();
        assert_eq!(
            (status.code(), wrong_fields(&status)),
            (Code::InvalidArgument, vec![field.to_owned()]),
            "{status:?}"
        );
    }
    let unknown = Some(Rerank { model: "none".to_owned(), candidates: 0 });
    let status = client.top_k(TopKRequest { rerank: unknown, ..search(query(), 2) }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    // One wrong query of two is an error in its place.
    let mut both = reranked(0, search(query(), 2));
    both.queries.push(Query { query: Some(vector()), ..Default::default() });
    let results = results(&server, both).await;
    assert_eq!(results[0].hits.len(), 2);
    assert!(
        results[1].error.as_ref().is_some_and(|error| error.message.contains("rerank reads the text")),
        "{results:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_document_is_reranked_by_its_nearest_passage() {
    let server = start(&[]).await;
    let long =
        format!("{}The shop sends a refund for a broken item within a week.", "The weather is good today. ".repeat(90));
    upload(&mut server.client().await, "tickets", vec![document("long", &long)]).await;
    let asked = search(By::Text("refund for a broken item".to_owned()), 1);
    let plain = hits(&server, TopKRequest { with_passage_text: true, ..asked.clone() }).await;
    let found = hits(&server, reranked(0, TopKRequest { with_passage_text: true, ..asked })).await;
    let (passage, cosine) = (found[0].passage.clone().unwrap(), plain[0].score);
    assert!(passage.text.len() < long.len() && passage.text.contains("refund"), "{passage:?}");
    assert_eq!(passage.score, cosine, "a passage keeps its own score");
    let expected = rerank(&server, request("refund for a broken item", &[&passage.text])).await;
    assert_eq!(found[0].score, score(&expected.results[0]));
}
