//! Documents from CSV with a header (RFC 4180: quotes, and line ends inside them).

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use csv::{ByteRecord, ReaderBuilder, StringRecord, WriterBuilder};
use serde_json::{Map, Value};

use super::{Bad, Error, MAX_RECORD_BYTES, Options, Record};
use crate::proto::Document;
use crate::rpc::metadata;

/// The records below the header.
pub(super) fn records<'i>(
    input: impl BufRead + 'i,
    options: Options,
) -> Result<impl Iterator<Item = Result<Record, Error>> + 'i, Error> {
    let left = Arc::new(AtomicUsize::new(MAX_RECORD_BYTES));
    let input = Budget { input, left: left.clone() };
    // Flexible: a record of the wrong length is reported by us, with what it holds.
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(input);
    let columns = Columns::find(reader.headers().map_err(io)?, &options)?;
    let (mut record, mut failed) = (ByteRecord::new(), false);
    Ok(std::iter::from_fn(move || {
        if failed {
            return None;
        }
        loop {
            left.store(MAX_RECORD_BYTES, Ordering::Relaxed);
            return match reader.read_byte_record(&mut record) {
                Ok(false) => None,
                Ok(true) => {
                    // Of `\r\n` the parser leaves the second to the next record.
                    let end = reader.position().byte();
                    if end <= options.after_bytes {
                        continue;
                    }
                    let line = record.position().map_or(0, |position| position.line());
                    let document = columns.document(&record, line, &options);
                    Some(Ok(Record { line, end, raw: raw(&record), document }))
                }
                Err(error) => {
                    failed = true;
                    Some(Err(io(error)))
                }
            };
        }
    }))
}

/// Where in a record things are.
struct Columns {
    names: Vec<String>,
    id: Option<usize>,
    text: usize,
}

impl Columns {
    fn find(header: &StringRecord, options: &Options) -> Result<Self, Error> {
        // A byte order mark would become part of the first name.
        let names: Vec<String> = header.iter().map(|name| name.trim_start_matches('\u{feff}').to_string()).collect();
        let find = |wanted: &str| names.iter().position(|name| name == wanted);
        let missing = |wanted: &str| Error::NoColumn { wanted: wanted.into(), columns: names.join(", ") };
        let id = find(options.id_column());
        if let (None, Some(wanted)) = (id, &options.id_column) {
            return Err(missing(wanted));
        }
        let text = find(&options.text_column).ok_or_else(|| missing(&options.text_column))?;
        Ok(Self { names, id, text })
    }

    fn document(&self, record: &ByteRecord, line: u64, options: &Options) -> Result<Document, Bad> {
        let record = StringRecord::from_byte_record(record.clone()).map_err(|_| Bad::NotUtf8)?;
        if record.len() != self.names.len() {
            return Err(Bad::FieldCount { found: record.len(), expected: self.names.len() });
        }
        let id = match self.id.map(|column| &record[column]) {
            Some(id) if !id.is_empty() => id.to_string(),
            _ => options.generated_id(line)?,
        };
        let others = self.names.iter().zip(&record).enumerate();
        let others =
            others.filter(|(column, (_, value))| *column != self.text && Some(*column) != self.id && !value.is_empty());
        let others: Map<String, Value> = others.map(|(_, (name, value))| (name.clone(), value.into())).collect();
        let metadata = (!others.is_empty()).then(|| metadata::from_json(&others));
        Ok(Document { id, text: record[self.text].to_string(), metadata, vector: None })
    }
}

/// The record written as CSV again.
fn raw(record: &ByteRecord) -> String {
    let mut writer = WriterBuilder::new().flexible(true).from_writer(Vec::new());
    writer.write_byte_record(record).expect("a Vec takes everything");
    let bytes = writer.into_inner().expect("a Vec takes everything");
    String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_string()
}

fn io(error: csv::Error) -> Error {
    let text = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => Error::Io(error),
        // The header is not UTF-8; records are read as bytes, and of any length.
        _ => Error::Io(io::Error::new(io::ErrorKind::InvalidData, text)),
    }
}

/// Input that fails when one record takes too much of it: a quote that is never closed would otherwise
/// draw the rest of the file into memory.
struct Budget<R> {
    input: R,
    left: Arc<AtomicUsize>,
}

impl<R: Read> Read for Budget<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            let reason = format!("a record is longer than {MAX_RECORD_BYTES} bytes; is a quote not closed?");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let read = self.input.read(buffer)?;
        self.left.store(left.saturating_sub(read), Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::reader::{Format, read};

    fn all(input: &[u8], options: &Options) -> Vec<Record> {
        read(input, options).unwrap().map(Result::unwrap).collect()
    }

    fn options() -> Options {
        Options::new(Format::Csv, "file")
    }

    #[test]
    fn columns_become_id_text_and_metadata() {
        let input = b"\xef\xbb\xbfid,lang,text,year\na,en,\"one, \"\"two\"\"\nthree\",1999\nb,,plain,\n";
        let read = all(input, &options());
        let first = read[0].document.as_ref().unwrap();
        assert_eq!((first.id.as_str(), first.text.as_str()), ("a", "one, \"two\"\nthree"));
        let expected = metadata::from_json(json!({ "lang": "en", "year": "1999" }).as_object().unwrap());
        assert_eq!(first.metadata, Some(expected));
        let second = read[1].document.as_ref().unwrap();
        assert_eq!((read[1].line, second.id.as_str(), &second.metadata), (4, "b", &None), "empty fields are left out");
    }

    #[test]
    fn columns_may_have_other_names() {
        let named = Options { id_column: Some("key".into()), text_column: "title".into(), ..options() };
        let read = all(b"key,title\nk,t\n", &named);
        let document = read[0].document.as_ref().unwrap();
        assert_eq!((document.id.as_str(), document.text.as_str()), ("k", "t"));
    }

    #[test]
    fn a_missing_column_is_told_with_those_that_are_there() {
        let error = read(&b"name,body\n"[..], &options()).err().unwrap();
        assert_eq!(error.to_string(), r#"has no column "text"; its columns are name, body"#);
        let named = Options { id_column: Some("key".into()), ..options() };
        assert!(read(&b"id,text\n"[..], &named).is_err(), "an id column that was asked for must be there");
    }

    #[test]
    fn bad_records_are_reported_where_they_stand() {
        let read = all(b"id,text\na,1\nb\nc,2,3\nd,\xff\n,last\n", &options());
        let found: Vec<_> = read.iter().map(|r| (r.line, r.document.as_ref().map(|d| d.id.as_str()))).collect();
        let (few, many) = (Bad::FieldCount { found: 1, expected: 2 }, Bad::FieldCount { found: 3, expected: 2 });
        let expected = [(2, Ok("a")), (3, Err(&few)), (4, Err(&many)), (5, Err(&Bad::NotUtf8)), (6, Ok("file:6"))];
        assert_eq!(found, expected);
        assert_eq!(read[2].raw, "c,2,3");
    }

    #[test]
    fn a_quote_that_is_never_closed_does_not_draw_the_file_into_memory() {
        let endless = io::BufReader::new(b"id,text\na,\"".chain(io::repeat(b'x')));
        let mut records = read(endless, &options()).unwrap();
        let error = records.next().unwrap().unwrap_err();
        assert!(error.to_string().contains("is a quote not closed?"), "{error}");
        assert!(records.next().is_none());
    }
}
