//! The files of a load: checks of flags, opening, reading.

use std::path::Path;
use std::sync::Arc;

use anyhow::{bail, ensure};
use tokio::sync::mpsc;

use super::super::input::{InputSource, Location};
use super::Args;
use super::bookmark::Mark;
use super::findings::{Findings, Seen};
use super::ledger::{Ledger, Sent};
use crate::reader::{self, Format, MadeUpIds};
use crate::wire::Document;

/// An open input file.
pub(super) struct Input {
    name: Arc<str>,
    reader: Box<dyn std::io::BufRead + Send>,
    pub(super) bytes: Option<u64>,
    pub(super) options: reader::Options,
    /// True if its documents need marks.
    pub(super) is_marked: bool,
}

/// Opens all files before anything is sent, so that a mistyped name or column is found at once, and not after
/// hours.
pub(super) fn open(args: &Args) -> anyhow::Result<Vec<Input>> {
    let sources: Vec<InputSource> = args.files.iter().map(|path| InputSource::named(path)).collect();
    if sources.iter().filter(|source| **source == InputSource::Stdin).count() > 1 {
        bail!("standard input (-) can be read only once: name it once");
    }
    let format = |source: &InputSource| args.format.map_or_else(|| source.format(), Into::into);
    for source in &sources {
        check_flags(args, source, format(source))?;
    }
    let no_use = sources.iter().all(|source| format(source).has_columns()) && args.types.is_none();
    ensure!(
        args.large_numbers.is_none() || !no_use,
        "--large-numbers has no effect here: the values of a CSV are text unless --types says otherwise"
    );
    ensure!(
        args.id_prefix.is_none() || sources.len() == 1,
        "--id-prefix needs one file: the lines of several would get the same ids"
    );
    sources.iter().map(|source| open_one(args, source, format(source))).collect()
}

/// Refuses a flag that has no effect on this file.
fn check_flags(args: &Args, source: &InputSource, format: Format) -> anyhow::Result<()> {
    let (has_no_fields, has_columns) = (!format.has_fields(), format.has_columns());
    let fields = "plain text has no fields: set --format if it has another format";
    let columns = "it is for CSV and TSV: set --format if the file has another format";
    for (flag, is_given, is_refused, reason) in [
        ("--id-column", args.id_column.is_some(), has_no_fields, fields),
        ("--text-column", args.text_column.is_some(), has_no_fields, fields),
        ("--large-numbers", args.large_numbers.is_some(), has_no_fields, fields),
        ("--types", args.types.is_some(), !has_columns, columns),
        ("--delimiter", args.delimiter.is_some(), !has_columns, columns),
        ("--no-quotes", args.no_quotes, !has_columns, columns),
        ("--delimiter", args.delimiter.is_some(), format == Format::Tsv, "tabs separate the fields of a TSV"),
    ] {
        ensure!(!(is_given && is_refused), "{flag} has no effect on {source}: {reason}");
    }
    let (id, text) = (args.id_column.as_deref().unwrap_or("id"), args.text_column.as_deref().unwrap_or("text"));
    ensure!(id != text, "{id:?} cannot be both id and text: name another with --id-column or --text-column");
    Ok(())
}

fn open_one(args: &Args, source: &InputSource, format: Format) -> anyhow::Result<Input> {
    let made_up_ids = match &args.id_prefix {
        Some(prefix) => MadeUpIds::ByLine { prefix: prefix.clone() },
        None => MadeUpIds::ByContent { stem: source.stem() },
    };
    let options = reader::Options {
        format_is_given: args.format.is_some(),
        format_flag: Some("--format"),
        whole_id: if args.id_prefix.is_none() { source.whole_id() } else { None },
        made_up_ids,
        id_column: args.id_column.clone(),
        text_column: args.text_column.clone(),
        delimiter: args.delimiter,
        has_quotes: !args.no_quotes,
        types: args.types.clone().unwrap_or_default(),
        large_numbers: args.large_numbers.unwrap_or_default().into(),
        ..reader::Options::new(format, "")
    };
    let (mut reader, bytes) = source.open()?;
    // Sources that cannot be opened twice are checked when they are read.
    if bytes.is_some() {
        reader::read(reader, &options).map_err(|error| anyhow::anyhow!("{source}: {error}"))?;
        (reader, _) = source.open()?;
    }
    Ok(Input { name: source.to_string().into(), reader, bytes, options, is_marked: false })
}

/// Refuses a file of rejected records that is also an input, because it would be emptied.
pub(super) fn check_rejected(args: &Args) -> anyhow::Result<()> {
    let Some(rejected) = &args.rejected else { return Ok(()) };
    ensure!(rejected != Path::new("-"), "--rejected needs a file: standard output has the summary");
    let Ok(rejected) = rejected.canonicalize() else { return Ok(()) };
    for file in &args.files {
        let is_read = file.canonicalize().is_ok_and(|file| file == rejected);
        ensure!(
            !is_read || !rejected.is_file(),
            "--rejected would empty {}, which is an input: name another file",
            file.display()
        );
    }
    Ok(())
}

/// Reads one file to its end. False if it could not be read, or if the receiver of documents is gone.
pub(super) fn read(input: Input, seen: &mut Seen, ledger: &Ledger, documents: &mpsc::Sender<Document>) -> bool {
    let Input { name, reader, options, is_marked, .. } = input;
    let tell = |what: &str| ledger.tell(&format!("{name}: {what}"));
    let mut records = match reader::read(reader, &options) {
        Ok(records) => records,
        Err(error) => {
            tell(&error.to_string());
            return false;
        }
    };
    let mut findings = Findings::default();
    let mut all_read = true;
    while let Some(record) = records.next() {
        records.notes().iter().for_each(|note| tell(note));
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                tell(&match error {
                    reader::Error::OpenQuote { .. } => format!("{error}: --no-quotes takes quotes as text"),
                    error => error.to_string(),
                });
                all_read = false;
                break;
            }
        };
        findings.records += 1;
        let location = Location { source: name.clone(), line: record.line };
        match record.document {
            Err(bad) => ledger.reject_unread(&location, record.end, &bad.to_string(), &record.raw),
            Ok(document) => {
                findings.see(&location, &document.id, record.remarks, seen);
                let mark = is_marked.then(|| Mark::of(&document));
                ledger.sent(Sent::new(location, record.raw, record.end, mark));
                if documents.blocking_send(document).is_err() {
                    return false;
                }
            }
        }
    }
    records.notes().iter().for_each(|note| tell(note));
    if all_read || findings.records > 0 {
        findings.lines(&options).iter().for_each(|line| tell(line));
    }
    all_read
}
