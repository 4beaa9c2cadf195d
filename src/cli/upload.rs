//! `cognate upload`: files of documents into a collection.
//!
//! A thread reads records, the client sends those that become documents, and the [`Ledger`] tracks the records on
//! their way. Only these are in memory, because reading waits for the server. With `--resume` a [`bookmark`] stores
//! the progress of the load.

mod args;
mod bookmark;
mod findings;
mod ledger;
mod resume;
mod source;

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

pub use self::args::Args;

use self::bookmark::Position;
use self::findings::Seen;
use self::ledger::Ledger;
use self::source::Input;
use super::stderr::say;
use super::{interrupt, progress, table};
use crate::client::{self, item_error};

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    check_state_dir(&args)?;
    source::check_rejected(&args)?;
    let mut inputs = source::open(&args)?;
    if args.resume && !matches!(inputs.as_slice(), [Input { bytes: Some(_), .. }]) {
        bail!(
            "--resume needs one regular file: standard input cannot be read again, and several files are \
             to be loaded one by one"
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
    // Few, because a record may be large, and the client packs those that are there.
    let (send, documents) = mpsc::channel(64);
    let reading = std::thread::spawn({
        let ledger = ledger.clone();
        move || {
            let mut seen = Seen::default();
            inputs.into_iter().all(|input| source::read(input, &mut seen, &ledger, &send))
        }
    });
    let interrupted = interrupt::first();
    let mut counts = client::Summary::default();
    let uploading = client.upload(&args.collection, ReceiverStream::new(documents), |progress| {
        counts = progress.so_far;
        let errors = progress.errors.iter();
        let errors = errors.map(|error| {
            let status = error.status.as_ref().map_or_else(|| "no reason given".into(), item_error);
            (error.position, error.id.as_str(), status)
        });
        ledger.resolve(progress.so_far.committed, errors);
        if let Some(due) = bookmark.as_mut().filter(|bookmark| bookmark.is_due())
            && let Err(error) = due.keep(ledger.position())
        {
            ledger.tell(&format!("the load goes on, but it cannot be resumed: {error:#}"));
            bookmark = None;
        }
    });
    let mut signal = None;
    let failure = tokio::select! {
        loaded = uploading => loaded.err().map(|broken| broken.cause.to_string()),
        Ok(status) = interrupted => {
            signal = Some(status);
            Some("interrupted: what is committed stays; the server may commit more of what was sent".to_owned())
        }
    };
    // After a failure the reader may wait for standard input without end.
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
    if let Some(status) = signal {
        return Ok(ExitCode::from(status));
    }
    Ok(match summary {
        Summary { failure: Some(_), .. } => ExitCode::from(2),
        _ if !all_read => ExitCode::from(2),
        Summary { rejected: 0, .. } => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    })
}

/// Refuses `--state-dir` without `--resume`. The variable may be set for all loads.
fn check_state_dir(args: &Args) -> anyhow::Result<()> {
    let is_of_variable = std::env::var_os("COGNATE_STATE_DIR").is_some();
    if args.state_dir.is_some() && !args.resume && !is_of_variable {
        bail!("--state-dir needs --resume: add it, or leave --state-dir out");
    }
    Ok(())
}

/// Opens the file of rejected records. A continued load appends to it.
fn rejected_file(path: &Path, goes_on: bool) -> anyhow::Result<File> {
    let opened = if goes_on { File::options().create(true).append(true).open(path) } else { File::create(path) };
    opened.with_context(|| format!("cannot write {}", path.display()))
}

/// Makes a progress bar by bytes if the size of every file is known, otherwise a spinner. `begun` is the number of
/// bytes that were loaded before.
fn progress_bar(inputs: &[Input], begun: u64) -> ProgressBar {
    const COUNTS: &str = "{msg}  {elapsed}";
    let total: Option<u64> = inputs.iter().map(|input| input.bytes).sum();
    let bar = match total {
        Some(bytes) => progress::bar(bytes, &format!("{{bar:30}} {{percent:>3}} %  {COUNTS}, {{eta}} left")),
        None => progress::spinner(&format!("{{spinner}} {COUNTS}")),
    };
    bar.set_position(begun);
    bar.reset_eta();
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
            say(&format!("error: {failure}"));
        }
        Ok(())
    }
}
