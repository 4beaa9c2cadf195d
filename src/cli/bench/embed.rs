//! `cognate bench embed`: the encoder without a network, in the three ways that people use it.
//!
//! One text at a time is what a user waits for; batches of 32, one after the other, are what most clients send; the
//! whole corpus with calls enough in flight is what a load sustains. Tokenising is counted; vectors kept from earlier
//! texts are not: that cache is off. What the machine could do at most is measured first, by the same instructions on
//! registers alone, so that the share is of this machine at this hour.

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
use crate::model::Architecture;
use crate::telemetry;

/// How long each peak is looked for.
const PEAK_TIME: Duration = Duration::from_millis(300);

/// Measures the encoder on this machine: latency, texts a second, share of the machine's peak, cost
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Texts to measure with: lines, JSONL or CSV by its extension; without it, short and long ones from a dictionary
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What the machine costs, for the cost of a million texts; 0.10 is about what clouds ask for 2 cores
    #[arg(long, value_name = "USD", default_value_t = 0.10)]
    usd_per_hour: f64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

/// What was measured.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    model: String,
    precision: String,
    device: String,
    cpu: &'static str,
    threads: usize,
    /// Operations a second of all threads together, two to each multiply-add.
    peak_f32_flops: f64,
    peak_int8_ops: f64,
    usd_per_hour: f64,
    rows: Vec<Row>,
}

/// One way of sending one workload.
#[derive(Serialize)]
struct Row {
    workload: &'static str,
    #[serde(flatten)]
    pass: Pass,
    /// Of the peak in the model's precision, 0 to 1; none on an accelerator.
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
    let (mut report, architecture, embedder) = report.await.context("loading the model panicked")??;
    for (workload, texts) in workloads {
        let passes = sender.all(&texts, async |texts| {
            let results = embedder.embed(texts, InputType::Document, Truncation::End, WhenFull::Wait).await?;
            Ok(results.into_iter().map(|result| result.map(|output| output.tokens)).collect::<Result<_, _>>()?)
        });
        for pass in passes.await? {
            let operations: f64 = pass.tokens.iter().map(|&tokens| architecture.operations(tokens)).sum();
            let share_of_peak = report.peak().map(|peak| operations / pass.seconds / peak);
            report.rows.push(Row { workload, pass, share_of_peak });
        }
    }
    super::report::print(&report, args.json, |report, out| report.write(out))?;
    Ok(ExitCode::SUCCESS)
}

impl Report {
    /// Measures the machine and starts the model. Blocks.
    fn begin(config: &Config, usd_per_hour: f64) -> anyhow::Result<(Self, Architecture, Embedder)> {
        let (level, threads) = (cpu::level(), config.embedder.threads);
        let (_, card, embedder) = start_model(config)?;
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
        Ok((report, card.architecture, embedder))
    }

    /// The peak that the model's products are measured by.
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

/// The sum of what `measure` says on each of `threads` threads at once.
fn on_all(threads: usize, measure: impl Fn() -> f64 + Sync) -> f64 {
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(&measure)).collect();
        running.into_iter().map(|thread| thread.join().expect("a peak is plain arithmetic")).sum()
    })
}
