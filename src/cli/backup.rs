//! `cognate backup`: all collections of a running server, as one file here.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use futures::StreamExt;

use super::connection::Connection;
use super::table;

/// Writes all collections of a running server into one file, while it goes on serving
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the backup goes; a file that exists is left alone
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command. The file gets its name when it is complete and synced.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let shown = args.file.display();
    ensure!(!args.file.exists(), "{shown} exists: choose another name, or remove it");
    let mut parts = args.connection.open().await?.backup().await?;
    let partial = args.file.with_added_extension("partial");
    let mut to = File::create(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    let (mut bytes, mut total) = (0, 0);
    while let Some(part) = parts.next().await {
        let part = part?;
        to.write_all(&part.data).with_context(|| format!("cannot write {}", partial.display()))?;
        bytes += part.data.len() as u64;
        total = part.total_bytes;
    }
    ensure!(bytes > 0 && bytes == total, "the server ended after {bytes} of {total} bytes: try again");
    to.sync_all().and_then(|()| fs::rename(&partial, &args.file)).with_context(|| format!("cannot finish {shown}"))?;
    sync_directory(&args.file).with_context(|| format!("cannot sync the directory of {shown}"))?;
    if args.connection.json {
        writeln!(io::stdout(), "{}", serde_json::json!({ "file": args.file, "bytes": bytes }))?;
    } else {
        writeln!(io::stdout(), "{shown}: {}", table::bytes(bytes))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// So that the name is there after a power cut too.
fn sync_directory(file: &Path) -> io::Result<()> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}
