//! Sends texts through a model in the three ways of real clients, and measures each way. `bench embed` and
//! `bench classify` use it.
//!
//! - One text at a time gives the latency that a user sees.
//! - Batches of 32, one after the other, are the usual calls of a client.
//! - All texts with several calls in flight give the throughput of a loaded server or of a stream.

use std::path::Path;
use std::slice::Chunks;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, stream};
use serde::Serialize;

use crate::cli::input;
use crate::cli::table::Align;
use crate::machine::process::Usage;

/// The number of texts of a batch.
const BATCH: usize = 32;
/// The number of calls in flight while all texts are sent, and the number of texts of each call.
const IN_FLIGHT: usize = 8;
const TEXTS_A_CALL: usize = 64;
/// The most texts that are sent one at a time. More would not change the percentiles.
const MOST_SINGLES: usize = 400;

/// The result of one way of sending the texts.
#[derive(Debug, Serialize)]
pub struct Pass {
    pub sent: &'static str,
    pub texts: usize,
    pub mean_tokens: f64,
    /// The median latency of a call. `None` if calls overlap.
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub texts_per_second: f64,
    /// The texts in a second of processor time of all threads; `None`: the system does not tell it.
    pub texts_per_cpu_second: Option<f64>,
    /// The tokens per second, without padding.
    pub tokens_per_second: f64,
    pub usd_per_million_texts: f64,
    /// The time from the first text to the last answer.
    #[serde(skip)]
    pub seconds: f64,
    /// The number of tokens of each text.
    #[serde(skip)]
    pub tokens: Vec<usize>,
}

impl Pass {
    /// The columns of the table, in the order of [`cells`](Self::cells).
    pub const COLUMNS: [(&'static str, Align); 8] = [
        ("sent", Align::Left),
        ("n", Align::Right),
        ("tokens", Align::Right),
        ("p50 ms", Align::Right),
        ("p99 ms", Align::Right),
        ("texts/s", Align::Right),
        ("tokens/s", Align::Right),
        ("USD/million", Align::Right),
    ];

    /// Returns the row of the table.
    pub fn cells(&self) -> [String; 8] {
        let optional = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.2}"));
        [
            self.sent.to_owned(),
            self.texts.to_string(),
            format!("{:.1}", self.mean_tokens),
            optional(self.p50_ms),
            optional(self.p99_ms),
            format!("{:.1}", self.texts_per_second),
            format!("{:.0}", self.tokens_per_second),
            format!("{:.4}", self.usd_per_million_texts),
        ]
    }
}

/// Measures a model: sends texts in each way.
pub struct Sender {
    /// The price of the machine in USD per hour, 0 or more.
    usd_per_hour: f64,
}

impl Sender {
    pub fn new(usd_per_hour: f64) -> anyhow::Result<Self> {
        let is_price = usd_per_hour.is_finite() && usd_per_hour >= 0.0;
        ensure!(is_price, "--usd-per-hour is {usd_per_hour}, and must be a price of 0 or more");
        Ok(Self { usd_per_hour })
    }

    /// Sends `texts` in each way. `run` returns the number of tokens of each text.
    pub async fn all(
        &self,
        texts: &[String],
        run: impl AsyncFn(Vec<String>) -> anyhow::Result<Vec<usize>>,
    ) -> anyhow::Result<Vec<Pass>> {
        ensure!(!texts.is_empty(), "the file has no texts to measure with");
        // The first batches are slower: they map memory.
        run(texts[..texts.len().min(TEXTS_A_CALL)].to_vec()).await?;
        let singles = &texts[..texts.len().min(MOST_SINGLES)];
        Ok(vec![
            self.one_by_one("one at a time", singles.chunks(1), &run).await?,
            self.one_by_one("batches of 32", texts.chunks(BATCH), &run).await?,
            self.at_once(texts, &run).await?,
        ])
    }

    async fn one_by_one(
        &self,
        sent: &'static str,
        calls: Chunks<'_, String>,
        run: impl AsyncFn(Vec<String>) -> anyhow::Result<Vec<usize>>,
    ) -> anyhow::Result<Pass> {
        let (mut tokens, mut seconds) = (Vec::new(), Vec::with_capacity(calls.len()));
        let cpu = Usage::now().cpu;
        for call in calls {
            let begun = Instant::now();
            tokens.extend(run(call.to_vec()).await?);
            seconds.push(begun.elapsed().as_secs_f64());
        }
        let total = seconds.iter().sum();
        let [p50, p99] = percentiles(seconds);
        Ok(Pass { p50_ms: Some(1e3 * p50), p99_ms: Some(1e3 * p99), ..self.pass(sent, tokens, total, cpu) })
    }

    async fn at_once(
        &self,
        texts: &[String],
        run: impl AsyncFn(Vec<String>) -> anyhow::Result<Vec<usize>>,
    ) -> anyhow::Result<Pass> {
        let (begun, cpu) = (Instant::now(), Usage::now().cpu);
        let calls = stream::iter(texts.chunks(TEXTS_A_CALL)).map(|call| run(call.to_vec())).buffered(IN_FLIGHT);
        let tokens: Vec<anyhow::Result<Vec<usize>>> = calls.collect().await;
        let seconds = begun.elapsed().as_secs_f64();
        let tokens = tokens.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
        Ok(self.pass("all at once", tokens, seconds, cpu))
    }

    /// `cpu`: the processor time of the process at the beginning.
    fn pass(&self, sent: &'static str, tokens: Vec<usize>, seconds: f64, cpu: Option<Duration>) -> Pass {
        let cpu = Usage::now().cpu.zip(cpu).map(|(ended, begun)| ended.saturating_sub(begun).as_secs_f64());
        let (n, sum) = (tokens.len() as f64, tokens.iter().sum::<usize>() as f64);
        Pass {
            sent,
            texts: tokens.len(),
            mean_tokens: sum / n,
            p50_ms: None,
            p99_ms: None,
            texts_per_second: n / seconds,
            texts_per_cpu_second: cpu.filter(|&cpu| cpu > 0.0).map(|cpu| n / cpu),
            tokens_per_second: sum / seconds,
            usd_per_million_texts: self.usd_per_hour / 3600.0 * seconds / n * 1e6,
            seconds,
            tokens,
        }
    }
}

/// Computes the median and the 99th percentile of one or more values.
pub fn percentiles(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [50, 99].map(|percent| values[(values.len() - 1) * percent / 100])
}

/// Reads the texts of a file. A bad line is an error, because a measurement without it would be wrong.
pub fn read(path: &Path) -> anyhow::Result<Vec<String>> {
    let texts = input::texts(path)?.into_iter().map(|(place, text)| text.with_context(|| place.to_string()));
    texts.collect()
}
