//! `cognate verify`: is all that was stored still what was stored?

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use serde_json::json;

use super::table::{self, Align, Table};
use crate::collection::disk::{Disk, Options, Report};

/// Checks every page, every document and all counts of a data directory that no server uses; exits with 1 if it finds
/// damage
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data directory
    #[arg(long, env = "COGNATE_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command. Blocks.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let directory = args.data_dir.display();
    // Opening would make one.
    ensure!(args.data_dir.is_dir(), "{directory} is no directory");
    let report = Disk::open(&args.data_dir, Options::default())?.verify()?;
    if args.json {
        writeln!(io::stdout(), "{}", as_json(&report))?;
    } else {
        print(&report)?;
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn as_json(report: &Report) -> serde_json::Value {
    let collections = report.collections.iter();
    json!({
        "path": report.path, "clean": report.is_clean(), "pages": report.pages,
        "collections": collections
            .map(|c| json!({ "name": c.name, "documents": c.rows, "bytes": c.record_bytes }))
            .collect::<Vec<_>>(),
        "problem_count": report.problem_count,
        "problems": report.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

fn print(report: &Report) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut table = Table::new([("collection", Align::Left), ("documents", Align::Right), ("bytes", Align::Right)]);
    for collection in &report.collections {
        table.row([collection.name.clone(), collection.rows.to_string(), table::bytes(collection.record_bytes)]);
    }
    table.write(&mut out, table::stdout_width())?;
    if !report.pages {
        writeln!(out, "pages of {} are damaged, or its free space is counted wrongly", report.path.display())?;
    }
    for problem in &report.problems {
        writeln!(out, "{problem}")?;
    }
    let unlisted = report.problem_count - report.problems.len() as u64;
    if unlisted > 0 {
        writeln!(out, "and {unlisted} more")?;
    }
    if report.is_clean() {
        writeln!(out, "{}: all is as it was stored", report.path.display())
    } else {
        writeln!(out, "Restore a backup: cognate restore FILE --data-dir NEW_DIR")
    }
}
