//! The start of a classifier from its card or from the file of a head. It checks that scores and labels match.

use std::sync::Arc;

use super::head::{Head, HeadError, MadeFor};
use super::spec::{ClassifierSource, Spec};
use super::{About, Classifier, Works, built_in, scores};
use crate::compute::Pools;
use crate::embedder::{Embedder, kept};
use crate::inference::{self, Inference, Model, Parts, Reading, Run, Sequence, Tokenizer, TokenizerError};
use crate::machine::leader::Leader;
use crate::model::{self, CardError, ClassifierCard, GraphFile, Problem};
use crate::onnx::{self, Graph, GraphSource, ProbeError, Runtime, Scale, SharedGraph, Wanted};

/// The settings of the classifiers.
#[derive(Debug, Clone)]
pub struct Options {
    /// The classifiers to serve, with different names.
    pub specs: Vec<Spec>,
    /// Threads of the ONNX runtime for each batch.
    pub threads: usize,
    /// Maximum tokens in a batch, with padding. `None`: enough to keep the threads busy.
    pub batch_tokens: Option<usize>,
    /// Tokens of unary calls that may wait for each classifier. More are refused. Streams have as many again.
    pub queue_tokens: usize,
    /// Memory for the scores of earlier texts, for each classifier.
    pub cache_bytes: usize,
    /// The thread pools that tokenise texts.
    pub pools: Pools,
}

/// Tokens in a batch for each thread. An ONNX runtime divides a batch among its threads, and a small call must not wait
/// long for a batch that has begun (`cognate bench classify`).
const BATCH_TOKENS_A_THREAD: usize = 512;

/// The reason why a classifier cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The files are missing, wrong or not supported.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The graph does not load.
    #[error(transparent)]
    Graph(#[from] onnx::LoadError),
    /// The tokenizer cannot be used.
    #[error("tokenizer.json cannot be used: {0}")]
    Tokenizer(TokenizerError),
    /// The graph does not take every text that its tokenizer and its settings allow.
    #[error("the graph does not fit its tokenizer: {0}")]
    Probe(ProbeError),
    /// `config.json` and the graph give different meanings to the scores.
    #[error(
        "config.json: problem_type is {given}, which does not fit the graph's output {output}, the result of {step}; \
         export the scores before that step (logits), or write the problem_type of the graph"
    )]
    OtherProblem {
        /// The value in the configuration.
        given: Problem,
        /// The output.
        output: String,
        /// The graph's last step.
        step: &'static str,
    },
    /// The computation does not start.
    #[error(transparent)]
    Inference(#[from] inference::StartError),
    /// The scores have no names.
    #[error(
        "config.json has no labels (id2label) for the graph's {scores} scores; \
         name them with `--classifier-labels {name}=label,label`"
    )]
    NoLabels {
        /// The classifier.
        name: String,
        /// Number of scores.
        scores: usize,
    },
    /// The number of labels differs from the number of scores.
    #[error("expected {scores} labels, one for each score, found {labels}: {names}")]
    LabelCount {
        /// Number of labels.
        labels: usize,
        /// Number of scores.
        scores: usize,
        /// The labels.
        names: String,
    },
    /// The head's file cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not a head.
    #[error("{path} is not a head written by `cognate train-head`: {source}", path = .path.display())]
    Head {
        /// The file.
        path: std::path::PathBuf,
        /// The cause.
        source: HeadError,
    },
    /// The head was trained on the vectors of another model.
    #[error(
        "{path} was trained on the vectors of {wanted} (fingerprint {fingerprint}), and this server has the vectors of \
         {served}; serve that model, add `--allow-precision-mix` if it is the same model in another precision, \
         or train the head again with `cognate train-head`", path = .path.display()
    )]
    OtherModel {
        /// The file.
        path: std::path::PathBuf,
        /// The model that it was trained for.
        wanted: String,
        /// The fingerprint of that model.
        fingerprint: String,
        /// The served models with their fingerprints.
        served: String,
    },
}

/// An embedding model whose vectors heads may read.
pub struct Embeds<'a> {
    /// The model.
    pub embedder: &'a Embedder,
    /// The model's id.
    pub id: &'a str,
    /// Fingerprints of the model itself and of those whose vectors are nearly the same.
    pub fingerprints: Vec<&'a str>,
}

impl Classifier {
    /// Starts the built-in classifier.
    pub fn built_in(spec: &Spec, runtime: &Runtime, options: &Options) -> Result<Self, StartError> {
        Self::of_graph(spec, built_in::card()?, runtime, options)
    }

    /// Starts a classifier from its files.
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
            GraphFile::Disk(path) => GraphSource::File(path),
            GraphFile::BuiltIn(bytes) => GraphSource::Memory(bytes),
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
            model: Arc::new(GraphModel(SharedGraph::new(graph, card.pad_token))),
            width: scores,
        };
        let inference = Inference::start(parts, &options.inference())?;
        Ok(Self { about: Arc::new(about), works: Works::Graph(inference) })
    }

    /// Starts a head on the vectors of one of these models: the one that it was trained for.
    pub fn of_head(spec: &Spec, path: &std::path::Path, embeds: &[Embeds<'_>]) -> Result<Self, StartError> {
        let json = std::fs::read(path).map_err(|source| StartError::Read { path: path.to_owned(), source })?;
        let head = Head::from_json(&json).map_err(|source| StartError::Head { path: path.to_owned(), source })?;
        let MadeFor { model, fingerprint } = head.made_for().clone();
        // A model with such a fingerprint must give vectors of the head's dimensions.
        let fits = |embeds: &&Embeds<'_>| {
            embeds.fingerprints.contains(&&*fingerprint) && head.dimensions() == embeds.embedder.dimensions()
        };
        let Some(Embeds { embedder, .. }) = embeds.iter().find(fits) else {
            let served = embeds.iter().map(|embeds| format!("{} ({})", embeds.id, embeds.fingerprints.join(", ")));
            let (path, served) = (path.to_owned(), served.collect::<Vec<_>>().join(" and "));
            return Err(StartError::OtherModel { path, wanted: model, fingerprint, served });
        };
        let names = head.labels().iter().map(|label| label.name.clone()).collect();
        let labels = spec.labels.clone().unwrap_or(names);
        check_count(&labels, head.labels().len())?;
        let about = About {
            name: spec.name.clone(),
            id: path.display().to_string(),
            revision: "local".to_owned(),
            labels,
            problem: Problem::SingleLabel,
            max_tokens: embedder.max_tokens(),
            runtime: "embedding".to_owned(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        Ok(Self { about: Arc::new(about), works: Works::Head(Arc::new(head), (*embedder).clone()) })
    }
}

impl Spec {
    /// Returns whether the classifier needs an ONNX runtime.
    pub fn needs_runtime(&self) -> bool {
        !matches!(self.source, ClassifierSource::Head(_))
    }
}

impl Options {
    fn inference(&self) -> inference::Options {
        inference::Options {
            // The runtime has its own threads.
            workers: 1,
            express_worker: false,
            batch_tokens: self.batch_tokens.unwrap_or(BATCH_TOKENS_A_THREAD * self.threads.max(1)),
            queue_tokens: self.queue_tokens,
            cache_bytes: self.cache_bytes,
            pools: self.pools.clone(),
        }
    }
}

/// Chooses the labels: those of the option, or else those of the configuration.
fn labels(spec: &Spec, card: &ClassifierCard, scores: usize) -> Result<Vec<String>, StartError> {
    let Some(labels) = spec.labels.as_ref().or(card.labels.as_ref()) else {
        return Err(StartError::NoLabels { name: spec.name.clone(), scores });
    };
    check_count(labels, scores)?;
    Ok(labels.clone())
}

/// Checks that each score has a label.
fn check_count(labels: &[String], scores: usize) -> Result<(), StartError> {
    if labels.len() == scores {
        return Ok(());
    }
    Err(StartError::LabelCount { labels: labels.len(), scores, names: labels.join(", ") })
}

/// Counts the scores of a graph that does not state their number, by running it.
fn count_scores(graph: &mut Graph, tokenizer: &Tokenizer) -> Result<usize, StartError> {
    let text = tokenizer.tokens("How many scores?").map_err(StartError::Tokenizer)?;
    let output = graph.run(&[&text.ids], 0).map_err(|error| inference::StartError::SelfTest(error.to_string()))?;
    Ok(output.shape.last().copied().unwrap_or(0))
}

/// Determines the meaning of the scores. The graph's last step decides if it makes probabilities, otherwise
/// `config.json`.
fn problem(card: &ClassifierCard, graph: &Graph, scores: usize) -> Result<Problem, StartError> {
    let (of_graph, step) = match graph.scale() {
        // A single score gets a sigmoid, as a single label in config.json does: a softmax of one is always 1.
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

/// A graph that gives logits, as the model of the inference. The one worker and the self-test share it.
pub struct GraphModel(pub SharedGraph);

impl Model for GraphModel {
    fn for_thread(&self, _: Leader) -> Run {
        let graph = self.0.clone();
        Box::new(move |batch| {
            let mut output = graph.run(batch.iter().map(Sequence::typed))?;
            scores::to_logits(&mut output.values, graph.scale());
            let width = output.values.len() / batch.len().max(1);
            Ok(output.values.chunks_exact(width.max(1)).map(<[f32]>::to_vec).collect())
        })
    }
}
