//! `Embed` and `EmbedStream`: the right numbers, in every form, and errors in their place.

use cognate::wire::embed_result::Result as Outcome;
use cognate::wire::{EmbedRequest, EmbedResponse, EmbedResult, InputType, Truncation, VectorFormat};
use tokio_stream::StreamExt;
use tonic::Code;

use crate::harness::{Server, dot, wrong_fields};

/// The output of the reference implementation in f64; `tests/golden/README.md` describes its origin.
#[derive(serde::Deserialize)]
pub struct Golden {
    pub text: String,
    tokens: u32,
    tokens_total: u32,
    truncated: bool,
    pub embedding: Vec<f32>,
}

pub fn golden() -> Vec<Golden> {
    include_str!("../golden/minilm-l6-v2.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a golden line"))
        .collect()
}

fn request(texts: &[&str]) -> EmbedRequest {
    EmbedRequest { texts: texts.iter().map(|&text| text.to_owned()).collect(), ..EmbedRequest::default() }
}

pub fn values(result: &EmbedResult) -> &[f32] {
    match &result.result {
        Some(Outcome::Vector(vector)) => &vector.values,
        other => panic!("no vector but {other:?}"),
    }
}

fn error(result: &EmbedResult) -> (i32, &str) {
    match &result.result {
        Some(Outcome::Error(status)) => (status.code, &status.message),
        other => panic!("no error but {other:?}"),
    }
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_agree_with_the_reference_to_2e_5() {
    assert_agrees_with_the_reference(&Server::start(&[]).await).await;
}

pub async fn assert_agrees_with_the_reference(server: &Server) {
    let golden = golden();
    assert!(golden.len() > 100);
    let texts = golden.iter().map(|line| line.text.clone()).collect();
    let request = EmbedRequest { texts, ..EmbedRequest::default() };
    let results = server.client().await.embed(request).await.unwrap().into_inner().results;
    assert_eq!(results.len(), golden.len());
    for (result, line) in results.iter().zip(&golden) {
        let difference = largest_difference(values(result), &line.embedding);
        assert!(difference <= 2e-5, "{difference} for {:?}", line.text);
        let counted = (result.tokens, result.tokens_total, result.truncated);
        assert_eq!(counted, (line.tokens, line.tokens_total, line.truncated), "{:?}", line.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_has_the_same_vector_alone_and_in_any_batch() {
    // A cache would give the first vector again.
    let server = Server::start(&["--embed-cache-bytes", "0"]).await;
    let mut client = server.client().await;
    let golden = golden();
    let together = EmbedRequest { texts: golden.iter().map(|l| l.text.clone()).collect(), ..EmbedRequest::default() };
    let together = client.embed(together).await.unwrap().into_inner().results;
    for (line, batched) in golden.iter().zip(&together).step_by(4) {
        let alone = client.embed(request(&[&line.text])).await.unwrap().into_inner().results;
        assert_eq!(values(&alone[0]), values(batched), "{:?}", line.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_too_large_is_an_error_in_its_place() {
    let server = Server::start(&["--max-text-bytes", "100"]).await;
    let texts = ["fine", &"x".repeat(101), "", &"y".repeat(100)];
    let results = server.client().await.embed(request(&texts)).await.unwrap().into_inner().results;
    assert_eq!(error(&results[1]), (Code::InvalidArgument.into(), "texts[1]: 101 bytes exceed the limit of 100"));
    for n in [0, 2, 3] {
        assert!((dot(values(&results[n]), values(&results[n])) - 1.0).abs() < 1e-5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_of_ten_mebibytes_is_refused_and_its_neighbour_embedded() {
    let server = Server::start(&[]).await;
    let results = server.client().await.embed(request(&[&"z".repeat(10 << 20), "small"])).await.unwrap();
    let results = results.into_inner().results;
    assert_eq!(
        error(&results[0]),
        (Code::InvalidArgument.into(), "texts[0]: 10485760 bytes exceed the limit of 262144")
    );
    assert_eq!(values(&results[1]).len(), 384);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_texts_are_cut_or_refused_as_asked() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let long = "word ".repeat(300);
    let cut = client.embed(request(&[&long])).await.unwrap().into_inner().results;
    assert_eq!((cut[0].tokens, cut[0].tokens_total, cut[0].truncated), (256, 302, true));
    let strict = EmbedRequest { truncation: Truncation::Reject.into(), ..request(&["short", &long]) };
    let results = client.embed(strict).await.unwrap().into_inner().results;
    assert!(!results[0].truncated && !values(&results[0]).is_empty());
    let expected = "texts[1]: 302 tokens exceed the model's limit of 256";
    assert_eq!(error(&results[1]), (Code::InvalidArgument.into(), expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_dimensions_are_cut_and_then_normalised_unless_not_wanted() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let mut embed = async |request: EmbedRequest| {
        let results = client.embed(request).await.unwrap().into_inner().results;
        values(&results[0]).to_vec()
    };
    let all = embed(request(&["a train"])).await;
    let cut = embed(EmbedRequest { dimensions: 100, ..request(&["a train"]) }).await;
    let norm = dot(&all[..100], &all[..100]).sqrt();
    let expected: Vec<f32> = all[..100].iter().map(|v| v / norm).collect();
    assert!(largest_difference(&cut, &expected) < 1e-6);

    let raw = embed(EmbedRequest { normalize: Some(false), ..request(&["a train"]) }).await;
    let length = dot(&raw, &raw).sqrt();
    assert!((length - 1.0).abs() > 0.01, "the pooled vector of this model is not of length 1, but {length}");
    let expected: Vec<f32> = raw.iter().map(|v| v / length).collect();
    assert!(largest_difference(&all, &expected) < 1e-6);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_carries_the_same_vector() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let mut embed = async |format: VectorFormat| {
        let request = EmbedRequest { format: format.into(), ..request(&["a train"]) };
        let results = client.embed(request).await.unwrap().into_inner().results;
        let Some(Outcome::Vector(vector)) = results[0].result.clone() else { panic!("no vector") };
        assert_eq!((vector.format(), vector.dimensions), (format, 384));
        vector
    };
    let plain = embed(VectorFormat::F32).await;
    assert!(plain.data.is_empty());
    let bytes = embed(VectorFormat::F32Bytes).await;
    let read: Vec<f32> = bytes.data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(read, plain.values);
    let halves = embed(VectorFormat::F16Bytes).await;
    let read: Vec<f32> =
        halves.data.chunks_exact(2).map(|b| half::f16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect();
    assert!(largest_difference(&read, &plain.values) < 1e-4);
    let int8 = embed(VectorFormat::Int8).await;
    let read: Vec<f32> = int8.data.iter().map(|&b| f32::from(b as i8) * int8.scale).collect();
    assert!(largest_difference(&read, &plain.values) <= int8.scale / 2.0 + 1e-7);
    let binary = embed(VectorFormat::Binary).await;
    let read: Vec<bool> = (0..384).map(|n| binary.data[n / 8] >> (7 - n % 8) & 1 == 1).collect();
    assert_eq!(read, plain.values.iter().map(|v| *v > 0.0).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_without_prompts_embeds_every_input_type_alike() {
    let server = Server::start(&[]).await;
    let mut client = server.client().await;
    let mut embed = async |input_type: InputType| {
        let request = EmbedRequest { input_type: input_type.into(), ..request(&["a train"]) };
        client.embed(request).await.unwrap().into_inner().results
    };
    let plain = embed(InputType::Unspecified).await;
    assert_eq!(embed(InputType::Query).await, plain);
    assert_eq!(embed(InputType::Document).await, plain);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_many_ask_for_at_once_and_later_has_the_same_bits_for_all() {
    let server = Server::start(&[]).await;
    let alone = Server::start(&["--embed-cache-bytes", "0"]).await;
    let text = "a text that everyone asks for";
    let expected = alone.client().await.embed(request(&[text])).await.unwrap().into_inner().results;
    let client = server.client().await;
    let calls = (0..32).map(|n| {
        let mut client = client.clone();
        // In some calls the text stands behind another one, and twice.
        let other = format!("a text of call {n}");
        let texts = if n % 2 == 0 { vec![text] } else { vec![other.as_str(), text, text] };
        let request = request(&texts);
        async move { client.embed(request).await.unwrap().into_inner().results }
    });
    for (n, results) in futures::future::join_all(calls).await.into_iter().enumerate() {
        let (others, same) = results.split_at(n % 2);
        assert_eq!(same.len(), 1 + n % 2);
        assert!(same.iter().all(|result| *result == expected[0]), "call {n}");
        assert!(others.iter().all(|result| values(result) != values(&expected[0])), "call {n}");
    }
    let later = client.clone().embed(request(&[text])).await.unwrap().into_inner().results;
    assert_eq!(later, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_name_their_field() {
    let server = Server::start(&["--max-texts", "2"]).await;
    let mut client = server.client().await;
    for (wrong, field) in [
        (request(&[]), "texts"),
        (request(&["a", "b", "c"]), "texts"),
        (EmbedRequest { dimensions: 385, ..request(&["a"]) }, "dimensions"),
        (EmbedRequest { input_type: 9, ..request(&["a"]) }, "input_type"),
        (EmbedRequest { truncation: -1, ..request(&["a"]) }, "truncation"),
        (EmbedRequest { format: 99, ..request(&["a"]) }, "format"),
    ] {
        let status = client.embed(wrong).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(wrong_fields(&status), [field], "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_in_order_and_outlives_wrong_texts_and_requests() {
    let server = Server::start(&["--max-text-bytes", "1000", "--max-texts", "40"]).await;
    let mut client = server.client().await;
    // Long and short requests are mixed, so that later ones are ready first.
    let lengths = [40, 1, 30, 2, 1];
    let mut requests: Vec<EmbedRequest> = lengths
        .iter()
        .map(|&n| EmbedRequest { texts: (0..n).map(|t| format!("text {t} of {n}")).collect(), ..Default::default() })
        .collect();
    requests.insert(2, request(&["fine", &"x".repeat(1001)]));
    requests.insert(3, EmbedRequest { format: 42, ..request(&["a", "b"]) });
    requests.insert(4, request(&[]));
    let responses = client.embed_stream(tokio_stream::iter(requests.clone())).await.unwrap().into_inner();
    let responses: Vec<EmbedResponse> = responses.collect::<Result<_, _>>().await.unwrap();
    assert_eq!(responses.iter().map(|r| r.results.len()).collect::<Vec<_>>(), [40, 1, 2, 2, 0, 30, 2, 1]);
    assert_eq!(error(&responses[2].results[1]).0, i32::from(Code::InvalidArgument));
    assert!(error(&responses[3].results[1]).1.starts_with("format: 42"));
    for n in [0, 1, 5, 6, 7] {
        let alone = client.embed(requests[n].clone()).await.unwrap().into_inner();
        assert_eq!(alone, responses[n], "request {n}");
    }
}
