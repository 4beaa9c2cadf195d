//! `cognate copy`: a collection from one server to another, with its vectors.
//!
//! It goes through the calls that every client has. So each server checks what it reads and stores, with its own keys
//! and limits, and neither needs to know how the other keeps documents. A task reads pages in the order of ids
//! ([`pages`]), the client uploads their documents, and a [`bookmark`] has the last page that is stored as a whole.

mod args;
mod bookmark;
mod ends;
mod pages;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

pub use self::args::Args;

use self::bookmark::Bookmark;
use self::pages::Pages;
use super::stderr::say;
use super::{interrupt, progress, state_directory, table};
use crate::client::{Progress, item_error};

/// Refused documents that are printed on standard error; more are only counted.
const TOLD: u64 = 20;

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut bookmark = Bookmark::of(&args, &state_directory::of(args.state_dir.as_deref(), "copies")?)?;
    let ends = ends::open(&args, &mut bookmark).await?;
    let (from, to, start) = (&ends.from, &ends.to, &ends.start);
    let interrupted = interrupt::first();
    let bar = progress::bar(ends.documents, "{bar:30} {percent:>3} %  {human_pos} documents  {elapsed}, {eta} left");
    bar.set_position(start.copied);
    bar.reset_eta();

    let started = Instant::now();
    // Few, because a document may be large, and the client packs those that are there.
    let (send, documents) = mpsc::channel(64);
    let pages = Pages::from(start.clone());
    let reading = tokio::spawn(pages::read(from.clone(), args.collection.clone(), pages.clone(), send));
    let (mut committed, mut refused) = (0, 0);
    let uploading = to.upload(args.name(), ReceiverStream::new(documents), |progress| {
        committed = progress.so_far.committed;
        bar.suspend(|| tell(progress, &mut refused));
        let stored = pages.stored(committed + refused);
        bar.set_position(start.copied + committed);
        if let Err(error) = bookmark.keep_if_due(&stored) {
            bar.suspend(|| say(&format!("the copy goes on, but it cannot be continued later: {error:#}")));
        }
    });
    let mut signal = None;
    let mut failure = tokio::select! {
        done = uploading => done.err().map(|broken| format!("{}: {}", args.to, broken.cause)),
        Ok(status) = interrupted => {
            signal = Some(status);
            Some("interrupted".to_owned())
        }
    };
    // Behind a failure the reader ends by itself: nobody takes its documents.
    if failure.is_none()
        && let Err(error) = reading.await.context("reading ended early")?
    {
        failure = Some(format!("{}: {error}", args.from));
    }
    bar.finish_and_clear();

    let mut copied = Copied { documents: start.copied + committed, refused, took: started.elapsed(), fault: failure };
    let is_complete = copied.fault.is_none();
    if is_complete {
        bookmark.remove()?;
        copied.fault = ends.difference(&args).await?;
    } else {
        bookmark.keep(&pages.stored(committed + refused))?;
        copied.fault = copied.fault.map(|fault| fault + "; the same command continues the copy");
    }
    copied.print(&args)?;
    if let Some(status) = signal {
        return Ok(ExitCode::from(status));
    }
    Ok(match copied {
        _ if !is_complete => ExitCode::from(2),
        Copied { refused: 0, fault: None, .. } => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    })
}

/// Prints the first refused documents, and counts all.
fn tell(progress: &Progress<'_>, refused: &mut u64) {
    for error in progress.errors {
        *refused += 1;
        let reason = error.status.as_ref().map_or_else(|| "no reason given".into(), item_error);
        match (*refused).cmp(&(TOLD + 1)) {
            std::cmp::Ordering::Less => say(&table::clean(&format!("document {:?} was refused: {reason}", error.id))),
            std::cmp::Ordering::Equal => say("more documents were refused, and are only counted"),
            std::cmp::Ordering::Greater => {}
        }
    }
}

/// The result of a copy.
struct Copied {
    /// Documents of the copy, earlier attempts included.
    documents: u64,
    refused: u64,
    took: Duration,
    /// The reason why the copy is not complete, or is not like the original.
    fault: Option<String>,
}

impl Copied {
    fn print(&self, args: &Args) -> io::Result<()> {
        let Self { documents, refused, took, fault } = self;
        let (seconds, name) = (took.as_secs_f64(), args.name());
        if args.json {
            let line = json!({
                "collection": args.collection, "copy": name, "documents": documents, "refused": refused,
                "seconds": seconds, "error": fault,
            });
            return writeln!(io::stdout(), "{line}");
        }
        let [documents, refused] = [documents, refused].map(|n| table::count(*n));
        writeln!(io::stdout(), "{name}: {documents} documents copied, {refused} refused, in {seconds:.1} s")?;
        if let Some(fault) = fault {
            say(&format!("error: {fault}"));
        }
        Ok(())
    }
}
