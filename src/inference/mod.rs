//! TEXTS, OR PAIRS OF TEXTS → A ROW OF NUMBERS FOR EACH, through any model. The embedder, the classifiers and the
//! rerankers share it.
//!
//! ```text
//! call ── keys ── tokenise (pool of texts) ── TokenBudget ── Scheduler ══ workers ── rows of numbers ── call
//!          │      fair between calls          bounds the     batch queue  own thread each,              │
//!          │      stops with its call         waiting        with four    no async inside               │
//!          │                                  tokens         lanes                                      │
//!          └── SingleFlight: a text that is on its way for another call, or cached ─────────────────────┘
//! ```
//! Models may share a scheduler and its workers. Each has a batch queue there, and everything else to itself.
//!
//! Invariants:
//! - A model never runs on an async thread.
//! - Everything that waits is counted in tokens and bounded.
//! - The row of a text does not depend on the other texts of its batch, as far as the model ensures that.
//! - A call that is dropped (cancelled, or past its deadline) leaves no work behind.
//!
//! The meaning of the numbers is left to the caller.

mod batch_queue;
mod cache;
mod call;
mod flight;
pub(crate) mod fuzz;
mod key;
mod lane;
mod model;
mod pace;
mod passages;
mod scheduler;
mod shares;
#[cfg(test)]
mod simulation;
mod single_flight;
mod stats;
mod text;
mod token_budget;
mod tokenizer;
mod traced;
mod turns;
mod worker;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

pub use cache::CacheStats;
pub use model::{Model, Run, Sequence};
pub use passages::{Cut, Sizes};
pub use stats::Stats;
pub use text::{Before, ModelFailed, Output, TextError, Truncation};
pub use token_budget::Overloaded;
pub use tokenizer::{Kept, Reading, Token, Tokenizer, TokenizerError};

use crate::compute::{Pools, Terms};
use crate::machine::leader::Leader;
use cache::Cache;
use key::Keys;
use pace::Pace;
use scheduler::Scheduler;
use single_flight::SingleFlight;
use stats::Counters;
use token_budget::TokenBudget;
use worker::{Served, Worker, run};

/// Settings of the queue, the batches and the cache.
#[derive(Debug, Clone)]
pub struct Options {
    /// The number of threads that run the model, each on its own batch. Models that share workers have the same number.
    pub workers: usize,
    /// One more thread, which serves short calls of quiet callers while the workers are busy. It helps where the system
    /// divides the cores between threads, and not where a device computes one batch after another.
    pub express_worker: bool,
    /// The most tokens in one batch, padding included. A higher number means fewer runs of the model, and a small call
    /// waits longer behind a batch that has begun.
    pub batch_tokens: usize,
    /// The most tokens of unary calls that wait; further calls are refused. Streams have another budget of this size.
    pub queue_tokens: usize,
    /// The memory for rows of earlier texts. 0: every text is computed again.
    pub cache_bytes: usize,
    /// The pools that tokenise texts.
    pub pools: Pools,
}

/// A model with everything that it needs to take texts.
pub struct Parts {
    /// The name of its threads.
    pub name: &'static str,
    /// A digest of everything that decides its numbers.
    pub fingerprint: String,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The model itself.
    pub model: Arc<dyn Model>,
    /// The numbers in a row.
    pub width: usize,
}

/// The reasons why a model cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The tokenizer fails on a plain sentence.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A worker thread could not be started.
    #[error("cannot start a worker thread: {0}")]
    Thread(std::io::Error),
    /// The model was loaded, but fails the self-test.
    #[error("the model failed its self-test: {0}")]
    SelfTest(String),
}

/// A model that passed its test on a text, and the settings of its queue.
pub struct Tested {
    parts: Parts,
    options: Options,
}

impl Parts {
    /// Tests the model on a text.
    pub fn test(self, options: Options) -> Result<Tested, StartError> {
        self_test(&self)?;
        Ok(Tested { parts: self, options })
    }
}

/// A model that takes texts. Cheap to clone; its workers stop when the last clone of each model that shares them is
/// gone.
#[derive(Clone)]
pub struct Inference(Arc<Shared>);

struct Shared {
    /// The number of the model in the scheduler.
    model: usize,
    tokenizer: Arc<Tokenizer>,
    keys: Keys,
    batch_tokens: usize,
    pools: Pools,
    single_flight: Arc<SingleFlight>,
    token_budget: Arc<TokenBudget>,
    scheduler: Arc<Open>,
    counters: Arc<Counters>,
}

/// The scheduler of models. It closes when the last of them is gone.
struct Open(Arc<Scheduler>);

impl Deref for Open {
    type Target = Scheduler;

    fn deref(&self) -> &Scheduler {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Inference {
    /// Tests a model on a text and starts workers of its own.
    pub fn start(parts: Parts, options: &Options) -> Result<Self, StartError> {
        let model = parts.test(options.clone())?;
        Ok(Self::start_together(vec![model])?.remove(0))
    }

    /// Starts workers that some models share: as many as the settings of the first one say. Returns the models in the
    /// same order.
    pub fn start_together(models: Vec<Tested>) -> Result<Vec<Self>, StartError> {
        let Some(Tested { parts, options }) = models.first() else { return Ok(Vec::new()) };
        let (name, workers, has_express) = (parts.name, options.workers.max(1), options.express_worker);
        let batch_tokens: Vec<usize> = models.iter().map(|model| model.options.batch_tokens).collect();
        let scheduler = Arc::new(Scheduler::new(&batch_tokens, workers));
        let open = Arc::new(Open(Arc::clone(&scheduler)));
        let paces = Pace::of_models(models.len(), Instant::now());
        let (mut inferences, mut served) = (Vec::new(), Vec::new());
        for ((number, Tested { parts, options }), pace) in models.into_iter().enumerate().zip(paces) {
            let model = Arc::clone(&parts.model);
            let shared = Shared::new(number, parts, &options, (Arc::clone(&open), pace));
            served.push(Served {
                model,
                single_flight: Arc::clone(&shared.single_flight),
                token_budget: Arc::clone(&shared.token_budget),
                counters: Arc::clone(&shared.counters),
            });
            inferences.push(Self(Arc::new(shared)));
        }
        let worker = Worker { scheduler, models: served.into(), precedence: Arc::default() };
        let spawn = |number: &str, run: fn(&Worker)| {
            let (worker, thread) = (worker.clone(), std::thread::Builder::new().name(format!("{name}-{number}")));
            thread.spawn(move || run(&worker)).map(drop).map_err(StartError::Thread)
        };
        (0..workers).try_for_each(|n| spawn(&n.to_string(), Worker::run))?;
        if has_express {
            spawn("express", Worker::run_express)?;
        }
        Ok(inferences)
    }

    /// The most tokens of a text that the model reads.
    pub fn max_tokens(&self) -> usize {
        self.0.tokenizer.max_tokens()
    }

    /// The contents of the cache, and how often it helped.
    pub fn cache_stats(&self) -> CacheStats {
        self.0.single_flight.cache_stats()
    }

    /// The work so far, and what waits.
    pub fn stats(&self) -> Stats {
        let pace = self.0.token_budget.pace();
        self.0.counters.read(|lane| pace.waiting(lane), self.cache_stats())
    }

    /// Puts `texts` through the model, each behind `before`, and returns one result each, in order. Dropping the future
    /// abandons all work that has not begun.
    pub async fn run(
        &self,
        texts: Vec<String>,
        before: Before<'_>,
        truncation: Truncation,
        terms: Terms,
    ) -> Result<Vec<Result<Output, TextError>>, Overloaded> {
        let results = self.0.run(texts, before, truncation, terms).await;
        match &results {
            Ok(results) => self.0.counters.answered(results),
            Err(_) => self.0.counters.refused(),
        }
        results
    }

    /// The tokens that a prompt takes of each text, special tokens included.
    pub fn tokens_around(&self, prompt: &str) -> usize {
        self.0.tokenizer.tokens(prompt).map_or(0, |tokens| tokens.total)
    }
}

impl Shared {
    fn new(model: usize, parts: Parts, options: &Options, (scheduler, pace): (Arc<Open>, Pace)) -> Self {
        Self {
            model,
            tokenizer: Arc::new(parts.tokenizer),
            keys: Keys::new(&parts.fingerprint),
            batch_tokens: options.batch_tokens,
            pools: options.pools.clone(),
            single_flight: Arc::new(SingleFlight::new(Cache::new(options.cache_bytes, parts.width))),
            token_budget: Arc::new(TokenBudget::new(options.queue_tokens, pace)),
            scheduler,
            counters: Arc::default(),
        }
    }
}

fn self_test(parts: &Parts) -> Result<(), StartError> {
    let text = parts.tokenizer.sample("A model that answers this is ready.")?;
    let mut model = parts.model.for_thread(Leader::default());
    let problem = match run(&mut model, &[text.sequence()]).as_deref() {
        Ok([row]) if row.len() == parts.width => return Ok(()),
        Ok([row]) => format!("it gave {} values for a text, and its configuration says {}", row.len(), parts.width),
        Ok(rows) => format!("it gave {} rows for one text", rows.len()),
        Err(error) => error.to_string(),
    };
    Err(StartError::SelfTest(problem))
}
