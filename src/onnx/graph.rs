//! A graph that is ready to run, on either runtime.

use std::fs;

use super::data::{WeightFiles, run_precheck};
use super::error::{LoadError, RunError};
use super::feed::{Feed, Typed, calls};
use super::output::Output;
use super::port::Port;
use super::precheck::{Precheck, Scale};
use super::runtime::{Engine, Runtime};
use super::signature::{Signature, Unfit, Wanted};
use super::source::GraphSource;
use super::{onnxruntime, rten_runtime};

/// A loaded graph. One thread runs it at a time; see [`SharedGraph`](super::SharedGraph).
#[derive(Debug)]
pub struct Graph {
    session: Session,
    signature: Signature,
    scale: Scale,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

#[derive(Debug)]
enum Session {
    OnnxRuntime(onnxruntime::Session),
    Rten(Box<rten_runtime::Session>),
}

impl Graph {
    /// Loads a graph and assigns its inputs and its output.
    pub fn load(runtime: &Runtime, source: GraphSource<'_>, wanted: Wanted) -> Result<Self, LoadError> {
        if let GraphSource::File(path) = source {
            // The runtimes' own errors for this are less clear.
            fs::File::open(path).map_err(|source| LoadError::Unreadable { path: path.to_owned(), source })?;
        }
        let refused = |reason| LoadError::Refused { runtime: runtime.name(), graph: source.to_string(), reason };
        let unfit = |reason| LoadError::Unfit { graph: source.to_string(), reason };
        let precheck = run_precheck(source).map_err(refused)?;
        let files = WeightFiles::find(source, &precheck).map_err(refused)?;
        let (session, inputs, outputs) = match &runtime.engine {
            Engine::OnnxRuntime(library) => onnxruntime::Session::load(library, source, &runtime.settings)
                .map(|(session, inputs, outputs)| (Session::OnnxRuntime(session), inputs, outputs)),
            Engine::Rten(threads) => files
                .for_rten(source, &precheck)
                .and_then(|graph| rten_runtime::Session::load(threads, graph, &runtime.settings))
                .map(|(session, inputs, outputs)| (Session::Rten(Box::new(session)), inputs, outputs)),
        }
        .map_err(refused)?;
        let signature = Signature::of(&inputs, &outputs, wanted).map_err(unfit)?;
        let scale = scale(&outputs[signature.output], &precheck).map_err(unfit)?;
        Ok(Self { session, signature, scale, inputs, outputs })
    }

    /// Returns the inputs, in the graph's order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Returns the outputs, in the graph's order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Returns the wanted output.
    pub fn output(&self) -> &Port {
        &self.outputs[self.signature.output]
    }

    /// Returns the meaning of that output's numbers.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// Returns the number of labels or dimensions, if the graph states it.
    pub fn width(&self) -> Option<usize> {
        self.signature.width
    }

    /// Returns the maximum tokens of a text, if the graph fixes the sequence.
    pub fn sequence(&self) -> Option<usize> {
        self.signature.sequence
    }

    /// Computes the answer for the token ids of each text. A text must have a token, and at most [`Graph::sequence`].
    /// `pad` fills up shorter texts and is masked if the graph takes a mask.
    pub fn run(&mut self, batch: &[&[u32]], pad: u32) -> Result<Output, RunError> {
        self.run_typed(&batch.iter().map(|ids| (*ids, ids.len())).collect::<Vec<_>>(), pad)
    }

    /// Computes the same for texts and pairs, whose tokens have types.
    pub fn run_typed(&mut self, batch: &[Typed<'_>], pad: u32) -> Result<Output, RunError> {
        self.check(batch)?;
        let longest = batch.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
        let sequence = self.signature.sequence.unwrap_or(longest);
        let mut output = Output { values: Vec::new(), shape: vec![0] };
        for texts in calls(batch, &self.signature) {
            let feed = Feed::new(texts, pad, &self.signature)?;
            let answer = match &mut self.session {
                Session::OnnxRuntime(session) => session.run(&feed, &self.signature),
                Session::Rten(session) => session.run(&feed, &self.signature),
            }
            .map_err(|reason| RunError::Failed { reason })?;
            let wrong_shape = |answer: &Output| self.wrong_shape(answer, &feed);
            if !answer.fits(&feed) {
                return Err(wrong_shape(&answer));
            }
            output.append(answer, texts.len(), sequence).map_err(|answer| wrong_shape(&answer))?;
        }
        Ok(output)
    }

    /// Checks the lengths of the texts.
    fn check(&self, batch: &[Typed<'_>]) -> Result<(), RunError> {
        let limit = self.signature.sequence.unwrap_or(usize::MAX);
        for (text, tokens) in batch.iter().map(|(ids, _)| ids.len()).enumerate() {
            if tokens == 0 {
                return Err(RunError::Empty { text });
            }
            if tokens > limit {
                return Err(RunError::TooLong { text, tokens, limit });
            }
        }
        Ok(())
    }

    fn wrong_shape(&self, answer: &Output, feed: &Feed) -> RunError {
        RunError::Shape {
            output: self.output().name.clone(),
            shape: answer.shape.clone(),
            texts: feed.texts,
            sequence: feed.sequence,
        }
    }
}

/// Determines the meaning of an output's numbers. A name alone is not trusted: the step that makes probabilities must
/// be known, or a softmax over a softmax would go unnoticed.
fn scale(output: &Port, precheck: &Precheck) -> Result<Scale, Unfit> {
    let scale = precheck.scale(&output.name);
    let name = output.name.to_lowercase();
    let is_called_so = ["prob", "softmax", "sigmoid"].iter().any(|word| name.contains(word));
    if scale == Scale::Scores && is_called_so {
        let operator = precheck.operator(&output.name).unwrap_or("unknown").to_owned();
        return Err(Unfit::Probabilities { output: output.clone(), operator });
    }
    Ok(scale)
}
