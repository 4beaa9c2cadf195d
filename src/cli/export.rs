//! `cognate export`: the state of a collection at one moment, as lines that `cognate upload` reads.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use futures::StreamExt;
use indicatif::ProgressBar;
use serde_json::json;

use super::connection::Connection;
use super::new_file::NewFile;
use super::{conditions, json, progress, table};
use crate::client::Answers;
use crate::wire::{ExportRequest, ExportResponse};

/// Writes a collection as of one moment, one JSON object per line, in the form that `cognate upload` reads
#[derive(Debug, clap::Args)]
#[command(after_help = "Uploads go on meanwhile; their changes are not in the export. If the export has vectors \
(--with-vectors), an upload of it embeds nothing and stores the same vectors.

Examples:
  cognate export words --output words.jsonl
  cognate export words --where 'part_of_speech = verb' | gzip > verbs.jsonl.gz
  cognate export words --with-vectors | cognate upload - --format jsonl --collection copy")]
pub struct Args {
    /// Collection to export
    #[arg(value_name = "COLLECTION")]
    collection: String,
    /// Write the lines to this file, which appears, or is replaced, when it is complete; - is standard output, the
    /// default
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Export only documents whose metadata matches, for example 'lang = en and year >= 2020'; several must all
    /// hold
    #[arg(long = "where", value_name = "FILTER")]
    conditions: Vec<String>,
    /// Write each document's vector too
    #[arg(long)]
    with_vectors: bool,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command. Exit code 0 if all documents were written.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let request = ExportRequest {
        collection: args.collection,
        filter: conditions::all(&args.conditions),
        with_vector: args.with_vectors,
        vector_format: json::vector_format(args.with_vectors),
    };
    let parts = args.connection.open().await?.export(request).await?;
    let Some(path) = args.output.as_deref().filter(|path| *path != Path::new("-")) else {
        // On a terminal the lines themselves show the progress.
        let bar = if io::stdout().is_terminal() { ProgressBar::hidden() } else { progress_bar() };
        write(parts, &mut BufWriter::new(io::stdout()), &bar).await?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut file = NewFile::create(path)?;
    let documents = write(parts, &mut file, &progress_bar()).await?;
    let is_stdout = file.is_stdout();
    file.finish()?;
    if is_stdout {
        return Ok(ExitCode::SUCCESS);
    }
    let line = format!("{}: {} documents", path.display(), table::count(documents));
    args.connection.print(&json!({ "file": path, "documents": documents }), line)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes all parts. Returns the number of documents.
async fn write(mut parts: Answers<ExportResponse>, out: &mut impl Write, bar: &ProgressBar) -> anyhow::Result<u64> {
    let (mut written, mut total) = (0, None);
    while let Some(part) = parts.next().await {
        let part = part?;
        for document in &part.documents {
            writeln!(out, "{}", json::document(document)?)?;
        }
        written += part.documents.len() as u64;
        total = Some(part.total);
        bar.set_length(part.total);
        bar.set_position(written);
    }
    out.flush()?;
    bar.finish_and_clear();
    let total = total.context("the server ended the export before its first part: try again")?;
    ensure!(written == total, "the server ended after {written} of {total} documents: try again");
    Ok(written)
}

fn progress_bar() -> ProgressBar {
    progress::bar(0, "{bar:30} {percent:>3} %  {human_pos} documents  {elapsed}, {eta} left")
}
