//! The start of a reranker from its card. It checks that tokenizer, weights and score fit each other.

use std::sync::Arc;

use super::spec::Spec;
use super::{About, Reranker};
use crate::classifier::GraphModel;
use crate::embedder::{self, Backend, CrossEncoder, CrossEncoderError, DeviceChoice, VocabularyError, kept};
use crate::inference::{self, Inference, Model, Parts, Reading, Tokenizer, TokenizerError};
use crate::model::{self, CardError, PairTemplate, RerankerCard, RerankerWeights, ScoreFunction};
use crate::onnx::{self, Graph, GraphSource, ProbeError, Runtime, RuntimeError, Scale, SharedGraph, Wanted};

/// The settings of the rerankers.
#[derive(Debug, Clone)]
pub struct Options {
    /// The rerankers to serve, with different names.
    pub specs: Vec<Spec>,
    /// Device, precision, threads, batches and queue of the models on our own kernels; the cache of each reranker.
    pub model: embedder::Options,
    /// The ONNX runtime of graphs.
    pub onnx: onnx::Options,
}

/// The reason why a reranker cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The files are missing, wrong or not supported.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The tokenizer cannot be used.
    #[error("tokenizer.json cannot be used: {0}")]
    Tokenizer(TokenizerError),
    /// The tokenizer has tokens that the model does not have.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The tokenizer has token types that the model does not have.
    #[error(
        "the tokenizer gives the second text of a pair token type 1, and config.json has type_vocab_size {types}; use \
         the tokenizer that the model was trained with"
    )]
    Types {
        /// `type_vocab_size`
        types: usize,
    },
    /// The weights do not load.
    #[error(transparent)]
    CrossEncoder(#[from] CrossEncoderError),
    /// The wanted ONNX runtime is not available.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The graph does not load.
    #[error(transparent)]
    Graph(#[from] onnx::LoadError),
    /// The graph gives several numbers.
    #[error("the graph's output {output} has {numbers} numbers for a pair, and must have 1")]
    Numbers {
        /// The output.
        output: String,
        /// Numbers of a row.
        numbers: usize,
    },
    /// The graph makes another score than its configuration says.
    #[error(
        "the graph's output {output} is the result of {step}, and the activation function in its configuration is \
         {function}; export the number before that step (logits)"
    )]
    OtherFunction {
        /// The output.
        output: String,
        /// The graph's last step.
        step: &'static str,
        /// The function of the configuration.
        function: ScoreFunction,
    },
    /// The graph does not take every pair that its tokenizer and its settings allow.
    #[error("the graph does not fit its tokenizer: {0}")]
    Probe(ProbeError),
    /// The computation does not start.
    #[error(transparent)]
    Inference(#[from] inference::StartError),
}

/// A model that is ready to run.
struct Loaded {
    tokenizer: Tokenizer,
    model: Arc<dyn Model>,
    runtime: String,
    precision: String,
    options: inference::Options,
}

impl Reranker {
    /// Starts a reranker from its files. It blocks while the weights are read.
    pub fn start(spec: &Spec, files: &model::Files, options: &Options) -> Result<Self, StartError> {
        let card = RerankerCard::read(files)?;
        let loaded = match &card.weights {
            RerankerWeights::Safetensors(files, architecture, head) => {
                let tokenizer = tokenizer(&card, card.max_tokens)?;
                VocabularyError::check(&tokenizer, &card.tokenizer, architecture.vocab_size)?;
                let pair = tokenizer.sample("a pair").map_err(StartError::Tokenizer)?;
                if pair.first < pair.ids.len() && architecture.type_vocab_size == 1 {
                    return Err(StartError::Types { types: architecture.type_vocab_size });
                }
                let (model, device) = CrossEncoder::load(files, (architecture, head), &options.model)?;
                Loaded {
                    tokenizer,
                    model: Arc::new(model),
                    runtime: device.to_string(),
                    precision: options.model.precision.to_string(),
                    options: options.model.inference(device, false),
                }
            }
            RerankerWeights::Graph(path) => graph(&card, path, options)?,
        };
        let about = About {
            name: spec.name.clone(),
            id: card.id,
            revision: card.revision,
            function: card.function,
            max_tokens: loaded.tokenizer.max_tokens(),
            runtime: loaded.runtime,
            precision: loaded.precision,
        };
        let parts = Parts {
            name: "rerank",
            fingerprint: card.fingerprint,
            tokenizer: loaded.tokenizer,
            model: loaded.model,
            width: 1,
        };
        Ok(Self { about: Arc::new(about), inference: Inference::start(parts, &loaded.options)? })
    }
}

/// Loads an ONNX graph.
fn graph(card: &RerankerCard, path: &std::path::Path, options: &Options) -> Result<Loaded, StartError> {
    let runtime = Runtime::find(&options.onnx)?;
    let mut graph = Graph::load(&runtime, GraphSource::File(path), Wanted::Logits)?;
    let max_tokens = graph.sequence().map_or(card.max_tokens, |fixed| fixed.min(card.max_tokens));
    let tokenizer = tokenizer(card, max_tokens)?;
    let output = || graph.output().to_string();
    if let Some(numbers) = graph.width().filter(|numbers| *numbers != 1) {
        return Err(StartError::Numbers { output: output(), numbers });
    }
    let step = match graph.scale() {
        Scale::Sigmoid if card.function == ScoreFunction::Identity => Some("Sigmoid"),
        // A softmax over one number is always 1.
        Scale::Softmax => Some("Softmax"),
        Scale::LogSoftmax => Some("LogSoftmax"),
        Scale::Scores | Scale::Sigmoid => None,
    };
    if let Some(step) = step {
        return Err(StartError::OtherFunction { output: output(), step, function: card.function });
    }
    graph.probe(tokenizer.last_token().unwrap_or(0), max_tokens, card.pad_token).map_err(StartError::Probe)?;
    let of_graph = embedder::Options {
        backend: Backend::Onnx(options.onnx.clone()),
        threads: options.onnx.threads,
        ..options.model.clone()
    };
    Ok(Loaded {
        tokenizer,
        model: Arc::new(GraphModel(SharedGraph::new(graph, card.pad_token))),
        runtime: runtime.name(),
        precision: model::ONNX.to_owned(),
        options: of_graph.inference(DeviceChoice::Cpu, false),
    })
}

/// Reads the tokenizer of pairs. A family without token types gets none.
fn tokenizer(card: &RerankerCard, max_tokens: usize) -> Result<Tokenizer, StartError> {
    let has_types = match &card.weights {
        RerankerWeights::Safetensors(_, architecture, _) => architecture.type_vocab_size > 0,
        RerankerWeights::Graph(_) => true,
    };
    let reading = Reading { max_tokens, lowercase: card.lowercase, kept: kept(card.truncation_side) };
    let tokenizer = match &card.template {
        Some(PairTemplate { before, between, after }) => {
            let texts = [before, between, after].map(String::clone);
            Tokenizer::of_chats(&card.tokenizer_json, reading, texts)
        }
        None => Tokenizer::of_pairs(&card.tokenizer_json, reading, card.typed && has_types),
    };
    tokenizer.map_err(StartError::Tokenizer)
}
