//! Several embedding models in one server: each answers as a server with it alone does, they share the workers, and a
//! collection keeps its model. The small ones have random weights (`tests/golden/families`).

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::{
    ClassifyRequest, Collection, CreateCollectionRequest, DeleteCollectionRequest, DeleteDocumentsRequest,
    EmbedRequest, ExportRequest, InfoRequest, ListCollectionsRequest, Model, Query, SearchMode, SimilarityRequest,
    TokenizeRequest, TopKRequest, TopKResult, UpdateDocumentsRequest, UploadRequest, Vector, query,
};
use serde_json::json;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::embed::values;
use crate::harness::{Server, document, new_texts, upload, upload_all, wrong_fields};
use crate::{classify, heads, metrics, openai};

/// The name of the real model.
pub const MINILM: &str = "sentence-transformers/all-MiniLM-L6-v2";

/// Texts of words that the small models know. The last has none.
const TEXTS: [&str; 4] = ["hello world", "the quick brown fox", "the lazy dog", ""];

/// A transformer of 32 dimensions and a table of static vectors.
struct Small {
    bert: tempfile::TempDir,
    table: tempfile::TempDir,
}

impl Small {
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/families");
        let of = |base: &str, model: &str| {
            let directory = tempfile::tempdir().unwrap();
            copy(&folder.join(base), directory.path());
            copy(&folder.join("models").join(model), directory.path());
            directory
        };
        Self { bert: of("bert", "mean"), table: of("static", "model2vec-f32") }
    }

    /// The places of the models, by the names that they have here.
    fn places(&self) -> [(&'static str, String); 3] {
        let place = |directory: &tempfile::TempDir| directory.path().display().to_string();
        [("minilm", MINILM.to_owned()), ("bert", place(&self.bert)), ("table", place(&self.table))]
    }

    /// Flags of some of the models, in this order.
    fn flags(&self, names: &[&str]) -> Vec<String> {
        let places = HashMap::from(self.places());
        let mut flags = ["--classifier", "none"].map(str::to_owned).to_vec();
        flags.extend(names.iter().flat_map(|name| ["--model".to_owned(), format!("{name}={}", places[name])]));
        flags
    }

    async fn serve(&self, names: &[&str], more: &[&str]) -> Server {
        let flags = self.flags(names);
        Server::start(&flags.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>()).await
    }
}

/// Copies a folder into another one.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { assert!(fs::copy(&path, &target).is_ok()) }
    }
}

type Client = CognateClient<Channel>;

fn texts() -> Vec<String> {
    TEXTS.map(str::to_owned).to_vec()
}

fn by_text(text: &str) -> Query {
    Query { query: Some(query::Query::Text(text.to_owned())), ..Query::default() }
}

fn by_id(id: &str) -> Query {
    Query { query: Some(query::Query::Id(id.to_owned())), ..Query::default() }
}

fn by_vector(values: Vec<f32>) -> Query {
    let vector = Vector { values, ..Vector::default() };
    Query { query: Some(query::Query::Vector(vector)), ..Query::default() }
}

fn search(query: Query) -> TopKRequest {
    TopKRequest { collection: "c".to_owned(), queries: vec![query], k: 3, with_vector: true, ..TopKRequest::default() }
}

async fn found(client: &mut Client, request: TopKRequest) -> Vec<TopKResult> {
    let results = client.top_k(request).await.unwrap().into_inner().results;
    assert!(results.iter().all(|result| result.error.is_none() && !result.hits.is_empty()), "{results:?}");
    results
}

async fn models(client: &mut Client) -> Vec<Model> {
    let info = client.info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.model.as_ref(), info.models.first());
    info.models
}

async fn collections(client: &mut Client) -> Vec<Collection> {
    client.list_collections(ListCollectionsRequest::default()).await.unwrap().into_inner().collections
}

fn documents() -> Vec<cognate::wire::Document> {
    TEXTS.iter().take(3).enumerate().map(|(n, text)| document(&n.to_string(), text)).collect()
}

/// Everything that a model says about some texts, by this name.
async fn said(client: &mut Client, model: &str) -> String {
    let (texts, model) = (texts(), model.to_owned());
    let embedded = EmbedRequest { texts: texts.clone(), model: model.clone(), ..EmbedRequest::default() };
    let stream = tokio_stream::iter([embedded.clone()]);
    let streamed: Vec<_> = client.embed_stream(stream).await.unwrap().into_inner().collect().await;
    let embedded = client.embed(embedded).await.unwrap().into_inner().results;
    assert_eq!(streamed[0].as_ref().unwrap().results, embedded);
    let similar = SimilarityRequest { a: texts[..3].to_vec(), model: model.clone(), ..SimilarityRequest::default() };
    let similar = client.similarity(similar).await.unwrap().into_inner().rows;
    let tokens = TokenizeRequest { texts: texts.clone(), model: model.clone(), ..TokenizeRequest::default() };
    let tokens = client.tokenize(tokens).await.unwrap().into_inner().results;
    let (queries, candidates) = (vec![by_text("a brown dog")], texts[..3].to_vec());
    let ranked = TopKRequest { queries, candidates, k: 3, model: model.clone(), ..TopKRequest::default() };
    let ranked = found(client, ranked).await;
    let name = format!("of-{model}");
    let create = CreateCollectionRequest { name: name.clone(), model, ..CreateCollectionRequest::default() };
    let created = client.create_collection(create).await.unwrap().into_inner().collection.unwrap();
    assert_eq!(upload(client, &name, documents()).await.committed, 3);
    let queries = vec![by_text("a brown dog"), by_id("1"), by_vector(values(&embedded[0]).to_vec())];
    let hits = found(client, TopKRequest { collection: name, queries, ..search(by_id("1")) }).await;
    // Numbers are printed with as many digits as tell their bits apart.
    format!("{embedded:?} {similar:?} {tokens:?} {ranked:?} {hits:?} {:?} {}", created.passages, created.dimensions)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_model_answers_to_the_last_bit_as_a_server_with_it_alone() {
    let small = Small::new();
    let together = small.serve(&["minilm", "bert", "table"], &[]).await;
    let mut client = together.client().await;
    let all = models(&mut client).await;
    assert_eq!(all.iter().map(|model| &*model.name).collect::<Vec<_>>(), ["minilm", "bert", "table"]);
    let (mut answers, mut alone) = (Vec::new(), Vec::new());
    for (name, place) in small.places() {
        answers.push(said(&mut client, name).await);
        // A place without a name, as before there were several.
        let server = Server::start(&["--classifier", "none", "--model", &place]).await;
        let mut client = server.client().await;
        alone.push((said(&mut client, "").await, models(&mut client).await.remove(0)));
    }
    for ((answer, model), (expected, same)) in answers.iter().zip(&all).zip(&alone) {
        assert!(answer == expected, "{}:\n{answer}\nand alone\n{expected}", model.name);
        assert_eq!(model, &Model { name: model.name.clone(), ..same.clone() });
        assert_eq!(same.name, "default");
        assert!(model.weight_bytes > 1_000, "{model:?}");
    }
    assert!((90_000_000..91_000_000).contains(&all[0].weight_bytes), "{}", all[0].weight_bytes);
    let of_names: Vec<_> = collections(&mut client).await.into_iter().map(|one| (one.name, one.model)).collect();
    let expected = ["bert", "minilm", "table"].map(|name| (format!("of-{name}"), name.to_owned()));
    assert_eq!(of_names, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_name_calls_and_new_collections_are_of_the_first_model() {
    let small = Small::new();
    let server = small.serve(&["table", "bert"], &[]).await;
    let mut client = server.client().await;
    let embed = |model: &str| EmbedRequest { texts: texts(), model: model.to_owned(), ..EmbedRequest::default() };
    let default = client.embed(embed("")).await.unwrap().into_inner();
    assert_eq!(default, client.embed(embed("table")).await.unwrap().into_inner());
    assert_ne!(default, client.embed(embed("bert")).await.unwrap().into_inner());
    upload(&mut client, "c", documents()).await;
    assert_eq!(collections(&mut client).await[0].model, "table");
}

/// Demands that a call is refused because of its model, and that the models that there are are named.
fn is_unknown<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    let resource = status.get_details_resource_info().expect("it names the model");
    assert_eq!((&*resource.resource_type, &*resource.resource_name), ("embedding model", "gpt"));
    assert!(status.message().ends_with("\"gpt\": this server has bert, table"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_model_is_not_found_and_one_that_does_not_apply_is_refused() {
    let small = Small::new();
    let server = small.serve(&["bert", "table"], &[]).await;
    let mut client = server.client().await;
    let (texts, model) = (texts(), "gpt".to_owned());
    is_unknown(client.embed(EmbedRequest { texts: texts.clone(), model: model.clone(), ..Default::default() }).await);
    let similar = SimilarityRequest { a: texts.clone(), model: model.clone(), ..Default::default() };
    is_unknown(client.similarity(similar).await);
    let tokens = TokenizeRequest { texts: texts.clone(), model: model.clone(), ..Default::default() };
    is_unknown(client.tokenize(tokens).await);
    let create = CreateCollectionRequest { name: "c".into(), model: model.clone(), ..Default::default() };
    is_unknown(client.create_collection(create).await);
    let candidates = |queries, model: &str| TopKRequest {
        queries,
        candidates: texts[..3].to_vec(),
        k: 1,
        model: model.to_owned(),
        ..TopKRequest::default()
    };
    is_unknown(client.top_k(candidates(vec![by_text("hello")], "gpt")).await);

    upload(&mut client, "c", documents()).await;
    let status = client.top_k(TopKRequest { model: "bert".into(), ..search(by_text("hello")) }).await.unwrap_err();
    assert_eq!((status.code(), wrong_fields(&status)), (Code::InvalidArgument, vec!["model".to_owned()]));
    let of_collection = |model| TopKRequest { collection: "c".into(), ..candidates(vec![by_id("1")], model) };
    let status = client.top_k(of_collection("table")).await.unwrap_err();
    assert_eq!((status.code(), wrong_fields(&status)), (Code::InvalidArgument, vec!["model".to_owned()]));
    assert!(status.message().contains("bert, the model of collection \"c\""), "{status:?}");
    let named = found(&mut client, of_collection("bert")).await;
    assert_eq!(named, found(&mut client, of_collection("")).await);
    // A vector must fit the collection or the model, whichever it is compared with.
    let mut wrong = async |request: TopKRequest| client.top_k(request).await.unwrap_err().message().to_owned();
    let message = wrong(search(by_vector(vec![1.0; 7]))).await;
    assert!(message.contains("7 dimensions, the model has"), "{message}");
    let message = wrong(candidates(vec![by_vector(vec![1.0; 7])], "table")).await;
    assert!(message.contains("7 dimensions, the model has"), "{message}");
}

/// A server with the first model whose collection `c` was filled by a server with the last one too.
async fn without_its_model(small: &Small, data: &str) -> (Server, Vec<f32>, String) {
    let before = small.serve(&["bert", "table"], &["--data-dir", data]).await;
    let mut client = before.client().await;
    let create = CreateCollectionRequest { name: "c".into(), model: "table".into(), ..Default::default() };
    client.create_collection(create).await.unwrap();
    upload(&mut client, "c", documents()).await;
    let vector = found(&mut client, search(by_id("1"))).await[0].hits[0].vector.clone().unwrap().values;
    let fingerprint = models(&mut client).await[1].fingerprint.clone();
    before.kill();
    (small.serve(&["bert"], &["--data-dir", data]).await, vector, fingerprint)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_model_of_a_collection_starts_and_says_so_where_a_text_needs_it() {
    let (small, directory) = (Small::new(), tempfile::tempdir().unwrap());
    let (server, vector, fingerprint) = without_its_model(&small, directory.path().to_str().unwrap()).await;
    let mut client = server.client().await;
    let listed = collections(&mut client).await.remove(0);
    assert_eq!((&*listed.model, &listed.model_fingerprint, listed.documents), ("table", &fingerprint, 3));

    let hybrid = TopKRequest { mode: SearchMode::Hybrid.into(), ..search(by_text("hello")) };
    let embeds = TopKRequest { candidates: texts()[..3].to_vec(), ..search(by_id("1")) };
    for request in [search(by_text("hello")), hybrid, embeds] {
        is_missing(client.top_k(request).await, &fingerprint);
    }
    for documents in [documents(), vec![cognate::wire::Document { id: "v".into(), ..vector_document(&vector) }]] {
        let message = UploadRequest { collection: "c".into(), documents };
        is_missing(upload_all(&mut client, vec![message]).await, &fingerprint);
    }

    // All else goes on.
    for query in [by_id("1"), by_vector(vector)] {
        assert_eq!(found(&mut client, search(query)).await[0].hits[0].id, "1");
    }
    let lexical = TopKRequest { mode: SearchMode::Lexical.into(), ..search(by_text("fox")) };
    assert_eq!(found(&mut client, lexical).await[0].hits[0].id, "1");
    let export = ExportRequest { collection: "c".into(), with_vector: true, ..ExportRequest::default() };
    let parts: Vec<_> = client.export(export).await.unwrap().into_inner().collect().await;
    assert_eq!(parts.iter().map(|part| part.as_ref().unwrap().documents.len()).sum::<usize>(), 3);
    let patch = prost_types::Struct {
        fields: [("seen".to_owned(), prost_types::Value { kind: Some(prost_types::value::Kind::BoolValue(true)) })]
            .into(),
    };
    let update = UpdateDocumentsRequest {
        collection: "c".into(),
        ids: vec!["1".into()],
        patch: Some(patch),
        ..UpdateDocumentsRequest::default()
    };
    assert_eq!(client.update_documents(update).await.unwrap().into_inner().documents, 1);
    let delete = DeleteDocumentsRequest { collection: "c".into(), ids: vec!["1".into()], filter: None };
    assert_eq!(client.delete_documents(delete).await.unwrap().into_inner().documents, 1);
    let delete = DeleteCollectionRequest { name: "c".into() };
    assert_eq!(client.delete_collection(delete).await.unwrap().into_inner().documents, 2);
}

fn vector_document(values: &[f32]) -> cognate::wire::Document {
    let vector = Some(Vector { values: values.to_vec(), ..Vector::default() });
    cognate::wire::Document { vector, ..cognate::wire::Document::default() }
}

/// Demands that a call is refused because the model of a collection is not there.
fn is_missing<T: std::fmt::Debug>(answer: Result<T, Status>, fingerprint: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let resource = status.get_details_resource_info().expect("it names the model");
    assert_eq!((&*resource.resource_type, &*resource.resource_name), ("embedding model", fingerprint));
    for part in ["collection \"c\"", "\"table\"", fingerprint, "this server has bert", "--model NAME=PLACE"] {
        assert!(status.message().contains(part), "{part} is not in {status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_is_of_the_model_with_its_fingerprint_whatever_the_name() {
    let (small, directory) = (Small::new(), tempfile::tempdir().unwrap());
    let data = directory.path().to_str().unwrap();
    let (server, ..) = without_its_model(&small, data).await;
    server.kill();
    let (table, bert) = (small.table.path().display().to_string(), small.bert.path().display().to_string());
    let (other, bert) = (format!("other={table}"), format!("table={bert}"));
    let flags = ["--classifier", "none", "--data-dir", data, "--model", &bert, "--model", &other];
    let server = Server::start(&flags).await;
    let mut client = server.client().await;
    assert_eq!(collections(&mut client).await[0].model, "other");
    assert_eq!(upload(&mut client, "c", vec![document("new", "world cafe")]).await.committed, 1);
    assert_eq!(found(&mut client, search(by_text("world cafe"))).await[0].hits[0].id, "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn models_under_load_share_the_workers_evenly_in_time() {
    // Two of one size, so that both always have texts that wait. Those of the first are five times as long.
    let place = |name: &str| format!("{name}={MINILM}");
    let (long, short) = (place("long"), place("short"));
    let flags = ["--classifier", "none", "--embed-cache-bytes", "0", "--model", &long, "--model", &short];
    let server = Server::start(&[&flags[..], &metrics::FLAGS].concat()).await;
    let addr = metrics::address(&server).await;
    let flood = async |model: &'static str, words: usize| {
        let requests = tokio_stream::iter(std::iter::repeat_with(move || {
            let (texts, model) = (new_texts(64, words), model.to_owned());
            EmbedRequest { texts, model, ..EmbedRequest::default() }
        }));
        let mut answers = server.client().await.embed_stream(requests).await.unwrap().into_inner();
        while let Some(answer) = answers.next().await {
            answer.unwrap();
        }
    };
    let computing = async || {
        let scrape = metrics::scrape(addr).await;
        ["long", "short"].map(|model| {
            let labels = [("kind", "embedder"), ("model", model), ("phase", "model")];
            scrape.value("cognate_phase_seconds_total", &labels).unwrap_or_default()
        })
    };
    let until = async |done: &dyn Fn([f64; 2]) -> bool| loop {
        let seconds = computing().await;
        if done(seconds) {
            return seconds;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // Long enough that one batch more or less, of up to a second on a busy machine, decides nothing.
    let measured = async {
        let begun = until(&|seconds| seconds.iter().all(|seconds| *seconds > 0.5)).await;
        let ended = until(&|seconds| seconds.iter().sum::<f64>() > begun.iter().sum::<f64>() + 16.0).await;
        [ended[0] - begun[0], ended[1] - begun[1]]
    };
    let [long, short] = tokio::select! {
        measured = measured => measured,
        _ = futures::future::join(flood("long", 200), flood("short", 40)) => unreachable!("floods go on"),
    };
    println!("seconds of workers: {long} and {short}");
    // Turns of texts would give the short ones a sixth. On a busy machine a client may be late with its texts.
    assert!((0.3..0.7).contains(&(short / (long + short))), "{long} and {short} seconds of workers");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_form_of_openai_has_all_models_by_their_names() {
    let small = Small::new();
    let (bert, flags) = (format!("bert={}", small.bert.path().display()), ["--classifier", "none", "--model", MINILM]);
    let server = Server::start(&[&flags[..], &["--model", &bert]].concat()).await;
    let list = openai::get(&server, "/v1/models").await.json();
    let ids: Vec<&str> = list["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [MINILM, "bert"]);
    for (asked, id) in [("bert", "bert"), ("default", MINILM), ("all-MiniLM-L6-v2", MINILM)] {
        assert_eq!(openai::get(&server, &format!("/v1/models/{asked}")).await.json()["id"], id);
        let answer =
            openai::post(&server, "/v1/embeddings", &json!({ "input": "a boat", "model": asked })).await.json();
        let name = if id == MINILM { "default" } else { id };
        let request = EmbedRequest { texts: vec!["a boat".into()], model: name.into(), ..EmbedRequest::default() };
        let embedded = server.client().await.embed(request).await.unwrap().into_inner().results;
        assert_eq!(answer["model"], id);
        let vector: Vec<f32> = serde_json::from_value(answer["data"][0]["embedding"].clone()).unwrap();
        assert_eq!(vector, values(&embedded[0]));
    }
    let refused = openai::post(&server, "/v1/embeddings", &json!({ "input": "a", "model": "gpt" })).await;
    assert_eq!(refused.status, 404);
    let message = refused.json()["error"]["message"].to_string();
    assert!(message.contains(MINILM) && message.contains("bert"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_name_a_model_and_copy_to_one_with_the_same_fingerprint() {
    let small = Small::new();
    let (from, to) = (small.serve(&["minilm", "table"], &[]).await, small.serve(&["bert", "table"], &[]).await);
    let [from_addr, to_addr] = [&from, &to].map(|server| server.addr.to_string());
    let command = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_cognate")).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), said)
    };
    let on = |args: &[&str]| command(&[args, &["--addr", &from_addr, "--json"]].concat());
    let (code, shown, said) = on(&["collections", "create", "c", "of-minilm", "--model", "table"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(shown.contains("\"model\":\"table\""), "{shown}");
    let (_, shown, _) = on(&["info"]);
    let info: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&info["model"]["name"], &info["models"][1]["name"]), (&json!("minilm"), &json!("table")));
    let (_, shown, said) = on(&["embed", "hello world", "--model", "table"]);
    let request = EmbedRequest { texts: vec!["hello world".into()], model: "table".into(), ..EmbedRequest::default() };
    let dimensions = values(&from.client().await.embed(request).await.unwrap().into_inner().results[0]).len();
    let line: serde_json::Value = serde_json::from_str(&shown).unwrap_or_else(|_| panic!("{shown}{said}"));
    assert_eq!(line["embedding"].as_array().map(Vec::len), Some(dimensions));
    assert_eq!(on(&["similarity", "a", "b", "--model", "gpt"]).0, Some(2));

    upload(&mut from.client().await, "c", documents()).await;
    upload(&mut from.client().await, "plain", documents()).await;
    let state = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let state = state.path().to_str().unwrap();
        command(&["copy", name, "--from", &from_addr, "--to", &to_addr, "--state-dir", state])
    };
    assert_eq!(copy("c").0, Some(0));
    assert_eq!(collections(&mut to.client().await).await[0].model, "table");
    let (code, _, said) = copy("plain");
    assert_eq!(code, Some(2));
    for part in ["whose vectors cannot be compared", MINILM, small.table.path().to_str().unwrap()] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_reads_the_model_that_it_was_trained_for() {
    let (small, folder) = (Small::new(), tempfile::tempdir().unwrap());
    let teacher = small.serve(&["bert", "minilm"], &[]).await;
    let (output, head) = heads::train(&teacher, folder.path(), &["--model", "minilm"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bert = format!("bert={}", small.bert.path().display());
    let (minilm, head) = (format!("other={MINILM}"), format!("tickets={head}"));
    let server = Server::start(&["--model", &bert, "--model", &minilm, "--classifier", &head]).await;
    let mut client = server.client().await;
    let texts = vec!["You billed me two times".to_owned()];
    let request = ClassifyRequest { texts: texts.clone(), with_vector: true, ..ClassifyRequest::default() };
    let classified = client.classify(request).await.unwrap().into_inner().results;
    let embedded = EmbedRequest { texts, model: "other".into(), ..EmbedRequest::default() };
    let embedded = client.embed(embedded).await.unwrap().into_inner().results;
    let classification = classify::classification(&classified[0]);
    assert_eq!(classification.label, "billing");
    assert_eq!(classification.vector.as_ref().expect("it was asked for").values, values(&embedded[0]));
}
