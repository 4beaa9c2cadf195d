//! A record of a file, with its document or the error of the record.

use super::error::Bad;
use super::options::Options;
use crate::wire::Document;

/// One record of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The line on which it begins, from 1.
    pub line: u64,
    /// Bytes of the input up to its end, with the line end if there is one.
    pub end: u64,
    /// The text of the record in the file, without its line end; only a part if it is too long.
    pub raw: String,
    /// The document, or the error of the record.
    pub document: Result<Document, Bad>,
    /// The changes from the record to the document.
    pub remarks: Remarks,
}

/// The parts of a document that were generated or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remarks {
    /// True if the record has no id, so one was generated.
    pub made_up_id: bool,
    /// The count of metadata numbers that are stored differently from the file, by the rule of
    /// [`LargeNumbers`](super::LargeNumbers).
    pub large_numbers: u32,
}

impl Record {
    pub(super) fn new(line: u64, end: u64, raw: Vec<u8>, parsed: Result<Parsed, Bad>) -> Self {
        let raw = String::from_utf8(raw).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into());
        let (document, remarks) = match parsed {
            Ok(Parsed { document, remarks }) => (Ok(document), remarks),
            Err(bad) => (Err(bad), Remarks::default()),
        };
        Self { line, end, raw, document, remarks }
    }
}

/// A document with its remarks.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) document: Document,
    pub(super) remarks: Remarks,
}

impl Parsed {
    /// The document with this id, or with a generated one if the record has none.
    pub(super) fn new(id: Option<String>, mut document: Document, line: u64, options: &Options) -> Self {
        let made_up_id = id.is_none();
        document.id = id.unwrap_or_else(|| options.made_up_ids.id(line, &document));
        Self { document, remarks: Remarks { made_up_id, large_numbers: 0 } }
    }

    pub(super) fn with_large_numbers(mut self, large_numbers: u32) -> Self {
        self.remarks.large_numbers = large_numbers;
        self
    }
}
