//! A graph that is ready to run, on either runtime.

use std::fs;
use std::path::{Path, PathBuf};

use super::data::{WeightFiles, run_precheck};
use super::feed::{Feed, calls};
use super::port::Port;
use super::precheck::{Precheck, Scale};
use super::runtime::{Engine, Runtime};
use super::signature::{Signature, Unfit, Wanted};
use super::{onnxruntime, rten_runtime};

/// The source of a graph.
#[derive(Debug, Clone, Copy)]
pub enum GraphSource<'a> {
    /// A file. Weights in files beside it are found.
    File(&'a Path),
    /// The whole graph as bytes.
    Memory(&'a [u8]),
}

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

/// The answer of a graph, row-major.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// The numbers. Some may not be finite.
    pub values: Vec<f32>,
    /// `[texts, labels]`, `[texts, hidden]` or `[texts, sequence, hidden]`; `[0]` for no texts. The sequence is that of
    /// the longest text or the fixed one. Values at a text's padding have no meaning.
    pub shape: Vec<usize>,
}

/// The reason why a graph cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is missing or cannot be opened.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Unreadable {
        /// The graph's file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The runtime refuses the graph.
    #[error("{runtime} cannot load {graph}: {reason}")]
    Refused {
        /// The runtime's name.
        runtime: String,
        /// The graph's path, or its size in memory.
        graph: String,
        /// The runtime's own text.
        reason: String,
    },
    /// The runtime takes the graph, and its inputs or outputs are not those of a text model.
    #[error("{graph} cannot be used: {reason}")]
    Unfit {
        /// The graph's path, or its size in memory.
        graph: String,
        /// The fault of an input or output.
        reason: Unfit,
    },
}

/// The reason why a graph gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A text has no tokens.
    #[error("text {text} of the batch has no tokens")]
    Empty {
        /// The text's index in the batch.
        text: usize,
    },
    /// A text is longer than the fixed sequence.
    #[error("text {text} of the batch has {tokens} tokens, and the graph takes {limit}; truncate it to that")]
    TooLong {
        /// The text's index in the batch.
        text: usize,
        /// The text's length.
        tokens: usize,
        /// The graph's length.
        limit: usize,
    },
    /// A token id is beyond any vocabulary.
    #[error("token id {token} does not fit a signed 32-bit integer")]
    Token {
        /// The id.
        token: u32,
    },
    /// The runtime failed.
    #[error("the graph failed: {reason}")]
    Failed {
        /// The runtime's own text.
        reason: String,
    },
    /// The answer's shape does not fit the batch.
    #[error(
        "the graph returned {output} {shape:?} for {texts} texts of {sequence} tokens; expected one row for each text \
         or each token"
    )]
    Shape {
        /// The output's name.
        output: String,
        /// The shape of the answer.
        shape: Vec<usize>,
        /// Texts of the call, with those that fill up a fixed batch.
        texts: usize,
        /// Tokens of each text, with padding.
        sequence: usize,
    },
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
        self.check(batch)?;
        let longest = batch.iter().map(|text| text.len()).max().unwrap_or(0);
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
    fn check(&self, batch: &[&[u32]]) -> Result<(), RunError> {
        let limit = self.signature.sequence.unwrap_or(usize::MAX);
        for (text, tokens) in batch.iter().map(|text| text.len()).enumerate() {
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

impl Output {
    /// Returns whether the shape fits `feed`.
    fn fits(&self, feed: &Feed) -> bool {
        match *self.shape.as_slice() {
            [texts, _] => texts == feed.texts,
            [texts, sequence, _] => texts == feed.texts && sequence == feed.sequence,
            _ => false,
        }
    }

    /// Appends the first `texts` rows of another answer, each padded to `sequence` tokens. Returns the answer as an
    /// error if its rows have another shape.
    fn append(&mut self, mut answer: Self, texts: usize, sequence: usize) -> Result<(), Self> {
        let mut shape = answer.shape.clone();
        let row: usize = shape[1..].iter().product();
        if shape.len() == 3 {
            shape[1] = sequence;
        }
        let stretched: usize = shape[1..].iter().product();
        shape[0] = self.shape[0] + texts;
        if self.shape.len() == 1 {
            self.shape = shape;
        } else if self.shape[1..] == shape[1..] {
            self.shape[0] = shape[0];
        } else {
            return Err(answer);
        }
        if self.values.is_empty() && row == stretched {
            answer.values.truncate(texts * row);
            self.values = answer.values;
        } else {
            for text in answer.values.chunks(row.max(1)).take(texts) {
                self.values.extend_from_slice(text);
                self.values.resize(self.values.len() + stretched - row, 0.0);
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for GraphSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Memory(bytes) => write!(f, "the graph of {} bytes in memory", bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(shape: &[usize], first: f32) -> Output {
        let count = shape.iter().product::<usize>();
        Output { values: (0..count).map(|i| first + i as f32).collect(), shape: shape.to_vec() }
    }

    #[test]
    fn answers_of_several_calls_become_one() {
        let mut output = Output { values: vec![], shape: vec![0] };
        output.append(answer(&[2, 2], 0.0), 2, 9).unwrap();
        output.append(answer(&[2, 2], 10.0), 1, 9).unwrap();
        assert_eq!(output.shape, [3, 2]);
        assert_eq!(output.values, [0.0, 1.0, 2.0, 3.0, 10.0, 11.0]);
        assert!(output.append(answer(&[1, 3], 0.0), 1, 9).is_err());
    }

    #[test]
    fn shorter_answers_are_padded_to_the_longest() {
        let mut output = Output { values: vec![], shape: vec![0] };
        output.append(answer(&[1, 1, 2], 1.0), 1, 2).unwrap();
        output.append(answer(&[1, 2, 2], 5.0), 1, 2).unwrap();
        assert_eq!(output.shape, [2, 2, 2]);
        assert_eq!(output.values, [1.0, 2.0, 0.0, 0.0, 5.0, 6.0, 7.0, 8.0]);
    }
}
