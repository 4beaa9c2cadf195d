//! `cognate verify`: checks that everything is as it was stored, and that each document is found.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::ensure;
use serde_json::json;

use super::table::{self, Align, Table};
use crate::collection::disk::{self, Disk, Report};
use crate::collection::{self, Store};

/// Most unfound documents that are named.
const NAMED: usize = 20;

/// Checks a data directory that no server uses: every page, every document, all counts, and that each document is
/// found
/// by its own vector; exits with 1 if something is wrong
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Data directory to check
    #[arg(long, env = "COGNATE_DATA_DIR", value_name = "DIR")]
    data_dir: PathBuf,
    /// Check checksums and counts only: seconds, instead of about a minute for 100,000 documents
    #[arg(long)]
    no_search: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Documents that searches miss.
struct Unfound {
    collection: String,
    ids: Vec<String>,
}

/// Runs the command. Blocks.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let directory = args.data_dir.display();
    // Opening a missing directory would create it.
    ensure!(args.data_dir.is_dir(), "{directory} is not a directory: name the data directory of a server");
    let report = Disk::open(&args.data_dir, disk::Options::default())?.verify()?;
    // Damaged files cannot be loaded.
    let unfound = if report.is_clean() && !args.no_search { unfound(&args.data_dir)? } else { Vec::new() };
    if args.json {
        writeln!(io::stdout(), "{}", as_json(&report, &unfound))?;
    } else {
        print(&report, &unfound)?;
    }
    Ok(if report.is_clean() && unfound.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn unfound(directory: &Path) -> anyhow::Result<Vec<Unfound>> {
    let options = collection::Options { directory: Some(directory.to_owned()), ..collection::Options::default() };
    let store = Store::open(options)?;
    let collections = store.list();
    let of = |collection: &collection::Collection| Unfound {
        collection: collection.name().to_owned(),
        ids: collection.unfound().iter().map(ToString::to_string).collect(),
    };
    Ok(collections.iter().map(|collection| of(collection)).filter(|unfound| !unfound.ids.is_empty()).collect())
}

fn as_json(report: &Report, unfound: &[Unfound]) -> serde_json::Value {
    let collections = report.collections.iter();
    json!({
        "path": report.path, "clean": report.is_clean() && unfound.is_empty(), "pages": report.pages,
        "collections": collections
            .map(|c| json!({ "name": c.name, "follower": c.follower, "documents": c.rows, "bytes": c.record_bytes }))
            .collect::<Vec<_>>(),
        "problem_count": report.problem_count,
        "problems": report.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "unfound": unfound.iter().map(|u| json!({ "collection": u.collection, "ids": u.ids })).collect::<Vec<_>>(),
    })
}

fn print(report: &Report, unfound: &[Unfound]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut table = Table::new([("collection", Align::Left), ("documents", Align::Right), ("bytes", Align::Right)]);
    for collection in &report.collections {
        let name = collection.name.clone() + if collection.follower { " (follower)" } else { "" };
        table.row([name, collection.rows.to_string(), table::bytes(collection.record_bytes)]);
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
    if !report.is_clean() {
        return writeln!(out, "Restore a backup: cognate restore FILE --data-dir NEW_DIR");
    }
    for Unfound { collection, ids } in unfound {
        let named: Vec<&str> = ids.iter().take(NAMED).map(String::as_str).collect();
        let more = if ids.len() > NAMED { " and others" } else { "" };
        writeln!(
            out,
            "{collection}: {} documents are not found by their own vectors: {}{more}",
            ids.len(),
            named.join(", ")
        )?;
    }
    if unfound.is_empty() {
        writeln!(out, "{}: all is as it was stored", report.path.display())?;
    }
    Ok(())
}
