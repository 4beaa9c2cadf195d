//! `--precision int8`: nearly the same vectors, under a fingerprint of their own.

use cognate::wire::{EmbedRequest, InfoRequest};

use crate::embed::{golden, values};
use crate::harness::{Server, dot};

/// The least cosine to the reference of each golden text, and the least mean. The texts far below the mean are "?",
/// "..." and "I": they have three tokens, so the rounding of each one counts.
const LEAST_COSINE: f32 = 0.996;
const MEAN_COSINE: f32 = 0.9993;

#[tokio::test(flavor = "multi_thread")]
async fn int8_gives_nearly_the_vectors_of_exact_arithmetic() {
    let server = Server::start(&["--precision", "int8"]).await;
    let golden = golden();
    let texts = golden.iter().map(|line| line.text.clone()).collect();
    let request = EmbedRequest { texts, ..EmbedRequest::default() };
    let results = server.client().await.embed(request).await.unwrap().into_inner().results;
    let cosines: Vec<f32> =
        results.iter().zip(&golden).map(|(result, line)| dot(values(result), &line.embedding)).collect();
    let least = cosines.iter().copied().fold(f32::INFINITY, f32::min);
    let mean = cosines.iter().sum::<f32>() / cosines.len() as f32;
    println!("cosine to f64: least {least}, mean {mean}");
    assert!(least >= LEAST_COSINE && mean >= MEAN_COSINE, "least {least}, mean {mean}");
    assert!(mean < 0.999_99, "this is f32");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fingerprint_tells_precisions_apart() {
    let (exact, near) = (Server::start(&[]).await, Server::start(&["--precision", "int8"]).await);
    let mut models = Vec::new();
    for server in [&exact, &near] {
        let info = server.client().await.info(InfoRequest {}).await.unwrap().into_inner();
        models.push(info.model.expect("a server has a model"));
    }
    assert_eq!([&*models[0].precision, &*models[1].precision], ["f32", "int8"]);
    assert_ne!(models[0].fingerprint, models[1].fingerprint);
    assert_eq!(models[0].revision, models[1].revision);
}
