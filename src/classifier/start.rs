//! From a card or a head's file to a classifier that answers.

use std::sync::{Arc, Mutex, PoisonError};

use super::head::{Head, HeadError, MadeFor};
use super::spec::{Source, Spec};
use super::{About, Classifier, Works, built_in, scores};
use crate::compute::Pools;
use crate::embedder::{Embedder, kept};
use crate::inference::{self, Inference, Model, Parts, Reading, Run, Tokenizer, TokenizerError};
use crate::kernel::team::Team;
use crate::model::{self, CardError, ClassifierCard, GraphFile, Problem};
use crate::onnx::{self, Graph, ProbeError, Runtime, Scale, Wanted};

/// How classifiers run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Those to serve, by different names.
    pub specs: Vec<Spec>,
    /// Threads of each batch (of the ONNX runtime).
    pub threads: usize,
    /// The most tokens in one batch, padding included. `None`: as many as keep the threads busy.
    pub batch_tokens: Option<usize>,
    /// Tokens of unary calls that may wait for each classifier; beyond it they are refused. As many again for streams.
    pub queue_tokens: usize,
    /// Memory for the scores of earlier texts, for each classifier.
    pub cache_bytes: usize,
    /// The pools that tokenise texts.
    pub pools: Pools,
}

/// Tokens in a batch for each thread: an ONNX runtime shares one batch out among its threads, and a small call must
/// not wait long behind one that has begun (`cognate bench classify`).
const BATCH_TOKENS_A_THREAD: usize = 512;

/// Why a classifier cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its files are missing, wrong or beyond us.
    #[error(transparent)]
    Card(#[from] CardError),
    /// Its graph does not load.
    #[error(transparent)]
    Graph(#[from] onnx::LoadError),
    /// Its tokenizer is none.
    #[error("tokenizer.json cannot be used: {0}")]
    Tokenizer(TokenizerError),
    /// Its graph does not take what its tokenizer and its settings allow.
    #[error("the graph does not fit its tokenizer: {0}")]
    Probe(ProbeError),
    /// `config.json` says one thing of its scores, and the graph another.
    #[error(
        "config.json: problem_type is {given}, which is not supported with the graph's output {output}, which is the \
         result of {step}: export the scores before it (logits), or write the problem_type of the graph"
    )]
    OtherProblem {
        /// The value in the configuration.
        given: Problem,
        /// The output.
        output: String,
        /// The graph's last step.
        step: &'static str,
    },
    /// It does not work.
    #[error(transparent)]
    Inference(#[from] inference::StartError),
    /// Nothing says what its scores are called.
    #[error(
        "config.json has no labels (id2label), and the graph gives {scores} scores: \
         name them with `--classifier-labels {name}=label,label`"
    )]
    NoLabels {
        /// The classifier.
        name: String,
        /// Scores of the graph.
        scores: usize,
    },
    /// There are more or fewer labels than scores.
    #[error("there are {labels} labels, and the graph gives {scores} scores: {names}")]
    LabelCount {
        /// Labels.
        labels: usize,
        /// Scores of the graph.
        scores: usize,
        /// The labels.
        names: String,
    },
    /// The head's file cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The head's file is none.
    #[error("{path} is no head of `cognate train-head`: {source}", path = .path.display())]
    Head {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: HeadError,
    },
    /// The head reads the vectors of another model.
    #[error(
        "{path} was made for the vectors of {wanted} (fingerprint {fingerprint}), and this server has those of {served}: \
         serve that model, add `--allow-precision-mix` if it is the same in another precision, \
         or make the head again with `cognate train-head`", path = .path.display()
    )]
    OtherModel {
        /// The file.
        path: std::path::PathBuf,
        /// The model that it was made for.
        wanted: String,
        /// That model's fingerprint.
        fingerprint: String,
        /// The model that is served, with its fingerprint.
        served: String,
    },
}

/// The embedding model that heads read.
pub struct Embeds<'a> {
    /// The model.
    pub embedder: &'a Embedder,
    /// Its id.
    pub id: &'a str,
    /// Fingerprints whose vectors it gives, or nearly gives.
    pub fingerprints: Vec<&'a str>,
}

impl Classifier {
    /// The one within this binary.
    pub fn built_in(spec: &Spec, runtime: &Runtime, options: &Options) -> Result<Self, StartError> {
        Self::of_graph(spec, built_in::card()?, runtime, options)
    }

    /// One by its files.
    pub fn of_files(
        spec: &Spec,
        files: &model::Files,
        runtime: &Runtime,
        options: &Options,
    ) -> Result<Self, StartError> {
        Self::of_graph(spec, ClassifierCard::read(files)?, runtime, options)
    }

    fn of_graph(spec: &Spec, card: ClassifierCard, runtime: &Runtime, options: &Options) -> Result<Self, StartError> {
        let source = match &card.graph {
            GraphFile::Disk(path) => onnx::Source::File(path),
            GraphFile::BuiltIn(bytes) => onnx::Source::Memory(bytes),
        };
        let mut graph = Graph::load(runtime, source, Wanted::Logits)?;
        let max_tokens = graph.sequence().map_or(card.max_tokens, |fixed| fixed.min(card.max_tokens));
        let reading = Reading { max_tokens, lowercase: false, kept: kept(card.truncation_side) };
        let tokenizer = Tokenizer::new(&card.tokenizer, reading).map_err(StartError::Tokenizer)?;
        let scores = match graph.width() {
            Some(scores) => scores,
            None => count_scores(&mut graph, &tokenizer)?,
        };
        let labels = labels(spec, &card, scores)?;
        let problem = problem(&card, &graph, scores)?;
        graph.probe(tokenizer.last_token().unwrap_or(0), max_tokens, card.pad_token).map_err(StartError::Probe)?;
        let ports = |ports: &[onnx::Port]| ports.iter().map(ToString::to_string).collect::<Vec<_>>();
        let about = About {
            name: spec.name.clone(),
            id: card.id,
            revision: card.revision,
            problem,
            max_tokens,
            runtime: runtime.name(),
            inputs: ports(graph.inputs()),
            outputs: ports(graph.outputs()),
            labels,
        };
        let parts = Parts {
            name: "classify",
            fingerprint: card.fingerprint,
            tokenizer,
            model: Arc::new(Turns { graph: Arc::new(Mutex::new(graph)), pad_token: card.pad_token }),
            width: scores,
        };
        let inference = Inference::start(parts, &options.inference())?;
        Ok(Self { about: Arc::new(about), works: Works::Graph(inference) })
    }

    /// A head on the embedding.
    pub fn of_head(spec: &Spec, path: &std::path::Path, embeds: &Embeds<'_>) -> Result<Self, StartError> {
        let json = std::fs::read(path).map_err(|source| StartError::Read { path: path.to_owned(), source })?;
        let head = Head::from_json(&json).map_err(|source| StartError::Head { path: path.to_owned(), source })?;
        let MadeFor { model, fingerprint } = head.made_for().clone();
        // A model of these fingerprints gives vectors of the head's dimensions: both are of one embedding.
        if !embeds.fingerprints.contains(&fingerprint.as_str()) || head.dimensions() != embeds.embedder.dimensions() {
            let served = format!("{} ({})", embeds.id, embeds.fingerprints.join(", "));
            let path = path.to_owned();
            return Err(StartError::OtherModel { path, wanted: model, fingerprint, served });
        }
        let names = head.labels().iter().map(|label| label.name.clone()).collect();
        let labels = spec.labels.clone().unwrap_or(names);
        check_count(&labels, head.labels().len())?;
        let about = About {
            name: spec.name.clone(),
            id: path.display().to_string(),
            revision: "local".to_owned(),
            labels,
            problem: Problem::SingleLabel,
            max_tokens: embeds.embedder.max_tokens(),
            runtime: "embedding".to_owned(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        Ok(Self { about: Arc::new(about), works: Works::Head(Arc::new(head), embeds.embedder.clone()) })
    }
}

impl Spec {
    /// Whether it needs an ONNX runtime.
    pub fn needs_runtime(&self) -> bool {
        !matches!(self.source, Source::Head(_))
    }
}

impl Options {
    fn inference(&self) -> inference::Options {
        inference::Options {
            // The runtime has threads of its own.
            workers: 1,
            batch_tokens: self.batch_tokens.unwrap_or(BATCH_TOKENS_A_THREAD * self.threads.max(1)),
            queue_tokens: self.queue_tokens,
            cache_bytes: self.cache_bytes,
            pools: self.pools.clone(),
        }
    }
}

/// Labels by hand come before those of the configuration.
fn labels(spec: &Spec, card: &ClassifierCard, scores: usize) -> Result<Vec<String>, StartError> {
    let Some(labels) = spec.labels.as_ref().or(card.labels.as_ref()) else {
        return Err(StartError::NoLabels { name: spec.name.clone(), scores });
    };
    check_count(labels, scores)?;
    Ok(labels.clone())
}

fn check_count(labels: &[String], scores: usize) -> Result<(), StartError> {
    if labels.len() == scores {
        return Ok(());
    }
    Err(StartError::LabelCount { labels: labels.len(), scores, names: labels.join(", ") })
}

/// A graph that does not state how many scores it gives is asked.
fn count_scores(graph: &mut Graph, tokenizer: &Tokenizer) -> Result<usize, StartError> {
    let text = tokenizer.tokens("How many scores?").map_err(StartError::Tokenizer)?;
    let output = graph.run(&[&text.ids], 0).map_err(|error| inference::StartError::SelfTest(error.to_string()))?;
    Ok(output.shape.last().copied().unwrap_or(0))
}

/// The meaning of the scores: by the graph's last step if it makes probabilities, otherwise by `config.json`.
fn problem(card: &ClassifierCard, graph: &Graph, scores: usize) -> Result<Problem, StartError> {
    let (of_graph, step) = match graph.scale() {
        // As for labels in config.json: one score alone says how much, and a softmax of one is always 1.
        Scale::Scores if scores == 1 => return Ok(Problem::MultiLabel),
        Scale::Scores => return Ok(card.problem),
        Scale::Softmax => (Problem::SingleLabel, "Softmax"),
        Scale::LogSoftmax => (Problem::SingleLabel, "LogSoftmax"),
        Scale::Sigmoid => (Problem::MultiLabel, "Sigmoid"),
    };
    if card.problem_is_given && card.problem != of_graph {
        return Err(StartError::OtherProblem { given: card.problem, output: graph.output().to_string(), step });
    }
    Ok(of_graph)
}

/// A graph that the one worker and the self-test take turns with.
struct Turns {
    graph: Arc<Mutex<Graph>>,
    pad_token: u32,
}

impl Model for Turns {
    fn for_thread(&self, _: Arc<Team>) -> Run {
        let (graph, pad) = (Arc::clone(&self.graph), self.pad_token);
        Box::new(move |batch| {
            // A run that panicked left no state behind: a graph is read only.
            let mut graph = graph.lock().unwrap_or_else(PoisonError::into_inner);
            let mut output = graph.run(batch, pad)?;
            scores::to_logits(&mut output.values, graph.scale());
            let width = output.values.len() / batch.len().max(1);
            Ok(output.values.chunks_exact(width.max(1)).map(<[f32]>::to_vec).collect())
        })
    }
}
