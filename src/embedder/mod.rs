//! TEXT → UNIT VECTORS.
//!
//! ```text
//! call ── tokenise (blocking pool) ── Room ── Scheduler ══ workers ── pooled vectors ── call
//!          as many at once as          bounds   two lanes,   own thread each,
//!          there are workers           tokens   late batches no async inside
//! ```
//!
//! Invariants: the model never runs on an async thread; everything that waits is counted in tokens
//! and bounded; a text's vector does not depend on what it is batched with; a call that is dropped
//! (cancelled, past its deadline) leaves no work behind. Knows nothing of collections or messages.

pub mod bert;
mod device;
mod embedding;
mod encoder;
mod padded;
mod room;
mod scheduler;
mod tokenizer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Semaphore, oneshot};

pub use device::{DeviceChoice, DeviceError};
pub use embedding::{Embedding, NotAnEmbedding};
pub use encoder::LoadError;
pub use room::{Overloaded, WhenFull};

use crate::model::{Card, Prompts};
use encoder::{Encoder, Scratch};
use room::Room;
use scheduler::{EncodeFailed, Job, Lane, Scheduler};
use tokenizer::{Tokenizer, TokenizerError, Tokens};

/// How an [`Embedder`] runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the model runs.
    pub device: DeviceChoice,
    /// Workers on a CPU. More than the cores of the container slows everything down.
    pub threads: usize,
    /// The most tokens in one batch, padding included. Higher: more throughput on accelerators, and
    /// a small call waits longer behind a batch that has begun. `None`: what suits the device.
    pub batch_tokens: Option<usize>,
    /// Arithmetic of the model.
    pub precision: Precision,
    /// Tokens of unary calls that may wait; beyond it they are refused. As many again for streams.
    pub queue_tokens: usize,
}

/// 512 on a CPU: a core is busy with it for less than a quarter of a second, so a small call waits no longer.
const CPU_BATCH_TOKENS: usize = 512;
/// 16,384 on an accelerator: enough rows to fill its multiprocessors.
const ACCELERATOR_BATCH_TOKENS: usize = 16_384;

/// Arithmetic of the model; a part of its fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    F32,
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if s == "f32" { Ok(Self::F32) } else { Err("expected f32".to_owned()) }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
        }
    }
}

/// What a text is; picks the model's prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputType {
    /// No prompt but the card's default, if it names one.
    #[default]
    Plain,
    /// A question.
    Query,
    /// A passage to be found.
    Document,
}

/// What happens to a text of more than `max_tokens` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Truncation {
    /// Its end is cut off.
    #[default]
    End,
    /// It is an error.
    Reject,
}

/// One text through the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Pooled {
    /// The pooled vector, `[dimensions]`, finite, not normalised.
    pub values: Vec<f32>,
    /// Tokens that the model read.
    pub tokens: usize,
    /// Tokens that the text has (see `Tokens::total`).
    pub tokens_total: usize,
}

/// Why one text has no vector.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// It is longer than the model reads, and the caller wanted no cut.
    #[error("{tokens_total} tokens exceed the model's limit of {max_tokens}")]
    TooLong {
        /// Tokens of the text, or a lower bound above the limit.
        tokens_total: usize,
        /// The model's limit.
        max_tokens: usize,
    },
    /// The tokenizer failed on it.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model failed; the cause is in the log.
    #[error(transparent)]
    Encode(#[from] EncodeFailed),
}

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
    max_tokens: usize,
    dimensions: usize,
    batch_tokens: usize,
    device: DeviceChoice,
    /// Calls that may tokenise at one time.
    tokenising: Semaphore,
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
        let tokenizer = Arc::new(Tokenizer::new(&json, card.max_tokens, card.lowercase)?);
        let encoder = Arc::new(Encoder::load(card, &device)?);
        self_test(&encoder, &tokenizer, card.dimensions)?;

        let on_cpu = choice == DeviceChoice::Cpu;
        // An accelerator runs one batch at a time; more workers would only hold more memory.
        let workers = if on_cpu { options.threads.max(1) } else { 1 };
        let batch_tokens =
            options.batch_tokens.unwrap_or(if on_cpu { CPU_BATCH_TOKENS } else { ACCELERATOR_BATCH_TOKENS });
        let scheduler = Arc::new(Scheduler::new(batch_tokens, workers));
        let room = Arc::new(Room::new(options.queue_tokens, workers));
        for n in 0..workers {
            let (encoder, scheduler, room) = (Arc::clone(&encoder), Arc::clone(&scheduler), Arc::clone(&room));
            std::thread::Builder::new()
                .name(format!("encode-{n}"))
                .spawn(move || work(&encoder, &scheduler, &room))
                .map_err(StartError::Thread)?;
        }
        Ok(Self(Arc::new(Shared {
            tokenizer,
            prompts: card.prompts.clone(),
            max_tokens: card.max_tokens,
            dimensions: card.dimensions,
            batch_tokens,
            device: choice,
            tokenising: Semaphore::new(options.threads.max(1)),
            room,
            scheduler,
        })))
    }

    /// Length of a full vector.
    pub fn dimensions(&self) -> usize {
        self.0.dimensions
    }

    /// Where the model runs; never `Auto`.
    pub fn device(&self) -> DeviceChoice {
        self.0.device
    }

    /// Embeds `texts`, one result each, in order. Dropping the future abandons what has not begun.
    pub async fn embed(
        &self,
        texts: Vec<String>,
        input_type: InputType,
        truncation: Truncation,
        when_full: WhenFull,
    ) -> Result<Vec<Result<Pooled, TextError>>, Overloaded> {
        let tokenised = self.tokenise(texts, input_type).await;
        let mut cost = 0;
        let checked: Vec<Result<Tokens, TextError>> = tokenised
            .into_iter()
            .map(|tokens| {
                let tokens = tokens?;
                if truncation == Truncation::Reject && tokens.truncated() {
                    return Err(TextError::TooLong { tokens_total: tokens.total, max_tokens: self.0.max_tokens });
                }
                cost += tokens.ids.len();
                Ok(tokens)
            })
            .collect();
        if cost == 0 {
            return Ok(checked
                .into_iter()
                .map(|failed| Err(failed.expect_err("every text that tokenises costs a token")))
                .collect());
        }
        let room = Arc::new(self.0.room.enter(cost, when_full).await?);
        // A call of more than one batch would hold up every small one behind it.
        let small = when_full == WhenFull::Refuse && cost <= self.0.batch_tokens;
        let lane = if small { Lane::Interactive } else { Lane::Bulk };
        let mut jobs = Vec::with_capacity(checked.len());
        let waiting: Vec<_> = checked
            .into_iter()
            .map(|tokens| {
                let tokens = tokens?;
                let (reply, answer) = oneshot::channel();
                let (read, tokens_total) = (tokens.ids.len(), tokens.total);
                jobs.push(Job { ids: tokens.ids, reply, _room: Arc::clone(&room) });
                Ok((answer, read, tokens_total))
            })
            .collect();
        drop(room);
        self.0.scheduler.push(lane, jobs);
        let mut results = Vec::with_capacity(waiting.len());
        for one in waiting {
            results.push(match one {
                Ok((answer, tokens, tokens_total)) => match answer.await.unwrap_or(Err(EncodeFailed)) {
                    Ok(values) => Ok(Pooled { values, tokens, tokens_total }),
                    Err(failed) => Err(failed.into()),
                },
                Err(error) => Err(error),
            });
        }
        Ok(results)
    }

    async fn tokenise(&self, texts: Vec<String>, input_type: InputType) -> Vec<Result<Tokens, TextError>> {
        let count = texts.len();
        let prompts = &self.0.prompts;
        let prompt = match input_type {
            InputType::Plain => &prompts.default,
            InputType::Query => &prompts.query,
            InputType::Document => &prompts.document,
        };
        let prompt = prompt.clone();
        let tokenizer = Arc::clone(&self.0.tokenizer);
        let _turn = self.0.tokenising.acquire().await.expect("the semaphore is never closed");
        let tokenise = move || -> Vec<Result<Tokens, TextError>> {
            texts
                .into_iter()
                .map(|text| match &prompt {
                    Some(prompt) => Ok(tokenizer.tokens(&format!("{prompt}{text}"))?),
                    None => Ok(tokenizer.tokens(&text)?),
                })
                .collect()
        };
        tokio::task::spawn_blocking(tokenise).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the tokenizer panicked");
            (0..count).map(|_| Err(EncodeFailed.into())).collect()
        })
    }
}

/// A worker: batches through the model until the scheduler closes.
fn work(encoder: &Encoder, scheduler: &Scheduler, room: &Room) {
    let mut scratch = Scratch::default();
    while let Some(batch) = scheduler.take() {
        let ids: Vec<&[u32]> = batch.iter().map(|job| job.ids.as_slice()).collect();
        let begun = Instant::now();
        let vectors = match encode(encoder, &ids, &mut scratch) {
            Ok(vectors) => vectors.into_iter().map(Ok).collect(),
            // One text may have failed its neighbours, or memory did not do for all of them.
            Err(_) if ids.len() > 1 => {
                let mut alone = |ids| encode(encoder, &[ids], &mut scratch)?.pop().ok_or(EncodeFailed);
                ids.iter().map(|ids| alone(ids)).collect()
            }
            Err(failed) => vec![Err(failed)],
        };
        room.record(ids.iter().map(|ids| ids.len()).sum(), begun.elapsed());
        for (job, vector) in batch.into_iter().zip(vectors) {
            // A receiver that is gone was cancelled while the batch ran.
            drop(job.reply.send(vector));
        }
    }
}

/// One batch; an error or a panic inside the model is logged and ends the batch, not the worker.
fn encode(encoder: &Encoder, batch: &[&[u32]], scratch: &mut Scratch) -> Result<Vec<Vec<f32>>, EncodeFailed> {
    match catch_unwind(AssertUnwindSafe(|| encoder.encode(batch, scratch))) {
        Ok(Ok(vectors)) if vectors.iter().flatten().all(|v| v.is_finite()) => return Ok(vectors),
        Ok(Ok(_)) => tracing::error!(texts = batch.len(), "the model gave values that are not finite"),
        Ok(Err(error)) => tracing::error!(%error, texts = batch.len(), "the model failed"),
        Err(_) => tracing::error!(texts = batch.len(), "the model panicked"),
    }
    Err(EncodeFailed)
}

fn self_test(encoder: &Encoder, tokenizer: &Tokenizer, dimensions: usize) -> Result<(), StartError> {
    let fail = |reason: String| StartError::SelfTest(reason);
    let text = tokenizer.tokens("A model that answers this is ready.")?;
    let vectors = encode(encoder, &[&text.ids], &mut Scratch::default()).map_err(|e| fail(e.to_string()))?;
    match vectors.first() {
        Some(v) if v.len() != dimensions => {
            Err(fail(format!("its vectors have {} dimensions, config.json says {dimensions}", v.len())))
        }
        Some(v) => Embedding::normalized(v.clone()).map(drop).map_err(|e| fail(e.to_string())),
        None => Err(fail("it gave no vector".to_owned())),
    }
}
