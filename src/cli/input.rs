//! Input files named on the command line.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::reader::{self, Format, LargeNumbers, Options};

/// File formats. By default, the extension decides
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum FormatArg {
    /// One JSON object per line, or one array of them: id, text, metadata, vector; other fields are added to the
    /// metadata
    Jsonl,
    /// Comma-separated with a header: id, text; other columns become metadata
    Csv,
    /// Tab-separated with a header; otherwise as csv
    Tsv,
    /// Each line is a text; empty lines are skipped
    Lines,
    /// The whole file is one text, and its path is the id
    Whole,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Jsonl => Self::Jsonl,
            FormatArg::Csv => Self::Csv,
            FormatArg::Tsv => Self::Tsv,
            FormatArg::Lines => Self::Lines,
            FormatArg::Whole => Self::Whole,
        }
    }
}

/// Treatment of whole numbers that metadata cannot store exactly
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub enum LargeNumbersArg {
    /// Reject the record
    #[default]
    Refuse,
    /// Store them as text
    Text,
    /// Round them to the nearest double
    Round,
}

impl From<LargeNumbersArg> for LargeNumbers {
    fn from(large_numbers: LargeNumbersArg) -> Self {
        match large_numbers {
            LargeNumbersArg::Refuse => Self::Refuse,
            LargeNumbersArg::Text => Self::Text,
            LargeNumbersArg::Round => Self::Round,
        }
    }
}

/// Parses the character between fields. `\t` stands for a tab.
pub fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        &[byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(byte),
        _ => Err("expected one ASCII character, and neither a quote nor a line end".into()),
    }
}

/// An input file, or standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputSource {
    /// `-`.
    Stdin,
    /// Anything else.
    File(PathBuf),
}

impl InputSource {
    /// Makes a source from a path; `-` is standard input.
    pub fn named(path: &Path) -> Self {
        if path == Path::new("-") { Self::Stdin } else { Self::File(path.into()) }
    }

    /// Opens the source. Returns its length too, if that is known.
    pub fn open(&self) -> anyhow::Result<(Box<dyn BufRead + Send>, Option<u64>)> {
        match self {
            Self::Stdin => Ok((Box::new(BufReader::new(io::stdin())), None)),
            Self::File(path) => {
                let open = || {
                    let file = File::open(path)?;
                    let metadata = file.metadata()?;
                    if metadata.is_dir() {
                        return Err(io::Error::from(io::ErrorKind::IsADirectory));
                    }
                    Ok((file, metadata.is_file().then_some(metadata.len())))
                };
                let (file, bytes) = open().with_context(|| format!("cannot open {}", path.display()))?;
                // 1 MiB, so that not every line of a large file costs a system call.
                Ok((Box::new(BufReader::with_capacity(1 << 20, file)), bytes))
            }
        }
    }

    /// Format by extension; standard input is plain lines.
    pub fn format(&self) -> Format {
        match self {
            Self::Stdin => Format::Lines,
            Self::File(path) => Format::of(path),
        }
    }

    /// Id of the text that the whole file is: its path as it was given. `None` for standard input.
    pub fn whole_id(&self) -> Option<String> {
        match self {
            Self::Stdin => None,
            Self::File(path) => Some(path.to_string_lossy().into_owned()),
        }
    }

    /// Prefix for the ids of records without one: the file's name without extension.
    pub fn stem(&self) -> String {
        match self {
            Self::Stdin => "stdin".into(),
            Self::File(path) => path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        }
    }
}

impl fmt::Display for InputSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Position of a record, printed as `words.jsonl:17`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub source: Arc<str>,
    /// Line number, from 1.
    pub line: u64,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.line)
    }
}

/// Reads the texts of a file that fits into memory, with their positions.
pub fn texts(path: &Path) -> anyhow::Result<Vec<(Location, Result<String, reader::Bad>)>> {
    let source = InputSource::named(path);
    let name: Arc<str> = source.to_string().into();
    let options = Options::new(source.format(), source.stem());
    let (input, _) = source.open()?;
    let records = reader::read(input, &options).with_context(|| source.to_string())?;
    records
        .map(|record| {
            let record = record.with_context(|| source.to_string())?;
            let location = Location { source: name.clone(), line: record.line };
            Ok((location, record.document.map(|document| document.text)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dash_is_standard_input() {
        assert_eq!(InputSource::named(Path::new("-")), InputSource::Stdin);
        let file = InputSource::named(Path::new("dir/words.v2.jsonl"));
        assert_eq!((file.stem().as_str(), file.format()), ("words.v2", Format::Jsonl));
    }

    #[test]
    fn a_delimiter_is_one_character() {
        assert_eq!([delimiter(";"), delimiter("\t"), delimiter("\\t")], [Ok(b';'), Ok(b'\t'), Ok(b'\t')]);
        for wrong in ["", "\"", "\n", "ab", "é"] {
            assert!(delimiter(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_source_that_cannot_be_opened_is_named() {
        let error = |path: &str| format!("{:#}", InputSource::named(Path::new(path)).open().err().unwrap());
        assert!(error("no/such/file").starts_with("cannot open no/such/file: "));
        assert!(error("/").contains("directory"), "{}", error("/"));
    }
}
