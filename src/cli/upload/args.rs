//! The arguments of `cognate upload`.

use std::path::PathBuf;

use crate::cli::connection::Connection;
use crate::cli::input::{FormatArg, LargeNumbersArg, delimiter};
use crate::reader::Types;

/// Loads documents into a collection, which is created if it does not exist
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A wrong document is reported and skipped. Committed documents stay. Exit status: 0 all committed, \
1 some rejected, 2 failed, 129, 130 or 143 interrupted.

A record without an id gets one from the file's name, its line and its content, for example words:17-9f86d081884c. \
Loaded again, it is the same document, and it never replaces another one.

Examples:
  cognate upload words.jsonl --collection words
  cognate upload reviews.csv --collection reviews --text-column review --id-column review_id --types stars:number
  cognate upload docs/*.md --collection manual --format whole
  cognate upload million.jsonl --collection corpus --resume   # and again, if it was interrupted
  zcat corpus.jsonl.gz | cognate upload - --format jsonl --collection corpus --rejected rejected.jsonl"
)]
pub struct Args {
    /// Files to load: .jsonl, .json, .csv, .tsv, or plain lines; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Collection to load into
    #[arg(long, short, value_name = "NAME")]
    pub(super) collection: String,
    /// Format of the files. By default the extension decides, and standard input is plain lines
    #[arg(long, value_enum)]
    pub(super) format: Option<FormatArg>,
    /// Character between the fields of a CSV, for example ';' [default: ,]
    #[arg(long, value_name = "CHAR", value_parser = delimiter)]
    pub(super) delimiter: Option<u8>,
    /// Take quotes in a CSV or TSV as part of the text, not as enclosing fields
    #[arg(long)]
    pub(super) no_quotes: bool,
    /// Column or field with the id, which every record must then have [default: id, if there is one]
    #[arg(long, value_name = "NAME")]
    pub(super) id_column: Option<String>,
    /// Column or field with the text, which every record must then have [default: text]
    #[arg(long, value_name = "NAME")]
    pub(super) text_column: Option<String>,
    /// Give records without an id the id PREFIX:LINE. The next load with this prefix replaces what this one stored
    #[arg(long, value_name = "PREFIX", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(super) id_prefix: Option<String>,
    /// Types of the columns of a CSV: number, boolean (true, false, 1, 0) or text, for example
    /// year:number,open:boolean.
    /// Columns that are not named are text
    #[arg(long, value_name = "COLUMN:TYPE,…")]
    pub(super) types: Option<Types>,
    /// Treatment of whole numbers beyond 2^53 in the metadata, which it cannot store exactly [default: refuse]
    #[arg(long, value_enum)]
    pub(super) large_numbers: Option<LargeNumbersArg>,
    /// Write each rejected record to this file as a JSON line: file, line, id, error, record
    #[arg(long, value_name = "FILE")]
    pub(super) rejected: Option<PathBuf>,
    /// Store the progress of the load, and continue an earlier load with --resume that was interrupted. Needs one
    /// regular
    /// file. Begins again if the loaded part of the file has changed, or its documents are not in the collection
    #[arg(long)]
    pub(super) resume: bool,
    /// Directory of the progress that --resume stores [default: the user's directory for state]
    #[arg(long, env = "COGNATE_STATE_DIR", value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) connection: Connection,
}
