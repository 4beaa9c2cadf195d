//! A graph that is ready to run, on either runtime.

use std::fs;
use std::path::{Path, PathBuf};

use super::data::{self, Files};
use super::feed::{Feed, calls};
use super::outline::{Outline, Scale};
use super::port::Port;
use super::runtime::{Engine, Runtime};
use super::signature::{Signature, Unfit, Wanted};
use super::{onnxruntime, rten_runtime};

/// Where a graph is.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// In a file; weights that it keeps in files beside it are found.
    File(&'a Path),
    /// In memory, whole.
    Memory(&'a [u8]),
}

/// A loaded graph. Each thread that runs it needs its own, or takes turns.
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

/// What a graph answers, row-major.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// The numbers. They may be not finite.
    pub values: Vec<f32>,
    /// `[texts, labels]`, `[texts, hidden]` or `[texts, sequence, hidden]`, where the sequence is that of the longest
    /// text or the fixed one, and what stands at a text's padding means nothing. `[0]` for no texts.
    pub shape: Vec<usize>,
}

/// Why a graph cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is not there for us.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Unreadable {
        /// The graph's file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The runtime does not take it.
    #[error("{runtime} cannot load {graph}: {reason}")]
    Refused {
        /// The runtime's name.
        runtime: String,
        /// Its path, or that it is in memory.
        graph: String,
        /// The runtime's own words.
        reason: String,
    },
    /// The runtime takes it, and it is none for token ids.
    #[error("{graph} cannot be used: {reason}")]
    Unfit {
        /// Its path, or that it is in memory.
        graph: String,
        /// What is wrong with its inputs or outputs.
        reason: Unfit,
    },
}

/// Why a graph gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A text without tokens.
    #[error("text {text} of the batch has no tokens")]
    Empty {
        /// Its place in the batch, from 0.
        text: usize,
    },
    /// A text that does not fit a fixed sequence.
    #[error("text {text} of the batch has {tokens} tokens, and the graph takes {limit}; cut it to that")]
    TooLong {
        /// Its place in the batch, from 0.
        text: usize,
        /// Its length.
        tokens: usize,
        /// The graph's.
        limit: usize,
    },
    /// An id that no vocabulary has.
    #[error("token id {token} does not fit 32 bits with a sign")]
    Token {
        /// The id.
        token: u32,
    },
    /// The runtime gave up in the middle.
    #[error("the graph failed: {reason}")]
    Failed {
        /// The runtime's own words.
        reason: String,
    },
    /// The answer is not one for this batch.
    #[error("the graph answered {output} {shape:?} for {texts} texts of {sequence} tokens: it cannot be used")]
    Shape {
        /// The output's name.
        output: String,
        /// What came.
        shape: Vec<usize>,
        /// What went in, fillings included.
        texts: usize,
        /// What went in, padding included.
        sequence: usize,
    },
}

impl Graph {
    /// Loads a graph and finds what goes where.
    pub fn load(runtime: &Runtime, source: Source<'_>, wanted: Wanted) -> Result<Self, LoadError> {
        if let Source::File(path) = source {
            // The runtimes say this less plainly, each in its own way.
            fs::File::open(path).map_err(|source| LoadError::Unreadable { path: path.to_owned(), source })?;
        }
        let refused = |reason| LoadError::Refused { runtime: runtime.name(), graph: source.to_string(), reason };
        let unfit = |reason| LoadError::Unfit { graph: source.to_string(), reason };
        let outline = data::of(source).map_err(refused)?;
        let files = Files::of(source, &outline).map_err(refused)?;
        let (session, inputs, outputs) = match &runtime.engine {
            Engine::OnnxRuntime(library) => onnxruntime::Session::load(library, source, &runtime.settings)
                .map(|(session, inputs, outputs)| (Session::OnnxRuntime(session), inputs, outputs)),
            Engine::Rten(threads) => files
                .for_rten(source, &outline)
                .and_then(|whole| rten_runtime::Session::load(threads, whole, &runtime.settings))
                .map(|(session, inputs, outputs)| (Session::Rten(Box::new(session)), inputs, outputs)),
        }
        .map_err(refused)?;
        let signature = Signature::of(&inputs, &outputs, wanted).map_err(unfit)?;
        let scale = scale(&outputs[signature.output], &outline).map_err(unfit)?;
        Ok(Self { session, signature, scale, inputs, outputs })
    }

    /// What goes in, in the graph's order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// What comes out, in the graph's order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The output that is asked for.
    pub fn output(&self) -> &Port {
        &self.outputs[self.signature.output]
    }

    /// What the numbers of that output are.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// Labels, or dimensions of a vector, where the graph states them.
    pub fn width(&self) -> Option<usize> {
        self.signature.width
    }

    /// The most tokens of a text, where the graph fixes the sequence.
    pub fn sequence(&self) -> Option<usize> {
        self.signature.sequence
    }

    /// Answers for the token ids of each text, none empty, none longer than [`Graph::sequence`]. `pad` fills up the
    /// shorter ones and is masked where the graph takes a mask.
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
            let strange = |answer: &Output| self.strange(answer, &feed);
            if !answer.fits(&feed) {
                return Err(strange(&answer));
            }
            output.append(answer, texts.len(), sequence).map_err(|answer| strange(&answer))?;
        }
        Ok(output)
    }

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

    fn strange(&self, answer: &Output, feed: &Feed) -> RunError {
        RunError::Shape {
            output: self.output().name.clone(),
            shape: answer.shape.clone(),
            texts: feed.texts,
            sequence: feed.sequence,
        }
    }
}

/// What the numbers of an output are. A name alone is not believed: it must be seen how probabilities come about,
/// or a softmax over a softmax would go unnoticed.
fn scale(output: &Port, outline: &Outline) -> Result<Scale, Unfit> {
    let scale = outline.scale(&output.name);
    let name = output.name.to_lowercase();
    let is_called_so = ["prob", "softmax", "sigmoid"].iter().any(|word| name.contains(word));
    if scale == Scale::Scores && is_called_so {
        let operator = outline.operator(&output.name).unwrap_or("none that is known").to_owned();
        return Err(Unfit::Probabilities { output: output.clone(), operator });
    }
    Ok(scale)
}

impl Output {
    /// Whether it can be the answer to `feed`.
    fn fits(&self, feed: &Feed) -> bool {
        match *self.shape.as_slice() {
            [texts, _] => texts == feed.texts,
            [texts, sequence, _] => texts == feed.texts && sequence == feed.sequence,
            _ => false,
        }
    }

    /// Takes the first `texts` rows of another answer, each stretched to `sequence` tokens. Gives an answer back that
    /// has rows of another kind.
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

impl std::fmt::Display for Source<'_> {
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
    fn shorter_answers_are_stretched_to_the_longest() {
        let mut output = Output { values: vec![], shape: vec![0] };
        output.append(answer(&[1, 1, 2], 1.0), 1, 2).unwrap();
        output.append(answer(&[1, 2, 2], 5.0), 1, 2).unwrap();
        assert_eq!(output.shape, [2, 2, 2]);
        assert_eq!(output.values, [1.0, 2.0, 0.0, 0.0, 5.0, 6.0, 7.0, 8.0]);
    }
}
