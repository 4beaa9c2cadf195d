//! The errors of records that are not documents, and of files that are not read to their end.

use super::lines::MAX_RECORD_BYTES;
use super::syntax::shortened;

/// The reason why a record is not a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// The record is too long.
    #[error("longer than {MAX_RECORD_BYTES} bytes")]
    TooLong,
    /// The record is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// The record has a NUL byte, which text files do not have.
    #[error("has a NUL byte: expected text in UTF-8")]
    Nul,
    /// The record is not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// The record is JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A field that the user named does not exist.
    #[error("no field {name:?}, which {flag} names; its fields are {fields}")]
    NoField {
        /// The field.
        name: String,
        /// The flag that names it.
        flag: &'static str,
        /// The existing fields.
        fields: String,
    },
    /// A field has the wrong type.
    #[error("{field:?} is not {expected}")]
    WrongType {
        /// The name of the field.
        field: String,
        /// The expected type.
        expected: &'static str,
    },
    /// A field is both in the record and in its metadata.
    #[error("{0:?} is a field of the record and of its metadata: expected in one of them")]
    Twice(String),
    /// The metadata is nested deeper than the wire allows.
    #[error("{field} is nested more than {} deep", crate::wire::metadata::MAX_DEPTH)]
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
        /// The path of the number.
        field: String,
        /// The digits in the file.
        digits: String,
        /// The nearest double.
        nearest: String,
    },
    /// A number outside the range of doubles.
    #[error("{field}: {digits} is {reason}")]
    OutOfRange {
        /// The path of the number.
        field: String,
        /// The digits in the file.
        digits: String,
        /// The limit that it exceeds.
        reason: String,
    },
    /// The record has neither text nor vector.
    #[error("no text and no vector")]
    Empty,
    /// A CSV record with more or fewer fields than the header.
    #[error("{found} fields, the header has {expected}")]
    FieldCount {
        /// The number of fields in the record.
        found: usize,
        /// The number of fields in the header.
        expected: usize,
    },
    /// A CSV field with text after its closing quote.
    #[error("field {field} has text after its closing quote: close the quote before it, or double the quotes inside")]
    TextAfterQuote {
        /// The number of the field, from 1.
        field: usize,
    },
}

/// The reason why a file is not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading the input failed.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// The file is not text in UTF-8.
    #[error("is {what}: {remedy}")]
    NotText {
        /// The content of the file.
        what: &'static str,
        /// The remedy.
        remedy: &'static str,
    },
    /// A file of plain lines, by its name, that looks like another format.
    #[error("looks like {what}: {}", remedy(format, *flag))]
    LooksLike {
        /// The format that it looks like, in words.
        what: &'static str,
        /// The name of that format.
        format: &'static str,
        /// The flag that sets the format.
        flag: Option<&'static str>,
    },
    /// A JSON object over several lines.
    #[error("holds an object over several lines: write one object on each line (jq -c . FILE), or an array of objects")]
    ObjectOverLines,
    /// A JSON array without an end.
    #[error("line {line}: the array or an element of it is not closed; nothing after it was read")]
    OpenArray {
        /// The line on which the last element begins.
        line: u64,
    },
    /// Text after a JSON array.
    #[error("line {line}: found text after the end of the array; it was not read")]
    TextAfterArray {
        /// The line of the text.
        line: u64,
    },
    /// A CSV file without a line.
    #[error("is empty: expected a header")]
    NoHeader,
    /// A header in another encoding.
    #[error("its header is not UTF-8: convert the file, for example with iconv -f LATIN1 -t UTF-8")]
    HeaderNotUtf8,
    /// A CSV file without a required column.
    #[error("has no column {wanted:?}; its columns are {columns}{advice}")]
    NoColumn {
        /// The column.
        wanted: String,
        /// The header.
        columns: String,
        /// The remedy, if one is known.
        advice: String,
    },
    /// A CSV file with two columns of the same name.
    #[error("has two columns named {name:?}, the {} and the {}: rename one", ordinal(*first), ordinal(*second))]
    TwoColumns {
        /// Their name.
        name: String,
        /// The number of the first one, from 1.
        first: usize,
        /// The number of the second one, from 1.
        second: usize,
    },
    /// One column for both the id and the text.
    #[error("the column {name:?} cannot be both id and text: name another with --id-column or --text-column")]
    OneColumnTwice {
        /// Its name.
        name: String,
    },
    /// A type for the column of ids or texts.
    #[error("the column {name:?} holds ids or texts: --types is for the other columns")]
    TypedText {
        /// Its name.
        name: String,
    },
    /// A quote in a CSV file that is never closed.
    #[error("line {line}: a quote is opened and never closed; nothing after it was read")]
    OpenQuote {
        /// The line of the quote.
        line: u64,
    },
    /// A CSV record that is too long.
    #[error(
        "line {line}: a record is longer than {MAX_RECORD_BYTES} bytes{}; nothing after it was read",
        quote.map(|line| format!("; the quote in line {line} may not be closed")).unwrap_or_default()
    )]
    LongRow {
        /// The line on which it begins.
        line: u64,
        /// The line of a quote that is still open.
        quote: Option<u64>,
    },
}

impl Error {
    /// The error of a header without a column. `flag` names the flag that selects the column.
    pub(super) fn no_column(wanted: &str, flag: &str, names: &[String], delimiter: u8) -> Self {
        let columns = names.iter().map(|name| format!("{:?}", shortened(name))).collect::<Vec<_>>().join(", ");
        let alike = |name: &&String| name.trim().eq_ignore_ascii_case(wanted.trim());
        let other = [b';', b'\t', b',', b'|']
            .into_iter()
            .find(|&other| other != delimiter && names.len() == 1 && names[0].as_bytes().contains(&other));
        let advice = match (names.iter().find(alike), other) {
            (Some(name), _) => format!(": did you mean {name:?}?"),
            (None, Some(b'\t')) => ": if tabs separate the columns, use --format tsv".to_owned(),
            (None, Some(other)) => {
                format!(": if '{0}' separates the columns, use --delimiter '{0}'", char::from(other))
            }
            (None, None) if flag == "--types" => String::new(),
            (None, None) => format!(": select one with {flag}"),
        };
        Self::NoColumn { wanted: shortened(wanted), columns: shortened(&columns), advice }
    }
}

fn remedy(format: &str, flag: Option<&str>) -> String {
    match flag {
        Some(flag) => format!("use {flag} {format}, or {flag} lines if each line is a text"),
        None => format!("rename the file to .{format}"),
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
