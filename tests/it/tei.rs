//! `tei.v1`, called by grpcurl with `proto/tei/v1/tei.proto`, as a client of Text Embeddings Inference would.

use std::process::Command;

use serde_json::{Deserializer, Value, json};

use crate::harness::Server;
use crate::installed::{grpcurl, repository, run, stderr};
use crate::rerank;

/// The answers of a call, or the error that grpcurl shows.
fn call(server: &Server, method: &str, requests: &[Value]) -> Result<Vec<Value>, String> {
    let mut command = Command::new(grpcurl());
    command.args(["-plaintext", "-import-path"]).arg(repository().join("proto")).args(["-proto", "tei/v1/tei.proto"]);
    command.args(["-d", "@", &server.addr.to_string(), &format!("tei.v1.{method}")]);
    let output = run(&mut command, requests.iter().map(Value::to_string).collect()).expect("grpcurl was installed");
    let answers = Deserializer::from_slice(&output.stdout).into_iter().collect::<Result<_, _>>().expect("JSON");
    if output.status.success() { Ok(answers) } else { Err(stderr(&output)) }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Go and its module proxy: cargo test -- --ignored"]
async fn conformance_of_clients_of_text_embeddings_inference() {
    let server = rerank::start(&[]).await;
    let one = |method, request| call(&server, method, &[request]).map(|answers| answers[0].clone());
    let info = one("Info/Info", json!({})).unwrap();
    assert_eq!((&info["maxInputLength"], &info["modelDtype"]), (&json!(256), &json!("f32")));

    let text = |normalize| json!({ "inputs": "a small boat", "normalize": normalize });
    let square = |answer: &Value| -> f64 {
        answer["embeddings"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap().powi(2)).sum()
    };
    let unit = one("Embed/Embed", text(true)).unwrap();
    assert!((square(&unit) - 1.0).abs() < 1e-5);
    assert!((square(&one("Embed/Embed", text(false)).unwrap()) - 1.0).abs() > 0.1);
    assert_eq!(unit["metadata"], json!({ "computeChars": 12, "computeTokens": 5 }));
    let streamed = call(&server, "Embed/EmbedStream", &[text(true), json!({ "inputs": "b" }), text(true)]).unwrap();
    assert_eq!((streamed.len(), &streamed[0], &streamed[2]), (3, &unit, &unit));

    let long = json!({ "inputs": "long ".repeat(400) });
    let refused = one("Embed/Embed", long.clone()).unwrap_err();
    assert!(refused.contains("InvalidArgument") && refused.contains("inputs"), "{refused}");
    let mut cut = long;
    cut["truncate"] = json!(true);
    assert_eq!(one("Embed/Embed", cut).unwrap()["metadata"]["computeTokens"], 256);

    let labels = one("Predict/Predict", json!({ "inputs": "what a lovely day" })).unwrap();
    assert_eq!(
        (labels["predictions"].as_array().unwrap().len(), &labels["predictions"][0]["label"]),
        (3, &json!("positive"))
    );
    let ranked =
        one("Rerank/Rerank", json!({ "query": "boat", "texts": ["red", "blue"], "returnText": true })).unwrap();
    let ranks = ranked["ranks"].as_array().unwrap();
    assert!(ranks.len() == 2 && ranks[0]["score"].as_f64() >= ranks[1]["score"].as_f64(), "{ranked}");
    let tokens = one("Tokenize/Tokenize", json!({ "inputs": "a boat", "addSpecialTokens": true })).unwrap();
    let tokens = tokens["tokens"].as_array().unwrap();
    assert_eq!(tokens[0], json!({ "id": 101, "text": "[CLS]", "special": true }));
    assert_eq!(tokens[2], json!({ "id": 4049, "text": "boat", "start": 2, "stop": 6 }));
    let streamed = call(&server, "Tokenize/TokenizeStream", &[json!({ "inputs": "a boat" }), json!({})]).unwrap();
    assert_eq!((streamed[0]["tokens"].as_array().map(Vec::len), &streamed[1]), (Some(2), &json!({})));
    let refused = one("Rerank/Rerank", json!({ "query": "boat", "texts": ["red"], "rawScores": true })).unwrap_err();
    assert!(refused.contains("raw_scores"), "{refused}");
}
