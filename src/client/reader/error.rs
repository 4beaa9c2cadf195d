//! Why a record is not a document, and why a file is not read to its end.

use super::MAX_RECORD_BYTES;
use super::syntax::shortened;

/// Why a record is not a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// Too long to be read.
    #[error("longer than {MAX_RECORD_BYTES} bytes")]
    TooLong,
    /// Not text in the encoding that is read.
    #[error("not UTF-8")]
    NotUtf8,
    /// A NUL byte, which text files do not have.
    #[error("holds a NUL byte: is the file text in UTF-8?")]
    Nul,
    /// Not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A field that the user named is not there.
    #[error("no field {name:?}, which {flag} names; its fields are {fields}")]
    NoField {
        /// The field.
        name: String,
        /// Where it was named.
        flag: &'static str,
        /// Those that are there.
        fields: String,
    },
    /// A field of the wrong type.
    #[error("{field:?} is not {expected}")]
    WrongType {
        /// The field's name.
        field: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A field both beside and inside the metadata.
    #[error("{0:?} is a field of the record and of its metadata")]
    Twice(String),
    /// Metadata nested deeper than the wire carries.
    #[error("{field} is nested more than {} deep", crate::rpc::metadata::MAX_DEPTH)]
    TooDeep {
        /// The first name that is too deep.
        field: String,
    },
    /// A whole number that metadata cannot hold.
    #[error(
        "{field}: {digits} is a whole number beyond 2^53 and would become {nearest}: write it in quotes, or choose \
         --large-numbers text or --large-numbers round"
    )]
    LargeNumber {
        /// Where.
        field: String,
        /// As the file has it.
        digits: String,
        /// What it would be rounded to.
        nearest: String,
    },
    /// A number that no double is near to.
    #[error("{field}: {digits} is {reason}")]
    OutOfRange {
        /// Where.
        field: String,
        /// As the file has it.
        digits: String,
        /// Which bound it breaks.
        reason: String,
    },
    /// Nothing to embed.
    #[error("no text and no vector")]
    Empty,
    /// A CSV record with more or fewer fields than the header.
    #[error("{found} fields, the header has {expected}")]
    FieldCount {
        /// In the record.
        found: usize,
        /// In the header.
        expected: usize,
    },
    /// A CSV field that goes on behind its closing quote.
    #[error(
        "field {field} goes on behind its closing quote: is a quote before it not closed, or one within not doubled?"
    )]
    BehindQuote {
        /// From 1.
        field: usize,
    },
}

/// Why reading a file ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input failed.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// Not a text file in UTF-8.
    #[error("is {what}: {remedy}")]
    NotText {
        /// What it is.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Plain lines, by name, that are something else by their look.
    #[error("looks like {what}: {}", remedy(format, *flag))]
    LooksLike {
        /// What it seems to be.
        what: &'static str,
        /// Its format.
        format: &'static str,
        /// By which the format can be named.
        flag: Option<&'static str>,
    },
    /// A JSON object that is written over several lines.
    #[error("holds an object over several lines: write one object a line (jq -c . FILE), or an array of objects")]
    SpreadObject,
    /// A JSON array that has no end.
    #[error("line {line}: the array or an element of it is not closed; nothing from there on was read")]
    OpenArray {
        /// Where the last element begins.
        line: u64,
    },
    /// More behind a JSON array.
    #[error("line {line}: something stands behind the array's end; it was not read")]
    BehindArray {
        /// Where.
        line: u64,
    },
    /// A CSV without a line.
    #[error("is empty: expected a header")]
    NoHeader,
    /// A header in another encoding.
    #[error("its header is not UTF-8: convert it, as in iconv -f LATIN1 -t UTF-8")]
    HeaderNotUtf8,
    /// A CSV without a column that is needed.
    #[error("has no column {wanted:?}; its columns are {columns}{advice}")]
    NoColumn {
        /// The column.
        wanted: String,
        /// The header.
        columns: String,
        /// What to do, if that can be seen.
        advice: String,
    },
    /// Two columns of a CSV with one name.
    #[error("has two columns named {name:?}, the {} and the {}: rename one", ordinal(*first), ordinal(*second))]
    TwoColumns {
        /// Their name.
        name: String,
        /// From 1.
        first: usize,
        /// From 1.
        second: usize,
    },
    /// The id's column is the text's.
    #[error("the column {name:?} cannot be both id and text: name another with --id-column or --text-column")]
    OneColumnTwice {
        /// Its name.
        name: String,
    },
    /// A type for a column that is text by its use.
    #[error("the column {name:?} holds ids or texts: --types is for the other columns")]
    TypedText {
        /// Its name.
        name: String,
    },
    /// A quote of a CSV that is never closed.
    #[error("line {line}: a quote is opened and never closed; nothing from there on was read")]
    OpenQuote {
        /// Where it is.
        line: u64,
    },
    /// A CSV record that is too long to be held.
    #[error(
        "line {line}: a record is longer than {MAX_RECORD_BYTES} bytes{}; nothing from there on was read",
        quote.map(|line| format!("; is the quote in line {line} not closed?")).unwrap_or_default()
    )]
    LongRow {
        /// Where it begins.
        line: u64,
        /// Where a quote is open.
        quote: Option<u64>,
    },
}

impl Error {
    /// A header without a column. `flag`: where its name comes from.
    pub(super) fn no_column(wanted: &str, flag: &str, names: &[String], delimiter: u8) -> Self {
        let columns = names.iter().map(|name| format!("{:?}", shortened(name))).collect::<Vec<_>>().join(", ");
        let alike = |name: &&String| name.trim().eq_ignore_ascii_case(wanted.trim());
        let other = [b';', b'\t', b',', b'|']
            .into_iter()
            .find(|&other| other != delimiter && names.len() == 1 && names[0].as_bytes().contains(&other));
        let advice = match (names.iter().find(alike), other) {
            (Some(name), _) => format!(": did you mean {name:?}?"),
            (None, Some(b'\t')) => ": is it separated by tabs? say --format tsv".to_owned(),
            (None, Some(other)) => format!(": say --delimiter '{}' if that separates them", char::from(other)),
            (None, None) if flag == "--types" => String::new(),
            (None, None) => format!(": name one with {flag}"),
        };
        Self::NoColumn { wanted: shortened(wanted), columns: shortened(&columns), advice }
    }
}

fn remedy(format: &str, flag: Option<&str>) -> String {
    match flag {
        Some(flag) => format!("say {flag} {format}, or {flag} lines if each line is a text"),
        None => format!("give it as a file named .{format}"),
    }
}

fn ordinal(number: usize) -> String {
    let suffix = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{suffix}")
}
