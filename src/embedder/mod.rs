//! TEXT → UNIT VECTORS: a transformer encoder on a device, static vectors, or an ONNX graph, with the queue, batches
//! and cache of `inference`. The cross-encoders of rerankers are here too: they are such models with a head.
//!
//! Invariants: a text's vector does not depend on the other texts of its batch. Only the model's card decides the
//! meaning of a vector. This module uses neither collections nor messages of the wire.

mod cross_encoder;
mod device;
mod encoder;
mod numbers;
mod onnx;
mod options;
mod pooling;
mod static_table;
mod steps;
pub mod transformer;
mod weights;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use cross_encoder::{CrossEncoder, CrossEncoderError};
pub use device::{DeviceChoice, DeviceError};
pub use options::{Backend, Options, Precision, Spec};
pub use weights::LoadError;

use crate::compute::{Terms, WhenFull};
use crate::inference::{
    self, Before, CacheStats, Cut, Inference, Kept, Output, Overloaded, Parts, Reading, Sizes, Stats, Tested,
    TextError, Token, Tokenizer, TokenizerError, Truncation,
};
use crate::model::{self, Card, Prompts, TruncationSide};
use encoder::Encoder;

/// The reason why an embedder does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The device is not available.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The tokenizer file cannot be used.
    #[error("{path} cannot be used: {reason}", path = .path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// The cause.
        reason: TokenizerError,
    },
    /// The tokenizer has tokens that the model does not have.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The model's files cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The computation does not start.
    #[error(transparent)]
    Inference(#[from] inference::StartError),
}

/// A tokenizer with tokens that the model does not have.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} has {tokens} tokens, and the model has vectors for {rows} (vocab_size in config.json, or the table); \
     use the tokenizer that the model was trained with, or resize the model's embeddings and save it again",
    path = .path.display()
)]
pub struct VocabularyError {
    /// The tokenizer's file.
    path: PathBuf,
    /// The greatest token id, with added tokens, plus one.
    tokens: usize,
    /// The tokens that have a vector.
    rows: usize,
}

impl VocabularyError {
    /// Checks that the model has a vector for each token.
    pub fn check(tokenizer: &Tokenizer, path: &Path, rows: usize) -> Result<(), Self> {
        let tokens = tokenizer.last_token().unwrap_or(0) as usize + 1;
        if tokens > rows { Err(Self { path: path.to_owned(), tokens, rows }) } else { Ok(()) }
    }
}

/// Converts the end at which a text is cut off to the part that is kept.
pub fn kept(left_out: TruncationSide) -> Kept {
    match left_out {
        TruncationSide::Right => Kept::Beginning,
        TruncationSide::Left => Kept::End,
    }
}

/// The kind of a text, which selects the model's prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InputType {
    /// Any text: the card's default prompt, if it has one.
    #[default]
    Plain,
    /// A question.
    Query,
    /// A passage that is searched.
    Document,
}

/// A running embedding model. A clone is cheap. The workers stop when the last clone is dropped.
#[derive(Clone)]
pub struct Embedder {
    inference: Inference,
    info: Arc<Info>,
}

/// The facts about a model that its calls need.
struct Info {
    prompts: Prompts,
    dimensions: usize,
    device: DeviceChoice,
    weight_bytes: u64,
}

/// A model that was loaded and tested, and has no workers yet.
pub struct Loaded {
    tested: Tested,
    info: Info,
}

impl Loaded {
    /// Loads a model and tests it with a text. It blocks while the weights are read.
    pub fn load(card: &Card, options: &Options) -> Result<Self, StartError> {
        let is_static = matches!(card.encoder, model::Encoder::Static(_));
        let (device, choice) = options.device(is_static)?.open()?;
        let kept = kept(card.truncation_side);
        let reading = Reading { max_tokens: card.max_tokens, lowercase: card.lowercase, kept };
        let tokenizer = match &card.encoder {
            model::Encoder::Transformer(_) => Tokenizer::new(&card.tokenizer_json, reading),
            model::Encoder::Static(table) => Tokenizer::of_words(&card.tokenizer_json, reading, table.drops_unknown),
        };
        let mut tokenizer =
            tokenizer.map_err(|reason| StartError::Tokenizer { path: card.tokenizer.clone(), reason })?;
        if !card.pooling.include_prompt {
            tokenizer = tokenizer.leaving_prompts_out();
        }
        VocabularyError::check(&tokenizer, &card.tokenizer, card.encoder.tokens())?;
        let model = Encoder::load(card, &device, options)?;
        model.probe(tokenizer.last_token().unwrap_or(0), card.max_tokens)?;
        let weight_bytes = model.weight_bytes();
        let parts = Parts {
            name: "encode",
            fingerprint: card.fingerprint.clone(),
            tokenizer,
            model: Arc::new(model),
            width: card.dimensions,
        };
        Ok(Self {
            tested: parts.test(options.inference(choice, is_static))?,
            info: Info { prompts: card.prompts.clone(), dimensions: card.dimensions, device: choice, weight_bytes },
        })
    }

    /// Returns the device of the model, never `Auto`.
    pub fn device(&self) -> DeviceChoice {
        self.info.device
    }

    /// Returns the bytes of the weights as they are held.
    pub fn weight_bytes(&self) -> u64 {
        self.info.weight_bytes
    }
}

impl Embedder {
    /// Loads a model, tests it with a text and starts workers of its own. It blocks while the weights are read.
    pub fn start(card: &Card, options: &Options) -> Result<Self, StartError> {
        Ok(Self::start_all(vec![Loaded::load(card, options)?])?.remove(0))
    }

    /// Starts the workers of models, in the same order. Those on one device share its workers.
    pub fn start_all(models: Vec<Loaded>) -> Result<Vec<Self>, StartError> {
        let mut tested: Vec<(DeviceChoice, Vec<Tested>)> = Vec::new();
        let mut started = Vec::new();
        for Loaded { tested: model, info } in models {
            let on = tested.iter().position(|(device, _)| *device == info.device).unwrap_or_else(|| {
                tested.push((info.device, Vec::new()));
                tested.len() - 1
            });
            tested[on].1.push(model);
            started.push((on, info));
        }
        let inferences = tested.into_iter().map(|(_, models)| Inference::start_together(models));
        let mut inferences = inferences.map(|all| Ok(all?.into_iter())).collect::<Result<Vec<_>, StartError>>()?;
        let embedder = |(on, info): (usize, Info)| {
            let inference = inferences[on].next().expect("each model has its workers");
            Self { inference, info: Arc::new(info) }
        };
        Ok(started.into_iter().map(embedder).collect())
    }

    /// Returns the length of a full vector.
    pub fn dimensions(&self) -> usize {
        self.info.dimensions
    }

    /// Returns the bytes of the weights as they are held. Static vectors, and the table of words on a CPU, are mapped:
    /// they take memory as far as they are read, and the system may take it back.
    pub fn weight_bytes(&self) -> u64 {
        self.info.weight_bytes
    }

    /// Returns the maximum tokens of a text.
    pub fn max_tokens(&self) -> usize {
        self.inference.max_tokens()
    }

    /// Returns the device of the model, never `Auto`.
    pub fn device(&self) -> DeviceChoice {
        self.info.device
    }

    /// Returns the size of the cache and its hits.
    pub fn cache_stats(&self) -> CacheStats {
        self.inference.cache_stats()
    }

    /// Returns the work of the model so far, and what waits for it.
    pub(crate) fn stats(&self) -> Stats {
        self.inference.stats()
    }

    /// Embeds `texts` and returns one result for each, in order: a pooled vector, `[dimensions]`, finite, not
    /// normalised. Dropping the future cancels texts that have not begun.
    pub async fn embed(
        &self,
        texts: Vec<String>,
        input_type: InputType,
        truncation: Truncation,
        terms: impl Into<Terms>,
    ) -> Result<Vec<Result<Output, TextError>>, Overloaded> {
        self.inference.run(texts, Before::Prompt(self.prompt(input_type)), truncation, terms.into()).await
    }

    /// Cuts `texts` of a kind into passages. Gives each text back.
    pub async fn cut(
        &self,
        texts: Vec<String>,
        input_type: InputType,
        sizes: Sizes,
        when_full: WhenFull,
    ) -> Result<Vec<(String, Result<Cut, TextError>)>, Overloaded> {
        self.inference.cut(texts, self.prompt(input_type), sizes, when_full).await
    }

    /// Tokenises the whole of each text, without a prompt, and passes its tokens to `then`, text by text; `special`:
    /// with the special tokens around it.
    pub async fn tokens<T: Send + 'static>(
        &self,
        texts: Vec<String>,
        special: bool,
        when_full: WhenFull,
        then: impl Fn(Vec<Token>) -> T + Send + Sync + 'static,
    ) -> Result<Vec<Result<T, TextError>>, Overloaded> {
        self.inference.tokens(texts, special, when_full, then).await
    }

    /// Returns the tokens that the prompt for a kind of text and the special tokens take of each text.
    pub fn tokens_around(&self, input_type: InputType) -> usize {
        self.inference.tokens_around(self.prompt(input_type))
    }

    /// Returns the prompt for a kind of text.
    fn prompt(&self, input_type: InputType) -> &str {
        let prompt = match input_type {
            InputType::Plain => &self.info.prompts.default,
            InputType::Query => &self.info.prompts.query,
            InputType::Document => &self.info.prompts.document,
        };
        prompt.as_deref().unwrap_or_default()
    }
}
