//! Counts of one model's work, for metrics. They begin with the process.
//!
//! Invariant: work is counted once for each call, batch or text, never for each token.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::batch_queue::Batch;
use super::cache::CacheStats;
use super::lane::{LANES, Lane};
use super::text::{Output, TextError};
use crate::compute::{CALL_TIMES, Distribution, Histogram, SIZES};

/// The work of a model up to one moment, and what waits for it.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Texts that calls asked for.
    pub requested_texts: u64,
    /// Texts, or pairs, that the model computed.
    pub computed_texts: u64,
    /// Tokens of these.
    pub computed_tokens: u64,
    /// Texts that the model failed on.
    pub failed_texts: u64,
    /// Texts of answers of which the model read only a part.
    pub truncated_texts: u64,
    /// Calls, and requests of streams, that were refused because too many tokens wait.
    pub refused_requests: u64,
    /// The number of texts in each batch.
    pub batch_texts: Distribution,
    /// The number of tokens in each batch.
    pub batch_tokens: Distribution,
    /// Time in the tokenizer, all threads together.
    pub tokenising: Duration,
    /// Time in the model, all workers together.
    pub computing: Duration,
    /// The lanes of the batch queue.
    pub lanes: [LaneStats; LANES],
    /// The cache.
    pub cache: CacheStats,
}

/// The work of a lane.
#[derive(Debug, Clone)]
pub struct LaneStats {
    /// Its name.
    pub name: &'static str,
    /// Tokens that wait or are computed.
    pub tokens: usize,
    /// The time that each text waited for its batch, in nanoseconds.
    pub waited: Distribution,
}

/// The counters behind [`Stats`].
#[derive(Debug)]
pub struct Counters {
    requested_texts: AtomicU64,
    computed_texts: AtomicU64,
    computed_tokens: AtomicU64,
    failed_texts: AtomicU64,
    truncated_texts: AtomicU64,
    refused_requests: AtomicU64,
    batch_texts: Histogram,
    batch_tokens: Histogram,
    tokenising_ns: AtomicU64,
    computing_ns: AtomicU64,
    waited: [Histogram; LANES],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            requested_texts: AtomicU64::default(),
            computed_texts: AtomicU64::default(),
            computed_tokens: AtomicU64::default(),
            failed_texts: AtomicU64::default(),
            truncated_texts: AtomicU64::default(),
            refused_requests: AtomicU64::default(),
            batch_texts: Histogram::new(SIZES),
            batch_tokens: Histogram::new(SIZES),
            tokenising_ns: AtomicU64::default(),
            computing_ns: AtomicU64::default(),
            waited: std::array::from_fn(|_| Histogram::new(CALL_TIMES)),
        }
    }
}

impl Counters {
    /// Counts the results of a call.
    pub fn answered(&self, results: &[Result<Output, TextError>]) {
        let is_truncated = |output: &&Output| output.tokens_total > output.tokens;
        add(&self.requested_texts, results.len());
        add(&self.truncated_texts, results.iter().flatten().filter(is_truncated).count());
    }

    /// Counts a call that was refused.
    pub fn refused(&self) {
        add(&self.refused_requests, 1);
    }

    /// Counts time in the tokenizer.
    pub fn tokenised(&self, time: Duration) {
        add_time(&self.tokenising_ns, time);
    }

    /// Counts a batch that a worker takes, and the time that its texts waited.
    pub fn taken(&self, batch: &Batch) {
        let tokens = batch.tokens();
        self.batch_texts.record(batch.jobs.len() as u64);
        self.batch_tokens.record(tokens as u64);
        add(&self.computed_tokens, tokens);
        let waited = &self.waited[batch.lane as usize];
        batch.jobs.iter().for_each(|job| waited.record_time(job.flight().began.elapsed()));
    }

    /// Counts the texts of a batch and the time that the model took.
    pub fn computed(&self, texts: usize, failed: usize, time: Duration) {
        add(&self.computed_texts, texts);
        add(&self.failed_texts, failed);
        add_time(&self.computing_ns, time);
    }

    /// Reads the counters. `tokens`: those of a lane that wait.
    pub fn read(&self, tokens: impl Fn(Lane) -> usize, cache: CacheStats) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let lane = |lane: Lane| LaneStats {
            name: name(lane),
            tokens: tokens(lane),
            waited: self.waited[lane as usize].distribution(),
        };
        Stats {
            requested_texts: get(&self.requested_texts),
            computed_texts: get(&self.computed_texts),
            computed_tokens: get(&self.computed_tokens),
            failed_texts: get(&self.failed_texts),
            truncated_texts: get(&self.truncated_texts),
            refused_requests: get(&self.refused_requests),
            batch_texts: self.batch_texts.distribution(),
            batch_tokens: self.batch_tokens.distribution(),
            tokenising: Duration::from_nanos(get(&self.tokenising_ns)),
            computing: Duration::from_nanos(get(&self.computing_ns)),
            lanes: Lane::ALL.map(lane),
            cache,
        }
    }
}

fn name(lane: Lane) -> &'static str {
    match lane {
        Lane::Express => "express",
        Lane::Short => "short",
        Lane::Interactive => "interactive",
        Lane::Bulk => "bulk",
    }
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

fn add_time(counter: &AtomicU64, time: Duration) {
    counter.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
}
