//! Documents from files: JSON lines, a JSON array, CSV, TSV, lines of plain text, and texts that are a whole file.
//!
//! A file is read record by record, so its size does not matter. A record that cannot be used is an error of its own,
//! and the reading continues. The reading ends early only if the rest cannot be trusted: reading fails, the file is in
//! another format, its header lacks a requested column, or a quote or bracket is never closed. Nothing is changed
//! silently: each record reports what was generated or changed ([`Remarks`]), and the file reports how its header was
//! understood ([`Records::notes`]).

mod array;
mod csv;
mod detect;
mod error;
pub(crate) mod fuzz;
mod ids;
mod json;
mod lines;
mod notes;
mod number;
mod options;
mod record;
mod rows;
mod syntax;
mod types;

use std::io::BufRead;

pub use detect::is_json_object;
pub use error::{Bad, Error};
pub use ids::MadeUpIds;
pub use number::LargeNumbers;
pub use options::{Format, Options};
pub use record::{Record, Remarks};
pub use types::Types;

use self::detect::Layout;
use self::notes::Notes;
use self::record::Parsed;
use crate::wire::Document;

/// The records of a file, in order. An `Err` is the last item.
pub struct Records<'i> {
    records: Box<dyn Iterator<Item = Result<Record, Error>> + Send + 'i>,
    notes: Notes,
}

impl Records<'_> {
    /// Returns the notes about the whole file since the last call.
    pub fn notes(&self) -> Vec<String> {
        self.notes.take()
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.records.next()
    }
}

/// Returns the records of `input`. Fails at once if the beginning shows an error: another format or encoding, or
/// missing columns.
pub fn read<'i>(mut input: impl BufRead + Send + 'i, options: &Options) -> Result<Records<'i>, Error> {
    let (options, notes) = (options.clone(), Notes::default());
    let layout = detect::layout(&mut input, &options)?;
    let after = options.after_bytes;
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
            let elements = array::elements(input).filter(move |line| line.as_ref().map_or(true, |l| l.end > after));
            // A missing element is not a blank line, so it is not skipped.
            Box::new(elements.map(move |line| Ok(from_text(line?, |text, line| json::document(text, line, &options)))))
        }
        Format::Jsonl => Box::new(lines_after(input, after, move |text, line| json::document(text, line, &options))),
        Format::Lines => {
            let (mut told, notes) = (false, notes.clone());
            Box::new(lines_after(input, after, move |text, line| {
                if text.contains('\r') && !std::mem::replace(&mut told, true) {
                    notes.add(format!(
                        "line {line} has carriage returns (\\r), which do not end a line here: they are part of the \
                         text"
                    ));
                }
                plain(None, text, line, &options)
            }))
        }
        Format::Whole => {
            let text = lines::whole(input).transpose().into_iter();
            let text = text.filter(move |text| text.as_ref().map_or(true, |text| text.end > after));
            Box::new(text.map(move |text| {
                Ok(from_text(text?, |text, line| plain(options.whole_id.clone(), text, line, &options)))
            }))
        }
    };
    Ok(Records { records, notes })
}

/// Makes a document from plain text: a line, or a whole file, which may have an id.
fn plain(id: Option<String>, text: &str, line: u64, options: &Options) -> Result<Parsed, Bad> {
    if text.contains('\0') {
        return Err(Bad::Nul);
    }
    let document = Document { text: text.to_owned(), ..Default::default() };
    Ok(Parsed::new(id, document, line, options))
}

/// The records of the lines that end after this number of bytes and are not blank.
fn lines_after(
    input: impl BufRead,
    after: u64,
    mut parse: impl FnMut(&str, u64) -> Result<Parsed, Bad>,
) -> impl Iterator<Item = Result<Record, Error>> {
    lines::lines(input).filter_map(move |line| match line {
        Ok(line) if line.end <= after => None,
        Ok(line) if !line.too_long && line.bytes.trim_ascii().is_empty() => None,
        Ok(line) => Some(Ok(from_text(line, &mut parse))),
        Err(error) => Some(Err(error.into())),
    })
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
    fn each_line_is_a_text_with_an_id_of_file_and_line() {
        let read = records("first\n\n  \r\nfourth\r\nfifth", Format::Lines);
        let found: Vec<_> = read.iter().map(|r| (r.line, r.document.clone().unwrap())).collect();
        let expected = [(1, "file:1", "first"), (4, "file:4", "fourth"), (5, "file:5", "fifth")]
            .map(|(line, id, text)| (line, Document { id: id.into(), text: text.into(), ..Default::default() }));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_whole_file_is_one_text_with_its_line_ends_and_the_id_that_was_given() {
        let options = Options { whole_id: Some("docs/a.md".into()), ..Options::new(Format::Whole, "a") };
        let input = "\u{feff}# Title\r\n\n{\"text\": 1}\n";
        let records: Vec<Record> = read(input.as_bytes(), &options).unwrap().map(Result::unwrap).collect();
        let [record] = records.as_slice() else { panic!("one text is one record: {records:?}") };
        let document = record.document.as_ref().unwrap();
        assert_eq!((document.id.as_str(), document.text.as_str()), ("docs/a.md", &input[3..]));
        assert_eq!((record.line, record.end), (1, input.len() as u64));
        let no_id = Options::new(Format::Whole, "a");
        for (input, document) in [(&b" \n"[..], None), (b"a\0b", Some(Bad::Nul)), (b"a\xff", Some(Bad::NotUtf8))] {
            let records = read(input, &no_id).unwrap().map(|record| record.unwrap().document.err());
            assert_eq!(records.collect::<Vec<_>>(), document.map(Some).into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_line_of_binary_is_refused_and_one_with_carriage_returns_is_noted() {
        let mut read = read(&b"a\0b\none\rtwo\rthree\n"[..], &by_line(Format::Lines)).unwrap();
        assert_eq!(read.next().unwrap().unwrap().document, Err(Bad::Nul));
        assert_eq!(read.next().unwrap().unwrap().document.unwrap().text, "one\rtwo\rthree");
        assert!(read.notes()[0].contains("line 2 has carriage returns"));
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
        let input = "[\n  {\n    \"id\": \"a\",\n    \"text\": \"one\"\n  },\n  7,\n\
            \x20 {\"text\": },\n  {\"text\": \"two\"}\n]\n";
        let read = records(input, Format::Jsonl);
        let ids: Vec<_> = read.iter().map(|r| (r.line, r.document.as_ref().ok().map(|d| d.id.as_str()))).collect();
        assert_eq!(ids, [(2, Some("a")), (6, None), (7, None), (8, Some("file:8"))]);
    }

    #[test]
    fn reading_continues_after_any_record_with_the_same_lines_and_ids() {
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
                assert_eq!(rest, all[n + 1..], "after {record:?}");
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
