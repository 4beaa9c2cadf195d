//! `cognate embed`: texts to vectors, on the terminal or into a file.
//!
//! All texts go through one `EmbedStream`, so a file of any size is read as fast as the server embeds.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use futures::StreamExt;
use serde_json::json;

use super::connection::Connection;
use super::json;
use super::new_file::NewFile;
use super::npy::{Element, Npy};
use super::passages::Sizes;
use super::stderr::say;
use super::texts::{self, Feed, Given, Text};
use crate::client::item_error;
use crate::wire::vector::{self, Values};
use crate::wire::{self as pb, embed_result::Result as Embedded};

/// Turns texts into vectors
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cognate embed \"to move through water\"
  cognate embed --file words.jsonl --output words.npy")]
pub struct Args {
    #[command(flatten)]
    given: Given,
    /// Write vectors to this file: .npy gets an array with one row per text, anything else JSON lines. The file
    /// appears when
    /// it is complete; - is standard output, the default
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Format of the vectors
    #[arg(long, value_enum, default_value_t = FormatArg::F32)]
    format: FormatArg,
    /// Keep only the first N dimensions, for models trained for it; 0 keeps all
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    dimensions: u32,
    /// Kind of the texts, for models trained with a prompt for each kind
    #[arg(long, value_enum)]
    input_type: Option<InputTypeArg>,
    /// Embedding model (see `cognate info`) [default: the server's first]
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    model: String,
    /// Do not scale vectors to length 1
    #[arg(long)]
    no_normalize: bool,
    /// Report an error for a text that is too long for the model, instead of cutting it
    #[arg(long)]
    reject_truncation: bool,
    /// Print a vector for each passage of a long text, instead of cutting it; JSON lines only
    #[arg(long, conflicts_with = "reject_truncation")]
    passages: bool,
    #[command(flatten)]
    sizes: Sizes,
    #[command(flatten)]
    connection: Connection,
}

/// Formats of a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatArg {
    /// 32-bit floats
    F32,
    /// 16-bit floats
    F16,
    /// One signed byte per dimension, with a scale per vector; JSON lines only
    Int8,
    /// One bit per dimension, eight in a byte
    Binary,
}

impl FormatArg {
    fn wire(self) -> pb::VectorFormat {
        match self {
            Self::F32 => pb::VectorFormat::F32Bytes,
            Self::F16 => pb::VectorFormat::F16Bytes,
            Self::Int8 => pb::VectorFormat::Int8,
            Self::Binary => pb::VectorFormat::Binary,
        }
    }

    /// The elements of an array of such vectors.
    fn element(self) -> Element {
        match self {
            Self::F16 => Element::F16,
            Self::Binary => Element::Bits,
            Self::F32 | Self::Int8 => Element::F32,
        }
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum InputTypeArg {
    /// A question or search phrase
    Query,
    /// A passage to be found
    Document,
}

/// Runs the command. Exit code 0 if every text has a vector, 1 if not.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let (false, Some(flag)) = (args.passages, args.sizes.given()) {
        bail!("{flag} has no effect without --passages: add that, or leave {flag} out");
    }
    let client = args.connection.open().await?;
    let info = client.info(pb::InfoRequest {}).await?;
    let limits = info.limits.unwrap_or_default();
    let mut sink = Sink::new(&args)?;

    let template = pb::EmbedRequest {
        texts: Vec::new(),
        input_type: match args.input_type {
            None => pb::InputType::Unspecified.into(),
            Some(InputTypeArg::Query) => pb::InputType::Query.into(),
            Some(InputTypeArg::Document) => pb::InputType::Document.into(),
        },
        normalize: Some(!args.no_normalize),
        dimensions: args.dimensions,
        truncation: match args.reject_truncation {
            true => pb::Truncation::Reject.into(),
            false => pb::Truncation::Unspecified.into(),
        },
        format: args.format.wire().into(),
        passages: args.passages.then(|| args.sizes.wire()),
        model: args.model.clone(),
    };
    let texts = args.given.texts(&limits)?;
    let failure = texts.failure();
    let Feed { requests, mut chunks } =
        texts::feed(texts.stream, &limits, move |texts| pb::EmbedRequest { texts, ..template.clone() });
    let mut answers = client.embed_stream(requests).await?;
    while let Some(chunk) = chunks.recv().await {
        let results = if chunk.iter().any(Text::is_ok) {
            answers.next().await.context("the server ended the stream before it had answered")??.results
        } else {
            Vec::new()
        };
        sink.write_chunk(&chunk, results)?;
    }
    failure.check()?;
    sink.finish()
}

/// The output of results.
struct Sink {
    out: Out,
    failed: u64,
}

enum Out {
    /// JSON lines on standard output. Each chunk is flushed.
    Stdout,
    Lines(NewFile),
    Array(Npy<NewFile>),
}

impl Sink {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let out = match args.output.as_deref().filter(|path| *path != Path::new("-")) {
            None => Out::Stdout,
            Some(path) if path.extension().is_some_and(|extension| extension == "npy") => {
                if args.format == FormatArg::Int8 {
                    bail!("int8 vectors have a scale each, which a .npy file cannot store: write JSON lines");
                }
                if args.passages {
                    bail!(
                        "a .npy file has one row for each text, and a text may have several passages: write JSON lines"
                    );
                }
                let file = NewFile::create(path)?;
                if file.is_stream() {
                    bail!("{} must be a regular file: an array's header is written last", path.display());
                }
                Out::Array(Npy::new(file, args.format.element()))
            }
            Some(path) => Out::Lines(NewFile::create(path)?),
        };
        Ok(Self { out, failed: 0 })
    }

    /// Writes a chunk. `results` are those of its texts that are not errors, in order.
    fn write_chunk(&mut self, chunk: &[Text], results: Vec<pb::EmbedResult>) -> anyhow::Result<()> {
        let mut results = results.into_iter();
        for text in chunk {
            match text {
                Err(error) => self.write_error(None, error)?,
                Ok(text) => {
                    let result = results.next().context("the server answered fewer texts than it was asked")?;
                    self.write(text, result)?;
                }
            }
        }
        match &mut self.out {
            Out::Stdout => io::stdout().flush()?,
            // A pipe's reader waits for the lines.
            Out::Lines(out) if out.is_stream() => out.flush()?,
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self, text: &str, result: pb::EmbedResult) -> anyhow::Result<()> {
        if !result.passages.is_empty() {
            let passages = result.passages.iter().map(json::passage).collect::<anyhow::Result<Vec<_>>>()?;
            let line = json!({
                "text": text, "tokens": result.tokens, "tokens_total": result.tokens_total, "passages": passages,
            });
            return Ok(self.write_line(&line)?);
        }
        let vector = match result.result.context("the server answered a text with neither vector nor error")? {
            Embedded::Error(status) => return self.write_error(Some(text), &item_error(&status)),
            Embedded::Vector(vector) => vector,
        };
        let values = vector::read(&vector)?;
        match &mut self.out {
            Out::Stdout | Out::Lines(_) => {
                let mut line = json!({
                    "text": text, "tokens": result.tokens, "tokens_total": result.tokens_total,
                    "truncated": result.truncated, "embedding": json::numbers(&values),
                });
                if let Values::Int8 { scale, .. } = values {
                    line["scale"] = json::number(scale);
                }
                self.write_line(&line)?;
            }
            Out::Array(npy) => npy.push(&values)?,
        }
        Ok(())
    }

    fn write_line(&mut self, line: &serde_json::Value) -> io::Result<()> {
        match &mut self.out {
            Out::Lines(out) => writeln!(out, "{line}"),
            _ => writeln!(io::stdout(), "{line}"),
        }
    }

    fn write_error(&mut self, text: Option<&str>, error: &str) -> anyhow::Result<()> {
        self.failed += 1;
        match &mut self.out {
            Out::Stdout | Out::Lines(_) => self.write_line(&json!({ "text": text, "error": error }))?,
            Out::Array(npy) => {
                say(error);
                npy.push_missing()?;
            }
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<ExitCode> {
        match self.out {
            Out::Stdout => io::stdout().flush()?,
            Out::Lines(out) => out.finish()?,
            Out::Array(npy) => npy.finish()?.finish()?,
        }
        Ok(if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}
