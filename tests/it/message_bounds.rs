//! Bounds of messages: the memory of a decoded request, and the size of answers, pages and errors. Each case is a
//! message that once cost gigabytes, or an answer that its client could not read.

use bytes::Bytes;
use cognate::wire::{
    ClassifyRequest, EmbedRequest, ListDocumentsRequest, Query, TopKRequest, UploadRequest, Vector, VectorFormat,
    classify_result, embed_result, query,
};
use prost::Message;
use prost_types::value::Kind;
use tokio_stream::StreamExt;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

use crate::harness::{NO_PROC, Server, document, upload, upload_all, wrong_fields};
use crate::hostile::Raw;
use crate::skipped::skipped;

/// The largest message that clients read by default.
const STOCK_BYTES: usize = 4 << 20;

/// The most that any of these cases may add to a server's peak: a few messages of 16 MiB.
const LITTLE: usize = 150 << 20;

/// Sends messages as they are, compressed, and returns the stream of answers.
async fn stream(server: &Server, rpc: &str, messages: Vec<Vec<u8>>) -> Result<Streaming<Bytes>, Status> {
    let grpc = tonic::client::Grpc::new(server.channel().await.unwrap());
    let mut grpc = grpc.send_compressed(CompressionEncoding::Gzip).max_decoding_message_size(64 << 20);
    grpc.ready().await.unwrap();
    let path = format!("/cognate.v1.Cognate/{rpc}").parse().unwrap();
    let messages = tokio_stream::iter(messages.into_iter().map(Bytes::from));
    Ok(grpc.streaming(Request::new(messages), path, Raw::default()).await?.into_inner())
}

/// Returns the status that a stream ends with, after any answers.
async fn end_of(server: &Server, rpc: &str, messages: Vec<Vec<u8>>) -> Status {
    let mut answers = match stream(server, rpc, messages).await {
        Ok(answers) => answers,
        Err(status) => return status,
    };
    loop {
        match answers.next().await {
            Some(Ok(_)) => {}
            Some(Err(status)) => return status,
            None => return Status::ok(""),
        }
    }
}

/// The growth of the server's peak since a moment, if the system reports it.
struct Growth<'s>(&'s Server, Option<usize>);

impl<'s> Growth<'s> {
    fn of(server: &'s Server) -> Self {
        Self(server, server.peak_bytes())
    }

    fn assert_little(&self) {
        match (self.1, self.0.peak_bytes()) {
            (Some(before), Some(after)) => {
                assert!(after < before + LITTLE, "the peak grew from {} to {} MiB", before >> 20, after >> 20);
            }
            _ => skipped(NO_PROC),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn millions_of_empty_items_are_counted_and_never_decoded() {
    let server = Server::start(&[]).await;
    let growth = Growth::of(&server);
    // 16 MiB of empty items, 16 KB on the wire.
    let items = |tag: u8| [tag, 0].repeat(8 * 1024 * 1024 - 1);
    for (rpc, tag, field, limit) in [
        ("EmbedStream", 0x0a, "texts", "1024"),
        ("ClassifyStream", 0x0a, "texts", "1024"),
        ("Embed", 0x0a, "texts", "1024"),
        ("Similarity", 0x12, "b", "1024"),
        ("TopK", 0x12, "queries", "1024"),
        ("TopK", 0x22, "candidates", "1024"),
        ("GetDocuments", 0x12, "ids", "1024"),
        ("DeleteDocuments", 0x12, "ids", "1024"),
        ("Upload", 0x12, "documents", "10000"),
    ] {
        let status = end_of(&server, rpc, vec![items(tag)]).await;
        assert_eq!(
            (status.code(), wrong_fields(&status)),
            (Code::InvalidArgument, vec![field.to_owned()]),
            "{status:?}"
        );
        assert!(status.message().ends_with(&format!("items exceed the limit of {limit}")), "{status:?}");
    }
    growth.assert_little();
}

#[tokio::test(flavor = "multi_thread")]
async fn small_items_deep_inside_are_refused_by_the_memory_that_they_would_take() {
    let server = Server::start(&[]).await;
    let growth = Growth::of(&server);
    let within = |outer: &[u8], inner: Vec<u8>| {
        outer.iter().rev().fold(inner, |inner, tag| {
            let mut message = vec![*tag];
            prost::encoding::encode_varint(inner.len() as u64, &mut message);
            message.extend(inner);
            message
        })
    };
    let values = [0x0a, 0].repeat(8_000_000);
    let in_values = [0x12, 0].repeat(8_000_000);
    for (rpc, message) in [
        // documents, metadata, fields, value, list_value, values
        ("Upload", within(&[0x12, 0x1a, 0x0a, 0x12, 0x32], values.clone())),
        // filter, and, filters
        ("ListDocuments", within(&[0x2a, 0x0a], values.clone())),
        // filter, in, values
        ("TopK", within(&[0x52, 0x2a], in_values)),
        // documents, metadata, fields: objects of one entry, each a node of a map
        ("Upload", within(&[0x12, 0x1a], [0x0a, 8, 0x0a, 1, b'a', 0x12, 3, 0x2a, 1, 0x0a].repeat(1_600_000))),
    ] {
        let status = end_of(&server, rpc, vec![message]).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{rpc}: {status:?}");
        assert!(status.message().len() < 300, "{status:?}");
    }
    growth.assert_little();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_too_many_texts_fails_in_place_and_the_stream_goes_on() {
    let server = Server::start(&[]).await;
    let request = |n| EmbedRequest { texts: vec!["a".into(); n], ..Default::default() };
    let requests = tokio_stream::iter([request(1), request(1025), request(2)]);
    let answers = server.client().await.embed_stream(requests).await.unwrap().into_inner();
    let answers: Vec<_> = answers.collect::<Result<_, _>>().await.unwrap();
    assert_eq!(answers.iter().map(|answer| answer.results.len()).collect::<Vec<_>>(), [1, 1025, 2]);
    for result in &answers[1].results {
        let Some(embed_result::Result::Error(error)) = &result.result else { panic!("{result:?}") };
        assert_eq!(error.message, "texts: 1025 items exceed the limit of 1024");
    }
    assert!(matches!(answers[2].results[1].result, Some(embed_result::Result::Vector(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_do_not_repeat_what_was_sent_for_each_item() {
    let server = Server::start(&[]).await;
    let growth = Growth::of(&server);
    let request = ClassifyRequest { texts: vec!["a".into(); 1000], model: "m".repeat(1 << 20), ..Default::default() };
    let mut client = server.client().await;
    let answers = client.classify_stream(tokio_stream::iter([request])).await.unwrap().into_inner();
    let answers: Vec<_> = answers.collect::<Result<_, _>>().await.unwrap();
    assert_eq!(answers[0].results.len(), 1000);
    for result in &answers[0].results {
        let Some(classify_result::Result::Error(error)) = &result.result else { panic!("{result:?}") };
        assert!(error.code == i32::from(Code::NotFound) && error.encoded_len() <= 1024, "{error:?}");
    }
    growth.assert_little();
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_fit_the_headers_that_clients_read() {
    let server = Server::start(&["--max-text-bytes", "1KiB"]).await;
    let mut client = server.client().await;
    let long = "日\u{1}%".repeat(10_000);
    let texts = || vec!["y".repeat(1100); 1024];
    let mut statuses = Vec::new();
    let classify = ClassifyRequest { texts: vec!["a".into()], model: long.clone(), ..Default::default() };
    statuses.push(client.classify(classify).await.unwrap_err());
    let candidates = TopKRequest { queries: vec![Query::default()], k: 1, candidates: texts(), ..Default::default() };
    statuses.push(client.top_k(candidates).await.unwrap_err());
    upload(&mut client, "c", vec![document("a", "a")]).await;
    let not_finite = prost_types::Value { kind: Some(Kind::NumberValue(f64::NAN)) };
    let object = prost_types::Struct { fields: [(long.clone(), not_finite)].into() };
    let value = Some(prost_types::Value { kind: Some(Kind::StructValue(object)) });
    let equals = cognate::wire::EqualsCondition { path: Some("x".into()), value };
    for condition in [
        cognate::wire::filter::Condition::Equals(equals),
        cognate::wire::filter::Condition::Text(format!("a = '{long}")),
    ] {
        let filter = Some(cognate::wire::Filter { condition: Some(condition) });
        let list = ListDocumentsRequest { collection: "c".into(), filter, ..Default::default() };
        statuses.push(client.list_documents(list).await.unwrap_err());
    }
    let token = ListDocumentsRequest { collection: "c".into(), page_token: long.clone(), ..Default::default() };
    statuses.push(client.list_documents(token).await.unwrap_err());
    for status in statuses {
        assert!(matches!(status.code(), Code::InvalidArgument | Code::NotFound), "{status:?}");
        let headers = status.clone().into_http::<()>().into_parts().0.headers;
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(bytes <= 4096 + 256, "{bytes}: {status:?}");
        assert!(status.message().matches('日').count() <= 100, "{status:?}");
        let details = status.get_error_details();
        assert!(details.bad_request().is_some() || details.resource_info().is_some(), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_large_is_refused_before_it_is_made() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let unit =
        |n: usize| Vector { values: (0..384).map(|d| f32::from(u8::from(d == n))).collect(), ..Vector::default() };
    for part in 0..4 {
        let documents = (0..16).map(|n| {
            let n = part * 16 + n;
            let mut document = document(&format!("{n}"), &"x".repeat(254 << 10));
            document.vector = Some(unit(n));
            document
        });
        upload(&mut client, "large", documents.collect()).await;
    }
    let growth = Growth::of(&server);
    let queries =
        (0..384).map(|n| Query { query: Some(query::Query::Vector(unit(n))), ..Default::default() }).collect();
    let mut request = TopKRequest { collection: "large".into(), queries, k: 64, with_text: true, ..Default::default() };
    let status = client.top_k(request.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("max_message_bytes"), "{status:?}");
    request.queries.truncate(1);
    let status = client.top_k(request.clone()).await;
    assert!(status.is_ok() || status.unwrap_err().code() == Code::ResourceExhausted);
    request.k = 40;
    let hits = client.top_k(request).await.unwrap().into_inner().results.remove(0).hits;
    assert_eq!((hits.len(), hits[0].text.len()), (40, 254 << 10));
    growth.assert_little();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_fit_what_a_stock_client_reads_and_hold_every_document_once() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let vector = || Some(Vector { values: vec![0.5; 384], ..Vector::default() });
    for part in 0..3 {
        let documents = (0..50).map(|n| {
            let mut document = document(&format!("{:03}", part * 50 + n), &"x".repeat(100_000));
            document.vector = vector();
            document
        });
        upload(&mut client, "large", documents.collect()).await;
    }
    // The request has no limit: tonic reads 4 MiB then, as all clients do.
    let mut stock = cognate::wire::cognate_client::CognateClient::new(server.channel().await.unwrap());
    let (mut ids, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            ListDocumentsRequest { collection: "large".into(), page_size: 1000, page_token, ..Default::default() };
        let page = stock.list_documents(request).await.unwrap().into_inner();
        assert!(page.encoded_len() <= STOCK_BYTES);
        ids.extend(page.documents.iter().map(|document| document.id.parse::<usize>().unwrap()));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(ids, (0..150).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_documents_never_end_an_upload() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let long_ids = (0..64).map(|n| document(&format!("{n}{}", "i".repeat(100_000)), "a text")).collect();
    let mut not_finite = document("nan", "a text");
    let value = prost_types::Value { kind: Some(Kind::NumberValue(f64::NAN)) };
    not_finite.metadata = Some(prost_types::Struct { fields: [("k".repeat(9 << 20), value)].into() });
    let message = |documents| UploadRequest { collection: "c".into(), documents };
    let messages = vec![message(long_ids), message(vec![not_finite]), message(vec![document("good", "a text")])];
    let responses = upload_all(&mut client, messages).await.unwrap();
    for response in &responses {
        assert!(response.encoded_len() <= STOCK_BYTES, "{}", response.encoded_len());
    }
    let errors: usize = responses.iter().map(|response| response.errors.len()).sum();
    let last = responses.last().unwrap();
    assert_eq!((last.done, last.received, last.committed, errors), (true, 66, 1, 65));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unary_call_has_exactly_one_message() {
    let server = Server::start(&[]).await;
    let fine = EmbedRequest { texts: vec!["fine".into()], ..Default::default() }.encode_to_vec();
    for (messages, what) in [(vec![], "no message"), (vec![fine.clone(), fine.clone()], "second message")] {
        let status = end_of(&server, "Embed", messages).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
    }
    assert_eq!(end_of(&server, "Embed", vec![fine]).await.code(), Code::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_messages_is_given_back() {
    let server = Server::start(&["--message-budget", "64MiB"]).await;
    let mut client = server.client().await;
    // Three of them would not fit at once.
    let request = EmbedRequest { texts: vec!["x".repeat(250_000); 60], ..Default::default() };
    for _ in 0..6 {
        let answer = client.embed(EmbedRequest { dimensions: 999, ..request.clone() }).await;
        assert_eq!(answer.unwrap_err().code(), Code::InvalidArgument);
    }
    let texts = EmbedRequest { texts: (0..1000).map(|n| format!("{n}")).collect(), ..Default::default() };
    for _ in 0..40 {
        assert_eq!(client.embed(texts.clone()).await.unwrap().into_inner().results.len(), 1000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sign_of_an_int8_scale_counts_and_one_that_is_not_finite_is_refused() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let bytes: Vec<u8> = (0..384).map(|n| n as u8).collect();
    let int8 =
        |scale| Vector { data: bytes.clone().into(), format: VectorFormat::Int8.into(), scale, ..Vector::default() };
    let mut stored = document("a", "");
    stored.vector = Some(int8(0.0));
    upload(&mut client, "c", vec![stored]).await;
    for (scale, score) in [(0.0, 1.0), (3.0, 1.0), (-3.0, -1.0)] {
        let queries = vec![Query { query: Some(query::Query::Vector(int8(scale))), ..Default::default() }];
        let request = TopKRequest { collection: "c".into(), queries, k: 1, ..Default::default() };
        let found = client.top_k(request).await.unwrap().into_inner().results[0].hits[0].score;
        assert!((found - score).abs() < 1e-5, "{scale}: {found}");
    }
    for scale in [f32::NAN, f32::INFINITY] {
        let queries = vec![Query { query: Some(query::Query::Vector(int8(scale))), ..Default::default() }];
        let request = TopKRequest { collection: "c".into(), queries, k: 1, ..Default::default() };
        let status = client.top_k(request).await.unwrap_err();
        assert_eq!(wrong_fields(&status), ["queries[0].vector.scale"], "{status:?}");
    }
}
