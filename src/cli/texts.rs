//! Streams of texts: from the command line, a file or a pipe into requests.
//!
//! Texts are read no faster than the server answers, so a file of any size takes little memory. A wrong text keeps
//! its position in the output, but is not sent.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::bail;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::input::{FormatArg, InputSource, Location};
use crate::reader::{self, LargeNumbers};
use crate::wire::Limits;

/// Most texts in one request: a few batches of the model.
const CHUNK_TEXTS: usize = 64;
/// Most bytes of texts in one request, unless a single text is longer.
const CHUNK_BYTES: usize = 1 << 18;

/// A text, or the reason why it could not be read.
pub type Text = Result<String, String>;

/// The texts that a command is given.
#[derive(Debug, clap::Args)]
pub struct Given {
    /// Texts; without any and without --file, the lines of standard input
    #[arg(value_name = "TEXT", conflicts_with = "file")]
    texts: Vec<String>,
    /// Read the texts from this file: JSONL, CSV, TSV or plain lines; - is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Format of the file. By default the extension decides, and standard input is plain lines
    #[arg(long = "file-format", value_enum, conflicts_with = "texts")]
    file_format: Option<FormatArg>,
    /// Column or field of the file with the text [default: text]
    #[arg(long, value_name = "NAME", conflicts_with = "texts")]
    text_column: Option<String>,
}

/// Texts as they are read, and the reason if reading ended early.
pub struct Texts {
    /// The texts, in order.
    pub stream: ReceiverStream<Text>,
    failure: Arc<OnceLock<String>>,
}

/// The result of reading all texts.
#[derive(Debug, Clone)]
pub struct Failure(Arc<OnceLock<String>>);

impl Failure {
    /// Returns the error that stopped the reading. For the end of a command.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.0.get() {
            Some(failure) => bail!("{failure}"),
            None => Ok(()),
        }
    }
}

impl Texts {
    /// Returns the result of the reading. Valid once all texts were taken.
    pub fn failure(&self) -> Failure {
        Failure(self.failure.clone())
    }
}

/// Requests for a stream, and the texts of each request.
pub struct Feed<R> {
    /// Requests for the server.
    pub requests: ReceiverStream<R>,
    /// Texts of each request, in order, including those that are errors. A chunk of only errors has no request.
    pub chunks: mpsc::Receiver<Vec<Text>>,
}

impl Given {
    /// Reads the texts on a thread of its own. Texts that are too long become errors here, because a request beyond
    /// the message limit would end the stream.
    pub fn texts(&self, limits: &Limits) -> anyhow::Result<Texts> {
        let max_text_bytes = usize::try_from(limits.max_text_bytes).unwrap_or(usize::MAX);
        let source = match (&self.file, self.texts.is_empty()) {
            (Some(file), _) => Some(InputSource::named(file)),
            (None, true) => Some(InputSource::Stdin),
            (None, false) => None,
        };
        // Few, because the longest text may be as large as a request.
        let (send, receive) = mpsc::channel(16);
        let fits = move |text: String| {
            let bytes = text.len();
            if bytes <= max_text_bytes { Ok(text) } else { Err(format!("{bytes} bytes, at most {max_text_bytes}")) }
        };
        let failure = Arc::new(OnceLock::new());
        let Some(source) = source else {
            let texts = self.texts.clone();
            std::thread::spawn(move || texts.into_iter().try_for_each(|text| send.blocking_send(fits(text))));
            return Ok(Texts { stream: ReceiverStream::new(receive), failure });
        };
        let format = self.file_format.map_or_else(|| source.format(), Into::into);
        if let (false, Some(_)) = (format.has_fields(), &self.text_column) {
            bail!("--text-column has no effect on {source}: plain text has no columns; set --file-format");
        }
        let options = reader::Options {
            format_is_given: self.file_format.is_some(),
            format_flag: Some("--file-format"),
            text_column: self.text_column.clone(),
            // Metadata is not used.
            large_numbers: LargeNumbers::Text,
            ..reader::Options::new(format, source.stem())
        };
        let (input, _) = source.open()?;
        std::thread::spawn({
            let failure = failure.clone();
            move || {
                let name = source.to_string();
                // Only this thread sets it.
                let failed = |error: reader::Error| _ = failure.set(format!("{name}: {error}"));
                let records = match reader::read(input, &options) {
                    Ok(records) => records,
                    Err(error) => return failed(error),
                };
                for record in records {
                    let record = match record {
                        Ok(record) => record,
                        Err(error) => return failed(error),
                    };
                    let location = Location { source: name.as_str().into(), line: record.line };
                    let text = record.document.map_err(|bad| bad.to_string());
                    let text =
                        text.and_then(|document| fits(document.text)).map_err(|bad| format!("{location}: {bad}"));
                    if send.blocking_send(text).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Texts { stream: ReceiverStream::new(receive), failure })
    }
}

/// Packs texts into chunks, and the valid texts of each chunk into a request.
pub fn feed<R: Send + 'static>(
    texts: impl Stream<Item = Text> + Send + Unpin + 'static,
    limits: &Limits,
    request: impl Fn(Vec<String>) -> R + Send + 'static,
) -> Feed<R> {
    let chunk_texts = (limits.max_texts as usize).clamp(1, CHUNK_TEXTS);
    // 1, because requests wait in HTTP/2's window and not here. 256 chunks are more than that window holds.
    let ((requests, receive), (chunks, chunks_of)) = (mpsc::channel(1), mpsc::channel(256));
    tokio::spawn(pack(texts, chunk_texts, request, requests, chunks));
    Feed { requests: ReceiverStream::new(receive), chunks: chunks_of }
}

async fn pack<R>(
    texts: impl Stream<Item = Text> + Unpin,
    chunk_texts: usize,
    request: impl Fn(Vec<String>) -> R,
    requests: mpsc::Sender<R>,
    chunks: mpsc::Sender<Vec<Text>>,
) {
    // Sends the texts that are ready together; a slow source is not held up.
    let mut ready = texts.ready_chunks(chunk_texts);
    while let Some(texts) = ready.next().await {
        for chunk in split(texts) {
            let texts: Vec<String> = chunk.iter().filter_map(|text| text.as_ref().ok()).cloned().collect();
            // If the receiver is gone, the call has failed and reports the reason.
            if chunks.send(chunk).await.is_err() {
                return;
            }
            if !texts.is_empty() && requests.send(request(texts)).await.is_err() {
                return;
            }
        }
    }
}

/// Splits texts into parts of at most [`CHUNK_BYTES`], or of one text.
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
        pack(futures::stream::iter(texts.clone()), 2, |texts| texts, request, chunk).await;
        let chunks: Vec<Vec<Text>> = ReceiverStream::new(chunks).collect().await;
        let requests: Vec<Vec<String>> = ReceiverStream::new(requests).collect().await;
        assert_eq!(chunks.concat(), texts);
        assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(requests, [["a"], ["b"]]);
    }
}
