//! Prints the report of a measurement: JSON for programs, a table for people.

use std::io::{self, Write};

use serde::Serialize;

/// Prints a report as JSON, or as the table that `shown` writes.
pub(super) fn print<R: Serialize>(
    report: &R,
    json: bool,
    shown: impl FnOnce(&R, &mut io::StdoutLock<'static>) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
    } else {
        shown(report, &mut out)?;
    }
    Ok(())
}
