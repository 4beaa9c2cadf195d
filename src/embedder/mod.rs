//! TEXT → UNIT VECTORS.
//!
//! ```text
//! call ── keys ── tokenise (blocking pool) ── Room ── Scheduler ══ workers ── pooled vectors ── call
//!          │      as many at once as          bounds  two lanes,   own thread each,              │
//!          │      there are workers           tokens  late batches  no async inside              │
//!          └── Flights: a text that is on its way for another call, or kept from before ─────────┘
//! ```
//!
//! Invariants: the model never runs on an async thread; everything that waits is counted in tokens
//! and bounded; a text's vector does not depend on what it is batched with; a call that is dropped
//! (cancelled, past its deadline) leaves no work behind. Knows nothing of collections or messages.

pub mod bert;
mod cache;
mod call;
mod device;
mod embedding;
mod encoder;
mod flight;
mod flights;
mod key;
mod lanes;
mod options;
mod room;
mod scheduler;
mod text;
mod tokenizer;
mod worker;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub use cache::CacheStats;
pub use device::{DeviceChoice, DeviceError};
pub use embedding::{Embedding, NotAnEmbedding};
pub use encoder::LoadError;
pub use options::{Options, Precision};
pub use room::{Overloaded, WhenFull};
pub use text::{InputType, Pooled, TextError, Truncation};

use crate::model::{Card, Prompts};
use cache::Cache;
use encoder::Encoder;
use flights::Flights;
use key::Keys;
use room::Room;
use scheduler::Scheduler;
use tokenizer::{Tokenizer, TokenizerError};
use worker::{Worker, encode};

/// Why there is no embedder.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The device cannot be had.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The tokenizer file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The tokenizer file cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model's files cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A worker thread could not be started.
    #[error("cannot start a worker thread: {0}")]
    Thread(std::io::Error),
    /// The model was loaded and does not work.
    #[error("the model failed its self-test: {0}")]
    SelfTest(String),
}

/// A model that is ready to embed. Cheap to clone; the workers stop when the last clone is gone.
#[derive(Clone)]
pub struct Embedder(Arc<Shared>);

struct Shared {
    tokenizer: Arc<Tokenizer>,
    prompts: Prompts,
    keys: Keys,
    max_tokens: usize,
    dimensions: usize,
    batch_tokens: usize,
    device: DeviceChoice,
    /// Calls that may tokenise at one time.
    tokenising: Semaphore,
    flights: Arc<Flights>,
    room: Arc<Room>,
    scheduler: Arc<Scheduler>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.scheduler.close();
    }
}

impl Embedder {
    /// Loads a model, puts a text through it, and starts the workers. Blocks for as long as reading
    /// the weights takes.
    pub fn start(card: &Card, options: &Options) -> Result<Self, StartError> {
        let (device, choice) = options.device.open()?;
        let json = std::fs::read(&card.tokenizer)
            .map_err(|source| StartError::Read { path: card.tokenizer.clone(), source })?;
        let tokenizer = Tokenizer::new(&json, card.max_tokens, card.lowercase)?;
        let encoder = Arc::new(Encoder::load(card, &device, options.precision)?);
        self_test(&encoder, &tokenizer, card.dimensions)?;

        let shared = Shared::new(card, tokenizer, choice, options);
        let worker = Worker {
            encoder,
            scheduler: Arc::clone(&shared.scheduler),
            flights: Arc::clone(&shared.flights),
            room: Arc::clone(&shared.room),
        };
        for n in 0..options.workers(choice) {
            let worker = worker.clone();
            std::thread::Builder::new()
                .name(format!("encode-{n}"))
                .spawn(move || worker.run())
                .map_err(StartError::Thread)?;
        }
        Ok(Self(Arc::new(shared)))
    }

    /// Length of a full vector.
    pub fn dimensions(&self) -> usize {
        self.0.dimensions
    }

    /// Where the model runs; never `Auto`.
    pub fn device(&self) -> DeviceChoice {
        self.0.device
    }

    /// What is kept of earlier texts, and how often it helped.
    pub fn cache_stats(&self) -> CacheStats {
        self.0.flights.cache_stats()
    }

    /// Embeds `texts`, one result each, in order. Dropping the future abandons what has not begun.
    pub async fn embed(
        &self,
        texts: Vec<String>,
        input_type: InputType,
        truncation: Truncation,
        when_full: WhenFull,
    ) -> Result<Vec<Result<Pooled, TextError>>, Overloaded> {
        self.0.embed(texts, input_type, truncation, when_full).await
    }
}

impl Shared {
    fn new(card: &Card, tokenizer: Tokenizer, device: DeviceChoice, options: &Options) -> Self {
        let (workers, batch_tokens) = (options.workers(device), options.batch_tokens(device));
        Self {
            tokenizer: Arc::new(tokenizer),
            prompts: card.prompts.clone(),
            keys: Keys::new(&card.fingerprint),
            max_tokens: card.max_tokens,
            dimensions: card.dimensions,
            batch_tokens,
            device,
            tokenising: Semaphore::new(options.threads.max(1)),
            flights: Arc::new(Flights::new(Cache::new(options.cache_bytes, card.dimensions))),
            room: Arc::new(Room::new(options.queue_tokens, workers)),
            scheduler: Arc::new(Scheduler::new(batch_tokens, workers)),
        }
    }
}

fn self_test(encoder: &Encoder, tokenizer: &Tokenizer, dimensions: usize) -> Result<(), StartError> {
    let fail = |reason: String| StartError::SelfTest(reason);
    let text = tokenizer.tokens("A model that answers this is ready.")?;
    let mut encoder = encoder.for_thread(Arc::default());
    let vectors = encode(&mut encoder, &[&text.ids]).map_err(|e| fail(e.to_string()))?;
    match vectors.first() {
        Some(v) if v.len() != dimensions => {
            Err(fail(format!("its vectors have {} dimensions, config.json says {dimensions}", v.len())))
        }
        Some(v) => Embedding::normalized(v.clone()).map(drop).map_err(|e| fail(e.to_string())),
        None => Err(fail("it gave no vector".to_owned())),
    }
}
