//! Answers that are compressed, for clients that ask for it, in each protocol: they hold the same bytes as others.

use std::io::Read;

use bytes::Bytes;
use cognate::wire::{Document, EmbedRequest, ExportRequest, ListDocumentsRequest, Vector};
use prost::Message;
use tonic::codec::CompressionEncoding;

use crate::harness::{Server, upload};
use crate::http::{Answer, Http};
use crate::raw::{self, Raw};

const JSON: (&str, &str) = ("content-type", "application/json");
const ACCEPT: &str = "accept-encoding";
const LIST: &str = "/cognate.v1.Cognate/ListDocuments";
const EXPORT: &str = "/cognate.v1.Cognate/Export";
const REQUEST: &str = r#"{"collection":"docs"}"#;

/// A server with 100 documents of 400 bytes.
async fn with_documents() -> Server {
    let server = Server::start(&["--console", "true"]).await;
    let vector = Some(Vector { values: vec![1.0; 384], ..Default::default() });
    let document = |n: usize| {
        let text = format!("document {n} of a collection about trains. ").repeat(10);
        Document { id: format!("d{n}"), text, vector: vector.clone(), ..Default::default() }
    };
    upload(&mut server.client().await, "docs", (0..100).map(document).collect()).await;
    server
}

fn unpacked(encoding: &str, packed: &[u8]) -> Vec<u8> {
    match encoding {
        "gzip" => {
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(packed).read_to_end(&mut plain).expect("gzip");
            plain
        }
        "zstd" => zstd::decode_all(packed).expect("zstd"),
        "" => packed.to_vec(),
        other => panic!("{other} was not asked for"),
    }
}

/// Demands that an answer is in this encoding, and returns its content.
#[track_caller]
fn content(answer: &Answer, encoding: &str) -> Vec<u8> {
    assert_eq!((answer.status, answer.header("content-encoding")), (200, encoding), "{:?}", answer.headers);
    assert_eq!(answer.header("vary"), "accept-encoding");
    unpacked(encoding, &answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_answer_is_compressed_if_the_client_accepts_it_and_it_gains() {
    let server = with_documents().await;
    let mut http = Http::connect(&server).await;
    let proto = ListDocumentsRequest { collection: "docs".into(), ..Default::default() }.encode_to_vec();
    let texts: Vec<_> = (0..8).map(|n| format!("text {n}")).collect();
    let embeddings = serde_json::json!({ "input": texts, "encoding_format": "float" }).to_string();
    for (path, kind, body) in [
        (LIST, "application/json", REQUEST.as_bytes()),
        (LIST, "application/proto", &proto),
        ("/v1/embeddings", "application/json", embeddings.as_bytes()),
    ] {
        let kind = ("content-type", kind);
        let plain = http.post(path, &[kind], body).await;
        for (accepted, encoding) in [("gzip, deflate", "gzip"), ("br, zstd", "zstd"), ("identity", ""), ("br", "")] {
            let answer = http.post(path, &[kind, (ACCEPT, accepted)], body).await;
            assert!(content(&answer, encoding) == content(&plain, ""), "{path} in {accepted}");
            let bytes = answer.body.len();
            assert_eq!(bytes * 3 < plain.body.len() * 2, !encoding.is_empty(), "{path}: {bytes} bytes in {accepted}");
        }
    }
    // A small answer and a failure stay as they are.
    let headers = [JSON, (ACCEPT, "gzip")];
    let small = http.post("/cognate.v1.Cognate/CountDocuments", &headers, REQUEST).await;
    assert_eq!(content(&small, ""), br#"{"documents":"100"}"#);
    let failed = http.post(LIST, &headers, r#"{"collection":"other"}"#).await;
    assert_eq!((failed.status, failed.json()["code"].as_str()), (404, Some("not_found")));
    // So do vectors in bytes, which lose too little.
    let request = EmbedRequest { texts, format: cognate::wire::VectorFormat::F32Bytes.into(), ..Default::default() };
    let headers = [("content-type", "application/proto"), (ACCEPT, "gzip")];
    let vectors = http.post("/cognate.v1.Cognate/Embed", &headers, request.encode_to_vec()).await;
    assert!(vectors.body.len() > 12_000);
    content(&vectors, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_the_console_are_compressed_if_the_client_accepts_it() {
    let server = Server::start(&["--console", "true"]).await;
    let mut http = Http::connect(&server).await;
    let mut get = async |accepted: &str| {
        http.send(format!("GET /console/map.js HTTP/1.1\r\nhost: s\r\naccept-encoding: {accepted}\r\n\r\n")).await;
        http.answer().await
    };
    let plain = get("identity").await;
    for (accepted, encoding) in [("gzip", "gzip"), ("gzip, deflate, br, zstd", "zstd")] {
        let packed = get(accepted).await;
        assert!(packed.body.len() < plain.body.len() / 2, "{}", packed.body.len());
        assert!(content(&packed, encoding) == content(&plain, ""), "{accepted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_of_a_stream_is_compressed_by_itself() {
    let server = with_documents().await;
    let mut http = Http::connect(&server).await;
    let kind = ("content-type", "application/connect+json");
    let request = raw::message(0, REQUEST.as_bytes());
    let plain = http.post(EXPORT, &[kind], &request).await;
    let plain: Vec<_> = plain.framed().iter().map(|(flag, message)| (*flag, message.to_vec())).collect();
    for encoding in ["gzip", "zstd"] {
        let answer = http.post(EXPORT, &[kind, ("connect-accept-encoding", encoding)], &request).await;
        assert_eq!((answer.header("connect-content-encoding"), answer.header("content-encoding")), (encoding, ""));
        let framed = answer.framed();
        assert_eq!(framed.iter().map(|(flag, _)| *flag).collect::<Vec<_>>(), [1, 2], "a message and the end");
        let back = framed.iter().map(|(flag, message)| match flag {
            1 => (0, unpacked(encoding, message)),
            flag => (*flag, message.to_vec()),
        });
        assert!(back.eq(plain.clone()), "{encoding}");
    }
}

/// Lists the documents by gRPC with these headers, and returns the compression that the head names, and the body.
async fn listed(raw: &mut Raw, headers: &[(&str, &str)], request: Vec<u8>) -> (String, Vec<u8>) {
    let (response, mut send) = raw.begin(LIST, headers).await;
    send.send_data(Bytes::from(request), true).unwrap();
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        bytes.extend(data.unwrap());
    }
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    let encoding = head.headers.get("grpc-encoding").map_or("", |value| value.to_str().unwrap());
    (encoding.to_owned(), bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_is_compressed_for_a_client_that_compresses_and_unchanged_for_others() {
    let server = with_documents().await;
    let mut raw = Raw::connect(&server, 1 << 20).await;
    let request = ListDocumentsRequest { collection: "docs".into(), ..Default::default() }.encode_to_vec();
    let whole = raw::message(0, &request);
    // What libraries accept is in every call.
    let accept = ("grpc-accept-encoding", "identity, deflate, gzip");
    let (encoding, plain) = listed(&mut raw, &[accept], whole.clone()).await;
    assert_eq!((encoding.as_str(), plain[0]), ("", 0));
    let cannot_read = [("grpc-encoding", "zstd"), ("grpc-accept-encoding", "identity")];
    assert!(listed(&mut raw, &cannot_read, whole.clone()).await == (encoding, plain.clone()));
    let (encoding, packed) = listed(&mut raw, &[("grpc-encoding", "gzip"), accept], whole).await;
    assert_eq!((encoding.as_str(), packed[0]), ("gzip", 1));
    assert!(packed.len() < plain.len() / 4, "{} of {}", packed.len(), plain.len());
    assert!(unpacked("gzip", &packed[5..]) == plain[5..]);

    // A library reads it, also vectors and a stream.
    let request = EmbedRequest { texts: vec!["a train".into(); 20], ..Default::default() };
    let export = ExportRequest { collection: "docs".into(), with_vector: true, ..Default::default() };
    let mut plain = server.client().await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut packed = server.client().await.send_compressed(encoding).accept_compressed(encoding);
        let [a, b] = [&mut plain, &mut packed].map(|client| client.embed(request.clone()));
        assert_eq!(a.await.unwrap().into_inner(), b.await.unwrap().into_inner());
        let mut parts = [Vec::new(), Vec::new()];
        for (client, parts) in [&mut plain, &mut packed].into_iter().zip(&mut parts) {
            let mut stream = client.export(export.clone()).await.unwrap().into_inner();
            while let Some(part) = stream.message().await.unwrap() {
                parts.push(part);
            }
        }
        assert!(parts[0] == parts[1] && !parts[0].is_empty(), "{encoding:?}");
    }
    // So does a service of tonic's: health.
    let health = tonic_health::pb::health_client::HealthClient::new(server.channel().await.unwrap());
    let mut health = health.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.expect("health checks may be compressed");
}
