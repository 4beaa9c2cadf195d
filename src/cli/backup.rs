//! `cognate backup`: all collections of a running server, as one local file.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use futures::StreamExt;

use super::connection::Connection;
use super::new_file::NewFile;
use super::table;

/// Writes all collections of a running server into one file, while it goes on serving
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Backup file to create; an existing file is left alone; - is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command. The file gets its name when it is complete and synced.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let shown = args.file.display();
    NewFile::refuse_to_replace(&args.file)?;
    let mut parts = args.connection.open().await?.backup().await?;
    let mut to = NewFile::create(&args.file)?;
    let (mut bytes, mut total) = (0, 0);
    while let Some(part) = parts.next().await {
        let part = part?;
        to.write_all(&part.data).with_context(|| format!("cannot write {shown}"))?;
        bytes += part.data.len() as u64;
        total = part.total_bytes;
    }
    ensure!(bytes > 0 && bytes == total, "the server ended after {bytes} of {total} bytes: try again");
    let is_stdout = to.is_stdout();
    to.finish()?;
    if is_stdout {
        return Ok(ExitCode::SUCCESS);
    }
    let line = format!("{shown}: {}", table::bytes(bytes));
    args.connection.print(&serde_json::json!({ "file": args.file, "bytes": bytes }), line)?;
    Ok(ExitCode::SUCCESS)
}
