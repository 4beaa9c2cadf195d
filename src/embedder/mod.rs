//! TEXT → UNIT VECTORS: a model of BERT's family on a device, or as an ONNX graph, behind the queue, the batches and the
//! cache of [`inference`].
//!
//! Invariants: a text's vector does not depend on what it is batched with; what a vector means is decided by the model's
//! card alone. Knows nothing of collections or messages.

pub mod bert;
mod device;
mod embedding;
mod encoder;
mod onnx;
mod options;

use std::path::PathBuf;
use std::sync::Arc;

pub use device::{DeviceChoice, DeviceError};
pub use embedding::{Embedding, NotAnEmbedding};
pub use encoder::LoadError;
pub use options::{Backend, Options, Precision};

use crate::compute::WhenFull;
use crate::inference::{
    self, CacheStats, Inference, Kept, Output, Overloaded, Parts, Reading, TextError, Tokenizer, TokenizerError,
    Truncation,
};
use crate::model::{Card, Prompts, TruncationSide};
use encoder::Encoder;

/// Why there is no embedder.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The device cannot be had.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The tokenizer file cannot be used.
    #[error("{path} cannot be used: {reason}", path = .path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: TokenizerError,
    },
    /// The tokenizer gives tokens that the model does not have.
    #[error(
        "{path} has {tokens} tokens, and the model has vectors for {rows} (vocab_size in config.json); \
         use the tokenizer that the model was trained with, or resize the model's embeddings and save it again",
        path = .path.display()
    )]
    Vocabulary {
        /// The tokenizer's file.
        path: PathBuf,
        /// Its tokens, added ones included, as they are numbered.
        tokens: usize,
        /// `vocab_size`
        rows: usize,
    },
    /// The model's files cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model does not work, or its threads do not start.
    #[error(transparent)]
    Inference(#[from] inference::StartError),
}

/// The part of a long text that is kept where its other end is left out.
pub fn kept(left_out: TruncationSide) -> Kept {
    match left_out {
        TruncationSide::Right => Kept::Beginning,
        TruncationSide::Left => Kept::End,
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

/// A model that is ready to embed. Cheap to clone; the workers stop when the last clone is gone.
#[derive(Clone)]
pub struct Embedder {
    inference: Inference,
    prompts: Arc<Prompts>,
    dimensions: usize,
    device: DeviceChoice,
}

impl Embedder {
    /// Loads a model, puts a text through it, and starts the workers. Blocks for as long as reading
    /// the weights takes.
    pub fn start(card: &Card, options: &Options) -> Result<Self, StartError> {
        let (device, choice) = options.device()?.open()?;
        let kept = kept(card.truncation_side);
        let reading = Reading { max_tokens: card.max_tokens, lowercase: card.lowercase, kept };
        let tokenizer = Tokenizer::new(&card.tokenizer_json, reading)
            .map_err(|reason| StartError::Tokenizer { path: card.tokenizer.clone(), reason })?;
        let last_token = tokenizer.last_token().unwrap_or(0);
        let (tokens, rows) = (last_token as usize + 1, card.architecture.vocab_size);
        if tokens > rows {
            return Err(StartError::Vocabulary { path: card.tokenizer.clone(), tokens, rows });
        }
        let model = Encoder::load(card, &device, options)?;
        model.probe(last_token, card.max_tokens)?;
        let parts = Parts {
            name: "encode",
            fingerprint: card.fingerprint.clone(),
            tokenizer,
            model: Arc::new(model),
            width: card.dimensions,
        };
        Ok(Self {
            inference: Inference::start(parts, &options.inference(choice))?,
            prompts: Arc::new(card.prompts.clone()),
            dimensions: card.dimensions,
            device: choice,
        })
    }

    /// Length of a full vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Tokens of a text that the model reads.
    pub fn max_tokens(&self) -> usize {
        self.inference.max_tokens()
    }

    /// Where the model runs; never `Auto`.
    pub fn device(&self) -> DeviceChoice {
        self.device
    }

    /// What is kept of earlier texts, and how often it helped.
    pub fn cache_stats(&self) -> CacheStats {
        self.inference.cache_stats()
    }

    /// Embeds `texts`, one result each, in order: pooled vectors, `[dimensions]`, finite, not normalised. Dropping the
    /// future abandons what has not begun.
    pub async fn embed(
        &self,
        texts: Vec<String>,
        input_type: InputType,
        truncation: Truncation,
        when_full: WhenFull,
    ) -> Result<Vec<Result<Output, TextError>>, Overloaded> {
        self.inference.run(texts, self.prompt(input_type), truncation, when_full).await
    }

    fn prompt(&self, input_type: InputType) -> &str {
        let prompt = match input_type {
            InputType::Plain => &self.prompts.default,
            InputType::Query => &self.prompts.query,
            InputType::Document => &self.prompts.document,
        };
        prompt.as_deref().unwrap_or_default()
    }
}
