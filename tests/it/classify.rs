//! `Classify` and `ClassifyStream`: the right numbers from any graph, the ranking of the request, and errors in their
//! place.
//!
//! The runtime is rten, which is in every binary. `onnx_runtime.rs` holds the other runtime to the same numbers.

use cognate::wire::classify_result::Result as Outcome;
use cognate::wire::{
    Classification, ClassifyRequest, ClassifyResponse, ClassifyResult, InfoRequest, LabelScore, Truncation,
};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Server, wrong_fields};
use crate::installed::repository;

/// The greatest difference between two computations of the same graph. Logits are between -7 and 4.
const TOLERANCE: f32 = 1e-4;

/// The output of a graph for a text; `tests/fixtures/README.md` describes its origin.
#[derive(serde::Deserialize)]
pub struct Golden {
    model: String,
    text: String,
    ids: Vec<u32>,
    /// From float64 if there is such a graph, otherwise from ONNX Runtime.
    logits: Vec<f32>,
    logits_f64: Option<Vec<f32>>,
    scores: Option<Vec<f32>>,
}

/// The flags that serve the graphs of `tests/fixtures`.
pub fn flags(runtime: &'static str) -> Vec<String> {
    let folder = repository().join("tests/fixtures");
    let mut flags = vec!["--onnx-runtime".to_owned(), runtime.to_owned()];
    for name in ["bert", "distilbert", "int32", "fixed"] {
        flags.extend(["--classifier".to_owned(), format!("{name}={}", folder.join(name).display())]);
    }
    let quantized = format!("quantized={}#onnx/model_quantized.onnx", folder.join("bert").display());
    flags.extend(["--classifier".to_owned(), quantized]);
    flags
}

pub async fn start(flags: &[String]) -> Server {
    Server::start(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await
}

async fn fixtures() -> Server {
    start(&flags("rten")).await
}

pub fn request(model: &str, texts: &[&str]) -> ClassifyRequest {
    let texts = texts.iter().map(|&text| text.to_owned()).collect();
    ClassifyRequest { texts, model: model.to_owned(), ..Default::default() }
}

async fn classify(server: &Server, request: ClassifyRequest) -> ClassifyResponse {
    server.client().await.classify(request).await.unwrap().into_inner()
}

pub fn classification(result: &ClassifyResult) -> &Classification {
    match &result.result {
        Some(Outcome::Classification(classification)) => classification,
        other => panic!("no labels but {other:?}"),
    }
}

fn error(result: &ClassifyResult) -> (i32, &str) {
    match &result.result {
        Some(Outcome::Error(status)) => (status.code, &status.message),
        other => panic!("no error but {other:?}"),
    }
}

/// Returns the scores in the order of the classifier's labels.
fn in_order(scores: &[LabelScore], labels: &[String]) -> Vec<f32> {
    let score =
        |label: &String| scores.iter().find(|score| score.label == *label).expect("every label is listed").score;
    labels.iter().map(score).collect()
}

fn assert_near(a: &[f32], b: &[f32], tolerance: f32, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    let difference = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(difference <= tolerance, "{what}: {difference} apart, {a:?} {b:?}");
}

/// Checks that every graph of `tests/fixtures` gives the scores of the golden file.
pub async fn assert_agrees_with_the_golden_file(server: &Server) {
    let golden: Vec<Golden> = include_str!("../fixtures/golden.jsonl")
        .split('\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).expect("a golden line"))
        .collect();
    let info = server.client().await.info(InfoRequest {}).await.unwrap().into_inner();
    for classifier in &info.classifiers {
        let of = if classifier.name == "quantized" { "bert#onnx/model_quantized.onnx" } else { &classifier.name };
        let lines: Vec<&Golden> = golden.iter().filter(|line| line.model == of).collect();
        assert!(lines.len() >= 10, "{of}");
        // An int8 graph sees the ranges of the whole batch, and two engines round them differently: one text at a time.
        let batch = if classifier.name == "quantized" { 1 } else { lines.len() };
        for lines in lines.chunks(batch) {
            let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
            let raw = ClassifyRequest { raw_scores: true, ..request(&classifier.name, &texts) };
            let (raw, probable) =
                (classify(server, raw).await, classify(server, request(&classifier.name, &texts)).await);
            for ((line, raw), probable) in lines.iter().zip(&raw.results).zip(&probable.results) {
                let what = format!("{of}: {:?}", line.text);
                assert_eq!(raw.tokens as usize, line.ids.len(), "{what}");
                let logits = in_order(&classification(raw).scores, &classifier.labels);
                let tolerance = if line.logits_f64.is_some() { TOLERANCE } else { 0.1 };
                assert_near(&logits, line.logits_f64.as_ref().unwrap_or(&line.logits), tolerance, &what);
                if let Some(scores) = &line.scores {
                    assert_near(
                        &in_order(&classification(probable).scores, &classifier.labels),
                        scores,
                        TOLERANCE,
                        &what,
                    );
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_graph_gives_the_scores_of_the_golden_file() {
    assert_agrees_with_the_golden_file(&fixtures().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_has_the_same_scores_alone_and_in_any_batch() {
    let server = start(&["--onnx-runtime", "rten", "--embed-cache-bytes", "0"].map(str::to_owned)).await;
    let texts =
        ["Great!", "I was charged twice and nobody answers", &"a rather long text about nothing much ".repeat(9)];
    let together = classify(&server, ClassifyRequest { raw_scores: true, ..request("", &texts) }).await.results;
    for (text, together) in texts.iter().zip(&together) {
        let alone = classify(&server, ClassifyRequest { raw_scores: true, ..request("", &[text]) }).await.results;
        let scores = |result| {
            let mut scores = classification(result).scores.clone();
            scores.sort_by(|a, b| a.label.cmp(&b.label));
            scores.into_iter().map(|score| score.score).collect::<Vec<_>>()
        };
        assert_near(&scores(&alone[0]), &scores(together), 1e-5, text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_are_ranked_counted_and_filtered_as_asked() {
    let server = fixtures().await;
    let text = "My invoice is wrong";
    let all = classify(&server, request("distilbert", &[text])).await;
    let all = classification(&all.results[0]);
    assert_eq!(all.scores.len(), 4);
    assert!(all.scores.is_sorted_by(|a, b| a.score >= b.score), "{all:?}");
    assert_eq!((&all.label, all.score), (&all.scores[0].label, all.scores[0].score));

    let two = classify(&server, ClassifyRequest { top_n: 2, ..request("distilbert", &[text]) }).await;
    assert_eq!(classification(&two.results[0]).scores, all.scores[..2]);
    let least = all.scores[2].score;
    let some = classify(&server, ClassifyRequest { min_score: Some(least), ..request("distilbert", &[text]) }).await;
    assert_eq!(classification(&some.results[0]).scores, all.scores[..3]);
    let none = classify(&server, ClassifyRequest { min_score: Some(1.5), ..request("distilbert", &[text]) }).await;
    assert_eq!(
        (classification(&none.results[0]).scores.len(), &classification(&none.results[0]).label),
        (0, &all.label)
    );

    // The scores of single-label classifiers sum to 1. Those of multi-label ones are independent.
    let sum = |model: &'static str| {
        let server = &server;
        async move {
            let answer = classify(server, request(model, &[text])).await;
            classification(&answer.results[0]).scores.iter().map(|score| score.score).sum::<f32>()
        }
    };
    assert!((sum("bert").await - 1.0).abs() < 1e-5);
    assert!((sum("distilbert").await - 1.0).abs() > 1e-2);
}

#[tokio::test(flavor = "multi_thread")]
async fn info_says_what_each_classifier_is() {
    let server = fixtures().await;
    let info = server.client().await.info(InfoRequest {}).await.unwrap().into_inner();
    let names: Vec<&str> = info.classifiers.iter().map(|classifier| classifier.name.as_str()).collect();
    assert_eq!(names, ["bert", "distilbert", "int32", "fixed", "quantized"]);
    let [bert, distilbert, int32, fixed, _] = info.classifiers.as_slice() else { panic!("there are five") };
    assert_eq!((bert.labels.len(), bert.max_tokens), (3, 64), "not what the tokenizer's file says");
    assert_eq!(
        (&*bert.problem_type, &*distilbert.problem_type),
        ("single_label_classification", "multi_label_classification")
    );
    assert!(bert.runtime.starts_with("rten "), "{}", bert.runtime);
    assert_eq!((bert.inputs.len(), distilbert.inputs.len(), int32.inputs.len()), (3, 2, 3));
    assert!(bert.inputs[0].contains("input_ids") && bert.outputs[0].contains("logits"), "{bert:?}");
    assert_eq!(fixed.max_tokens, 16, "the graph reads no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_served_is_not_found_by_name() {
    let server = fixtures().await;
    let status = server.client().await.classify(request("tickets", &["a"])).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let resource = status.get_details_resource_info().expect("the classifier is named");
    assert_eq!((&*resource.resource_type, &*resource.resource_name), ("classifier", "tickets"));
    assert!(status.message().contains("bert, distilbert, int32"), "{}", status.message());

    let none = Server::start(&["--classifier", "none"]).await;
    let status = none.client().await.classify(request("", &["a"])).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(status.message().contains("has none"), "{}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_name_their_field() {
    let server = Server::start(&["--max-texts", "2"]).await;
    let mut client = server.client().await;
    for (wrong, field) in [
        (request("", &[]), "texts"),
        (request("", &["a", "b", "c"]), "texts"),
        (ClassifyRequest { min_score: Some(f32::NAN), ..request("", &["a"]) }, "min_score"),
        (ClassifyRequest { truncation: 9, ..request("", &["a"]) }, "truncation"),
        (ClassifyRequest { with_vector: true, ..request("", &["a"]) }, "with_vector"),
    ] {
        let status = client.classify(wrong).await.unwrap_err();
        assert_eq!((status.code(), wrong_fields(&status)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_too_large_or_too_long_is_an_error_in_its_place() {
    let mut flags = flags("rten");
    flags.extend(["--max-text-bytes".to_owned(), "1000".to_owned()]);
    let server = start(&flags).await;
    let (large, long) = ("x".repeat(1001), "refund ".repeat(100));
    let cut = classify(&server, request("bert", &["good", &large, &long, "bad"])).await.results;
    let (code, message) = error(&cut[1]);
    assert_eq!(code, i32::from(Code::InvalidArgument));
    assert!(message.contains("texts[1]") && message.contains("1001 bytes"), "{message}");
    assert!(cut[2].truncated && cut[2].tokens == 64 && cut[2].tokens_total == 102, "{:?}", cut[2]);
    let alone = classify(&server, request("bert", &["bad"])).await.results;
    assert_near(&[classification(&cut[3]).score], &[classification(&alone[0]).score], TOLERANCE, "its neighbour");

    let strict = ClassifyRequest { truncation: Truncation::Reject.into(), ..request("bert", &[&long, "good"]) };
    let strict = classify(&server, strict).await.results;
    let (_, message) = error(&strict[0]);
    assert!(message.contains("texts[0]: 102 tokens exceed the model's limit of 64"), "{message}");
    assert!(!classification(&strict[1]).label.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_the_graph_fails_on_leaves_its_neighbours_classified() {
    // The graph has 64 positions. The configuration says more than a start tries.
    let folder = tempfile::tempdir().unwrap();
    let sound = repository().join("tests/fixtures/distilbert");
    for file in ["model.onnx", "tokenizer.json"] {
        std::fs::copy(sound.join(file), folder.path().join(file)).unwrap();
    }
    let config = std::fs::read_to_string(sound.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["max_position_embeddings"] = 2000.into();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let flags = [
        "--onnx-runtime".to_owned(),
        "rten".to_owned(),
        "--classifier".to_owned(),
        format!("broken={}", folder.path().display()),
    ];
    let server = start(&flags).await;
    let long = "good ".repeat(80);
    let results = classify(&server, request("broken", &["slow", &long, "fast"])).await.results;
    assert_eq!(error(&results[1]).0, i32::from(Code::Internal));
    assert!(!classification(&results[0]).label.is_empty() && !classification(&results[2]).label.is_empty());
    server.has_logged("the model failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_in_order_and_outlives_wrong_texts_and_requests() {
    let server = fixtures().await;
    let texts = ["refund", "Great service, thank you!", "CANCEL MY ACCOUNT NOW"];
    let requests = vec![
        request("bert", &texts[..2]),
        request("no such model", &texts),
        ClassifyRequest { min_score: Some(f32::NAN), ..request("bert", &texts[..1]) },
        request("bert", &texts[2..]),
    ];
    let answers = server.client().await.classify_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<ClassifyResponse> = answers.map(Result::unwrap).collect().await;
    assert_eq!(answers.iter().map(|answer| answer.results.len()).collect::<Vec<_>>(), [2, 3, 1, 1]);
    let expected = classify(&server, request("bert", &texts)).await.results;
    for (result, expected) in answers[0].results.iter().chain(&answers[3].results).zip(&expected) {
        assert_eq!(classification(result).label, classification(expected).label);
    }
    assert!(answers[1].results.iter().all(|result| error(result).0 == i32::from(Code::NotFound)));
    assert_eq!(error(&answers[2].results[0]).0, i32::from(Code::InvalidArgument));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_with_a_time_and_lets_streams_wait() {
    let server = Server::start(&["--queue-tokens", "64", "--embed-cache-bytes", "0"]).await;
    // A call that exceeds the token budget is admitted alone. Calls that come meanwhile are refused.
    let texts: Vec<String> = (0..1000).map(|n| format!("ticket number {n} about nothing in particular")).collect();
    let large = ClassifyRequest { texts: texts.clone(), ..Default::default() };
    let mut refused = 0;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (server, request) = (server.client(), large.clone());
            async move { server.await.classify(request).await }
        })
        .collect();
    for answer in futures::future::join_all(calls).await {
        match answer {
            Ok(answer) => assert_eq!(answer.into_inner().results.len(), texts.len()),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                assert!(status.get_details_retry_info().is_some());
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "eight calls of {} texts found room for 64 tokens", texts.len());
    let requests = texts.chunks(100).map(|texts| ClassifyRequest { texts: texts.to_vec(), ..Default::default() });
    let requests: Vec<ClassifyRequest> = requests.collect();
    let answers = server.client().await.classify_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<ClassifyResponse> = answers.map(Result::unwrap).collect().await;
    assert!(answers.iter().flat_map(|answer| &answer.results).all(|result| !classification(result).label.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn sentiment_is_there_without_a_setting() {
    let server = Server::start(&[]).await;
    for (text, label) in [("I love it, this is wonderful!", "positive"), ("This is terrible, I hate it.", "negative")] {
        let results = classify(&server, request("", &[text])).await.results;
        assert_eq!(classification(&results[0]).label, label, "{text}");
    }
    let info = server.client().await.info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.classifiers[0].labels, ["negative", "neutral", "positive"]);
}

#[test]
fn a_classifier_that_cannot_be_served_ends_the_start_with_the_reason() {
    let folder = repository().join("tests/fixtures/hostile");
    for (name, reasons) in [
        ("no_labels", ["id2label", "--classifier-labels broken="]),
        ("label_count", ["expected 3 labels", "found 2: no, yes"]),
        ("truncated", ["model.onnx", ""]),
        ("not_onnx", ["model.onnx", ""]),
        ("nan", ["self-test", "not finite"]),
        ("unknown_op", ["model.onnx", "Frobnicate"]),
        ("odd_input", ["pixel_values", ""]),
        ("no_ids", ["input_ids", "inputs_embeds"]),
        ("wrong_output", ["logits", "last_hidden_state"]),
        ("no_tokenizer", ["tokenizer.json is missing", ""]),
        ("vocabulary", ["tokenizer.json has 200 tokens", "token 199"]),
        ("nothing_at_all", ["nothing_at_all", ""]),
    ] {
        let classifier = format!("broken={}", folder.join(name).display());
        // The measurement starts classifiers as the server does, without the embedding model.
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cognate"));
        command.args(["bench", "classify", "--texts", "1", "--onnx-runtime", "rten", "--classifier", &classifier]);
        let output = command.output().expect("the binary was built with the tests");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {text}");
        let text = text.lines().skip_while(|line| !line.starts_with("error:")).collect::<Vec<_>>().join("\n");
        assert!(text.contains("classifier broken cannot be served"), "{name}: {text}");
        assert!(reasons.iter().all(|reason| text.contains(reason)), "{name}: {text}");
        assert!(text.lines().count() < 24, "{name}, more than a screen: {text}");
    }
}

#[test]
fn labels_may_be_given_by_hand() {
    let folder = repository().join("tests/fixtures/hostile/no_labels");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(["bench", "classify", "--texts", "2", "--json", "--onnx-runtime", "rten"]);
    command.args(["--classifier", &format!("mine={}", folder.display()), "--classifier-labels", "mine=a,b,c"]);
    let output = command.output().expect("the binary was built with the tests");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!((&report["rows"][0]["classifier"], &report["rows"][0]["texts"]), (&"mine".into(), &2.into()));
}

/// Runs `cognate` to its end with these arguments.
fn cognate(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cognate"));
    let output = command.args(args).stdin(std::process::Stdio::null()).output().expect("the binary was built");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn people_and_programs_classify_from_the_command_line() {
    let server = fixtures().await;
    let addr = server.addr.to_string();
    let (code, shown, _) = cognate(&["classify", "refund", "--model", "bert", "--top", "1", "--addr", &addr]);
    assert_eq!((code, shown.contains("neutral") && shown.contains("refund")), (Some(0), true), "{shown}");

    let file = tempfile::NamedTempFile::with_suffix(".txt").unwrap();
    std::fs::write(file.path(), format!("refund\n{}\nCANCEL MY ACCOUNT NOW\n", "refund ".repeat(100))).unwrap();
    let path = file.path().to_str().unwrap();
    let (code, lines, _) =
        cognate(&["classify", "--file", path, "--model", "bert", "--reject-truncation", "--json", "--addr", &addr]);
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(code, Some(1), "one text was too long");
    assert_eq!((&lines[0]["label"], &lines[0]["text"]), (&"neutral".into(), &"refund".into()));
    assert!(lines[1]["error"].as_str().is_some_and(|error| error.contains("102 tokens")), "{}", lines[1]);
    assert_eq!(lines[2]["scores"].as_object().map(serde_json::Map::len), Some(3));

    let (code, shown, _) = cognate(&["classify", "refund", "--model", "nobody", "--addr", &addr]);
    assert_eq!((code, shown.contains("nobody")), (Some(1), true), "{shown}");
}

#[test]
fn classifiers_are_measured_for_people() {
    let (code, shown, error) = cognate(&["bench", "classify", "--texts", "70", "--onnx-runtime", "rten"]);
    assert_eq!(code, Some(0), "{error}");
    for part in ["sentiment", "rten 0.", "one at a time", "batches of 32", "all at once", "USD/million"] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
}
