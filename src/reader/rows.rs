//! Reads rows of separated values (RFC 4180: quotes, and line ends inside them), with their line numbers.
//!
//! A line ends with `\n`, `\r\n` or `\r`. A quote has a meaning only at the beginning of a field, as in spreadsheets.

use std::io::{self, BufRead};

use super::error::Error;
use super::lines::MAX_RECORD_BYTES;

/// A row that is not blank.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Row {
    /// The line on which it begins, from 1.
    pub(super) line: u64,
    /// Bytes of the input up to its end, with the line end.
    pub(super) end: u64,
    /// The text of the row, without the line end.
    pub(super) raw: Vec<u8>,
    /// The contents of the fields, without their quotes.
    pub(super) fields: Vec<Vec<u8>>,
    /// The number of the field with text after its closing quote, from 1.
    pub(super) text_after_quote: Option<usize>,
}

/// The state of the parser after the last byte of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before its first byte.
    Begin,
    Plain,
    Quoted,
    /// After a quote that ends the field, or is the first of two that represent one.
    Quote,
}

/// A reader of rows.
#[derive(Debug)]
pub(super) struct RowReader<R> {
    input: R,
    delimiter: u8,
    /// True if quotes enclose fields.
    has_quotes: bool,
    max_bytes: usize,
    /// The number of bytes read.
    end: u64,
    /// The line of the next byte, from 1.
    line: u64,
}

impl<R: BufRead> RowReader<R> {
    /// The rows of `input`, without a byte order mark at its beginning.
    pub(super) fn new(input: R, delimiter: u8, has_quotes: bool) -> io::Result<Self> {
        let mut rows = Self { input, delimiter, has_quotes, max_bytes: MAX_RECORD_BYTES, end: 0, line: 1 };
        if rows.input.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
            rows.input.consume(3);
            rows.end = 3;
        }
        Ok(rows)
    }

    /// The next row; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Row>, Error> {
        loop {
            let Some(row) = self.next_line()? else { return Ok(None) };
            if !row.raw.is_empty() {
                return Ok(Some(row));
            }
        }
    }

    /// The next row, which may be blank.
    fn next_line(&mut self) -> Result<Option<Row>, Error> {
        let mut row = Row { line: self.line, fields: vec![Vec::new()], ..Default::default() };
        let (mut state, mut quote_line) = (State::Begin, self.line);
        let mut is_first = true;
        loop {
            let Some(&byte) = self.input.fill_buf()?.first() else {
                return match state {
                    State::Quoted => Err(Error::OpenQuote { line: quote_line }),
                    _ if is_first => Ok(None),
                    _ => {
                        row.end = self.end;
                        Ok(Some(row))
                    }
                };
            };
            is_first = false;
            self.take();
            let is_line_end = matches!(byte, b'\n' | b'\r');
            if is_line_end && state != State::Quoted {
                if byte == b'\r' && self.input.fill_buf()?.first() == Some(&b'\n') {
                    self.take();
                }
                self.line += 1;
                row.end = self.end;
                return Ok(Some(row));
            }
            if is_line_end && !(byte == b'\n' && row.raw.last() == Some(&b'\r')) {
                self.line += 1;
            }
            row.raw.push(byte);
            if row.raw.len() > self.max_bytes {
                return Err(Error::LongRow { line: row.line, quote: (state == State::Quoted).then_some(quote_line) });
            }
            let number = row.fields.len();
            let field = row.fields.last_mut().expect("there is one from the beginning");
            state = match (state, byte) {
                (State::Begin, b'"') if self.has_quotes => {
                    quote_line = self.line;
                    State::Quoted
                }
                (State::Quoted, b'"') => State::Quote,
                (State::Quoted, _) => {
                    field.push(byte);
                    State::Quoted
                }
                (State::Quote, b'"') => {
                    field.push(byte);
                    State::Quoted
                }
                (_, byte) if byte == self.delimiter => {
                    row.fields.push(Vec::new());
                    State::Begin
                }
                (before, _) => {
                    if before == State::Quote {
                        row.text_after_quote.get_or_insert(number);
                    }
                    field.push(byte);
                    State::Plain
                }
            };
        }
    }

    fn take(&mut self) {
        self.input.consume(1);
        self.end += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The number of line ends in a text; `\r\n` is one.
    fn line_ends(text: &str) -> u64 {
        let text = text.replace("\r\n", "\n");
        text.bytes().filter(|byte| matches!(byte, b'\n' | b'\r')).count() as u64
    }

    proptest! {
        #[test]
        fn quoted_fields_are_read_back_unchanged(
            written in prop::collection::vec(prop::collection::vec(r#"[a",é \r\n]{0,6}"#, 1..4), 1..6),
            end in prop::sample::select(&["\n", "\r\n", "\r"][..]),
        ) {
            let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let lines: Vec<String> =
                written.iter().map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(",") + end).collect();
            let read = rows(&lines.concat()).unwrap();
            prop_assert_eq!(read.len(), written.len());
            for (n, row) in read.iter().enumerate() {
                prop_assert_eq!(fields(row), written[n].iter().map(String::as_str).collect::<Vec<_>>());
                let before = lines[..n].concat();
                prop_assert_eq!(row.line, 1 + line_ends(&before));
                prop_assert_eq!(row.end, (before.len() + lines[n].len()) as u64);
            }
        }
    }

    fn rows(input: &str) -> Result<Vec<Row>, Error> {
        let mut rows = RowReader::new(input.as_bytes(), b',', true).unwrap();
        std::iter::from_fn(|| rows.next().transpose()).collect()
    }

    fn fields(row: &Row) -> Vec<&str> {
        row.fields.iter().map(|field| std::str::from_utf8(field).unwrap()).collect()
    }

    #[test]
    fn lines_are_counted_equally_for_each_kind_of_line_end() {
        for end in ["\n", "\r\n", "\r"] {
            let input = ["a,b", "", "\"one", "two\",x", "\"q\"\"q\",", "last"].join(end);
            let read = rows(&input).unwrap();
            let found: Vec<_> = read.iter().map(|row| (row.line, fields(row))).collect();
            let two_lines = format!("one{end}two");
            let expected = [(1, vec!["a", "b"]), (3, vec![&two_lines, "x"]), (5, vec!["q\"q", ""]), (6, vec!["last"])];
            assert_eq!(found, expected, "{end:?}");
            for (row, next) in read.iter().zip(&read[1..]) {
                let rest = &input[usize::try_from(row.end).unwrap()..];
                assert!(rest.trim_start().as_bytes().starts_with(&next.raw), "{row:?}");
            }
            assert_eq!(read.last().unwrap().end, input.len() as u64);
        }
    }

    #[test]
    fn a_quote_has_a_meaning_only_at_the_beginning_of_a_field() {
        let read = rows("5\" wide,say \"hi\"\n").unwrap();
        assert_eq!(fields(&read[0]), ["5\" wide", "say \"hi\""]);
        assert_eq!(read[0].text_after_quote, None);
    }

    #[test]
    fn an_unclosed_quote_is_reported_with_its_line() {
        let error = rows("a,b\nc,\"d\ne,f\n").unwrap_err();
        assert!(matches!(error, Error::OpenQuote { line: 2 }), "{error}");
    }

    #[test]
    fn quotes_are_text_if_they_do_not_enclose_fields() {
        let mut rows = RowReader::new(&b"\"a,b\"\n"[..], b',', false).unwrap();
        assert_eq!(fields(&rows.next().unwrap().unwrap()), ["\"a", "b\""]);
    }

    #[test]
    fn text_after_a_closing_quote_is_detected() {
        let read = rows("a,\"b\" c,d\n\"e\"f,g\nh,\"i\"\n").unwrap();
        let seen: Vec<_> = read.iter().map(|row| row.text_after_quote).collect();
        assert_eq!(seen, [Some(2), Some(1), None]);
    }

    #[test]
    fn a_row_that_is_too_long_ends_the_reading() {
        let mut rows = RowReader::new(&b"a,\"bcdefghijklmnop"[..], b',', true).unwrap();
        rows.max_bytes = 8;
        assert!(matches!(rows.next(), Err(Error::LongRow { line: 1, quote: Some(1) })));
    }
}
