//! An independent client: grpcurl, which learns the service by reflection alone. In most other tests both ends are
//! tonic and could be wrong in the same way; here they cannot. `conformance.rs` runs the clients of other languages.

use std::process::{Command, Output};

use serde_json::{Deserializer, Value, json};

use crate::harness::Server;
use crate::installed::{grpcurl, run, stderr};
use crate::rerank;

const SERVICE: &str = "cognate.v1.Cognate";
/// The methods in the order of `grpcurl list`. Each is called below.
const RPCS: [&str; 23] = [
    "Backup",
    "Classify",
    "ClassifyStream",
    "CountDocuments",
    "CreateCollection",
    "DeleteCollection",
    "DeleteDocuments",
    "Embed",
    "EmbedStream",
    "Export",
    "Facets",
    "GetDocuments",
    "Info",
    "ListCollections",
    "ListDocuments",
    "MigrateCollection",
    "Rerank",
    "Similarity",
    "Tokenize",
    "TokenizeStream",
    "TopK",
    "UpdateDocuments",
    "Upload",
];

/// `grpcurl -plaintext` against one server.
struct Grpcurl {
    server: Server,
}

impl Grpcurl {
    async fn start() -> Self {
        grpcurl(); // before the server, so that it does not wait for an installation
        Self { server: rerank::start(&[]).await }
    }

    /// Runs `grpcurl -plaintext FLAGS ADDRESS WORDS < stdin`.
    fn run(&self, flags: &[&str], words: &[&str], stdin: String) -> Output {
        let mut command = Command::new(grpcurl());
        command.args(["-plaintext", "-max-time", "300"]).args(flags).arg(self.server.addr.to_string()).args(words);
        run(&mut command, stdin).expect("grpcurl was installed")
    }

    /// Returns the output of `grpcurl -plaintext ADDRESS WORDS`.
    fn text(&self, words: &[&str]) -> String {
        let output = self.run(&[], words, String::new());
        assert!(output.status.success(), "{words:?}: {}\n{}", stderr(&output), self.server.log());
        String::from_utf8(output.stdout).expect("grpcurl prints UTF-8")
    }

    /// Runs `grpcurl -plaintext -d REQUEST ADDRESS METHOD`: one request, one response.
    fn call(&self, method: &str, request: Value) -> Value {
        let output = self.run(&["-d", &request.to_string()], &[method], String::new());
        assert!(output.status.success(), "{method} {request}: {}\n{}", stderr(&output), self.server.log());
        let mut responses = messages(&output);
        assert_eq!(responses.len(), 1, "{responses:?}");
        responses.remove(0)
    }

    fn cognate(&self, rpc: &str, request: Value) -> Value {
        self.call(&format!("{SERVICE}/{rpc}"), request)
    }

    /// Runs `grpcurl -plaintext -d @ ADDRESS METHOD < requests.jsonl`: one request a line.
    fn stream(&self, rpc: &str, requests: impl Iterator<Item = Value>) -> Vec<Value> {
        let lines: String = requests.map(|request| format!("{request}\n")).collect();
        let output = self.run(&["-d", "@"], &[&format!("{SERVICE}/{rpc}")], lines);
        assert!(output.status.success(), "{rpc}: {}\n{}", stderr(&output), self.server.log());
        messages(&output)
    }

    /// Returns the output of grpcurl for a call that must fail.
    fn error(&self, rpc: &str, request: Value) -> String {
        let output = self.run(&["-d", &request.to_string()], &[&format!("{SERVICE}/{rpc}")], String::new());
        assert!(!output.status.success(), "{rpc} {request} was answered");
        stderr(&output)
    }
}

fn messages(output: &Output) -> Vec<Value> {
    Deserializer::from_slice(&output.stdout).into_iter().collect::<Result<_, _>>().expect("grpcurl prints JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Reads an integer. JSON has 64-bit ones as strings, and grpcurl leaves out 0.
fn integer(value: &Value) -> u64 {
    match value {
        Value::Null => 0,
        Value::String(text) => text.parse().expect("an integer"),
        value => value.as_u64().expect("an integer"),
    }
}

fn floats(value: &Value) -> Vec<f64> {
    list(value).iter().map(|value| value.as_f64().expect("a number")).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Returns the `id` of each item.
fn ids(value: &Value) -> Vec<&str> {
    list(value).iter().map(|item| item["id"].as_str().expect("an id")).collect()
}

fn note(number: usize) -> String {
    let subject = ["the weather in spring", "a train on its rails", "bread from the oven"][number % 3];
    format!("note {number} is about {subject}")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn grpcurl_lists_and_describes_the_service() {
    let grpcurl = Grpcurl::start().await;
    let services = grpcurl.text(&["list"]);
    for name in [SERVICE, "grpc.health.v1.Health"] {
        assert!(services.lines().any(|line| line == name), "{services}");
    }
    let rpcs = grpcurl.text(&["list", SERVICE]);
    assert_eq!(rpcs.lines().collect::<Vec<_>>(), RPCS.map(|rpc| format!("{SERVICE}.{rpc}")));
    let described = grpcurl.text(&["describe", SERVICE]);
    for rpc in [
        "rpc TopK ( .cognate.v1.TopKRequest ) returns ( .cognate.v1.TopKResponse );",
        "rpc Upload ( stream .cognate.v1.UploadRequest ) returns ( stream .cognate.v1.UploadResponse );",
    ] {
        assert!(described.contains(rpc), "{described}");
    }
    // A message whose fields come from another file of the descriptor.
    let described = grpcurl.text(&["describe", "cognate.v1.EmbedResult"]);
    assert!(described.contains(".google.rpc.Status error = 2;"), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn grpcurl_asks_for_health_and_info() {
    let grpcurl = Grpcurl::start().await;
    for service in ["", SERVICE] {
        let health = grpcurl.call("grpc.health.v1.Health/Check", json!({ "service": service }));
        assert_eq!(health, json!({ "status": "SERVING" }));
    }
    let info = grpcurl.cognate("Info", json!({}));
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(info["model"]["dimensions"], 384);
    assert!(integer(&info["limits"]["maxTexts"]) >= 1024, "{info}");
    assert!(integer(&info["limits"]["maxMessageBytes"]) > 1 << 20, "{info}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn grpcurl_embeds_in_one_call_and_in_a_stream() {
    let grpcurl = Grpcurl::start().await;
    let response = grpcurl.cognate("Embed", json!({ "texts": ["one", "two", "one"] }));
    let vectors: Vec<_> = list(&response["results"]).iter().map(|result| floats(&result["vector"]["values"])).collect();
    assert_eq!(vectors.iter().map(Vec::len).collect::<Vec<_>>(), [384; 3]);
    for vector in &vectors {
        assert!((dot(vector, vector) - 1.0).abs() < 1e-5);
    }
    assert!(dot(&vectors[0], &vectors[2]) > 1.0 - 1e-5 && dot(&vectors[0], &vectors[1]) < 0.99);

    let requests = [
        json!({ "texts": ["two"] }),
        json!({ "texts": ["three", "one"] }),
        json!({ "texts": ["four"], "dimensions": 9999 }),
        json!({ "texts": ["five"], "dimensions": 8 }),
    ];
    let responses = grpcurl.stream("EmbedStream", requests.into_iter());
    let counts: Vec<_> = responses.iter().map(|response| list(&response["results"]).len()).collect();
    assert_eq!(counts, [1, 2, 1, 1], "one response for each request, in order");
    let vector = |response: usize, text: usize| floats(&responses[response]["results"][text]["vector"]["values"]);
    assert!(dot(&vector(0, 0), &vectors[1]) > 1.0 - 1e-5);
    assert!(dot(&vector(1, 1), &vectors[0]) > 1.0 - 1e-5);
    assert_eq!(vector(3, 0).len(), 8);
    let error = &responses[2]["results"][0]["error"];
    assert_eq!(error["code"], 3);
    assert_eq!(error["details"][0]["@type"], "type.googleapis.com/google.rpc.BadRequest");
    assert_eq!(error["details"][0]["fieldViolations"][0]["field"], "dimensions");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn grpcurl_reranks() {
    let grpcurl = Grpcurl::start().await;
    let texts = ["the package is late again", "refund", "please login"];
    let request = json!({ "query": "refund", "texts": texts, "topN": 2, "withText": true, "model": "distilbert" });
    let response = grpcurl.cognate("Rerank", request);
    let results = list(&response["results"]);
    assert_eq!(results.len(), 2);
    assert!(results[0]["score"].as_f64() >= results[1]["score"].as_f64(), "{response}");
    // An index of 0 is left out of the JSON.
    let text = |result: &Value| texts[result["index"].as_u64().unwrap_or(0) as usize].to_owned();
    assert!(results.iter().all(|result| result["text"] == text(result).as_str()), "{response}");
    let error = grpcurl.error("Rerank", json!({ "query": "a", "texts": ["b"], "model": "none" }));
    assert!(error.contains("there is no reranker \"none\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn grpcurl_tokenises_in_one_call_and_in_a_stream() {
    let grpcurl = Grpcurl::start().await;
    let response = grpcurl.cognate("Tokenize", json!({ "texts": ["a boat"], "withoutSpecialTokens": true }));
    let boat = json!({ "id": 4049, "text": "boat", "start": 2, "end": 6 });
    assert_eq!(list(&response["results"][0]["tokens"])[1..], [boat]);
    let requests = [json!({ "texts": ["one", "two"] }), json!({ "texts": [] }), json!({ "texts": ["three"] })];
    let responses = grpcurl.stream("TokenizeStream", requests.into_iter());
    let counts: Vec<_> = responses.iter().map(|response| response["results"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(counts, [2, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn grpcurl_classifies_in_one_call_and_in_a_stream() {
    let grpcurl = Grpcurl::start().await;
    let texts = ["I love it, this is wonderful!", "This is terrible, I hate it."];
    let response = grpcurl.cognate("Classify", json!({ "texts": texts, "topN": 1 }));
    let labels: Vec<_> =
        list(&response["results"]).iter().map(|result| result["classification"]["label"].clone()).collect();
    assert_eq!(labels, ["positive", "negative"]);
    assert_eq!(list(&response["results"][0]["classification"]["scores"]).len(), 1);

    let requests =
        [json!({ "texts": &texts[1..] }), json!({ "texts": texts, "model": "none" }), json!({ "texts": &texts[..1] })];
    let responses = grpcurl.stream("ClassifyStream", requests.into_iter());
    let counts: Vec<_> = responses.iter().map(|response| list(&response["results"]).len()).collect();
    assert_eq!(counts, [1, 2, 1], "one response for each request, in order");
    assert_eq!(responses[2]["results"][0]["classification"]["label"], "positive");
    let error = &responses[1]["results"][1]["error"];
    assert_eq!(error["details"][0]["@type"], "type.googleapis.com/google.rpc.ResourceInfo");
    assert_eq!(error["details"][0]["resourceName"], "none");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn grpcurl_compares_texts_and_ranks_candidates() {
    let grpcurl = Grpcurl::start().await;
    let response = grpcurl.cognate("Similarity", json!({ "a": ["a cat", "a steam engine"], "b": ["a kitten"] }));
    let scores: Vec<_> = list(&response["rows"]).iter().map(|row| floats(&row["scores"])).collect();
    assert_eq!(scores.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    assert!(scores[0][0] > scores[1][0] + 0.2, "{scores:?}");

    let request = json!({
        "queries": [{ "text": "a vehicle that runs on rails" }],
        "candidates": ["a train", "a loaf of bread", "a sleeping cat"],
        "k": 2,
        "with_text": true,
    });
    let response = grpcurl.cognate("TopK", request);
    let hits = list(&response["results"][0]["hits"]);
    assert_eq!(hits.len(), 2);
    assert_eq!(hits[0]["text"], "a train");
    // Position 0 is printed: the field is optional, so 0 differs from an absent value.
    assert_eq!(hits[0]["candidate"], 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn grpcurl_searches_by_words_and_by_both() {
    let grpcurl = Grpcurl::start().await;
    let made = grpcurl.cognate("CreateCollection", json!({ "name": "errors", "lexical": { "language": "en" } }));
    assert_eq!(made["collection"]["lexical"], json!({ "enabled": true, "language": "en" }));
    let texts = [("a", "ORA-00942: table or view does not exist"), ("b", "ORA-00001: unique constraint violated")];
    let documents: Vec<_> = texts.iter().map(|(id, text)| json!({ "id": id, "text": text })).collect();
    grpcurl.stream("Upload", std::iter::once(json!({ "collection": "errors", "documents": documents })));
    for (mode, hits) in [("SEARCH_MODE_LEXICAL", 1), ("SEARCH_MODE_HYBRID", 2)] {
        let request = json!({ "collection": "errors", "queries": [{ "text": "views 00942" }], "k": 2, "mode": mode });
        let response = grpcurl.cognate("TopK", request);
        let found = list(&response["results"][0]["hits"]);
        assert_eq!((found.len(), &found[0]["id"]), (hits, &json!("a")), "{response}");
        assert!(found[0]["scores"]["lexical"].as_f64().is_some_and(|score| score > 0.0), "{response}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn grpcurl_finds_a_long_text_by_its_passage() {
    let grpcurl = Grpcurl::start().await;
    let settings = json!({ "max_tokens": 96, "overlap_tokens": 0 });
    let made = grpcurl.cognate("CreateCollection", json!({ "name": "long", "passages": settings }));
    let told = json!({ "enabled": true, "maxTokens": 96, "overlapTokens": 0 });
    assert_eq!(made["collection"]["passages"], told);
    let filler: String = (0..60).map(|n| format!("Train number {n} left the platform late. ")).collect();
    let text = format!("{filler}The octopus opened the jar. {filler}");
    let upload = json!({ "collection": "long", "documents": [{ "id": "a", "text": text }] });
    grpcurl.stream("Upload", std::iter::once(upload));
    let queries = json!([{ "text": "an octopus" }]);
    let request = json!({ "collection": "long", "queries": queries, "k": 2, "with_passage_text": true });
    let response = grpcurl.cognate("TopK", request);
    let passage = &response["results"][0]["hits"][0]["passage"];
    assert!(passage["text"].as_str().is_some_and(|text| text.contains("The octopus opened the jar.")), "{response}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn grpcurl_uploads_a_pipe_of_lines_and_works_with_the_documents() {
    const MESSAGES: usize = 200;
    const PER_MESSAGE: usize = 4;
    let grpcurl = Grpcurl::start().await;
    let lines = (0..MESSAGES).map(|message| {
        let numbers = message * PER_MESSAGE..(message + 1) * PER_MESSAGE;
        let documents: Vec<_> = numbers
            .map(|n| json!({ "id": format!("n{n:03}"), "text": note(n), "metadata": { "number": n } }))
            .collect();
        if message == 0 {
            json!({ "collection": "notes", "documents": documents })
        } else {
            json!({ "documents": documents })
        }
    });
    let responses = grpcurl.stream("Upload", lines);
    let (last, before) = responses.split_last().expect("an upload is answered");
    let total = MESSAGES * PER_MESSAGE;
    assert_eq!(last, &json!({ "received": total.to_string(), "committed": total.to_string(), "done": true }));
    assert!(before.iter().all(|response| response["done"].is_null()), "only the last response is done");
    let committed: Vec<_> = responses.iter().map(|response| integer(&response["committed"])).collect();
    assert!(committed.is_sorted(), "{committed:?}");

    let search = || {
        let request = json!({
            "collection": "notes",
            "queries": [{ "text": note(321) }],
            "k": 3,
            "with_text": true,
            "with_metadata": true,
        });
        let response = grpcurl.cognate("TopK", request);
        list(&response["results"][0]["hits"]).to_vec()
    };
    let hits = search();
    assert_eq!(hits.len(), 3);
    assert_eq!(hits[0]["id"], "n321");
    assert_eq!(hits[0]["text"], note(321));
    assert_eq!(hits[0]["metadata"], json!({ "number": 321 }));
    assert!(hits[0]["score"].as_f64() > Some(1.0 - 1e-5), "{hits:?}");

    let got = grpcurl.cognate("GetDocuments", json!({ "collection": "notes", "ids": ["n321", "nobody"] }));
    assert_eq!(ids(&got["documents"]), ["n321"]);
    assert_eq!(got["missing"], json!(["nobody"]));
    let exported = grpcurl.cognate("Export", json!({ "collection": "notes", "filter": { "text": "number < 3" } }));
    assert_eq!((ids(&exported["documents"]), integer(&exported["total"])), (vec!["n000", "n001", "n002"], 3));
    assert!(grpcurl.error("Backup", json!({})).contains("Code: FailedPrecondition"), "nothing is on disk");
    let few = json!({ "text": "number < 3" });
    let request = json!({ "collection": "notes", "filter": few, "patch": { "tag": ["a", "b"], "number": null } });
    assert_eq!(grpcurl.cognate("UpdateDocuments", request), json!({ "documents": "3" }));
    let request = json!({ "collection": "notes", "filter": { "text": "tag = a" } });
    assert_eq!(grpcurl.cognate("CountDocuments", request), json!({ "documents": "3" }));
    // A filter's fields have two spellings: the names in JSON, and those in the proto, which no language reserves.
    let range = json!({ "range": { "path": "number", "gte": 3 } });
    let tagged = |one_of: &str| json!({ (one_of): { "path": "tag", "values": ["a"] } });
    for [and, or, not, one_of] in [["and", "or", "not", "in"], ["all_of", "any_of", "negated", "one_of"]] {
        let either = json!({ (or): { "filters": [tagged(one_of), range] } });
        let filter = json!({ (and): { "filters": [either, { (not): range }] } });
        let request = json!({ "collection": "notes", "filter": filter });
        assert_eq!(grpcurl.cognate("CountDocuments", request), json!({ "documents": "3" }));
    }
    let fields = json!([{ "path": "tag", "limit": 1 }, { "path": "number", "limit": 0 }]);
    let facets = grpcurl.cognate("Facets", json!({ "collection": "notes", "fields": fields }));
    let numbers = json!({ "count": "797", "min": 3, "max": 799, "mean": 401 });
    let expected = json!({ "documents": "800", "facets": [
        { "path": "tag", "documents": "3", "values": [{ "value": "a", "documents": "3" }], "distinct": "2" },
        { "path": "number", "documents": "797", "distinct": "797", "numbers": numbers },
    ] });
    assert_eq!(facets, expected);
    let gone = grpcurl.cognate("DeleteDocuments", json!({ "collection": "notes", "ids": ["n321", "nobody"] }));
    assert_eq!(gone, json!({ "deleted": ["n321"], "documents": "1", "missing": ["nobody"] }));
    assert_ne!(search()[0]["id"], "n321");

    let mut listed = Vec::new();
    let mut token = json!("");
    while !token.is_null() {
        let request = json!({ "collection": "notes", "page_size": 300, "page_token": token });
        let page = grpcurl.cognate("ListDocuments", request);
        listed.extend(ids(&page["documents"]).into_iter().map(str::to_owned));
        token = page["nextPageToken"].clone(); // left out on the last page
    }
    let expected: Vec<_> = (0..total).filter(|n| *n != 321).map(|n| format!("n{n:03}")).collect();
    assert_eq!(listed, expected);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn grpcurl_makes_lists_and_removes_collections() {
    let grpcurl = Grpcurl::start().await;
    assert_eq!(grpcurl.cognate("ListCollections", json!({})), json!({}));
    for name in ["second", "first"] {
        let made = grpcurl.cognate("CreateCollection", json!({ "name": name }));
        assert_eq!((&made["collection"]["name"], &made["collection"]["dimensions"]), (&json!(name), &json!(384)));
    }
    let error = grpcurl.error("CreateCollection", json!({ "name": "first" }));
    assert!(error.contains("Code: AlreadyExists") && error.contains("google.rpc.ResourceInfo"), "{error}");
    let lines =
        [json!({ "collection": "second", "documents": [{ "id": "a", "text": "one" }, { "id": "b", "text": "two" }] })];
    grpcurl.stream("Upload", lines.into_iter());
    let names = || {
        let response = grpcurl.cognate("ListCollections", json!({}));
        let collections = list(&response["collections"]).iter();
        collections
            .map(|item| (item["name"].as_str().unwrap_or_default().to_owned(), integer(&item["documents"])))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), [("first".to_owned(), 0), ("second".to_owned(), 2)]);
    let error = grpcurl.error("MigrateCollection", json!({ "collection": "second", "model": "default" }));
    assert!(error.contains("Code: InvalidArgument") && error.contains("google.rpc.BadRequest"), "{error}");
    assert_eq!(grpcurl.cognate("DeleteCollection", json!({ "name": "second" })), json!({ "documents": "2" }));
    assert_eq!(names(), [("first".to_owned(), 0)]);
    let error = grpcurl.error("DeleteCollection", json!({ "name": "second" }));
    assert!(error.contains("Code: NotFound") && error.contains("google.rpc.ResourceInfo"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn grpcurl_shows_which_field_is_wrong() {
    let grpcurl = Grpcurl::start().await;
    let error = grpcurl.error("TopK", json!({ "queries": [{ "text": "x" }], "candidates": ["y"], "k": 0 }));
    assert!(error.contains("Code: InvalidArgument"), "{error}");
    assert!(error.contains("type.googleapis.com/google.rpc.BadRequest"), "{error}");
    assert!(error.contains(r#""field": "k""#), "{error}");
}
