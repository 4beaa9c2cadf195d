//! TEXTS → A ROW OF NUMBERS FOR EACH, through any model: what the embedder and the classifiers share.
//!
//! ```text
//! call ── keys ── tokenise (pool of texts) ── TokenBudget ── Scheduler ══ workers ── rows of numbers ── call
//!          │      fair between calls          bounds  three lanes, own thread each,              │
//!          │      stops with its call         tokens  late batches  no async inside              │
//!          └── SingleFlight: a text that is on its way for another call, or kept from before ─────────┘
//! ```
//!
//! Invariants: a model never runs on an async thread; everything that waits is counted in tokens
//! and bounded; a text's row does not depend on what it is batched with, as far as the model keeps
//! to that; a call that is dropped (cancelled, past its deadline) leaves no work behind. Knows
//! nothing of what the numbers mean, which is the caller's.

mod batch_queue;
mod cache;
mod call;
mod flight;
pub(crate) mod fuzz;
mod key;
mod lane;
mod pace;
mod scheduler;
#[cfg(test)]
mod simulation;
mod single_flight;
mod text;
mod token_budget;
mod tokenizer;
mod worker;

use std::sync::Arc;

pub use cache::CacheStats;
pub use text::{ModelFailed, Output, TextError, Truncation};
pub use token_budget::Overloaded;
pub use tokenizer::{Kept, Reading, Tokenizer, TokenizerError};

use crate::compute::{Pools, WhenFull};
use crate::machine::team::Team;
use cache::Cache;
use key::Keys;
use scheduler::Scheduler;
use single_flight::SingleFlight;
use token_budget::TokenBudget;
use worker::{Worker, run};

/// What turns token ids into numbers. Shared by the threads that run it.
pub trait Model: Send + Sync + 'static {
    /// A way to run it in one thread. Threads that help `team` may share its work.
    fn for_thread(&self, team: Arc<Team>) -> Run;
}

/// Runs batches in one thread, with memory of its own: `[texts][width]`. A batch is the token ids of each text, none
/// empty.
pub type Run = Box<dyn FnMut(&[&[u32]]) -> Result<Vec<Vec<f32>>, RunError>>;

/// Why a batch could not be computed.
pub type RunError = Box<dyn std::error::Error + Send + Sync>;

/// How texts are queued, batched and kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that run the model, a batch each.
    pub workers: usize,
    /// The most tokens in one batch, padding included. Higher: fewer passes through the model, and a small call waits
    /// longer behind a batch that has begun.
    pub batch_tokens: usize,
    /// Tokens of unary calls that may wait; beyond it they are refused. As many again for streams.
    pub queue_tokens: usize,
    /// Memory for rows of texts that were computed before. 0: each is computed again.
    pub cache_bytes: usize,
    /// The pools that tokenise texts.
    pub pools: Pools,
}

/// A model with what is needed to feed it texts.
pub struct Parts {
    /// What its threads are called.
    pub name: &'static str,
    /// Names everything that decides its numbers.
    pub fingerprint: String,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// The model itself.
    pub model: Arc<dyn Model>,
    /// Numbers of a row.
    pub width: usize,
}

/// Why a model cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its tokenizer fails on a plain sentence.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A worker thread could not be started.
    #[error("cannot start a worker thread: {0}")]
    Thread(std::io::Error),
    /// The model was loaded and does not work.
    #[error("the model failed its self-test: {0}")]
    SelfTest(String),
}

/// A model that takes texts. Cheap to clone; the workers stop when the last clone is gone.
#[derive(Clone)]
pub struct Inference(Arc<Shared>);

struct Shared {
    tokenizer: Arc<Tokenizer>,
    keys: Keys,
    batch_tokens: usize,
    pools: Pools,
    single_flight: Arc<SingleFlight>,
    token_budget: Arc<TokenBudget>,
    scheduler: Arc<Scheduler>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.scheduler.close();
    }
}

impl Inference {
    /// Puts a text through the model and starts the workers.
    pub fn start(parts: Parts, options: &Options) -> Result<Self, StartError> {
        self_test(&parts)?;
        let Parts { name, fingerprint, tokenizer, model, width } = parts;
        let shared = Shared::new(&fingerprint, tokenizer, width, options);
        let worker = Worker {
            model,
            scheduler: Arc::clone(&shared.scheduler),
            single_flight: Arc::clone(&shared.single_flight),
            token_budget: Arc::clone(&shared.token_budget),
        };
        for n in 0..options.workers.max(1) {
            let worker = worker.clone();
            std::thread::Builder::new()
                .name(format!("{name}-{n}"))
                .spawn(move || worker.run())
                .map_err(StartError::Thread)?;
        }
        Ok(Self(Arc::new(shared)))
    }

    /// Tokens of a text that the model reads.
    pub fn max_tokens(&self) -> usize {
        self.0.tokenizer.max_tokens()
    }

    /// What is kept of earlier texts, and how often it helped.
    pub fn cache_stats(&self) -> CacheStats {
        self.0.single_flight.cache_stats()
    }

    /// Puts `texts` through the model, each with `prompt` before it: one result each, in order. Dropping the future
    /// abandons what has not begun.
    pub async fn run(
        &self,
        texts: Vec<String>,
        prompt: &str,
        truncation: Truncation,
        when_full: WhenFull,
    ) -> Result<Vec<Result<Output, TextError>>, Overloaded> {
        self.0.run(texts, prompt, truncation, when_full).await
    }
}

impl Shared {
    fn new(fingerprint: &str, tokenizer: Tokenizer, width: usize, options: &Options) -> Self {
        let workers = options.workers.max(1);
        Self {
            tokenizer: Arc::new(tokenizer),
            keys: Keys::new(fingerprint),
            batch_tokens: options.batch_tokens,
            pools: options.pools.clone(),
            single_flight: Arc::new(SingleFlight::new(Cache::new(options.cache_bytes, width))),
            token_budget: Arc::new(TokenBudget::new(options.queue_tokens)),
            scheduler: Arc::new(Scheduler::new(options.batch_tokens, workers)),
        }
    }
}

fn self_test(parts: &Parts) -> Result<(), StartError> {
    let text = parts.tokenizer.tokens("A model that answers this is ready.")?;
    let mut model = parts.model.for_thread(Arc::default());
    let problem = match run(&mut model, &[&text.ids]).as_deref() {
        Ok([row]) if row.len() == parts.width => return Ok(()),
        Ok([row]) => format!("it gave {} values for a text, and its configuration says {}", row.len(), parts.width),
        Ok(rows) => format!("it gave {} rows for one text", rows.len()),
        Err(error) => error.to_string(),
    };
    Err(StartError::SelfTest(problem))
}
