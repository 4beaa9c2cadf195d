//! Passages: a long text loses nothing, and is found, returned, moved and removed as one document.

use std::process::{Command, Output};

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::query::Query as Asked;
use cognate::wire::{
    Collection, CreateCollectionRequest, DeleteDocumentsRequest, Document, EmbedRequest, ExportRequest,
    GetDocumentsRequest, Hit, InfoRequest, ListCollectionsRequest, Passage, Passages, Query, TopKRequest, Truncation,
    UploadRequest, Vector, VectorFormat, embed_result,
};
use futures::StreamExt;
use tonic::transport::Channel;

use crate::harness::{Server, document, upload, upload_all, wrong_fields};

/// The sentence that is looked for. It stands in the middle of [`long_text`], far behind what the model reads at once.
const FOUND: &str = "The octopus opened the jar with its arms and ate the crab inside.";

/// A text of about 1,000 tokens in four paragraphs, most of it about a railway.
fn long_text() -> String {
    let sentence = |n: usize| {
        format!(
            "Train number {n} left platform {} at a quarter past {} and arrived late because of works on the line. ",
            n % 9 + 1,
            n % 12 + 1
        )
    };
    let paragraph = |from: usize| (from..from + 10).map(sentence).collect::<String>();
    format!("{}\n\n{}{FOUND} {}\n\n{}", paragraph(0), paragraph(10), paragraph(20), paragraph(30))
}

fn text_query(text: &str) -> Query {
    Query { query: Some(Asked::Text(text.to_owned())), ..Default::default() }
}

fn top_k(query: Query, k: u32) -> TopKRequest {
    TopKRequest { collection: "c".to_owned(), queries: vec![query], k, with_passage_text: true, ..Default::default() }
}

async fn hits(client: &mut CognateClient<Channel>, request: TopKRequest) -> Vec<Hit> {
    client.top_k(request).await.unwrap().into_inner().results.remove(0).hits
}

async fn described(client: &mut CognateClient<Channel>) -> Collection {
    let listed = client.list_collections(ListCollectionsRequest::default()).await.unwrap().into_inner();
    listed.collections.into_iter().find(|collection| collection.name == "c").expect("it exists")
}

async fn get(client: &mut CognateClient<Channel>, id: &str) -> Document {
    let request = GetDocumentsRequest {
        collection: "c".into(),
        ids: vec![id.to_owned()],
        with_vector: true,
        ..Default::default()
    };
    client.get_documents(request).await.unwrap().into_inner().documents.remove(0)
}

fn off() -> Passages {
    Passages { enabled: Some(false), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sentence_in_the_middle_of_a_long_text_is_found_and_shown() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let others = ["A crab walks sideways.", "The station has nine platforms.", "Bread is baked from flour."];
    let mut documents: Vec<Document> =
        others.iter().enumerate().map(|(n, text)| document(&format!("short {n}"), text)).collect();
    documents.push(document("long", &long_text()));
    upload(&mut client, "c", documents).await;
    let told = described(&mut client).await;
    assert!(told.passages.is_some_and(|passages| passages.enabled == Some(true)), "{told:?}");
    assert!(told.documents == 4 && told.passage_count >= 3 + 4, "{told:?}");

    let question = "Which animal took the lid off to get its food?";
    let found = hits(&mut client, top_k(text_query(question), 4)).await;
    let mut ids: Vec<&str> = found.iter().map(|hit| hit.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["long", "short 0", "short 1", "short 2"], "each document once");
    let hit = found.iter().find(|hit| hit.id == "long").unwrap();
    let passage = hit.passage.as_ref().unwrap();
    assert!(passage.text.contains(FOUND), "{passage:?}");
    assert_eq!(long_text()[passage.start as usize..passage.end as usize], passage.text);
    assert_eq!((passage.score, &hit.passages), (hit.score, &vec![]));
    let short = found.iter().find(|hit| hit.id == "short 0").unwrap().passage.clone().unwrap();
    assert_eq!((short.start, short.end, &*short.text), (0, others[0].len() as u32, others[0]));
    let without_text = TopKRequest { with_passage_text: false, ..top_k(text_query(question), 4) };
    let without_text = hits(&mut client, without_text).await;
    let told = |id: &str| without_text.iter().find(|hit| hit.id == id).unwrap().passage.clone();
    assert!(told("short 0").is_none() && told("long").is_some_and(|passage| passage.text.is_empty()));

    let several = TopKRequest { passages_per_document: 3, ..top_k(text_query(question), 4) };
    let several = hits(&mut client, several).await;
    let hit = several.iter().find(|hit| hit.id == "long").unwrap();
    let scores: Vec<f32> = hit.passage.iter().chain(&hit.passages).map(|passage| passage.score).collect();
    assert!(scores.len() == 3 && scores.is_sorted_by(|one, other| one >= other), "{scores:?}");

    // Without passages the sentence is cut off.
    let request = CreateCollectionRequest { name: "cut".into(), passages: Some(off()), ..Default::default() };
    client.create_collection(request).await.unwrap();
    upload(&mut client, "cut", vec![document("long", &long_text())]).await;
    let cut = TopKRequest { collection: "cut".into(), ..top_k(text_query(question), 1) };
    let cut = hits(&mut client, cut).await.remove(0);
    let whole = Passage { start: 0, end: long_text().len() as u32, score: cut.score, text: long_text(), vector: None };
    assert_eq!(cut.passage, Some(whole));
    assert!(cut.score + 0.2 < found.iter().find(|hit| hit.id == "long").unwrap().score, "{} was found", cut.score);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_replaced_and_deleted_with_all_its_passages() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    upload(&mut client, "c", vec![document("a", &long_text()), document("b", "a short text")]).await;
    let many = described(&mut client).await;
    assert!(many.documents == 2 && many.passage_count >= 5, "{many:?}");
    upload(&mut client, "c", vec![document("a", "Nothing is left of it.")]).await;
    let few = described(&mut client).await;
    assert_eq!((few.documents, few.passage_count), (2, 2));
    assert!(few.bytes < many.bytes, "{} of {}", few.bytes, many.bytes);
    let found = hits(&mut client, top_k(text_query(FOUND), 10)).await;
    assert!(found.len() == 2 && found.iter().all(|hit| hit.score < 0.5), "{found:?}");

    upload(&mut client, "c", vec![document("b", &long_text())]).await;
    let request = DeleteDocumentsRequest { collection: "c".into(), ids: vec!["b".into()], filter: None };
    assert_eq!(client.delete_documents(request).await.unwrap().into_inner().documents, 1);
    let few = described(&mut client).await;
    assert_eq!((few.documents, few.passage_count), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_a_query_with_each_of_its_passages() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let documents = [
        document("long", &long_text()),
        document("railway", "Train number 35 left the platform and arrived late because of works on the line."),
        document("octopus", FOUND),
        document("bread", "Bread is baked from flour, water and salt."),
    ];
    upload(&mut client, "c", documents.into()).await;
    let query = Query { query: Some(Asked::Id("long".into())), ..Default::default() };
    let found = hits(&mut client, top_k(query, 3)).await;
    assert!(found[0].id == "long" && found[0].score > 0.9999, "{found:?}");
    let mut others: Vec<&str> = found[1..].iter().map(|hit| hit.id.as_str()).collect();
    others.sort_unstable();
    assert_eq!(others, ["octopus", "railway"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn passages_survive_a_kill_and_an_export_brings_them_back_bit_for_bit() {
    let directory = tempfile::tempdir().unwrap();
    let flags = ["--data-dir", directory.path().to_str().unwrap()];
    let server = Server::start(&flags).await;
    let mut client = server.client().await;
    upload(&mut client, "c", vec![document("a", &long_text()), document("b", "short")]).await;
    let (long, short, told) = (get(&mut client, "a").await, get(&mut client, "b").await, described(&mut client).await);
    assert!(long.vector.is_none() && long.passages.len() >= 4 && short.vector.is_some() && short.passages.is_empty());
    let found = hits(&mut client, top_k(text_query(FOUND), 2)).await;
    server.kill();

    let server = Server::start(&flags).await;
    let mut client = server.client().await;
    assert_eq!((&get(&mut client, "a").await, &get(&mut client, "b").await), (&long, &short));
    assert_eq!(hits(&mut client, top_k(text_query(FOUND), 2)).await, found);
    let after = described(&mut client).await;
    assert_eq!((after.passages, after.passage_count), (told.passages, told.passage_count));

    let request = ExportRequest { collection: "c".into(), with_vector: true, ..Default::default() };
    let parts: Vec<_> = client.export(request).await.unwrap().into_inner().collect().await;
    let exported: Vec<Document> = parts.into_iter().flat_map(|part| part.unwrap().documents).collect();
    assert_eq!(exported, [long.clone(), short.clone()]);
    // A collection without passages takes those of a client too.
    for (copy, passages) in [("copy", Passages::default()), ("off", off())] {
        let request = CreateCollectionRequest { name: copy.into(), passages: Some(passages), ..Default::default() };
        client.create_collection(request).await.unwrap();
        assert_eq!(upload(&mut client, copy, exported.clone()).await.committed, 2);
        let ids = vec!["a".to_owned(), "b".to_owned()];
        let request = GetDocumentsRequest { collection: copy.into(), ids, with_vector: true, ..Default::default() };
        assert_eq!(client.get_documents(request).await.unwrap().into_inner().documents, exported);
    }
    // Through a file of lines, as the commands write and read it.
    let file = directory.path().join("c.jsonl");
    let file = file.to_str().unwrap();
    succeeded(cognate(&server, &["export", "c", "--with-vectors", "--output", file]));
    succeeded(cognate(&server, &["upload", file, "--collection", "lines"]));
    let request = GetDocumentsRequest {
        collection: "lines".into(),
        ids: vec!["a".into(), "b".into()],
        with_vector: true,
        ..Default::default()
    };
    assert_eq!(client.get_documents(request).await.unwrap().into_inner().documents, exported);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_embedded_in_passages_whose_vectors_are_those_of_their_texts() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let (long, short) = (long_text(), "A short text.".to_owned());
    let passages = Some(Passages { max_tokens: 100, overlap_tokens: Some(0), ..Default::default() });
    let format = VectorFormat::F32.into();
    let texts = vec![long.clone(), short.clone(), String::new()];
    let request = EmbedRequest { texts, passages, format, ..Default::default() };
    let results = client.embed(request).await.unwrap().into_inner().results;
    assert!(results.iter().all(|result| result.result.is_none() && !result.truncated), "{results:?}");
    let whole = |result: usize, length: usize| {
        let passages = &results[result].passages;
        passages.len() == 1 && (passages[0].start, passages[0].end) == (0, length as u32)
    };
    assert!(whole(1, short.len()) && whole(2, 0));
    let cut = &results[0];
    let parts: Vec<String> =
        cut.passages.iter().map(|passage| long[passage.start as usize..passage.end as usize].to_owned()).collect();
    assert_eq!(parts.join(" ").split_whitespace().collect::<Vec<_>>(), long.split_whitespace().collect::<Vec<_>>());
    // Sentences end with dots, and none is cut.
    assert!(parts.iter().all(|part| part.ends_with('.')), "{parts:?}");
    let alone = client.embed(EmbedRequest { texts: parts, ..Default::default() }).await.unwrap().into_inner().results;
    assert!(alone.iter().all(|result| result.tokens <= 100 && !result.truncated));
    assert_eq!(cut.tokens, alone.iter().map(|result| result.tokens).sum::<u32>());
    for (passage, alone) in cut.passages.iter().zip(alone) {
        let Some(embed_result::Result::Vector(vector)) = alone.result else { panic!("{alone:?}") };
        assert_eq!(passage.vector, Some(vector));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_and_passages_that_are_wrong_are_refused_by_field() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let max_tokens = client.info(InfoRequest {}).await.unwrap().into_inner().model.unwrap().max_tokens;
    let with = |max_tokens, overlap_tokens| Passages { max_tokens, overlap_tokens, ..Default::default() };
    for (passages, field) in [
        (with(max_tokens + 1, None), "passages.max_tokens"),
        (with(10, None), "passages.max_tokens"),
        (with(64, Some(32)), "passages.overlap_tokens"),
        (Passages { enabled: Some(false), ..with(64, None) }, "passages.max_tokens"),
        (Passages { enabled: Some(false), ..with(0, Some(1)) }, "passages.overlap_tokens"),
    ] {
        let request = CreateCollectionRequest { name: "c".into(), passages: Some(passages), ..Default::default() };
        assert_eq!(wrong_fields(&client.create_collection(request).await.unwrap_err()), [field], "{passages:?}");
        let request = EmbedRequest { texts: vec!["a".into()], passages: Some(passages), ..Default::default() };
        assert_eq!(wrong_fields(&client.embed(request).await.unwrap_err()), [field], "{passages:?}");
    }
    let truncation = Truncation::Reject.into();
    let passages = Some(Passages::default());
    let request = EmbedRequest { texts: vec!["a".into()], passages, truncation, ..Default::default() };
    assert_eq!(wrong_fields(&client.embed(request).await.unwrap_err()), ["truncation"]);

    let passages = Some(with(64, Some(5)));
    client
        .create_collection(CreateCollectionRequest { name: "c".into(), passages, ..Default::default() })
        .await
        .unwrap();
    let told = described(&mut client).await.passages;
    assert_eq!(told, Some(Passages { enabled: Some(true), ..with(64, Some(5)) }));

    let vector = || Some(Vector { values: (0..384).map(|n| n as f32 + 1.0).collect(), ..Default::default() });
    let passage = |start, end| Passage { start, end, vector: vector(), ..Default::default() };
    let of = |passages: Vec<Passage>| Document { passages, ..document("a", "äbc def") };
    let bare = Passage { vector: None, ..passage(0, 4) };
    let scored = Passage { score: 1.0, ..passage(0, 4) };
    for (document, field) in [
        (of(vec![passage(0, 8)]), "passages"),
        (of(vec![passage(0, 4), passage(4, 9)]), "passages"),
        (of(vec![passage(1, 4), passage(4, 8)]), "passages"),
        (of(vec![passage(4, 8), passage(0, 4)]), "passages"),
        (of(vec![passage(0, 4), Passage { start: 4, end: 8, ..bare }]), "passages[1].vector"),
        (of(vec![scored, passage(4, 8)]), "passages[0].score"),
        (Document { vector: vector(), ..of(vec![passage(0, 4), passage(4, 8)]) }, "vector"),
    ] {
        let message = UploadRequest { collection: "c".into(), documents: vec![document] };
        let responses = upload_all(&mut client, vec![message]).await.unwrap();
        let errors: Vec<_> = responses.into_iter().flat_map(|response| response.errors).collect();
        let message = &errors.first().and_then(|error| error.status.as_ref()).expect("it is refused").message;
        assert!(message.starts_with(&format!("documents[0].{field}: ")), "{message}");
    }

    let ask = |change: fn(&mut TopKRequest)| {
        let mut request = TopKRequest { with_passage_text: false, ..top_k(text_query("a"), 10) };
        change(&mut request);
        request
    };
    for (request, field) in [
        (ask(|request| request.passages_per_document = 100_000), "passages_per_document"),
        (ask(|request| (request.k, request.passages_per_document) = (1_000, 1_000)), "passages_per_document"),
        (
            ask(|request| (request.candidates, request.passages_per_document) = (vec!["x".into()], 1)),
            "passages_per_document",
        ),
        (
            ask(|request| (request.candidates, request.with_passage_text) = (vec!["x".into()], true)),
            "with_passage_text",
        ),
    ] {
        assert_eq!(wrong_fields(&client.top_k(request).await.unwrap_err()), [field]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_set_the_sizes_of_passages_and_mark_the_one_that_matched() {
    let server = Server::start(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("long.jsonl");
    std::fs::write(&file, serde_json::json!({ "id": "long", "text": long_text() }).to_string()).unwrap();
    succeeded(cognate(&server, &["collections", "create", "c", "--passage-tokens", "64", "--overlap-tokens", "0"]));
    let cut = succeeded(cognate(&server, &["collections", "create", "cut", "--no-passages"]));
    assert!(cut.contains("off"), "{cut}");
    succeeded(cognate(&server, &["upload", file.to_str().unwrap(), "--collection", "c"]));
    let listed = succeeded(cognate(&server, &["collections", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
    assert_eq!(listed["passages"], serde_json::json!({ "enabled": true, "max_tokens": 64, "overlap_tokens": 0 }));
    assert!(listed["passage_count"].as_u64().unwrap() > 10, "{listed}");

    let shown = succeeded(cognate(&server, &["top-k", FOUND, "--collection", "c", "--passages", "2"]));
    let line = shown.lines().find(|line| line.contains("long")).unwrap();
    let marked = line.split_once("[[").and_then(|(_, rest)| rest.split_once("]]")).expect("a mark").0;
    assert!(marked.contains(FOUND) && line.contains("Train number 0 left") && line.len() > long_text().len(), "{line}");
    assert_eq!(shown.lines().filter(|line| line.contains("left platform")).count(), 2, "{shown}");
    let embedded = succeeded(cognate(&server, &["embed", &long_text(), "--passages"]));
    let embedded: serde_json::Value = serde_json::from_str(&embedded).unwrap();
    let passages = embedded["passages"].as_array().unwrap();
    assert!(passages.len() >= 4 && passages[0]["vector"].as_array().unwrap().len() == 384, "{embedded}");
    assert_eq!(cognate(&server, &["embed", "a text", "--passage-tokens", "64"]).status.code(), Some(2));
}

fn cognate(server: &Server, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(args).args(["--addr", &server.addr.to_string()]).output().expect("the binary was built with the tests")
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is UTF-8")
}
