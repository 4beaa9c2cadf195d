//! The forms of calls that other servers have: OpenAI's embeddings and models, and reranking.

use cognate::wire::{EmbedRequest, RerankRequest, embed_result, rerank_result};
use serde_json::{Value, json};

use crate::harness::Server;
use crate::http::{Answer, Http};
use crate::installed::{install, node, python, repository};
use crate::rerank;

pub async fn post(server: &Server, path: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    Http::connect(server).await.post(path, &headers, body.to_string()).await
}

pub async fn get(server: &Server, path: &str) -> Answer {
    let mut http = Http::connect(server).await;
    http.send(format!("GET {path} HTTP/1.1\r\nhost: server\r\n\r\n")).await;
    http.answer().await
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_are_those_of_embed() {
    let server = Server::start(&[]).await;
    let texts = ["a small boat", "a tax return"].map(str::to_owned).to_vec();
    let request = EmbedRequest { texts: texts.clone(), ..Default::default() };
    let embedded = server.client().await.embed(request).await.unwrap().into_inner().results;
    let answer = post(&server, "/v1/embeddings", &json!({ "input": texts })).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let answer = answer.json();
    for (item, result) in answer["data"].as_array().unwrap().iter().zip(&embedded) {
        let Some(embed_result::Result::Vector(vector)) = &result.result else { panic!("{result:?}") };
        let values: Vec<f32> = serde_json::from_value(item["embedding"].clone()).unwrap();
        assert_eq!(values, vector.values);
    }
    let tokens: u32 = embedded.iter().map(|result| result.tokens).sum();
    assert_eq!(answer["usage"], json!({ "prompt_tokens": tokens, "total_tokens": tokens }));

    let models = get(&server, "/v1/models").await.json();
    let id = models["data"][0]["id"].as_str().unwrap();
    assert_eq!((models["object"].as_str(), answer["model"].as_str()), (Some("list"), Some(id)));
    for name in [id, &id.replace('/', "%2F"), id.rsplit('/').next().unwrap()] {
        assert_eq!(get(&server, &format!("/v1/models/{name}")).await.status, 200, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_is_refused_in_their_form() {
    let server = Server::start(&[]).await;
    let many: Vec<String> = (0..1_025).map(|n| n.to_string()).collect();
    for (body, status, param, part) in [
        (json!({ "input": "a", "model": "other" }), 404, Value::Null, "\"other\""),
        (json!({ "input": [7] }), 400, Value::Null, "token ids"),
        (json!({ "input": "a", "dimensions": 385 }), 400, json!("dimensions"), "385"),
        (json!({ "input": many }), 400, json!("input"), "1025"),
        (json!({ "input": ["a", "b".repeat(2_000_000)] }), 400, json!("input[1]"), "2000000"),
    ] {
        let answer = post(&server, "/v1/embeddings", &body).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["param"]), (status, &param), "{error}");
        assert!(error["message"].as_str().unwrap().contains(part), "{error}");
    }
    assert_eq!(get(&server, "/v1/embeddings").await.status, 405);
    assert_eq!(get(&server, "/v1/models/other").await.status, 404);
    assert_eq!(post(&server, "/v1/completions", &json!({})).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn reranking_is_that_of_rerank() {
    let server = rerank::start(&[]).await;
    let texts: Vec<String> = ["red", "a blue boat", "green"].map(str::to_owned).to_vec();
    let request = RerankRequest { query: "boat".to_owned(), texts: texts.clone(), top_n: 2, ..Default::default() };
    let ranked = server.client().await.rerank(request).await.unwrap().into_inner().results;
    let documents = json!(["red", { "text": "a blue boat" }, "green"]);
    let body = json!({ "query": "boat", "documents": documents, "top_n": 2, "return_documents": true });
    let results = post(&server, "/v1/rerank", &body).await.json()["results"].clone();
    let expected = ranked.iter().map(|result| {
        let Some(rerank_result::Result::Score(score)) = result.result else { panic!("{result:?}") };
        let text = &texts[result.index as usize];
        json!({ "index": result.index, "relevance_score": score, "document": { "text": text } })
    });
    let as_f32 = |value: &Value| value["relevance_score"].as_f64().unwrap() as f32;
    for (result, expected) in results.as_array().unwrap().iter().zip(expected) {
        assert_eq!((&result["index"], &result["document"]), (&expected["index"], &expected["document"]));
        assert_eq!(as_f32(result), as_f32(&expected));
    }
    assert_eq!(results.as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python and PyPI: cargo test -- --ignored"]
async fn conformance_of_the_official_python_client_of_openai() {
    let server = Server::start(&[]).await;
    let mut client = std::process::Command::new(python("tests/openai"));
    client.arg(repository().join("tests/openai/client.py")).arg(server.addr.to_string());
    install(&mut client, "the packages of tests/openai/requirements.txt");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js and npm: cargo test -- --ignored"]
async fn conformance_of_the_official_node_client_of_openai() {
    let server = Server::start(&[]).await;
    let folder = node("tests/openai", &["client.js"]);
    let mut client = std::process::Command::new("node");
    client.current_dir(&folder).arg("client.js").arg(server.addr.to_string());
    install(&mut client, "the packages of tests/openai/package.json");
}
