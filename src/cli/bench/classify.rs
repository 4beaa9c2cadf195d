//! `cognate bench classify`: measures classifiers without a network, with each runtime that is installed.
//!
//! The times include tokenising. The cache of scores is off. A server adds the cost of the wire, which
//! `cargo bench --bench classify` measures.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

use super::passes::{self, Pass, Sender};
use super::workload::tickets;
use crate::classifier::{Classifier, ClassifierSource, Classifiers, Embeds};
use crate::cli::classifiers::start_classifiers;
use crate::cli::serve::{force_cpu, start_model};
use crate::cli::table::{self, Align, Table};
use crate::compute::WhenFull;
use crate::config::{Config, Flags};
use crate::inference::Truncation;
use crate::onnx::{Choice, Runtime};
use crate::telemetry;

/// The default number of generated texts: enough for a measurement of seconds.
const TEXTS: usize = 10_000;

/// Measures classifiers on this machine with each ONNX runtime: latency, texts per second, cost
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File of texts to measure with: lines, JSONL or CSV by its extension; by default, generated support tickets
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Number of support tickets to generate
    #[arg(long, value_name = "N", default_value_t = TEXTS, conflicts_with = "file")]
    texts: usize,
    /// Price of the machine, for the cost of a million texts; 0.10 is about the price of 2 cores in a cloud
    #[arg(long, value_name = "USD", default_value_t = 0.10)]
    usd_per_hour: f64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

/// The results.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    threads: usize,
    usd_per_hour: f64,
    rows: Vec<Row>,
}

/// The result of one way of sending the texts to one classifier.
#[derive(Serialize)]
struct Row {
    classifier: String,
    runtime: String,
    #[serde(flatten)]
    pass: Pass,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut config = Config::load(&args.flags)?;
    let sender = Sender::new(args.usd_per_hour)?;
    telemetry::start(&config.telemetry);
    force_cpu(&config)?;
    (config.embedder.cache_bytes, config.classifier.cache_bytes) = (0, 0);
    let texts = match &args.file {
        Some(path) => passes::read(path)?,
        None => tickets(args.texts),
    };
    let threads = config.onnx.threads;
    let started = tokio::task::spawn_blocking(move || start(config)).await.context("loading a model panicked")??;
    let mut report =
        Report { version: env!("CARGO_PKG_VERSION"), threads, usd_per_hour: args.usd_per_hour, rows: Vec::new() };
    for classifiers in &started {
        for classifier in classifiers.iter() {
            report.rows.extend(measure(&sender, classifier, &texts).await?);
        }
    }
    super::report::print(&report, args.json, |report, out| report.write(out))?;
    Ok(ExitCode::SUCCESS)
}

/// Loads the graphs with each installed runtime, or with the one in the configuration, and then the heads. Blocks.
fn start(mut config: Config) -> anyhow::Result<Vec<Classifiers>> {
    let (heads, graphs): (Vec<_>, Vec<_>) =
        config.classifier.specs.drain(..).partition(|spec| matches!(spec.source, ClassifierSource::Head(_)));
    anyhow::ensure!(!(heads.is_empty() && graphs.is_empty()), "no classifier to measure: name one by --classifier");
    let runtimes = match config.onnx.runtime {
        Choice::Auto => vec![Choice::OnnxRuntime, Choice::Rten],
        one => vec![one],
    };
    let mut started = Vec::new();
    if !graphs.is_empty() {
        for runtime in runtimes {
            let mut onnx = config.onnx.clone();
            onnx.runtime = runtime;
            if config.onnx.runtime == Choice::Auto && Runtime::find(&onnx).is_err() {
                continue; // this runtime is not installed
            }
            let mut config = Config { onnx, ..config.clone() };
            config.classifier.specs.clone_from(&graphs);
            started.push(start_classifiers(&config, &[])?);
        }
    }
    if !heads.is_empty() {
        let (card, embedder) = start_model(&config)?;
        let others = card.other_precisions.iter().filter(|_| config.allow_precision_mix);
        let fingerprints = std::iter::once(&card.fingerprint).chain(others).map(String::as_str).collect();
        let embeds = Embeds { embedder: &embedder, id: &card.id, fingerprints };
        config.classifier.specs = heads;
        started.push(start_classifiers(&config, &[embeds])?);
    }
    Ok(started)
}

async fn measure(sender: &Sender, classifier: &Classifier, texts: &[String]) -> anyhow::Result<Vec<Row>> {
    let passes = sender.all(texts, async |texts| {
        let results = classifier.classify(texts, Truncation::End, WhenFull::Wait).await?;
        Ok(results.into_iter().map(|result| result.map(|classified| classified.tokens)).collect::<Result<_, _>>()?)
    });
    let about = classifier.about();
    let row = |pass| Row { classifier: about.name.clone(), runtime: about.runtime.clone(), pass };
    Ok(passes.await?.into_iter().map(row).collect())
}

impl Report {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "cognate {}  {} threads; cost at {} USD an hour\n",
            self.version, self.threads, self.usd_per_hour
        )?;
        let names = [("classifier", Align::Left), ("runtime", Align::Left)];
        let mut shown = Table::new(names.into_iter().chain(Pass::COLUMNS));
        for Row { classifier, runtime, pass } in &self.rows {
            shown.row([table::clean(classifier), runtime.clone()].into_iter().chain(pass.cells()));
        }
        shown.write(out, table::stdout_width())
    }
}
