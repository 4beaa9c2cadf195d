//! Searches by words, and by words and vectors together.

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::query::Query as By;
use cognate::wire::{
    Collection, CreateCollectionRequest, DeleteDocumentsRequest, Document, Filter, Fusion, Hit, Lexical,
    ListCollectionsRequest, Query, Scores, SearchMode, SearchParams, TopKRequest, Vector, filter,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{Server, document, upload, wrong_fields};

/// Texts with codes that a model hardly tells apart.
const TEXTS: [(&str, &str); 9] = [
    ("table", "ORA-00942: table or view does not exist"),
    ("unique", "ORA-00001: unique constraint violated"),
    ("diabetes", "E11.9 Type 2 diabetes mellitus without complications"),
    ("insulin", "E10.9 Type 1 diabetes mellitus without complications"),
    ("article", "Hex bolt, article number 4711-B, zinc plated"),
    ("leukaemia", "Mature leukaemia (C91.A2), in relapse. See C91 and A2"),
    ("incident", "INC-2024/17: part KX_4711_B fails at 192.168.0.1"),
    ("later", "INC-2024/18, after v1.2.3-rc1, on 17 May 2024"),
    ("bread", "Bread is baked from flour, water, yeast and salt"),
];

fn text(text: &str) -> Query {
    Query { query: Some(By::Text(text.to_owned())), ..Default::default() }
}

fn search(mode: SearchMode, queries: Vec<Query>, k: u32) -> TopKRequest {
    TopKRequest { collection: "c".to_owned(), queries, k, mode: mode.into(), ..Default::default() }
}

async fn filled(server: &Server) -> CognateClient<Channel> {
    let mut client = server.client().await;
    upload(&mut client, "c", TEXTS.iter().map(|(id, text)| document(id, text)).collect()).await;
    client
}

async fn hits(client: &mut CognateClient<Channel>, request: TopKRequest) -> Vec<Hit> {
    client.top_k(request).await.unwrap().into_inner().results.remove(0).hits
}

async fn ids(client: &mut CognateClient<Channel>, request: TopKRequest) -> Vec<String> {
    hits(client, request).await.into_iter().map(|hit| hit.id).collect()
}

async fn listed(client: &mut CognateClient<Channel>) -> Vec<Collection> {
    client.list_collections(ListCollectionsRequest::default()).await.unwrap().into_inner().collections
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_and_names_are_found_as_written_and_by_their_parts() {
    let server = Server::start(&[]).await;
    let mut client = filled(&server).await;
    for (query, expected) in [
        ("ora-00942", vec!["table", "unique"]),
        ("C91.A2", vec!["leukaemia"]),
        ("INC-2024/17", vec!["incident", "later"]),
        ("2024/18", vec!["later", "incident"]),
        ("192.168.0.1", vec!["incident", "insulin"]),
        ("v1.2.3-rc1", vec!["later", "diabetes"]),
        ("kx_4711_b", vec!["incident", "article"]),
        ("E11.9", vec!["diabetes", "insulin"]),
        ("e10", vec!["insulin"]),
        ("4711-B", vec!["article", "incident"]),
        ("absent", vec![]),
        ("...", vec![]),
    ] {
        let found = hits(&mut client, search(SearchMode::Lexical, vec![text(query)], 3)).await;
        assert_eq!(found.iter().map(|hit| &*hit.id).collect::<Vec<_>>(), expected, "{query}");
        for hit in &found {
            assert_eq!(hit.scores, Some(Scores { vector: None, lexical: Some(hit.score), rerank: None }));
        }
    }
    let least = search(SearchMode::Lexical, vec![text("ora-00942")], 3);
    let best = hits(&mut client, least.clone()).await[0].score;
    assert_eq!(ids(&mut client, TopKRequest { min_score: Some(best), ..least }).await, ["table"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_and_vectors_together_find_what_either_finds() {
    let server = Server::start(&[]).await;
    let mut client = filled(&server).await;
    for fusion in [Fusion::Unspecified, Fusion::WeightedScores, Fusion::ReciprocalRanks] {
        let of = |query: &str| {
            let request = search(SearchMode::Hybrid, vec![text(query)], 6);
            TopKRequest { fusion: fusion.into(), ..request }
        };
        let by_code = hits(&mut client, of("the error 00942")).await;
        assert_eq!((by_code.len(), &*by_code[0].id), (6, "table"), "{fusion:?}");
        let by_meaning = hits(&mut client, of("loaves that come out of an oven")).await;
        assert_eq!((by_meaning.len(), &*by_meaning[0].id), (6, "bread"), "{fusion:?}");
        assert!(by_code[0].scores.is_some_and(|parts| parts.vector.is_some() && parts.lexical > Some(0.0)));
        assert_eq!(by_meaning[0].scores.and_then(|parts| parts.lexical), Some(0.0), "no word is there");
    }
    let by_vectors = hits(&mut client, search(SearchMode::Vector, vec![text("a loaf")], 1)).await;
    assert_eq!(by_vectors[0].scores, None);

    // The weight, and words beside a vector or an id.
    let by_id = Query { query: Some(By::Id("bread".into())), lexical_text: "00001".into() };
    let with_weight =
        |weight| TopKRequest { lexical_weight: Some(weight), ..search(SearchMode::Hybrid, vec![by_id.clone()], 2) };
    assert_eq!(ids(&mut client, with_weight(0.0)).await[0], "bread");
    assert_eq!(ids(&mut client, with_weight(50.0)).await, ["unique", "bread"]);
    let filter = Filter { condition: Some(filter::Condition::Text("a exists".to_owned())) };
    let filtered = TopKRequest { filter: Some(filter), ..search(SearchMode::Hybrid, vec![text("00001")], 2) };
    assert_eq!(ids(&mut client, filtered).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn replaced_and_deleted_words_are_gone_and_the_others_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", directory.path().to_str().unwrap()];
    let server = Server::start(&flags).await;
    let mut client = filled(&server).await;
    let lexical = Some(Lexical { enabled: None, language: "en".to_owned() });
    let english = CreateCollectionRequest { name: "english".into(), lexical, ..Default::default() };
    client.create_collection(english).await.unwrap();
    upload(&mut client, "english", vec![document("a", "She was running through the houses")]).await;
    upload(&mut client, "c", vec![document("table", "ORA-12154: could not resolve the identifier")]).await;
    let request = DeleteDocumentsRequest { collection: "c".into(), ids: vec!["unique".into()], filter: None };
    client.delete_documents(request).await.unwrap();
    server.kill();

    let server = Server::start(&flags).await;
    let mut client = server.client().await;
    for (query, expected) in
        [("00942", vec![]), ("00001", vec![]), ("12154", vec!["table"]), ("E11.9", vec!["diabetes", "insulin"])]
    {
        assert_eq!(ids(&mut client, search(SearchMode::Lexical, vec![text(query)], 3)).await, expected, "{query}");
    }
    let stems =
        TopKRequest { collection: "english".into(), ..search(SearchMode::Lexical, vec![text("house runs")], 1) };
    assert_eq!(ids(&mut client, stems).await, ["a"]);
    let told: Vec<_> = listed(&mut client).await.into_iter().filter_map(|listed| listed.lexical).collect();
    let on = |language: &str| Lexical { enabled: Some(true), language: language.to_owned() };
    assert_eq!(told, [on(""), on("en")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_document_is_found_by_its_words_once_with_the_passage_that_has_them() {
    let server = Server::start(&[]).await;
    let mut client = filled(&server).await;
    let filler = "The train left the platform and arrived late because of works on the line. ".repeat(60);
    let long = format!("{filler}\n\nThe part number of the pump is ZX-90210. {filler}");
    upload(&mut client, "c", vec![document("long", &long)]).await;
    for mode in [SearchMode::Lexical, SearchMode::Hybrid] {
        let request =
            TopKRequest { with_passage_text: true, ..search(mode, vec![text("pump part number ZX-90210")], 3) };
        let found = hits(&mut client, request).await;
        assert_eq!(found.iter().filter(|hit| hit.id == "long").count(), 1, "{mode:?}");
        let passage = found[0].passage.as_ref().unwrap();
        assert!(found[0].id == "long" && passage.text.contains("ZX-90210"), "{mode:?}: {passage:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_apply_is_refused_by_name() {
    let server = Server::start(&["--max-text-bytes", "100"]).await;
    let mut client = filled(&server).await;
    let vector = Vector { values: vec![1.0; 384], ..Default::default() };
    let by_vector = Query { query: Some(By::Vector(vector)), ..Default::default() };
    let by_id = Query { query: Some(By::Id("bread".into())), ..Default::default() };
    let with_words = |words: &str| Query { lexical_text: words.to_owned(), ..text("a") };
    let (lexical, hybrid) = (SearchMode::Lexical, SearchMode::Hybrid);
    let a = |mode| search(mode, vec![text("a")], 1);
    for (wrong, field) in [
        (TopKRequest { mode: 9, ..a(lexical) }, "mode"),
        (TopKRequest { candidates: vec!["b".into()], ..a(hybrid) }, "mode"),
        (TopKRequest { fusion: 9, ..a(hybrid) }, "fusion"),
        (TopKRequest { fusion: Fusion::ReciprocalRanks.into(), ..a(lexical) }, "fusion"),
        (TopKRequest { lexical_weight: Some(1.0), ..a(SearchMode::Vector) }, "lexical_weight"),
        (TopKRequest { lexical_weight: Some(-1.0), ..a(hybrid) }, "lexical_weight"),
        (TopKRequest { lexical_weight: Some(f32::NAN), ..a(hybrid) }, "lexical_weight"),
        (TopKRequest { params: Some(SearchParams { exact: true, ef: 0 }), ..a(lexical) }, "params"),
        (TopKRequest { passages_per_document: 2, ..a(lexical) }, "passages_per_document"),
        (search(lexical, vec![by_vector.clone()], 1), "queries[0]"),
        (search(lexical, vec![with_words("b")], 1), "queries[0].lexical_text"),
        (search(SearchMode::Vector, vec![with_words("b")], 1), "queries[0].lexical_text"),
        (search(hybrid, vec![by_vector], 1), "queries[0].lexical_text"),
        (search(hybrid, vec![by_id], 1), "queries[0].lexical_text"),
        (search(hybrid, vec![with_words(&"b".repeat(101))], 1), "queries[0].lexical_text"),
    ] {
        let status = client.top_k(wrong.clone()).await.expect_err(field);
        assert_eq!(
            (status.code(), wrong_fields(&status)),
            (Code::InvalidArgument, vec![field.to_owned()]),
            "{wrong:?}"
        );
    }
    for lexical in [
        Lexical { enabled: None, language: "xx".to_owned() },
        Lexical { enabled: Some(false), language: "en".to_owned() },
    ] {
        let request = CreateCollectionRequest { name: "d".into(), lexical: Some(lexical), ..Default::default() };
        let status = client.create_collection(request).await.unwrap_err();
        assert_eq!(wrong_fields(&status), ["lexical.language"]);
    }
    let off = Some(Lexical { enabled: Some(false), language: String::new() });
    let request = CreateCollectionRequest { name: "vectors".into(), lexical: off.clone(), ..Default::default() };
    assert_eq!(client.create_collection(request).await.unwrap().into_inner().collection.unwrap().lexical, off);
    let request = TopKRequest { collection: "vectors".into(), ..a(lexical) };
    let status = client.top_k(request).await.unwrap_err();
    assert!(status.code() == Code::FailedPrecondition && status.message().contains("no lexical index"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_document_is_found_by_its_words_at_once() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    for n in 0..50 {
        let documents = (0..3).map(|m| document(&format!("{n}-{m}"), &format!("rare{n}x{m} and common")));
        let documents: Vec<Document> = documents.collect();
        assert_eq!(upload(&mut client, "c", documents).await.committed, 3);
        for m in 0..3 {
            let query = text(&format!("rare{n}x{m}"));
            assert_eq!(ids(&mut client, search(SearchMode::Lexical, vec![query], 2)).await, [format!("{n}-{m}")]);
        }
        let all = search(SearchMode::Lexical, vec![text("common")], 1_000);
        assert_eq!(ids(&mut client, all).await.len(), 3 * (n + 1));
    }
}
