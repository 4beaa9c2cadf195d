//! Files named on the command line.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::client::reader::{self, Format, LargeNumbers, Options};

/// How the files are written; without it the extension decides
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum FormatArg {
    /// One JSON object a line, or one array of them: id, text, metadata, vector; any other field is added to the metadata
    Jsonl,
    /// Comma-separated with a header: id, text; any other column becomes metadata
    Csv,
    /// The same, separated by tabs
    Tsv,
    /// Each line is a text; empty lines are skipped
    Lines,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Jsonl => Self::Jsonl,
            FormatArg::Csv => Self::Csv,
            FormatArg::Tsv => Self::Tsv,
            FormatArg::Lines => Self::Lines,
        }
    }
}

/// What becomes of whole numbers that metadata cannot hold exactly
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub enum LargeNumbersArg {
    /// The record is rejected
    #[default]
    Refuse,
    /// They are stored as text
    Text,
    /// They are rounded to the nearest double
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

/// The character between fields, of which `\t` is one.
pub fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"\\t" => Ok(b'\t'),
        &[byte] if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(byte),
        _ => Err("expected one ASCII character that is neither a quote nor a line end".into()),
    }
}

/// A file or standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `-`.
    Stdin,
    /// Anything else.
    File(PathBuf),
}

impl Source {
    /// `-` is standard input.
    pub fn named(path: &Path) -> Self {
        if path == Path::new("-") { Self::Stdin } else { Self::File(path.into()) }
    }

    /// Opens it; the bytes it holds, where that is known.
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
                // 1 MiB: a line of a large file should not cost a system call.
                Ok((Box::new(BufReader::with_capacity(1 << 20, file)), bytes))
            }
        }
    }

    /// By extension; standard input is plain lines.
    pub fn format(&self) -> Format {
        match self {
            Self::Stdin => Format::Lines,
            Self::File(path) => Format::of(path),
        }
    }

    /// What the ids of records without one begin with: the file's name without extension.
    pub fn stem(&self) -> String {
        match self {
            Self::Stdin => "stdin".into(),
            Self::File(path) => path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Where a record stands: `words.jsonl:17`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub source: Arc<str>,
    /// From 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.line)
    }
}

/// The texts of a file that is small enough to be held, with their places.
pub fn texts(path: &Path) -> anyhow::Result<Vec<(Place, Result<String, reader::Bad>)>> {
    let source = Source::named(path);
    let name: Arc<str> = source.to_string().into();
    let options = Options::new(source.format(), source.stem());
    let (input, _) = source.open()?;
    let records = reader::read(input, &options).with_context(|| source.to_string())?;
    records
        .map(|record| {
            let record = record.with_context(|| source.to_string())?;
            let place = Place { source: name.clone(), line: record.line };
            Ok((place, record.document.map(|document| document.text)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dash_is_standard_input() {
        assert_eq!(Source::named(Path::new("-")), Source::Stdin);
        let file = Source::named(Path::new("dir/words.v2.jsonl"));
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
    fn what_cannot_be_opened_is_named() {
        let error = |path: &str| format!("{:#}", Source::named(Path::new(path)).open().err().unwrap());
        assert!(error("no/such/file").starts_with("cannot open no/such/file: "));
        assert!(error("/").contains("directory"), "{}", error("/"));
    }
}
