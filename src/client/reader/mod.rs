//! Documents from files: JSON lines, a JSON array, CSV, TSV and plain text.
//!
//! A file is read record by record, so its size does not matter. A record that cannot be used is an error in its
//! place and never ends the reading. The reading ends early only where the rest cannot be trusted: the input fails, the
//! file is not what it is read as, its header lacks a column asked for, or a quote or bracket is never closed.
//! Nothing is taken otherwise than it is written without a word: each record says what was made up or changed
//! ([`Remarks`]), and the file what was made of its header ([`Records::notes`]).

mod array;
mod beginning;
mod csv;
mod error;
pub(crate) mod fuzz;
mod ids;
mod json;
mod lines;
mod number;
mod rows;
mod syntax;
mod types;

use std::io::BufRead;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

pub use beginning::is_json_object;
pub use error::{Bad, Error};
pub use ids::MadeUpIds;
pub use number::LargeNumbers;
pub use types::{Type, Types};

use self::beginning::Layout;
use crate::proto::Document;

/// The longest record that is read, in bytes. A longer one is more likely a file of another format than a document.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line: `id`, `text`, `metadata`, `vector`; any other field is added to the metadata. Or one
    /// array of such objects.
    Jsonl,
    /// Comma-separated with a header: `id`, `text`; any other column becomes metadata.
    Csv,
    /// The same, separated by tabs.
    Tsv,
    /// Each line is a text; empty lines are skipped.
    Lines,
}

impl Format {
    /// By the extension: `.jsonl`, `.ndjson` or `.json`; `.csv`; `.tsv` or `.tab`; anything else is plain lines.
    pub fn of(path: &Path) -> Self {
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        match extension.as_deref().and_then(|extension| extension.to_str()) {
            Some("jsonl" | "ndjson" | "json") => Self::Jsonl,
            Some("csv") => Self::Csv,
            Some("tsv" | "tab") => Self::Tsv,
            _ => Self::Lines,
        }
    }

    /// It has a header that names columns.
    pub fn has_columns(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv)
    }
}

/// How records become documents.
#[derive(Debug, Clone)]
pub struct Options {
    /// The format.
    pub format: Format,
    /// The user named the format: plain lines that look like another one are taken as they are.
    pub format_is_given: bool,
    /// The flag by which the user may name it, for messages.
    pub format_flag: Option<&'static str>,
    /// How records without an id are named.
    pub made_up_ids: MadeUpIds,
    /// The column or field that holds the id, which must then be there. `None`: `id`, if there is one.
    pub id_column: Option<String>,
    /// The column or field that holds the text, which must then be there. `None`: `text`.
    pub text_column: Option<String>,
    /// What separates the fields of a CSV; `None`: as the format says.
    pub delimiter: Option<u8>,
    /// Quotes enclose the fields of a CSV; else they are part of the text.
    pub has_quotes: bool,
    /// The types of CSV columns.
    pub types: Types,
    /// The treatment of whole numbers that metadata cannot hold.
    pub large_numbers: LargeNumbers,
    /// Records that end within the first so many bytes are passed over; their lines count. 0: none are.
    pub after_bytes: u64,
}

impl Options {
    /// For a file with the usual names. `stem`: the file's name in the ids of records without one.
    pub fn new(format: Format, stem: impl Into<String>) -> Self {
        Self {
            format,
            format_is_given: false,
            format_flag: None,
            made_up_ids: MadeUpIds::ByContent { stem: stem.into() },
            id_column: None,
            text_column: None,
            delimiter: None,
            has_quotes: true,
            types: Types::default(),
            large_numbers: LargeNumbers::default(),
            after_bytes: 0,
        }
    }

    fn id_column(&self) -> &str {
        self.id_column.as_deref().unwrap_or("id")
    }

    fn text_column(&self) -> &str {
        self.text_column.as_deref().unwrap_or("text")
    }
}

/// One record of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The line it begins on, from 1.
    pub line: u64,
    /// Bytes of the input up to its end, the line's end included where there is one.
    pub end: u64,
    /// The record as it stands in the file, without its line end; a part of it if it is too long.
    pub raw: String,
    /// The document, or why there is none.
    pub document: Result<Document, Bad>,
    /// What of the document does not stand in the record.
    pub remarks: Remarks,
}

/// What of a document was made up or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remarks {
    /// The record has no id.
    pub made_up_id: bool,
    /// Numbers of the metadata that are kept otherwise than they are written, as [`LargeNumbers`] says.
    pub large_numbers: u32,
}

impl Record {
    fn new(line: u64, end: u64, raw: Vec<u8>, parsed: Result<Parsed, Bad>) -> Self {
        let raw = String::from_utf8(raw).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into());
        let (document, remarks) = match parsed {
            Ok(Parsed { document, remarks }) => (Ok(document), remarks),
            Err(bad) => (Err(bad), Remarks::default()),
        };
        Self { line, end, raw, document, remarks }
    }
}

/// A document, and how it came about.
#[derive(Debug)]
struct Parsed {
    document: Document,
    remarks: Remarks,
}

impl Parsed {
    /// The document with this id; with one that is made up if the record has none.
    fn new(id: Option<String>, mut document: Document, line: u64, options: &Options) -> Self {
        let made_up_id = id.is_none();
        document.id = id.unwrap_or_else(|| options.made_up_ids.id(line, &document));
        Self { document, remarks: Remarks { made_up_id, large_numbers: 0 } }
    }

    fn with_large_numbers(mut self, large_numbers: u32) -> Self {
        self.remarks.large_numbers = large_numbers;
        self
    }
}

/// The records of a file, in order. After an `Err` there are no more.
pub struct Records<'i> {
    records: Box<dyn Iterator<Item = Result<Record, Error>> + Send + 'i>,
    notes: Notes,
}

impl Records<'_> {
    /// What is to be known of the file as a whole, since the last call.
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.records.next()
    }
}

/// Written by the part that reads a format.
#[derive(Debug, Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, note: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(note);
    }
}

/// The records of `input`. What its beginning shows (another format or encoding, columns that are not there) is found
/// here.
pub fn read<'i>(mut input: impl BufRead + Send + 'i, options: &Options) -> Result<Records<'i>, Error> {
    let (options, notes) = (options.clone(), Notes::default());
    let layout = beginning::look(&mut input, &options)?;
    let after = options.after_bytes;
    let is_wanted = move |end: u64| end > after;
    let records: Box<dyn Iterator<Item = Result<Record, Error>> + Send + 'i> = match options.format {
        Format::Csv => {
            let delimiter = options.delimiter.unwrap_or(b',');
            Box::new(csv::records(input, delimiter, options, notes.clone())?)
        }
        Format::Tsv => {
            let delimiter = options.delimiter.unwrap_or(b'\t');
            Box::new(csv::records(input, delimiter, options, notes.clone())?)
        }
        Format::Jsonl if layout == Layout::Array => {
            let elements = array::elements(input).filter(move |line| line.as_ref().map_or(true, |l| is_wanted(l.end)));
            // A place without an element is no blank line.
            Box::new(elements.map(move |line| Ok(from_text(line?, |text, line| json::document(text, line, &options)))))
        }
        Format::Jsonl => Box::new(
            lines::lines(input)
                .filter(move |line| line.as_ref().map_or(true, |line| is_wanted(line.end)))
                .filter_map(move |line| from_line(line, |text, line| json::document(text, line, &options))),
        ),
        Format::Lines => {
            let (told, parse_notes) = (std::cell::Cell::new(false), notes.clone());
            Box::new(
                lines::lines(input)
                    .filter(move |line| line.as_ref().map_or(true, |line| is_wanted(line.end)))
                    .filter_map(move |line| {
                        from_line(line, |text, line| {
                            if text.contains('\r') && !told.replace(true) {
                                parse_notes.add(format!(
                                    "line {line} holds carriage returns (\\r), which do not end a line here: they are part of \
                                     the text"
                                ));
                            }
                            plain(text, line, &options)
                        })
                    }),
            )
        }
    };
    Ok(Records { records, notes })
}

/// A line as a text.
fn plain(text: &str, line: u64, options: &Options) -> Result<Parsed, Bad> {
    if text.contains('\0') {
        return Err(Bad::Nul);
    }
    let document = Document { text: text.to_owned(), ..Default::default() };
    Ok(Parsed::new(None, document, line, options))
}

/// `None` for a blank line.
fn from_line(
    line: std::io::Result<lines::Line>,
    parse: impl FnOnce(&str, u64) -> Result<Parsed, Bad>,
) -> Option<Result<Record, Error>> {
    match line {
        Ok(line) if !line.too_long && line.bytes.trim_ascii().is_empty() => None,
        Ok(line) => Some(Ok(from_text(line, parse))),
        Err(error) => Some(Err(error.into())),
    }
}

fn from_text(line: lines::Line, parse: impl FnOnce(&str, u64) -> Result<Parsed, Bad>) -> Record {
    let parsed = match std::str::from_utf8(&line.bytes) {
        _ if line.too_long => Err(Bad::TooLong),
        Ok(text) => parse(text, line.number),
        Err(_) => Err(Bad::NotUtf8),
    };
    Record::new(line.number, line.end, line.bytes, parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_line(format: Format) -> Options {
        Options { made_up_ids: MadeUpIds::ByLine { prefix: "file".into() }, ..Options::new(format, "file") }
    }

    fn records(input: &str, format: Format) -> Vec<Record> {
        read(input.as_bytes(), &by_line(format)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn the_extension_decides_the_format() {
        for (path, format) in [
            ("a/b.jsonl", Format::Jsonl),
            ("b.NDJSON", Format::Jsonl),
            ("b.csv", Format::Csv),
            ("b.TSV", Format::Tsv),
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
    fn a_line_of_binary_is_refused_and_one_with_carriage_returns_is_noted() {
        let mut read = read(&b"a\0b\none\rtwo\rthree\n"[..], &by_line(Format::Lines)).unwrap();
        assert_eq!(read.next().unwrap().unwrap().document, Err(Bad::Nul));
        assert_eq!(read.next().unwrap().unwrap().document.unwrap().text, "one\rtwo\rthree");
        assert!(read.notes()[0].contains("line 2 holds carriage returns"));
    }

    #[test]
    fn a_bad_line_does_not_stop_the_ones_after_it() {
        let input = b"{\"text\":\"a\"}\n{\"text\":\n\xff\xfe\n[1]\n{\"text\":\"b\"}\n";
        let read: Vec<Record> = read(&input[..], &by_line(Format::Jsonl)).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.iter().map(|r| r.line).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(matches!(&read[1].document, Err(Bad::NotJson(_))), "{:?}", read[1]);
        assert_eq!(read[1].raw, "{\"text\":");
        assert_eq!(read[2].document, Err(Bad::NotUtf8));
        assert_eq!(read[3].document, Err(Bad::NotAnObject));
        assert_eq!(read[4].document.as_ref().unwrap().id, "file:5");
    }

    #[test]
    fn the_elements_of_an_array_are_records_and_a_wrong_one_does_not_stop_the_others() {
        let input = "[\n  {\n    \"id\": \"a\",\n    \"text\": \"one\"\n  },\n  7,\n  {\"text\": },\n  {\"text\": \"two\"}\n]\n";
        let read = records(input, Format::Jsonl);
        let ids: Vec<_> = read.iter().map(|r| (r.line, r.document.as_ref().ok().map(|d| d.id.as_str()))).collect();
        assert_eq!(ids, [(2, Some("a")), (6, None), (7, None), (8, Some("file:8"))]);
    }

    #[test]
    fn reading_goes_on_behind_any_record_with_the_same_lines_and_ids() {
        let jsonl = "\u{feff}{\"text\":\"a\"}\n\n[1]\r\n{\"id\":\"x\",\"text\":\"b\"}\n{\"text\":\"c\"}";
        let csv = "id,text\n,one\nx,\"two\nand, \"\"more\"\"\"\n\n,\"three\n\"\n,four";
        for (input, format) in [
            (jsonl.to_string(), Format::Jsonl),
            ("[{\"text\": \"a\"},\n{\"text\": \"b\"} , {\"text\": \"c\"}".to_string() + "]", Format::Jsonl),
            (csv.to_string(), Format::Csv),
            (csv.replace('\n', "\r\n"), Format::Csv),
            (csv.replace('\n', "\r"), Format::Csv),
            (csv.replace(',', "\t"), Format::Tsv),
            ("one\n\ntwo\r\nthree".to_string(), Format::Lines),
        ] {
            let all = records(&input, format);
            assert!(all.len() >= 3 && all.last().unwrap().end >= input.len() as u64 - 1, "{all:?}");
            for (n, record) in all.iter().enumerate() {
                let options = Options { after_bytes: record.end, ..by_line(format) };
                let rest: Vec<Record> = read(input.as_bytes(), &options).unwrap().map(Result::unwrap).collect();
                assert_eq!(rest, all[n + 1..], "behind {record:?}");
            }
        }
    }

    #[test]
    fn records_of_equal_files_have_equal_ids_and_no_others() {
        let ids = |input: &str| {
            let read = read(input.as_bytes(), &Options::new(Format::Jsonl, "data")).unwrap().map(Result::unwrap);
            read.map(|record| record.document.unwrap().id).collect::<Vec<_>>()
        };
        let january = ids("{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
        assert_eq!(january, ids("{\"text\": \"a\"}\r\n{ \"text\": \"b\" }"));
        let february = ids("{\"text\": \"a\", \"n\": 1}\n{\"text\": \"c\"}\n");
        assert!(january.iter().all(|id| !february.contains(id)), "{january:?} {february:?}");
    }
}
