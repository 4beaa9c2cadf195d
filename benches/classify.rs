//! Decides whether the wire may cost what it costs when short texts are classified: 10,000 support tickets over a real
//! server, one in a call, 32 in a call, and in a stream.
//!
//! `cargo bench --bench classify`; `COGNATE_CLASSIFIER=NAME=PLACE`, `COGNATE_ONNX_RUNTIME` and the other variables of the
//! server choose what is measured. The client shares the machine's cores with the server; scores of earlier texts are
//! not kept. The best of three rounds, which take turns.

mod server;
#[allow(dead_code, unused_imports, reason = "a part of it is for other benches")]
#[path = "../src/cli/bench/workload.rs"]
mod workload;

use std::time::Instant;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::{ClassifyRequest, InfoRequest};
use futures::{StreamExt, stream};
use server::Server;
use tonic::transport::Channel;
use workload::tickets;

/// What clouds ask for 2 cores, about.
const USD_PER_HOUR: f64 = 0.10;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    // Without `--bench` it is `cargo test` that calls: a few texts show that it runs.
    let measuring = std::env::args().any(|arg| arg == "--bench");
    let (rounds, n) = if measuring { (3, 10_000) } else { (1, 100) };
    let texts = tickets(n);
    let server = Server::start(&["--in-memory"])?;
    let mut client = server.client().await?;
    let info = client.info(InfoRequest {}).await?.into_inner();
    let classifiers = info.classifiers;
    println!(
        "{:12} {:20} {:14} {:>12} {:>10} {:>12}",
        "classifier", "runtime", "method", "ms a text", "texts/s", "USD/million"
    );
    for classifier in classifiers {
        let name = &classifier.name;
        let mut best = [f64::INFINITY; 3];
        for _ in 0..rounds {
            // One in a call, a tenth of the texts: what is wanted is the time of a call.
            let alone = &texts[..n / 10];
            best[0] = best[0].min(calls(&mut client, name, alone, 1).await? / alone.len() as f64);
            best[1] = best[1].min(calls(&mut client, name, &texts, 32).await? / n as f64);
            best[2] = best[2].min(streamed(&mut client, name, &texts).await? / n as f64);
        }
        for (method, seconds) in ["Classify of 1", "Classify of 32", "ClassifyStream"].into_iter().zip(best) {
            let cost = USD_PER_HOUR / 3600.0 * seconds * 1e6;
            println!(
                "{name:12} {:20} {method:14} {:12.4} {:10.0} {cost:12.4}",
                classifier.runtime,
                1e3 * seconds,
                1.0 / seconds
            );
        }
    }
    Ok(())
}

fn requests(model: &str, texts: &[String], texts_a_call: usize) -> Vec<ClassifyRequest> {
    let request = |texts: &[String]| ClassifyRequest {
        texts: texts.to_vec(),
        model: model.to_owned(),
        top_n: 1,
        ..Default::default()
    };
    texts.chunks(texts_a_call).map(request).collect()
}

/// Seconds for all, one call after the other.
async fn calls(client: &mut CognateClient<Channel>, model: &str, texts: &[String], texts_a_call: usize) -> Result<f64> {
    let requests = requests(model, texts, texts_a_call);
    let begun = Instant::now();
    for request in requests {
        client.classify(request).await?;
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Seconds for all, in one stream of 64 texts a request.
async fn streamed(client: &mut CognateClient<Channel>, model: &str, texts: &[String]) -> Result<f64> {
    let requests = requests(model, texts, 64);
    let begun = Instant::now();
    let mut answers = client.classify_stream(stream::iter(requests)).await?.into_inner();
    let mut received = 0;
    while let Some(answer) = answers.next().await {
        received += answer?.results.len();
    }
    assert_eq!(received, texts.len());
    Ok(begun.elapsed().as_secs_f64())
}
