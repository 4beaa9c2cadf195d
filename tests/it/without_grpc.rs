//! Calls without gRPC: the Connect protocol in JSON and protobuf, gRPC-web, and what else a port of HTTP is asked.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use cognate::wire::{self, EmbedRequest, EmbedResponse, ExportRequest, Query, TopKRequest, query};
use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::{Value, json};

use crate::harness::{Server, document, upload};
use crate::http::{Answer, Http};
use crate::raw;

const JSON: (&str, &str) = ("content-type", "application/json");

fn path(rpc: &str) -> String {
    format!("/cognate.v1.Cognate/{rpc}")
}

async fn with_documents() -> Server {
    let server = Server::start(&[]).await;
    let documents = (0..5).map(|n| document(&format!("d{n}"), &format!("text number {n} about trains"))).collect();
    upload(&mut server.client().await, "docs", documents).await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn json_is_answered_as_grpc_is() {
    let server = with_documents().await;
    let mut http = Http::connect(&server).await;
    let found = http.json("TopK", r#"{"collection":"docs","k":3,"queries":[{"text":"trains"}],"withText":true}"#).await;
    assert_eq!((found.status, found.header("content-type")), (200, "application/json"), "{found:?}");
    let query = Query { query: Some(query::Query::Text("trains".into())), ..Default::default() };
    let request =
        TopKRequest { collection: "docs".into(), k: 3, queries: vec![query], with_text: true, ..Default::default() };
    let expected = server.client().await.top_k(request).await.unwrap().into_inner();
    let json = found.json();
    let hits = json["results"][0]["hits"].as_array().expect("hits");
    let expected = &expected.results[0];
    for (hit, expected) in hits.iter().zip(&expected.hits) {
        assert_eq!((&hit["id"], &hit["text"]), (&json!(expected.id), &json!(expected.text)));
        assert_eq!(hit["score"].as_f64().unwrap() as f32, expected.score);
    }
    assert_eq!(hits.len(), 3);
    // The same in protobuf, without heads.
    let request = EmbedRequest { texts: vec!["a text".into()], ..Default::default() };
    let headers = [("content-type", "application/proto"), ("connect-protocol-version", "1")];
    let embedded = http.post(&path("Embed"), &headers, request.encode_to_vec()).await;
    assert_eq!((embedded.status, embedded.header("content-type")), (200, "application/proto"));
    assert_eq!(
        EmbedResponse::decode(&*embedded.body).unwrap(),
        server.client().await.embed(request).await.unwrap().into_inner()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_without_a_stream_of_requests_is_called_by_json() {
    let server = Server::start(&[]).await;
    let files = FileDescriptorSet::decode(wire::DESCRIPTORS).unwrap().file;
    let methods: Vec<_> = files.iter().flat_map(|file| &file.service).flat_map(|service| &service.method).collect();
    assert!(methods.len() >= 20);
    for method in methods.iter().filter(|method| !method.client_streaming()) {
        let mut http = Http::connect(&server).await;
        let answer = http.json(method.name(), "{}").await;
        let answered = answer.json();
        match answer.status {
            200 => assert!(answered.is_object(), "{}: {answer:?}", method.name()),
            400 | 404 | 409 => assert!(
                ["invalid_argument", "not_found", "failed_precondition"].contains(&answered["code"].as_str().unwrap()),
                "{}: {answer:?}",
                method.name()
            ),
            _ => panic!("{}: {answer:?}", method.name()),
        }
        let unknown = http.json(method.name(), r#"{"noSuchField":1}"#).await;
        assert!(unknown.text().contains("noSuchField"), "{}: {unknown:?}", method.name());
    }
    let health = Http::connect(&server).await.post("/grpc.health.v1.Health/Check", &[JSON], "{}").await;
    assert_eq!(health.json(), json!({"status": "SERVING"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_has_its_http_status_its_name_and_its_details() {
    let server = Server::start(&["--max-texts", "2"]).await;
    let mut http = Http::connect(&server).await;
    let wrong = http.json("Embed", r#"{"texts":["a","b","c"]}"#).await;
    assert_eq!((wrong.status, wrong.json()["code"].as_str()), (400, Some("invalid_argument")));
    let detail = &wrong.json()["details"][0];
    assert_eq!(
        (&detail["type"], &detail["debug"]["fieldViolations"][0]["field"]),
        (&json!("google.rpc.BadRequest"), &json!("texts"))
    );
    let bytes = STANDARD_NO_PAD.decode(detail["value"].as_str().unwrap()).unwrap();
    assert_eq!(tonic_types::pb::BadRequest::decode(&*bytes).unwrap().field_violations[0].field, "texts");
    for (rpc, body, status, code) in [
        ("CountDocuments", r#"{"collection":"nothing"}"#, 404, "not_found"),
        ("Embed", "{", 400, "invalid_argument"),
        ("Embed", "", 400, "invalid_argument"),
        ("Embed", r#"{"texts":["a"],"texts":["b"]}"#, 400, "invalid_argument"),
    ] {
        let answer = http.json(rpc, body).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{body}: {answer:?}");
    }
    let headers = [JSON, ("content-encoding", "br")];
    assert_eq!(http.post(&path("Embed"), &headers, "{}").await.status, 501);
    for (name, value) in [("connect-protocol-version", "2"), ("connect-timeout-ms", "soon")] {
        let answer = http.post(&path("Embed"), &[JSON, (name, value)], r#"{"texts":["a"]}"#).await;
        assert!(answer.status == 400 && answer.text().contains(name), "{answer:?}");
    }
    let late = http.post(&path("Embed"), &[JSON, ("connect-timeout-ms", "0")], r#"{"texts":["a"]}"#).await;
    assert_eq!((late.status, late.json()["code"].as_str()), (504, Some("deadline_exceeded")));
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_json_is_refused_and_the_connection_goes_on() {
    let server = Server::start(&["--max-message-bytes", "1MiB"]).await;
    let mut http = Http::connect(&server).await;
    for body in [
        format!(r#"{{"filter":{}"#, r#"{"not":"#.repeat(50_000)).into_bytes(),
        format!(r#"{{"filter":{{"equals":{{"path":"p","value":{}"#, "[".repeat(50_000)).into_bytes(),
        br#"{"collection":"a","k":1e999}"#.to_vec(),
        b"{\"collection\":\"\xff\xfe\"}".to_vec(),
        br#"{"k":99999999999999999999999999}"#.to_vec(),
        format!(r#"{{"filter":{{"in":{{"path":"p","values":[{}1]}}}}}}"#, "1,".repeat(400_000)).into_bytes(),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let answer = http.post(&path("TopK"), &[JSON], body).await;
        assert_eq!(answer.status, 400, "{shown}: {answer:?}");
    }
    // Larger than a message: refused by the length alone, and as it comes without a length.
    let large = format!(r#"{{"texts":["{}"]}}"#, "x".repeat(2 << 20));
    let refused = Http::connect(&server).await.json("Embed", &large).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (400, Some("out_of_range")));
    let mut chunked = Http::connect(&server).await;
    let head = "host: s\r\ncontent-type: application/json\r\ntransfer-encoding: chunked";
    let chunk = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    chunked.send(format!("POST {} HTTP/1.1\r\n{head}\r\n\r\n{chunk}", path("Embed"))).await;
    assert_eq!(chunked.answer().await.json()["code"], "out_of_range");
    // A kilobyte that becomes megabytes.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, large.as_bytes()).unwrap();
    let headers = [JSON, ("content-encoding", "gzip")];
    let refused = Http::connect(&server).await.post(&path("Embed"), &headers, packed.finish().unwrap()).await;
    assert_eq!(refused.json()["code"], "out_of_range");
    assert_eq!(http.json("Embed", r#"{"texts":["fine"]}"#).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_compressed_json_is_translated() {
    let server = Server::start(&[]).await;
    let text = "a text that is repeated ".repeat(8);
    let texts: Vec<&str> = vec![&text; 1000];
    let body = json!({ "texts": texts, "dimensions": 8 }).to_string();
    assert!(body.len() > 128 << 10);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, body.as_bytes()).unwrap();
    let mut http = Http::connect(&server).await;
    let plain = http.json("Embed", &body).await;
    assert_eq!(plain.json()["results"].as_array().map(Vec::len), Some(1000), "{}", plain.status);
    let headers = [JSON, ("content-encoding", "gzip")];
    assert_eq!(http.post(&path("Embed"), &headers, packed.finish().unwrap()).await.json(), plain.json());
}

/// The messages of a stream in envelopes, and its end.
#[track_caller]
fn envelopes(answer: &Answer) -> (Vec<Value>, Value) {
    let mut framed = answer.framed();
    let (flag, end) = framed.pop().expect("an end");
    assert_eq!(flag, 2, "the last envelope ends the stream");
    let messages = framed.iter().map(|(flag, message)| (*flag == 0).then(|| serde_json::from_slice(message).unwrap()));
    (messages.map(Option::unwrap).collect(), serde_json::from_slice(end).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_come_in_envelopes_and_in_lines() {
    let server = with_documents().await;
    let mut http = Http::connect(&server).await;
    let stream = [("content-type", "application/connect+json")];
    let request = raw::message(0, br#"{"collection":"docs"}"#);
    let answer = http.post(&path("Export"), &stream, &request).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/connect+json"));
    let (messages, end) = envelopes(&answer);
    let ids =
        |message: &Value| message["documents"].as_array().unwrap().iter().map(|d| d["id"].clone()).collect::<Vec<_>>();
    assert_eq!(messages.iter().flat_map(ids).collect::<Vec<_>>(), ["d0", "d1", "d2", "d3", "d4"]);
    assert_eq!(end, json!({}));
    let (_, end) = envelopes(&http.post(&path("Export"), &stream, raw::message(0, br#"{"collection":"no"}"#)).await);
    assert_eq!(end["error"]["code"], "not_found");
    // Protobuf in envelopes.
    let stream = [("content-type", "application/connect+proto")];
    let request = ExportRequest { collection: "docs".into(), ..Default::default() }.encode_to_vec();
    let answer = http.post(&path("Export"), &stream, raw::message(0, &request)).await;
    let first = wire::ExportResponse::decode(answer.framed()[0].1).unwrap();
    assert_eq!(first.total, 5);
    // Plain JSON gets lines.
    let lines = http.json("Export", r#"{"collection":"docs"}"#).await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let first: Value = serde_json::from_str(lines.text().lines().next().unwrap()).unwrap();
    assert_eq!(ids(&first).len(), 5);
    let missing = http.json("Export", r#"{"collection":"no"}"#).await;
    assert_eq!((missing.status, missing.json()["code"].as_str()), (404, Some("not_found")));
    // A stream of requests, and an answer to each.
    let stream = [("content-type", "application/connect+json")];
    let requests =
        [raw::message(0, br#"{"texts":["one"]}"#), raw::message(0, br#"{"texts":["two","three"]}"#)].concat();
    let (messages, end) = envelopes(&http.post(&path("EmbedStream"), &stream, requests).await);
    assert_eq!(messages.iter().map(|m| m["results"].as_array().unwrap().len()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(end, json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_web_has_its_status_in_a_last_frame_in_bytes_and_in_text() {
    let server = Server::start(&[]).await;
    let mut http = Http::connect(&server).await;
    let request = EmbedRequest { texts: vec!["a train".into()], ..Default::default() };
    let expected = server.client().await.embed(request.clone()).await.unwrap().into_inner();
    let message = raw::message(0, &request.encode_to_vec());
    let check = |answer: &Answer| {
        let framed = answer.framed();
        let [(0, message), (0x80, trailers)] = framed[..] else { panic!("{framed:?}") };
        assert_eq!(EmbedResponse::decode(message).unwrap(), expected);
        assert!(std::str::from_utf8(trailers).unwrap().contains("grpc-status:0\r\n"), "{trailers:?}");
    };
    let answer = http.post(&path("Embed"), &[("content-type", "application/grpc-web+proto")], &message).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/grpc-web+proto"));
    check(&answer);
    let text = STANDARD.encode(&message);
    let mut answer = http.post(&path("Embed"), &[("content-type", "application/grpc-web-text")], text).await;
    assert_eq!(answer.header("content-type"), "application/grpc-web-text+proto");
    let mut bytes = Vec::new();
    // Each part is padded by itself.
    for part in answer.text().split_inclusive('=').collect::<String>().as_bytes().chunks(4) {
        bytes.extend(STANDARD.decode(part).unwrap());
    }
    answer.body = bytes;
    check(&answer);
    let refused = http.post(&path("Embed"), &[("content-type", "application/grpc-web")], raw::message(0, b"")).await;
    assert_eq!((refused.status, refused.header("grpc-status")), (200, "3"), "{refused:?}");
    assert!(!refused.header("grpc-status-details-bin").is_empty());
    // Over HTTP/2 too.
    let headers = [("content-type", "application/grpc-web")];
    let outcome = raw::Raw::connect(&server, 1 << 20).await.call(&path("Embed"), &headers, message).await;
    assert!(outcome.http == 200 && outcome.bytes > 1536, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_path_method_or_type_gets_a_sentence() {
    let server = Server::spawn(&["--console", "false"]);
    let mut http = Http::connect(&server).await;
    http.send("GET / HTTP/1.1\r\nhost: server\r\n\r\n").await;
    let front = http.answer().await;
    assert!(front.status == 200 && front.text().contains("Cognate") && front.text().contains("curl"), "{front:?}");
    http.send("HEAD / HTTP/1.1\r\nhost: server\r\n\r\nGET /nothing HTTP/1.1\r\nhost: server\r\n\r\n").await;
    let (status, headers) = http.head().await.unwrap();
    assert!(status == 200 && headers.contains(&("content-length".into(), front.body.len().to_string())), "{headers:?}");
    let unknown = http.answer().await;
    assert!(unknown.status == 404 && unknown.text().contains("/cognate.v1.Cognate/Embed"), "{unknown:?}");
    let unknown = http.json("Nothing", "{}").await;
    assert_eq!((unknown.status, unknown.json()["code"].as_str()), (404, Some("unimplemented")));
    http.send(format!("GET {} HTTP/1.1\r\nhost: server\r\n\r\n", path("Embed"))).await;
    let get = http.answer().await;
    assert_eq!((get.status, get.header("allow")), (405, "POST"));
    for (content_type, status, words) in [
        ("text/plain", 415, "application/json"),
        ("application/grpc", 505, "HTTP/2"),
        ("application/connect+json", 415, "application/json"),
    ] {
        let answer = http.post(&path("Embed"), &[("content-type", content_type)], "{}").await;
        assert!(answer.status == status && answer.text().contains(words), "{content_type}: {answer:?}");
    }
    let stream = http.json("Upload", "{}").await;
    assert!(stream.status == 415 && stream.json()["message"].as_str().unwrap().contains("connect+json"), "{stream:?}");
    // The front page over HTTP/2 too.
    let outcome =
        raw::Raw::connect(&server, 1 << 16).await.call("/nothing", &[("content-type", "text/plain")], "").await;
    assert_eq!(outcome.http, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_origins_in_the_setting_may_call_and_no_others() {
    let server =
        Server::start(&["--cors-origin", "https://app.example", "--cors-origin", "http://localhost:3000"]).await;
    let mut http = Http::connect(&server).await;
    let ask = |origin: &str| {
        format!(
            "OPTIONS {} HTTP/1.1\r\nhost: s\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
             access-control-request-headers: content-type,authorization\r\n\r\n",
            path("Embed")
        )
    };
    for origin in ["https://app.example", "http://localhost:3000"] {
        http.send(ask(origin)).await;
        let preflight = http.answer().await;
        assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, origin), "{preflight:?}");
        assert!(preflight.header("access-control-allow-headers").contains("authorization"));
        let answer = http.post(&path("Embed"), &[JSON, ("origin", origin)], "{}").await;
        assert_eq!((answer.header("access-control-allow-origin"), answer.header("vary")), (origin, "origin"));
        assert!(answer.header("access-control-expose-headers").contains("grpc-status-details-bin"));
    }
    http.send(ask("https://evil.example")).await;
    let refused = http.answer().await;
    assert!(refused.status == 403 && refused.header("access-control-allow-origin").is_empty(), "{refused:?}");
    let other = http.post(&path("Embed"), &[JSON, ("origin", "https://evil.example")], "{}").await;
    assert_eq!(other.header("access-control-allow-origin"), "");
    let without = Server::spawn(&[]);
    let mut http = Http::connect(&without).await;
    http.send(ask("https://app.example")).await;
    assert_eq!(http.answer().await.status, 403);
}
