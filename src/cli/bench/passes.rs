//! Texts through a model in the three ways that people use it, with what each took: what `bench embed` and
//! `bench classify` have in common.
//!
//! One text at a time is what a user waits for; batches of 32, one after the other, are what most clients send; all of
//! them with calls enough in flight is what a load or a stream sustains.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use futures::{StreamExt, stream};

use crate::cli::input;

/// Texts of a batch.
const BATCH: usize = 32;
/// Calls in flight while all texts are sent, and texts in each.
const IN_FLIGHT: usize = 8;
const TEXTS_A_CALL: usize = 64;
/// Texts that are sent one at a time; more would not move the percentiles.
const MOST_SINGLES: usize = 400;

/// What one way of sending took.
pub struct Pass {
    /// How the texts were sent.
    pub sent: &'static str,
    /// Tokens of each text.
    pub tokens: Vec<usize>,
    /// Of one call; none where calls overlap.
    pub p50_ms: Option<f64>,
    /// The same.
    pub p99_ms: Option<f64>,
    /// From the first text to the last answer.
    pub seconds: f64,
}

impl Pass {
    /// Tokens of a text.
    pub fn mean_tokens(&self) -> f64 {
        self.tokens.iter().sum::<usize>() as f64 / self.tokens.len() as f64
    }

    /// Texts in a second.
    pub fn texts_per_second(&self) -> f64 {
        self.tokens.len() as f64 / self.seconds
    }

    /// Tokens in a second, padding not counted.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens.iter().sum::<usize>() as f64 / self.seconds
    }

    /// What a million texts cost on a machine of this price.
    pub fn usd_per_million_texts(&self, usd_per_hour: f64) -> f64 {
        usd_per_hour / 3600.0 / self.texts_per_second() * 1e6
    }
}

/// Sends `texts` in each way. `run` answers with the tokens of each text.
pub async fn all(
    texts: &[String],
    run: impl AsyncFn(Vec<String>) -> anyhow::Result<Vec<usize>>,
) -> anyhow::Result<Vec<Pass>> {
    ensure!(!texts.is_empty(), "there are no texts to measure with");
    // The first batches page memory in.
    run(texts[..texts.len().min(TEXTS_A_CALL)].to_vec()).await?;
    let singles: Vec<&[String]> = texts.chunks(1).take(MOST_SINGLES).collect();
    Ok(vec![
        one_by_one("one at a time", &singles, &run).await?,
        one_by_one("batches of 32", &texts.chunks(BATCH).collect::<Vec<_>>(), &run).await?,
        at_once(texts, &run).await?,
    ])
}

async fn one_by_one(
    sent: &'static str,
    calls: &[&[String]],
    run: impl AsyncFn(Vec<String>) -> anyhow::Result<Vec<usize>>,
) -> anyhow::Result<Pass> {
    let (mut tokens, mut seconds) = (Vec::new(), Vec::with_capacity(calls.len()));
    for call in calls {
        let begun = Instant::now();
        tokens.extend(run(call.to_vec()).await?);
        seconds.push(begun.elapsed().as_secs_f64());
    }
    let total = seconds.iter().sum();
    seconds.sort_by(f64::total_cmp);
    let percentile = |p: usize| Some(1e3 * seconds[(seconds.len() - 1) * p / 100]);
    Ok(Pass { sent, tokens, p50_ms: percentile(50), p99_ms: percentile(99), seconds: total })
}

async fn at_once(
    texts: &[String],
    run: impl AsyncFn(Vec<String>) -> anyhow::Result<Vec<usize>>,
) -> anyhow::Result<Pass> {
    let begun = Instant::now();
    let calls = stream::iter(texts.chunks(TEXTS_A_CALL)).map(|call| run(call.to_vec())).buffered(IN_FLIGHT);
    let tokens: Vec<anyhow::Result<Vec<usize>>> = calls.collect().await;
    let seconds = begun.elapsed().as_secs_f64();
    let tokens = tokens.into_iter().collect::<anyhow::Result<Vec<_>>>()?.concat();
    Ok(Pass { sent: "all at once", tokens, p50_ms: None, p99_ms: None, seconds })
}

/// The texts of a file; its bad lines would be no measure of anything.
pub fn read(path: &Path) -> anyhow::Result<Vec<String>> {
    let texts = input::texts(path)?.into_iter().map(|(place, text)| text.with_context(|| place.to_string()));
    texts.collect()
}

/// A price that costs can be computed from.
pub fn check_price(usd_per_hour: f64) -> anyhow::Result<()> {
    let is_price = usd_per_hour.is_finite() && usd_per_hour >= 0.0;
    ensure!(is_price, "--usd-per-hour is {usd_per_hour}: a price, not below 0, is needed");
    Ok(())
}
