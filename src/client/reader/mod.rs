//! Documents from files: JSON lines, CSV and plain text.
//!
//! A file is read record by record, so its size does not matter. A record that cannot be used is an error in its
//! place and never ends the reading; only input that fails, or a CSV without the columns asked for, does.

mod csv;
mod json;
mod lines;

use std::io::BufRead;
use std::path::Path;

use crate::proto::Document;

/// The longest record that is read, in bytes. A longer one is more likely a file of another format than a document.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line: `id`, `text`, `metadata`, `vector`; any other field is added to the metadata.
    Jsonl,
    /// Comma-separated with a header: `id`, `text`; any other column becomes metadata, as a string.
    Csv,
    /// Each line is a text; empty lines are skipped.
    Lines,
}

impl Format {
    /// By the extension: `.jsonl`, `.ndjson` or `.json`; `.csv`; anything else is plain lines.
    pub fn of(path: &Path) -> Self {
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        match extension.as_deref().and_then(|extension| extension.to_str()) {
            Some("jsonl" | "ndjson" | "json") => Self::Jsonl,
            Some("csv") => Self::Csv,
            _ => Self::Lines,
        }
    }
}

/// How records become documents.
#[derive(Debug, Clone)]
pub struct Options {
    /// The format.
    pub format: Format,
    /// Where a record has no id it gets `stem:line`. `None`: such a record is an error.
    pub stem: Option<String>,
    /// The column or field that holds the id. `None`: `id`, if there is one.
    pub id_column: Option<String>,
    /// The column or field that holds the text.
    pub text_column: String,
    /// Records that end within the first so many bytes are passed over; their lines count. 0: none are.
    pub after_bytes: u64,
}

impl Options {
    /// For a file with the usual names.
    pub fn new(format: Format, stem: impl Into<String>) -> Self {
        Self { format, stem: Some(stem.into()), id_column: None, text_column: "text".into(), after_bytes: 0 }
    }

    fn id_column(&self) -> &str {
        self.id_column.as_deref().unwrap_or("id")
    }

    /// The id of a record without one of its own.
    fn generated_id(&self, line: u64) -> Result<String, Bad> {
        self.stem.as_ref().map(|stem| format!("{stem}:{line}")).ok_or(Bad::NoId)
    }
}

/// One record of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The line it begins on, from 1.
    pub line: u64,
    /// Bytes of the input up to its end, the line's end included where it is known to be one.
    pub end: u64,
    /// The record as it stands in the file, without its line end; a part of it if it is too long.
    pub raw: String,
    /// The document, or why there is none.
    pub document: Result<Document, Bad>,
}

/// Why a record is not a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// Too long to be read.
    #[error("longer than {MAX_RECORD_BYTES} bytes")]
    TooLong,
    /// Not text.
    #[error("not UTF-8")]
    NotUtf8,
    /// Not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
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
    /// Metadata that the wire cannot carry.
    #[error(transparent)]
    Metadata(#[from] crate::rpc::metadata::Invalid),
    /// Nothing to embed.
    #[error("no text and no vector")]
    Empty,
    /// No id, and none can be made up.
    #[error("no id, and another file of the same name would give its records the same ids")]
    NoId,
    /// A CSV record with more or fewer fields than the header.
    #[error("{found} fields, the header has {expected}")]
    FieldCount {
        /// In the record.
        found: usize,
        /// In the header.
        expected: usize,
    },
}

/// Why reading a file ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input failed.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// A CSV without a column that is needed.
    #[error("has no column {wanted:?}; its columns are {columns}")]
    NoColumn {
        /// The column.
        wanted: String,
        /// The header.
        columns: String,
    },
}

/// The records of `input`, in order. After an `Err` there are no more.
pub fn read<'i>(
    input: impl BufRead + 'i,
    options: &Options,
) -> Result<Box<dyn Iterator<Item = Result<Record, Error>> + 'i>, Error> {
    let options = options.clone();
    let after = options.after_bytes;
    let lines = |input| {
        lines::lines(input)
            .filter(move |line: &std::io::Result<lines::Line>| line.as_ref().map_or(true, |line| line.end > after))
    };
    Ok(match options.format {
        Format::Csv => Box::new(csv::records(input, options)?),
        Format::Jsonl => Box::new(lines(input).filter_map(move |line| {
            let parse = |text: &str, line| json::document(text, line, &options);
            from_line(line, parse)
        })),
        Format::Lines => Box::new(lines(input).filter_map(move |line| {
            let parse = |text: &str, line| {
                let id = options.generated_id(line)?;
                Ok(Document { id, text: text.to_string(), ..Default::default() })
            };
            from_line(line, parse)
        })),
    })
}

/// `None` for a blank line.
fn from_line(
    line: std::io::Result<lines::Line>,
    parse: impl FnOnce(&str, u64) -> Result<Document, Bad>,
) -> Option<Result<Record, Error>> {
    let line = match line {
        Ok(line) => line,
        Err(error) => return Some(Err(error.into())),
    };
    let document = match std::str::from_utf8(&line.bytes) {
        _ if line.too_long => Err(Bad::TooLong),
        Ok(text) if text.trim().is_empty() => return None,
        Ok(text) => parse(text, line.number),
        Err(_) => Err(Bad::NotUtf8),
    };
    let raw = String::from_utf8(line.bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into());
    Some(Ok(Record { line: line.number, end: line.end, raw, document }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(input: &str, format: Format) -> Vec<Record> {
        read(input.as_bytes(), &Options::new(format, "file")).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn the_extension_decides_the_format() {
        for (path, format) in [
            ("a/b.jsonl", Format::Jsonl),
            ("b.NDJSON", Format::Jsonl),
            ("b.csv", Format::Csv),
            ("b.txt", Format::Lines),
            ("b", Format::Lines),
        ] {
            assert_eq!(Format::of(Path::new(path)), format, "{path}");
        }
    }

    #[test]
    fn each_line_is_a_text_named_by_file_and_line() {
        let read = records("first\n\n  \r\nfourth\r\nfifth", Format::Lines);
        let found: Vec<_> = read.iter().map(|r| (r.line, r.document.clone().unwrap())).collect();
        let expected = [(1, "file:1", "first"), (4, "file:4", "fourth"), (5, "file:5", "fifth")]
            .map(|(line, id, text)| (line, Document { id: id.into(), text: text.into(), ..Default::default() }));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_bad_line_does_not_stop_the_ones_after_it() {
        let input = b"{\"text\":\"a\"}\n{\"text\":\n\xff\xfe\n[1]\n{\"text\":\"b\"}\n";
        let options = Options::new(Format::Jsonl, "f");
        let read: Vec<Record> = read(&input[..], &options).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.iter().map(|r| r.line).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(matches!(&read[1].document, Err(Bad::NotJson(_))), "{:?}", read[1]);
        assert_eq!(read[1].raw, "{\"text\":");
        assert_eq!(read[2].document, Err(Bad::NotUtf8));
        assert_eq!(read[3].document, Err(Bad::NotAnObject));
        assert_eq!(read[4].document.as_ref().unwrap().id, "f:5");
    }

    #[test]
    fn reading_goes_on_behind_any_record_with_the_same_lines_and_ids() {
        let jsonl = "\u{feff}{\"text\":\"a\"}\n\n[1]\r\n{\"id\":\"x\",\"text\":\"b\"}\n{\"text\":\"c\"}";
        let csv = "id,text\n,one\nx,\"two\nand, \"\"more\"\"\"\n\n,\"three\n\"\n,four";
        for (input, format) in [
            (jsonl.to_string(), Format::Jsonl),
            (csv.to_string(), Format::Csv),
            (csv.replace('\n', "\r\n"), Format::Csv),
            ("one\n\ntwo\r\nthree".to_string(), Format::Lines),
        ] {
            let all = records(&input, format);
            assert!(all.len() >= 3 && all.last().unwrap().end == input.len() as u64, "{all:?}");
            for (n, record) in all.iter().enumerate() {
                let options = Options { after_bytes: record.end, ..Options::new(format, "file") };
                let rest: Vec<Record> = read(input.as_bytes(), &options).unwrap().map(Result::unwrap).collect();
                assert_eq!(rest, all[n + 1..], "behind {record:?}");
            }
        }
    }

    #[test]
    fn without_a_stem_a_record_needs_its_own_id() {
        let options = Options { stem: None, ..Options::new(Format::Jsonl, "") };
        let input = "{\"text\":\"a\"}\n{\"id\":\"x\",\"text\":\"b\"}\n";
        let read: Vec<Record> = read(input.as_bytes(), &options).unwrap().map(Result::unwrap).collect();
        assert_eq!(read[0].document, Err(Bad::NoId));
        assert_eq!(read[1].document.as_ref().unwrap().id, "x");
    }
}
