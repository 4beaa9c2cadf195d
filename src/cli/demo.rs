//! `cognate demo`: the main features in one command.
//!
//! A real server, a real corpus loaded by the real upload, and a request of each kind, shown as a person would see
//! it.

mod manual;

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, ensure};
use console::style;
use futures::stream;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::serve::{self, OnHangup};
use super::{classify, progress, similarity, table};
use crate::client::{self, Client};
use crate::config::{Config, Flags};
use crate::server::Address;
use crate::telemetry;
use crate::wire::metadata;
use crate::wire::{self as pb, classify_result, embed_result, query};

/// WordNet's glosses: a dictionary for searching by meaning.
const CORPUS: &str = include_str!("../../examples/reverse-dictionary/words.jsonl");
const QUERIES: &str = include_str!("../../examples/reverse-dictionary/queries.txt");

const COLLECTION: &str = "words";

/// Hits shown per query.
const HITS: u32 = 3;

const SENTENCES: [&str; 4] = [
    "The invoice was charged twice",
    "I was billed two times for one order",
    "The parcel never arrived",
    "How do I reset my password?",
];

const TICKETS: [&str; 4] = [
    "This is the worst support I have ever dealt with",
    "How do I change my delivery address?",
    "Thanks, the replacement arrived in a day and works perfectly!",
    "The screen arrived broken and I am very disappointed",
];

/// Starts a server, loads a dictionary and searches it by meaning; serves until Ctrl-C
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stop after everything was shown
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    flags: Flags,
}

/// One line of the corpus.
#[derive(Deserialize)]
struct Word {
    id: String,
    text: String,
    metadata: Map<String, Value>,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    ensure!(!args.flags.give("data_dir"), "demo keeps its dictionary in memory: --data-dir is for `cognate serve`");
    let mut config = Config::load(&args.flags)?;
    ensure!(config.keys.is_none(), "demo talks to itself without a key: --keys is for `cognate serve`");
    ensure!(config.tls.is_none(), "demo talks to itself without TLS: --tls-cert is for `cognate serve`");
    // The demo's dictionary must not become one of the user's collections.
    config.store.directory = None;
    if let Some(engine) = &mut config.engine {
        engine.prefix.push_str("demo-");
    }
    let traces = telemetry::start_with_traces(&config.telemetry)?;
    let (ready, is_ready) = oneshot::channel();
    // If the tour has ended, nobody needs the address.
    let server = serve::serve(config, OnHangup::Stop, Box::new(|addr| _ = ready.send(addr)));
    let tour = async {
        match is_ready.await {
            Ok(addr) => tour(&addr, args.once).await,
            // The server ended before it was ready, and reports why.
            Err(_) => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        served = server => served,
        toured = tour => toured,
    };
    traces.finish().await;
    ended?;
    Ok(ExitCode::SUCCESS)
}

async fn tour(addr: &Address, once: bool) -> anyhow::Result<()> {
    let client = client::connect(&addr.to_string(), &client::Options::default()).await?;
    upload(&client).await?;
    search(&client).await?;
    manual::show(&client, 3, HITS).await?;
    compare(&client).await?;
    embed(&client).await?;
    classify(&client).await?;
    show_what_to_try(addr)?;
    if once { Ok(()) } else { std::future::pending().await }
}

async fn upload(client: &Client) -> anyhow::Result<()> {
    let words: Vec<Word> =
        CORPUS.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("the bundled corpus is damaged")?;
    let total = words.len() as u64;
    writeln!(
        std::io::stdout(),
        "\n{} {total} definitions from WordNet, through the streaming Upload",
        style("1.").bold()
    )?;
    let bar = progress::bar(total, "   {bar:40} {pos}/{len} committed, {per_sec}, {eta} left");
    let documents = words.into_iter().map(|word| pb::Document {
        id: word.id,
        text: word.text,
        metadata: Some(metadata::from_json(&word.metadata)),
        ..pb::Document::default()
    });
    let begun = Instant::now();
    let done = client.upload(COLLECTION, stream::iter(documents), |now| bar.set_position(now.so_far.committed)).await;
    bar.finish_and_clear();
    let done = done.map_err(|broken| broken.cause)?;
    let rate = done.committed as f64 / begun.elapsed().as_secs_f64();
    writeln!(std::io::stdout(), "   {} committed, {} rejected, {rate:.0} texts/s", done.committed, done.rejected)?;
    Ok(())
}

async fn search(client: &Client) -> anyhow::Result<()> {
    let texts: Vec<&str> = QUERIES.lines().collect();
    let queries = texts
        .iter()
        .map(|&text| pb::Query { query: Some(query::Query::Text(text.to_owned())), ..Default::default() })
        .collect();
    let request = pb::TopKRequest {
        collection: COLLECTION.to_owned(),
        queries,
        k: HITS,
        with_text: true,
        with_metadata: true,
        ..Default::default()
    };
    let begun = Instant::now();
    let results = client.top_k(request).await?.results;
    let took = begun.elapsed();
    writeln!(
        std::io::stdout(),
        "\n{} TopK: {} meanings, and the words for them ({took:.1?} in all)",
        style("2.").bold(),
        texts.len()
    )?;
    let mut out = std::io::stdout().lock();
    for (text, result) in texts.iter().zip(results) {
        writeln!(out, "\n   {}", style(format!("“{text}”")).cyan())?;
        let mut hits = table::Table::new([
            ("score", table::Align::Right),
            ("", table::Align::Left),
            ("word", table::Align::Left),
            ("definition", table::Align::Left),
        ]);
        for hit in result.hits {
            let word = hit
                .metadata
                .as_ref()
                .and_then(|m| metadata::to_json(m).ok())
                .and_then(|m| m.get("word").and_then(Value::as_str).map(str::to_owned));
            hits.row([table::score(hit.score), table::score_bar(hit.score), word.unwrap_or(hit.id), hit.text]);
        }
        hits.write(&mut out, table::stdout_width())?;
    }
    Ok(())
}

async fn compare(client: &Client) -> anyhow::Result<()> {
    let a = SENTENCES.map(str::to_owned).to_vec();
    writeln!(std::io::stdout(), "\n{} Similarity: the first sentence to the others", style("4.").bold())?;
    let request = pb::SimilarityRequest { a: a[..1].to_vec(), b: a[1..].to_vec(), ..Default::default() };
    let rows = client.similarity(request).await?.rows;
    writeln!(std::io::stdout(), "\n   {}", style(format!("“{}”", a[0])).cyan())?;
    similarity::table(&a[..1], &a[1..], &rows).write(&mut std::io::stdout().lock(), table::stdout_width())?;
    Ok(())
}

async fn embed(client: &Client) -> anyhow::Result<()> {
    let request = pb::EmbedRequest { texts: vec![SENTENCES[0].to_owned()], ..Default::default() };
    let result = client.embed(request).await?.results.into_iter().next().context("no result for one text")?;
    let Some(embed_result::Result::Vector(vector)) = result.result else {
        anyhow::bail!("the text was not embedded");
    };
    let first: Vec<String> = vector.values.iter().take(6).map(|v| format!("{v:+.4}")).collect();
    writeln!(
        std::io::stdout(),
        "\n{} Embed: {} dimensions from {} tokens",
        style("5.").bold(),
        vector.values.len(),
        result.tokens
    )?;
    writeln!(std::io::stdout(), "   [{}, …]", first.join(", "))?;
    Ok(())
}

async fn classify(client: &Client) -> anyhow::Result<()> {
    let texts = TICKETS.map(str::to_owned).to_vec();
    let request = pb::ClassifyRequest { texts: texts.clone(), top_n: 1, ..Default::default() };
    let begun = Instant::now();
    let results = match client.classify(request).await {
        Ok(answer) => answer.results,
        // A demo that was started with `--classifier none` goes on.
        Err(error) => {
            writeln!(std::io::stdout(), "\n{} Classify: {error}", style("6.").bold())?;
            return Ok(());
        }
    };
    writeln!(
        std::io::stdout(),
        "\n{} Classify: the sentiment of {} tickets ({:.1?})\n",
        style("6.").bold(),
        texts.len(),
        begun.elapsed()
    )?;
    let columns = [table::Align::Right, table::Align::Left, table::Align::Left, table::Align::Left];
    let mut shown = table::Table::new(columns.map(|align| ("", align)));
    for (text, result) in texts.iter().zip(results) {
        if let Some(classify_result::Result::Classification(classification)) = result.result {
            shown.row(classify::row(&classification, text));
        }
    }
    shown.write(&mut std::io::stdout().lock(), table::stdout_width())?;
    Ok(())
}

fn show_what_to_try(addr: &Address) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{} Try it, with any gRPC client:\n", style("7.").bold())?;
    let query =
        r#"{"collection": "words", "queries": [{"text": "a loud sound in the sky"}], "k": 3, "with_text": true}"#;
    for (message, rpc) in [
        (None, "list"),
        (Some(query), "cognate.v1.Cognate/TopK"),
        (Some(r#"{"a": ["a happy child"], "b": ["a joyful kid", "a wet dog"]}"#), "cognate.v1.Cognate/Similarity"),
        (Some(r#"{"texts": ["hello"], "format": "VECTOR_FORMAT_INT8"}"#), "cognate.v1.Cognate/Embed"),
        (Some(r#"{"texts": ["it never worked"]}"#), "cognate.v1.Cognate/Classify"),
    ] {
        let data = message.map(|message| format!("-d '{message}' ")).unwrap_or_default();
        writeln!(out, "   grpcurl -plaintext {data}{addr} {rpc}")?;
    }
    writeln!(out, "\n   or: cognate top-k --addr {addr} --collection {COLLECTION} \"to move through water\"\n")
}
