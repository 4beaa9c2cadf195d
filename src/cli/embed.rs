//! `cognate embed`: texts to vectors, on the terminal or into a file.
//!
//! All texts go through one `EmbedStream`: a file of any size is read as fast as the server embeds.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use futures::{Stream, StreamExt};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::connection::Connection;
use super::input::{Place, Source};
use super::json;
use super::npy::{Element, Npy};
use crate::client::vector::{self, Values};
use crate::client::{item_error, reader};
use crate::proto::{self as pb, embed_result::Result as Embedded};

/// Texts in one request, at most: a few batches of the model.
const CHUNK_TEXTS: usize = 64;
/// Bytes of texts in one request, unless one alone is longer.
const CHUNK_BYTES: usize = 1 << 18;

/// Turns texts into vectors
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cognate embed \"to move through water\"
  cognate embed --file words.jsonl --output words.npy")]
pub struct Args {
    /// The texts; none, and no --file: the lines of standard input
    #[arg(value_name = "TEXT", conflicts_with = "file")]
    texts: Vec<String>,
    /// The texts of this file: JSONL, CSV or plain lines; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Where vectors go: a .npy file gets an array with one row for each text, any other JSON lines [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How vectors are written
    #[arg(long, value_enum, default_value_t = FormatArg::F32)]
    format: FormatArg,
    /// Keep the first so many dimensions, for models trained for it; 0: all
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    dimensions: u32,
    /// What the texts are, for models trained with a prompt for each
    #[arg(long, value_enum)]
    input_type: Option<InputTypeArg>,
    /// Do not scale vectors to length 1
    #[arg(long)]
    no_normalize: bool,
    /// A text that is too long for the model is an error instead of being cut
    #[arg(long)]
    reject_truncation: bool,
    #[command(flatten)]
    connection: Connection,
}

/// How a vector is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FormatArg {
    /// 32-bit floats
    F32,
    /// 16-bit floats
    F16,
    /// One signed byte a dimension, with a scale for each vector; JSON lines only
    Int8,
    /// One bit a dimension, eight in a byte
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
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum InputTypeArg {
    /// A question or search phrase
    Query,
    /// A passage to be found
    Document,
}

/// A text, or why there is none.
type Text = Result<String, String>;

/// Runs the command: 0 if every text has a vector, 1 if not.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
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
        truncation: if args.reject_truncation { pb::Truncation::Reject } else { pb::Truncation::End }.into(),
        format: args.format.wire().into(),
    };
    let max_text_bytes = usize::try_from(limits.max_text_bytes).unwrap_or(usize::MAX);
    let texts = texts(&args, max_text_bytes)?;
    let chunk_texts = (limits.max_texts as usize).clamp(1, CHUNK_TEXTS);
    // 1: requests wait in HTTP/2's window, not here. 256 chunks: more than that window holds.
    let ((request, requests), (chunk, mut chunks)) = (mpsc::channel(1), mpsc::channel(256));
    tokio::spawn(feed(texts, template, chunk_texts, request, chunk));

    let mut answers = client.embed_stream(ReceiverStream::new(requests)).await?;
    while let Some(chunk) = chunks.recv().await {
        let results = if chunk.iter().any(Text::is_ok) {
            answers.next().await.context("the server ended the stream before it had answered")??.results
        } else {
            Vec::new()
        };
        sink.write_chunk(&chunk, results)?;
    }
    sink.finish()
}

/// The texts, read on a thread of their own; those that are too long are errors already here, for a request
/// beyond the message limit would end the stream.
fn texts(args: &Args, max_text_bytes: usize) -> anyhow::Result<impl Stream<Item = Text> + Send + Unpin + use<>> {
    let source = match (&args.file, args.texts.is_empty()) {
        (Some(file), _) => Some(Source::named(file)),
        (None, true) => Some(Source::Stdin),
        (None, false) => None,
    };
    // Few: the longest text may be as large as a request.
    let (send, receive) = mpsc::channel(16);
    let fits = move |text: String| {
        let bytes = text.len();
        if bytes <= max_text_bytes { Ok(text) } else { Err(format!("{bytes} bytes, at most {max_text_bytes}")) }
    };
    match source {
        None => {
            let texts = args.texts.clone();
            std::thread::spawn(move || texts.into_iter().try_for_each(|text| send.blocking_send(fits(text))));
        }
        Some(source) => {
            let (input, _) = source.open()?;
            std::thread::spawn(move || {
                let name = source.to_string();
                let options = reader::Options::new(source.format(), source.stem());
                let failed = |error: reader::Error| Err(format!("{name}: {error}"));
                let records = match reader::read(input, &options) {
                    Ok(records) => records,
                    Err(error) => return send.blocking_send(failed(error)),
                };
                for record in records {
                    let text = match record {
                        Err(error) => failed(error),
                        Ok(record) => {
                            let place = Place { source: name.as_str().into(), line: record.line };
                            let text = record.document.map_err(|bad| bad.to_string());
                            text.and_then(|document| fits(document.text)).map_err(|bad| format!("{place}: {bad}"))
                        }
                    };
                    send.blocking_send(text)?;
                }
                Ok(())
            });
        }
    }
    Ok(ReceiverStream::new(receive))
}

/// Packs texts into chunks, and those of each chunk that are not errors into a request; a chunk of errors has none.
async fn feed(
    texts: impl Stream<Item = Text> + Unpin,
    template: pb::EmbedRequest,
    chunk_texts: usize,
    requests: mpsc::Sender<pb::EmbedRequest>,
    chunks: mpsc::Sender<Vec<Text>>,
) {
    // The texts that are there go together; a slow source is not held up.
    let mut ready = texts.ready_chunks(chunk_texts);
    while let Some(texts) = ready.next().await {
        for chunk in split(texts) {
            let texts: Vec<String> = chunk.iter().filter_map(|text| text.as_ref().ok()).cloned().collect();
            let request = pb::EmbedRequest { texts, ..template.clone() };
            // Where nobody listens any more, the call has failed and says why.
            if chunks.send(chunk).await.is_err() {
                return;
            }
            if !request.texts.is_empty() && requests.send(request).await.is_err() {
                return;
            }
        }
    }
}

/// Parts of at most [`CHUNK_BYTES`], or of one text.
fn split(texts: Vec<Text>) -> Vec<Vec<Text>> {
    let (mut parts, mut bytes) = (Vec::<Vec<Text>>::new(), 0);
    for text in texts {
        let more = text.as_ref().map_or(0, String::len);
        match parts.last_mut() {
            Some(part) if bytes + more <= CHUNK_BYTES => {
                bytes += more;
                part.push(text);
            }
            _ => {
                bytes = more;
                parts.push(vec![text]);
            }
        }
    }
    parts
}

/// Where results go.
struct Sink {
    out: Out,
    format: FormatArg,
    failed: u64,
}

enum Out {
    Lines(Box<dyn Write>),
    /// The array begins with the first vector, which tells the dimensions; texts before it are counted.
    Unshaped {
        file: File,
        path: PathBuf,
        missing: u64,
    },
    Array(Npy<BufWriter<File>>),
}

impl Sink {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let create = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        let out = match &args.output {
            None => Out::Lines(Box::new(io::stdout())),
            Some(path) if path.extension().is_some_and(|extension| extension == "npy") => {
                if args.format == FormatArg::Int8 {
                    bail!("int8 vectors have a scale each, which a .npy file has no place for: write JSON lines");
                }
                Out::Unshaped { file: create(path)?, path: path.clone(), missing: 0 }
            }
            Some(path) => Out::Lines(Box::new(BufWriter::new(create(path)?))),
        };
        Ok(Self { out, format: args.format, failed: 0 })
    }

    /// `results` are those of the chunk's texts that are not errors, in order.
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
        if let Out::Lines(out) = &mut self.out {
            out.flush()?;
        }
        Ok(())
    }

    fn write(&mut self, text: &str, result: pb::EmbedResult) -> anyhow::Result<()> {
        let vector = match result.result.context("the server answered a text with neither vector nor error")? {
            Embedded::Error(status) => return self.write_error(Some(text), &item_error(&status)),
            Embedded::Vector(vector) => vector,
        };
        let (values, element) = (vector::read(&vector)?, self.element());
        match &mut self.out {
            Out::Lines(out) => {
                let mut line = json!({
                    "text": text, "tokens": result.tokens, "tokens_total": result.tokens_total,
                    "truncated": result.truncated, "embedding": json::numbers(&values),
                });
                if let Values::Int8 { scale, .. } = values {
                    line["scale"] = json::number(scale);
                }
                writeln!(out, "{line}")?;
            }
            Out::Array(npy) => npy.push(&values)?,
            Out::Unshaped { file, missing, .. } => {
                let mut npy = Npy::new(BufWriter::new(file.try_clone()?), element, vector.dimensions as usize)?;
                for _ in 0..*missing {
                    npy.push_missing()?;
                }
                npy.push(&values)?;
                self.out = Out::Array(npy);
            }
        }
        Ok(())
    }

    fn write_error(&mut self, text: Option<&str>, error: &str) -> anyhow::Result<()> {
        self.failed += 1;
        match &mut self.out {
            Out::Lines(out) => writeln!(out, "{}", json!({ "text": text, "error": error }))?,
            Out::Unshaped { missing, .. } => {
                eprintln!("{error}");
                *missing += 1;
            }
            Out::Array(npy) => {
                eprintln!("{error}");
                npy.push_missing()?;
            }
        }
        Ok(())
    }

    fn element(&self) -> Element {
        match self.format {
            FormatArg::F16 => Element::F16,
            FormatArg::Binary => Element::Bits,
            FormatArg::F32 | FormatArg::Int8 => Element::F32,
        }
    }

    fn finish(self) -> anyhow::Result<ExitCode> {
        match self.out {
            Out::Lines(mut out) => out.flush()?,
            Out::Unshaped { path, .. } => bail!("no text has a vector, so {} was left empty", path.display()),
            Out::Array(npy) => {
                npy.finish()?;
            }
        }
        Ok(if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_bounded_in_bytes_and_keep_the_order() {
        let text = |n: usize| Ok(n.to_string().repeat(CHUNK_BYTES / 3));
        let texts: Vec<Text> =
            vec![text(1), text(2), Err("bad".into()), text(3), text(4), Ok("x".repeat(2 * CHUNK_BYTES))];
        let parts = split(texts.clone());
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [4, 1, 1]);
        assert_eq!(parts.concat(), texts);
    }

    #[tokio::test]
    async fn each_request_has_its_chunk_and_a_chunk_of_errors_has_no_request() {
        let texts: Vec<Text> =
            vec![Ok("a".into()), Err("bad".into()), Err("worse".into()), Err("worst".into()), Ok("b".into())];
        let ((request, requests), (chunk, chunks)) = (mpsc::channel(9), mpsc::channel(9));
        feed(futures::stream::iter(texts.clone()), pb::EmbedRequest::default(), 2, request, chunk).await;
        let chunks: Vec<Vec<Text>> = ReceiverStream::new(chunks).collect().await;
        let requests: Vec<Vec<String>> = ReceiverStream::new(requests).map(|request| request.texts).collect().await;
        assert_eq!(chunks.concat(), texts);
        assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(requests, [["a"], ["b"]]);
    }
}
