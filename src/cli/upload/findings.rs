//! Findings about a file that its owner should know, reported once per file and not once per record.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::super::input::Location;
use super::super::table;
use crate::reader::{LargeNumbers, MadeUpIds, Options, Remarks};

/// Most remembered ids: 4,194,304, some 40 MB. Ids of later records are not checked.
const MAX_IDS: usize = 1 << 22;

/// The ids of a load so far, by hash. Among 4 million, two have the same hash in one of a million loads.
#[derive(Debug, Default)]
pub(super) struct Seen {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl Seen {
    /// True if the id occurred before.
    fn again(&mut self, id: &str) -> bool {
        let hash = self.hasher.hash_one(id);
        if self.hashes.len() < MAX_IDS { !self.hashes.insert(hash) } else { self.hashes.contains(&hash) }
    }
}

/// The findings about one file.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Number of records, including those that became no document.
    pub(super) records: u64,
    made_up: Finding,
    large: Finding,
    again: Finding,
}

#[derive(Debug, Default)]
struct Finding {
    count: u64,
    /// The line and the id of the first occurrence.
    first: Option<(u64, String)>,
}

impl Finding {
    fn add(&mut self, count: u64, location: &Location, id: &str) {
        if count > 0 {
            self.count += count;
            self.first.get_or_insert_with(|| (location.line, table::clean(id)));
        }
    }
}

impl Findings {
    /// Notes a record that became a document.
    pub(super) fn see(&mut self, location: &Location, id: &str, remarks: Remarks, seen: &mut Seen) {
        self.made_up.add(remarks.made_up_id.into(), location, id);
        self.large.add(remarks.large_numbers.into(), location, id);
        self.again.add(seen.again(id).into(), location, id);
    }

    /// One sentence per finding.
    pub(super) fn lines(&self, options: &Options) -> Vec<String> {
        let mut lines = Vec::new();
        if self.records == 0 && options.after_bytes == 0 {
            lines.push("holds no records".to_owned());
        }
        if let (true, Some((line, id))) = (options.format.has_fields(), &self.made_up.first) {
            let of = match options.made_up_ids {
                MadeUpIds::ByContent { .. } => "the file's name, their line and their content",
                MadeUpIds::ByLine { .. } => "the prefix and their line",
            };
            let records = counted(self.made_up.count, "record has", "records have");
            lines.push(format!(
                "{records} no id, and got one from {of}: first {id} in line {line}; --id-column sets the field of ids"
            ));
        }
        if let Some((line, _)) = &self.large.first {
            let became = match options.large_numbers {
                LargeNumbers::Text => "stored as text",
                _ => "rounded",
            };
            let numbers = counted(self.large.count, "whole number", "whole numbers");
            lines.push(format!("{numbers} beyond 2^53 {became}, first in line {line}"));
        }
        if let Some((line, id)) = &self.again.first {
            let records = counted(self.again.count, "record has", "records have");
            lines.push(format!(
                "{records} the id of an earlier record of this load, and replaced it: first {id} in line {line}"
            ));
        }
        lines
    }
}

fn counted(count: u64, one: &str, several: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{} {several}", table::count(count)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Format;

    fn location(line: u64) -> Location {
        Location { source: "f".into(), line }
    }

    #[test]
    fn each_finding_is_one_sentence_with_its_first_place() {
        let (mut findings, mut seen) = (Findings { records: 5, ..Default::default() }, Seen::default());
        for (line, id, made_up_id, large_numbers) in
            [(1, "a", false, 0), (2, "f:2-x", true, 0), (3, "a", false, 2), (4, "a", false, 0), (5, "f:5-y", true, 1)]
        {
            findings.see(&location(line), id, Remarks { made_up_id, large_numbers }, &mut seen);
        }
        let options = Options { large_numbers: LargeNumbers::Round, ..Options::new(Format::Jsonl, "f") };
        let lines = findings.lines(&options);
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("2 records have no id") && lines[0].contains("f:2-x in line 2"), "{lines:?}");
        assert_eq!(lines[1], "3 whole numbers beyond 2^53 rounded, first in line 3");
        assert!(lines[2].starts_with("2 records have the id of an earlier record") && lines[2].contains("a in line 3"));
    }

    #[test]
    fn nothing_is_said_of_a_file_that_is_as_it_should_be_and_lines_never_have_ids() {
        let (mut findings, mut seen) = (Findings::default(), Seen::default());
        assert_eq!(findings.lines(&Options::new(Format::Csv, "f")), ["holds no records"]);
        findings.records = 1;
        findings.see(&location(1), "f:1-x", Remarks { made_up_id: true, large_numbers: 0 }, &mut seen);
        assert!(findings.lines(&Options::new(Format::Lines, "f")).is_empty());
        assert_eq!(findings.lines(&Options::new(Format::Csv, "f")).len(), 1);
    }
}
