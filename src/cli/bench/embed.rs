//! `cognate bench embed`: measures the encoder without a network, with the three kinds of calls of [`super::passes`].
//!
//! The times include tokenising. The cache of vectors is off. The machine's peak is measured first, by the same
//! instructions on registers alone. So the share of the peak refers to this machine in its present state.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::passes::{self, Pass, Sender};
use super::workload;
use crate::cli::serve::{force_cpu, start_model};
use crate::cli::table::{self, Align, Table};
use crate::compute::WhenFull;
use crate::config::{Config, Flags};
use crate::embedder::{Embedder, InputType, Precision};
use crate::inference::Truncation;
use crate::kernel::peak;
use crate::machine::cpu;
use crate::model::Encoder;
use crate::telemetry;

/// The time that each peak is measured for.
const PEAK_TIME: Duration = Duration::from_millis(300);

/// Measures the encoder on this machine: latency, texts per second, share of the machine's peak, cost
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File of texts to measure with: lines, JSONL or CSV by its extension; by default, short and long texts from a
    /// dictionary
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
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
    model: String,
    precision: String,
    device: String,
    cpu: &'static str,
    threads: usize,
    /// The operations per second of all threads together. A multiply-add counts as two.
    peak_f32_flops: f64,
    peak_int8_ops: f64,
    usd_per_hour: f64,
    rows: Vec<Row>,
}

/// The result of one way of sending one workload.
#[derive(Serialize)]
struct Row {
    workload: &'static str,
    #[serde(flatten)]
    pass: Pass,
    /// The share of the peak in the model's precision, 0 to 1. `None` on an accelerator.
    share_of_peak: Option<f64>,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut config = Config::load(&args.flags)?;
    let sender = Sender::new(args.usd_per_hour)?;
    telemetry::start(&config.telemetry);
    force_cpu(&config)?;
    config.embedder.cache_bytes = 0;
    let workloads = match &args.file {
        Some(path) => vec![("file", passes::read(path)?)],
        None => workload::short_and_long().to_vec(),
    };
    let report = tokio::task::spawn_blocking({
        let (config, usd_per_hour) = (config.clone(), args.usd_per_hour);
        move || Report::begin(&config, usd_per_hour)
    });
    let (mut report, encoder, embedder) = report.await.context("loading the model panicked")??;
    for (workload, texts) in workloads {
        let passes = sender.all(&texts, async |texts| {
            let results = embedder.embed(texts, InputType::Document, Truncation::End, WhenFull::Wait).await?;
            Ok(results.into_iter().map(|result| result.map(|output| output.tokens)).collect::<Result<_, _>>()?)
        });
        for pass in passes.await? {
            let operations: f64 = pass.tokens.iter().map(|&tokens| encoder.operations(tokens)).sum();
            let share_of_peak = report.peak().map(|peak| operations / pass.seconds / peak);
            report.rows.push(Row { workload, pass, share_of_peak });
        }
    }
    super::report::print(&report, args.json, |report, out| report.write(out))?;
    Ok(ExitCode::SUCCESS)
}

impl Report {
    /// Measures the machine and starts the model. Blocks.
    fn begin(config: &Config, usd_per_hour: f64) -> anyhow::Result<(Self, Encoder, Embedder)> {
        let (level, threads) = (cpu::level(), config.embedder.threads);
        let (card, embedder) = start_model(config)?;
        let report = Self {
            version: env!("CARGO_PKG_VERSION"),
            model: card.id,
            precision: config.embedder.precision.to_string(),
            device: embedder.device().to_string(),
            cpu: level.name(),
            threads,
            peak_f32_flops: on_all(threads, || peak::flops(level, PEAK_TIME)),
            peak_int8_ops: on_all(threads, || peak::byte_ops(level, PEAK_TIME)),
            usd_per_hour,
            rows: Vec::new(),
        };
        Ok((report, card.encoder, embedder))
    }

    /// Returns the peak of the instructions that the model's products use.
    fn peak(&self) -> Option<f64> {
        (self.device == "cpu").then(|| {
            let is_int8 = self.precision == Precision::Int8.to_string();
            if is_int8 { self.peak_int8_ops } else { self.peak_f32_flops }
        })
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "cognate {}  {}  {}  {} ({}, {} threads)",
            self.version, self.model, self.precision, self.device, self.cpu, self.threads
        )?;
        writeln!(
            out,
            "peak: {:.0} GFLOP/s in f32, {:.0} Gop/s in int8; cost at {} USD an hour\n",
            self.peak_f32_flops / 1e9,
            self.peak_int8_ops / 1e9,
            self.usd_per_hour
        )?;
        let columns = [("texts", Align::Left)].into_iter().chain(Pass::COLUMNS).chain([("of peak", Align::Right)]);
        let mut shown = Table::new(columns);
        for Row { workload, pass, share_of_peak } in &self.rows {
            let share = share_of_peak.map_or("-".into(), |share| format!("{:.0} %", 100.0 * share));
            shown.row([(*workload).to_owned()].into_iter().chain(pass.cells()).chain([share]));
        }
        shown.write(out, table::stdout_width())
    }
}

/// Runs `measure` on `threads` threads at once, and sums the results.
fn on_all(threads: usize, measure: impl Fn() -> f64 + Sync) -> f64 {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(&measure)).collect();
        running.into_iter().map(|thread| thread.join().expect("a peak is plain arithmetic")).sum()
    })
}
