//! Measures the cost of the wire for the classification of short texts: 10,000 support tickets go to a real server, one
//! in a call, 32 in a call, and in a stream.
//!
//! Run `cargo bench --bench classify`. The variables of the server, for example `COGNATE_CLASSIFIER=NAME=PLACE` and
//! `COGNATE_ONNX_RUNTIME`, choose the classifier. The client shares the machine's cores with the server. The cache of
//! scores is off. The methods take turns in three rounds, and the best round of each counts.

mod server;
#[allow(dead_code, unused_imports, reason = "other benches use the rest")]
#[path = "../src/cli/bench/workload.rs"]
mod workload;

use std::time::Instant;

use cognate::wire::cognate_client::CognateClient;
use cognate::wire::{ClassifyRequest, InfoRequest};
use futures::{StreamExt, stream};
use server::Server;
use tonic::transport::Channel;
use workload::tickets;

/// The approximate price of 2 cores in a cloud, USD per hour.
const USD_PER_HOUR: f64 = 0.10;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    // Without `--bench`, `cargo test` is the caller: a few texts show that the bench runs.
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
            // Calls of one text are slow, and a tenth of the texts is enough to know the time of a call.
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

/// Returns the seconds for all texts, one call after the other.
async fn calls(client: &mut CognateClient<Channel>, model: &str, texts: &[String], texts_a_call: usize) -> Result<f64> {
    let requests = requests(model, texts, texts_a_call);
    let begun = Instant::now();
    for request in requests {
        client.classify(request).await?;
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Returns the seconds for all texts in one stream, with 64 texts in a request.
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
