//! The formats of files, and the options for reading them.

use std::path::Path;

use super::ids::MadeUpIds;
use super::number::LargeNumbers;
use super::types::Types;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object on each line: `id`, `text`, `metadata`, `vector`; any other field is added to the metadata. Or
    /// one array of these objects.
    Jsonl,
    /// Comma-separated values with a header: `id`, `text`; any other column becomes metadata.
    Csv,
    /// Tab-separated values with a header.
    Tsv,
    /// Each line is a text; empty lines are skipped.
    Lines,
    /// The whole file is one text.
    Whole,
}

impl Format {
    /// Returns the format by the extension: `.jsonl`, `.ndjson` or `.json`; `.csv`; `.tsv` or `.tab`; otherwise plain
    /// lines.
    pub fn of(path: &Path) -> Self {
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        match extension.as_deref().and_then(|extension| extension.to_str()) {
            Some("jsonl" | "ndjson" | "json") => Self::Jsonl,
            Some("csv") => Self::Csv,
            Some("tsv" | "tab") => Self::Tsv,
            _ => Self::Lines,
        }
    }

    /// Returns true if a record has fields with names, and not only a text.
    pub fn has_fields(self) -> bool {
        !matches!(self, Self::Lines | Self::Whole)
    }

    /// Returns true if the format has a header with column names.
    pub fn has_columns(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv)
    }
}

/// The options for reading a file.
#[derive(Debug, Clone)]
pub struct Options {
    /// The format.
    pub format: Format,
    /// True if the user set the format: then lines that look like another format are accepted as plain text.
    pub format_is_given: bool,
    /// The flag that sets the format, for messages.
    pub format_flag: Option<&'static str>,
    /// The id of the text of [`Format::Whole`]; `None`: one is generated, as for a line.
    pub whole_id: Option<String>,
    /// The rule for the ids of records without one.
    pub made_up_ids: MadeUpIds,
    /// The column or field with the id, which must exist. `None`: `id`, if it exists.
    pub id_column: Option<String>,
    /// The column or field with the text, which must exist. `None`: `text`.
    pub text_column: Option<String>,
    /// The separator of the fields of a CSV file; `None`: the format's own.
    pub delimiter: Option<u8>,
    /// True if quotes enclose the fields of a CSV file; otherwise they are part of the text.
    pub has_quotes: bool,
    /// The types of CSV columns.
    pub types: Types,
    /// The treatment of whole numbers that metadata cannot hold.
    pub large_numbers: LargeNumbers,
    /// Records that end within this number of bytes are skipped, but their lines are counted. 0: none are skipped.
    pub after_bytes: u64,
}

impl Options {
    /// The options for a file with the usual names. `stem` is the name of the file in generated ids.
    pub fn new(format: Format, stem: impl Into<String>) -> Self {
        Self {
            format,
            format_is_given: false,
            format_flag: None,
            whole_id: None,
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

    pub(super) fn id_column(&self) -> &str {
        self.id_column.as_deref().unwrap_or("id")
    }

    pub(super) fn text_column(&self) -> &str {
        self.text_column.as_deref().unwrap_or("text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
