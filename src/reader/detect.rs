//! Detects the content of a file by its first bytes, and refuses a file that would be read in a wrong format.

use std::io::BufRead;

use super::error::Error;
use super::options::{Format, Options};
use super::syntax;

/// The layout of JSON in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Each line is a record.
    Lines,
    /// The file is one array, and its elements are the records.
    Array,
}

/// The first bytes of files that are not plain text, with a description and the remedy.
const BINARY: &[(&[u8], &str, &str)] = &[
    (b"\xff\xfe", "UTF-16 text", "convert it to UTF-8: iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "convert it to UTF-8: iconv -f UTF-16 -t UTF-8"),
    (b"\x1f\x8b", "compressed by gzip", "decompress it: gzip -dc FILE | cognate … - --format FORMAT"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "decompress it: zstd -dc FILE | cognate … - --format FORMAT"),
    (b"BZh", "compressed by bzip2", "decompress it: bzip2 -dc FILE | cognate … - --format FORMAT"),
    (b"\xfd7zXZ", "compressed by xz", "decompress it: xz -dc FILE | cognate … - --format FORMAT"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "save its table as CSV in UTF-8"),
    (b"PAR1", "a Parquet file", "convert it to JSON lines or CSV"),
    (b"%PDF-", "a PDF", "extract its text"),
    (b"SQLite format 3", "an SQLite database", "export its table as CSV"),
];

/// Detects the layout from the beginning of `input`, and consumes nothing.
pub(super) fn layout(input: &mut impl BufRead, options: &Options) -> Result<Layout, Error> {
    let beginning = input.fill_buf()?;
    for &(magic, what, remedy) in BINARY {
        if beginning.starts_with(magic) {
            return Err(Error::NotText { what, remedy });
        }
    }
    let beginning = beginning.strip_prefix(b"\xef\xbb\xbf").unwrap_or(beginning);
    let first = beginning.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(beginning.len());
    let line = beginning[first..].split(|byte| *byte == b'\n').next().unwrap_or_default();
    // The buffer may end in the middle of a character; the rest of it is ignored.
    let line = line.utf8_chunks().next().map_or("", |chunk| chunk.valid()).trim_end();
    match options.format {
        Format::Jsonl if line.starts_with('[') => return Ok(Layout::Array),
        Format::Jsonl if is_over_several_lines(line, &beginning[first..]) => return Err(Error::ObjectOverLines),
        Format::Lines if !options.format_is_given => {
            if is_json(line) {
                return Err(Error::LooksLike { what: "JSON lines", format: "jsonl", flag: options.format_flag });
            }
            for (delimiter, what, format) in [(',', "CSV with a header", "csv"), ('\t', "TSV with a header", "tsv")] {
                if is_header(line, delimiter, options.text_column()) {
                    return Err(Error::LooksLike { what, format, flag: options.format_flag });
                }
            }
        }
        _ => {}
    }
    Ok(Layout::Lines)
}

/// Returns true if the first line begins an object that the next line continues.
fn is_over_several_lines(line: &str, beginning: &[u8]) -> bool {
    let next = beginning.splitn(2, |byte| *byte == b'\n').nth(1).and_then(|rest| rest.trim_ascii_start().first());
    line.starts_with('{')
        && next.is_some_and(|next| *next != b'{')
        && syntax::parse(line).is_err_and(|invalid| invalid.is_cut_off)
}

/// Returns true if `line` is a JSON object, which is never meant as plain text.
pub fn is_json_object(line: &str) -> bool {
    matches!(syntax::parse(line), Ok(syntax::Node::Object(_)))
}

/// Returns true for an object, an array of objects, or the beginning of one that the buffer cuts off.
fn is_json(line: &str) -> bool {
    let begins_as_object = line.trim_start_matches(['[', ' ']).starts_with('{') || line == "[";
    begins_as_object && syntax::parse(line).map_or_else(|invalid| invalid.is_cut_off, |_| true)
}

fn is_header(line: &str, delimiter: char, text_column: &str) -> bool {
    let mut names = line.split(delimiter).map(|name| name.trim_matches('"'));
    line.contains(delimiter) && names.any(|name| name == text_column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(input: &[u8], format: Format) -> Result<Layout, String> {
        let mut input = input;
        let options = Options { format_flag: Some("--format"), ..Options::new(format, "f") };
        layout(&mut input, &options).map_err(|error| error.to_string())
    }

    #[test]
    fn plain_lines_are_not_confused_with_another_format() {
        for (input, format) in [
            ("{\"id\": \"a\", \"text\": \"one\"}\n", "--format jsonl"),
            ("\u{feff}\n {\"text\": \"cut off", "--format jsonl"),
            ("[\n {\"text\"", "--format jsonl"),
            ("[{\"text\": \"a\"}]", "--format jsonl"),
            ("id,text\na,one\n", "--format csv"),
            ("\"id\"\t\"text\"\r\na\tone\n", "--format tsv"),
        ] {
            let error = detected(input.as_bytes(), Format::Lines).unwrap_err();
            assert!(error.contains(format) && error.contains("--format lines"), "{input}: {error}");
        }
        for input in ["a text, and more text\n", "{curly} words\n", "[note] a text", "", "text\n", "1, 2, 3\n"] {
            assert_eq!(detected(input.as_bytes(), Format::Lines), Ok(Layout::Lines), "{input}");
        }
        let given = Options { format_is_given: true, ..Options::new(Format::Lines, "f") };
        assert!(layout(&mut &b"{\"text\": \"a\"}\n"[..], &given).is_ok());
    }

    #[test]
    fn a_file_that_is_not_text_is_refused_with_a_remedy() {
        for format in [Format::Jsonl, Format::Csv, Format::Tsv, Format::Lines] {
            for (input, what) in [(&b"\xff\xfei\0d\0"[..], "UTF-16"), (b"\x1f\x8b\x08", "gzip"), (b"PK\x03\x04", "CSV")]
            {
                let error = detected(input, format).unwrap_err();
                assert!(error.contains(what), "{error}");
            }
        }
    }

    #[test]
    fn json_is_lines_or_an_array_and_an_object_over_many_lines_is_refused_once() {
        assert_eq!(detected(b"\xef\xbb\xbf \n[{}]", Format::Jsonl), Ok(Layout::Array));
        assert_eq!(detected(b"{\"a\": 1}\n[]", Format::Jsonl), Ok(Layout::Lines));
        for spread in [&b"{\n  \"a\": 1\n}\n"[..], b"{\"a\": [\n1]}\n", b"{ \"a\": 1,\r\n\r\n \"b\": 2 }"] {
            assert!(detected(spread, Format::Jsonl).unwrap_err().contains("several lines"));
        }
        assert_eq!(detected(b"{\"cut off\": \n{\"a\": 1}\n", Format::Jsonl), Ok(Layout::Lines), "one bad line");
    }
}
