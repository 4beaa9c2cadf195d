//! Measures the cost of the wire: texts per second by `EmbedStream`, and by `Embed` with 64 texts in a call, from a
//! real server on this machine, compared with the encoder without a network (`cognate bench embed`).
//!
//! Run `cargo bench --bench grpc`. The server and the run without a network take turns, and the best rounds are
//! compared. The client shares the machine's cores with the server, like two containers of one pod. The cache of
//! vectors is off.

mod server;
#[allow(dead_code, unused_imports, reason = "other benches use the rest")]
#[path = "../src/cli/bench/workload.rs"]
mod workload;

use std::process::Command;
use std::time::Instant;

use cognate::wire::EmbedRequest;
use cognate::wire::cognate_client::CognateClient;
use futures::{StreamExt, stream};
use serde_json::Value;
use server::Server;
use tonic::transport::Channel;

const TEXTS_A_CALL: usize = 64;
const CALLS_IN_FLIGHT: usize = 8;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    // Without `--bench`, `cargo test` is the caller: a few texts show that the bench runs.
    let measuring = std::env::args().any(|arg| arg == "--bench");
    let (rounds, share) = if measuring { (5, 1) } else { (1, 64) };
    let workloads = workload::short_and_long();
    println!("{:9} {:6} {:>12} {:>20} {:>20}", "precision", "texts", "in process/s", "EmbedStream/s", "Embed of 64/s");
    for precision in ["f32", "int8"] {
        for (name, texts) in &workloads {
            let texts = &texts[..texts.len() / share];
            let (mut alone, mut streamed, mut called) = (0.0f64, 0.0f64, 0.0f64);
            for _ in 0..rounds {
                alone = alone.max(in_process(precision, texts)?);
                let server = Server::start(&["--in-memory", "--precision", precision])?;
                let client = server.client().await?;
                stream_all(client.clone(), &texts[..texts.len().min(TEXTS_A_CALL)]).await?;
                streamed = streamed.max(stream_all(client.clone(), texts).await?);
                called = called.max(call_all(client, texts).await?);
            }
            let shown = |rate: f64| format!("{rate:.0} ({:.0} %)", 100.0 * rate / alone);
            println!("{precision:9} {name:6} {alone:12.0} {:>20} {:>20}", shown(streamed), shown(called));
        }
    }
    Ok(())
}

fn requests(texts: &[String]) -> Vec<EmbedRequest> {
    let request = |texts: &[String]| EmbedRequest { texts: texts.to_vec(), ..EmbedRequest::default() };
    texts.chunks(TEXTS_A_CALL).map(request).collect()
}

/// Returns the texts per second.
async fn stream_all(mut client: CognateClient<Channel>, texts: &[String]) -> Result<f64> {
    let requests = requests(texts);
    let begun = Instant::now();
    let mut responses = client.embed_stream(stream::iter(requests)).await?.into_inner();
    let mut received = 0;
    while let Some(response) = responses.next().await {
        received += response?.results.len();
    }
    assert_eq!(received, texts.len());
    Ok(texts.len() as f64 / begun.elapsed().as_secs_f64())
}

/// Returns the texts per second.
async fn call_all(client: CognateClient<Channel>, texts: &[String]) -> Result<f64> {
    let requests = requests(texts);
    let begun = Instant::now();
    let calls = stream::iter(requests).map(|request| {
        let mut client = client.clone();
        async move { client.embed(request).await }
    });
    let answers: Vec<_> = calls.buffered(CALLS_IN_FLIGHT).collect().await;
    answers.into_iter().try_for_each(|answer| answer.map(drop))?;
    Ok(texts.len() as f64 / begun.elapsed().as_secs_f64())
}

/// Returns the texts per second of `cognate bench embed` with several calls in flight.
fn in_process(precision: &str, texts: &[String]) -> Result<f64> {
    let file = tempfile::Builder::new().suffix(".txt").tempfile()?;
    std::fs::write(file.path(), texts.join("\n"))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_cognate"));
    command.args(["bench", "embed", "--json", "--log", "error", "--precision", precision, "--file"]).arg(file.path());
    let report: Value = serde_json::from_slice(&command.output()?.stdout)?;
    report["rows"][2]["texts_per_second"].as_f64().ok_or_else(|| format!("no rate in {report}").into())
}
