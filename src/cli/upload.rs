//! `cognate upload`: files of documents into a collection.
//!
//! A thread reads records, the client sends what becomes a document, and the [`Ledger`] knows which records
//! are on their way. Only those are in memory: reading waits for the server. With `--resume` a [`bookmark`] keeps how
//! far the load came.

mod bookmark;
mod ledger;
mod resume;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use self::bookmark::{Mark, Position};
use self::ledger::{Ledger, Sent};
use super::connection::Connection;
use super::input::{FormatArg, Place, Source};
use super::table;
use crate::client::{item_error, reader};
use crate::proto::Document;

/// Loads documents into a collection, which is made if it does not exist
#[derive(Debug, clap::Args)]
#[command(after_help = "A document that is wrong is reported and skipped. Exit status: 0 all committed, 1 some \
rejected, 2 failed; what was committed stays.

Examples:
  cognate upload words.jsonl --collection words
  cognate upload reviews.csv --collection reviews --text-column review --id-column review_id
  cognate upload million.jsonl --collection corpus --resume   # and again, when it broke
  zcat corpus.txt.gz | cognate upload - --collection corpus --rejected rejected.jsonl")]
pub struct Args {
    /// The files: .jsonl, .csv, or plain lines; - is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The collection
    #[arg(long, short, value_name = "NAME")]
    collection: String,
    /// How the files are written; without it the extension decides
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// The column or field that holds the id [default: id]; a record without id gets FILE:LINE, the file's name without extension
    #[arg(long, value_name = "NAME")]
    id_column: Option<String>,
    /// The column or field that holds the text
    #[arg(long, default_value = "text", value_name = "NAME")]
    text_column: String,
    /// Write each rejected record to this file as a JSON line: file, line, id, error, record
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// Note how far the load came, and if an earlier one with --resume broke, go on where it stopped; needs one regular
    /// file. Begins again if the loaded part of the file has changed, or its documents are not in the collection
    #[arg(long)]
    resume: bool,
    /// Where --resume keeps its notes [default: the user's directory for state]
    #[arg(long, env = "COGNATE_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut inputs = open(&args)?;
    if args.resume && !matches!(inputs.as_slice(), [Input { bytes: Some(_), .. }]) {
        bail!(
            "--resume needs one regular file: standard input has no beginning to go back to, and several files are \
             loaded one by one"
        );
    }
    let client = args.connection.open().await?;
    let (mut bookmark, start) = match inputs.first_mut().filter(|_| args.resume) {
        Some(input) => {
            let (bookmark, start) = resume::begin(&args, &input.options, &client).await?;
            input.options.after_bytes = start.bytes;
            input.is_marked = true;
            (Some(bookmark), start)
        }
        None => (None, Position::default()),
    };
    let bar = progress_bar(&inputs, start.bytes);
    let rejected = args.rejected.as_deref().map(|path| rejected_file(path, start.bytes > 0)).transpose()?;
    let ledger = Arc::new(Ledger::new(bar.clone(), rejected, args.connection.json, start));

    let started = Instant::now();
    // Few: a record may be large, and the client packs what is there.
    let (send, documents) = mpsc::channel(64);
    let reading = std::thread::spawn({
        let ledger = ledger.clone();
        move || inputs.into_iter().all(|input| read(input, &ledger, &send))
    });
    let loaded = client
        .upload(&args.collection, ReceiverStream::new(documents), |progress| {
            let errors = progress.errors.iter();
            let errors = errors.map(|error| {
                let status = error.status.as_ref().map_or_else(|| "no reason given".into(), item_error);
                (error.position, error.id.as_str(), status)
            });
            ledger.resolve(progress.so_far.committed, errors);
            if let Some(due) = bookmark.as_mut().filter(|bookmark| bookmark.is_due())
                && let Err(error) = due.keep(ledger.position())
            {
                ledger.tell(&format!("the load goes on, and cannot be resumed: {error:#}"));
                bookmark = None;
            }
        })
        .await;
    let (counts, failure) = match loaded {
        Ok(counts) => (counts, None),
        Err(broken) => (broken.so_far, Some(broken.cause.to_string())),
    };
    // After a failure the reader may wait for standard input for ever.
    let all_read = failure.is_some() || reading.join().is_ok_and(|all_read| all_read);
    bar.finish_and_clear();
    let unread = ledger.finish()?;

    let summary = Summary {
        received: counts.received + unread,
        committed: counts.committed,
        rejected: counts.rejected + unread,
        elapsed: started.elapsed(),
        failure,
    };
    summary.print(args.connection.json)?;
    if let Some(mut bookmark) = bookmark {
        let is_complete = summary.failure.is_none() && all_read;
        if is_complete { bookmark.remove() } else { bookmark.keep(ledger.position()) }?;
    }
    Ok(match summary {
        Summary { failure: Some(_), .. } => ExitCode::from(2),
        _ if !all_read => ExitCode::from(2),
        Summary { rejected: 0, .. } => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    })
}

/// A file that is open.
struct Input {
    name: Arc<str>,
    reader: Box<dyn std::io::BufRead + Send>,
    bytes: Option<u64>,
    options: reader::Options,
    /// Its documents are to be known again.
    is_marked: bool,
}

/// Opens all files before anything is sent: a name mistyped at the end should not be found after hours.
fn open(args: &Args) -> anyhow::Result<Vec<Input>> {
    let sources: Vec<Source> = args.files.iter().map(|path| Source::named(path)).collect();
    if sources.iter().filter(|source| **source == Source::Stdin).count() > 1 {
        bail!("standard input (-) can be read once");
    }
    let mut stems = HashMap::<String, usize>::new();
    for source in &sources {
        *stems.entry(source.stem()).or_default() += 1;
    }
    let open = |source: &Source| {
        let (reader, bytes) = source.open()?;
        let format = args.format.map_or_else(|| source.format(), Into::into);
        let stem = source.stem();
        let alone = stems[&stem] == 1;
        if !alone && format == reader::Format::Lines {
            bail!(
                "two files are named {stem}: their lines would get the same ids; upload them one by one under other names"
            );
        }
        let options = reader::Options {
            format,
            stem: alone.then_some(stem),
            id_column: args.id_column.clone(),
            text_column: args.text_column.clone(),
            after_bytes: 0,
        };
        Ok(Input { name: source.to_string().into(), reader, bytes, options, is_marked: false })
    };
    sources.iter().map(open).collect()
}

/// Reads one file to its end. False if it could not be read, or if nobody takes the documents any more.
fn read(input: Input, ledger: &Ledger, documents: &mpsc::Sender<Document>) -> bool {
    let failed = |error: reader::Error| {
        ledger.tell(&format!("{}: {error}", input.name));
        false
    };
    let records = match reader::read(input.reader, &input.options) {
        Ok(records) => records,
        Err(error) => return failed(error),
    };
    for record in records {
        let record = match record {
            Ok(record) => record,
            Err(error) => return failed(error),
        };
        let place = Place { source: input.name.clone(), line: record.line };
        match record.document {
            Err(bad) => ledger.reject_unread(&place, record.end, &bad.to_string(), &record.raw),
            Ok(document) => {
                let mark = input.is_marked.then(|| Mark::of(&document));
                ledger.sent(Sent::new(place, record.raw, record.end, mark));
                if documents.blocking_send(document).is_err() {
                    return false;
                }
            }
        }
    }
    true
}

/// A load that goes on adds to what it wrote before.
fn rejected_file(path: &Path, goes_on: bool) -> anyhow::Result<File> {
    let opened = if goes_on { File::options().create(true).append(true).open(path) } else { File::create(path) };
    opened.with_context(|| format!("cannot write {}", path.display()))
}

/// By bytes where the size of every file is known, else a spinner. `begun`: bytes that were loaded before.
fn progress_bar(inputs: &[Input], begun: u64) -> ProgressBar {
    const COUNTS: &str = "{msg}  {elapsed}";
    let total: Option<u64> = inputs.iter().map(|input| input.bytes).sum();
    let (bar, template) = match total {
        Some(bytes) => (ProgressBar::new(bytes), format!("{{bar:30}} {{percent:>3}} %  {COUNTS}, {{eta}} left")),
        None => (ProgressBar::new_spinner(), format!("{{spinner}} {COUNTS}")),
    };
    bar.set_style(ProgressStyle::with_template(&template).expect("the template is a constant"));
    bar.set_position(begun);
    bar.reset_eta();
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

struct Summary {
    received: u64,
    committed: u64,
    rejected: u64,
    elapsed: Duration,
    failure: Option<String>,
}

impl Summary {
    fn print(&self, as_json: bool) -> io::Result<()> {
        let Self { received, committed, rejected, elapsed, failure } = self;
        let (seconds, rate) = (elapsed.as_secs_f64(), *committed as f64 / elapsed.as_secs_f64().max(1e-9));
        if as_json {
            let summary = json!({
                "received": received, "committed": committed, "rejected": rejected,
                "seconds": seconds, "texts_per_second": rate, "error": failure,
            });
            return writeln!(io::stdout(), "{summary}");
        }
        let counts = [received, committed, rejected].map(|n| table::count(*n));
        writeln!(
            io::stdout(),
            "received {}, committed {}, rejected {} in {seconds:.1} s: {rate:.0} texts/s",
            counts[0],
            counts[1],
            counts[2]
        )?;
        if let Some(failure) = failure {
            eprintln!("error: {failure}");
        }
        Ok(())
    }
}
