//! The ledger: records on their way, so that errors of the server are reported by file and line.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context;
use indicatif::ProgressBar;
use serde_json::json;

use super::super::input::Location;
use super::super::stderr::say;
use super::super::table;
use super::bookmark::{Mark, Position};

/// Rejected records that are printed on standard error; more are only counted.
const TOLD: u64 = 20;

/// A record that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    location: Location,
    raw: String,
    /// Bytes of the file up to the end of this record and of following records that never became documents.
    end: u64,
    /// Mark of the document, if the load has a bookmark.
    mark: Option<Mark>,
    rejected: bool,
}

impl Sent {
    /// Makes an entry. `end` is the position in bytes of the record's end.
    pub(super) fn new(location: Location, raw: String, end: u64, mark: Option<Mark>) -> Self {
        Self { location, raw, end, mark, rejected: false }
    }
}

/// Records on their way, shared by the reading thread and the task that receives answers.
///
/// The server commits in the order of the stream, and reports the documents that it refused. So the records are a
/// queue: refused ones are marked in it, and the oldest unmarked ones are those that were committed.
#[derive(Debug)]
pub(super) struct Ledger {
    bar: ProgressBar,
    json: bool,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    on_their_way: VecDeque<Sent>,
    /// Position in the stream of the first one.
    first: u64,
    committed: u64,
    /// Number of records that never became documents.
    unread: u64,
    rejected: u64,
    /// Position up to which every record is committed or refused.
    position: Position,
    file: Option<BufWriter<File>>,
    /// The first error of writing the file.
    file_error: Option<io::Error>,
}

impl Ledger {
    /// Makes a ledger. `rejected` receives refused records; the load starts at `position`.
    pub(super) fn new(bar: ProgressBar, rejected: Option<File>, json: bool, position: Position) -> Self {
        let state = Mutex::new(State { file: rejected.map(BufWriter::new), position, ..Default::default() });
        Self { bar, json, started: Instant::now(), state }
    }

    /// Adds a record that is about to be sent.
    pub(super) fn sent(&self, sent: Sent) {
        self.lock().on_their_way.push_back(sent);
    }

    /// Rejects a record that is not a document. `end` is the position in bytes of its end.
    pub(super) fn reject_unread(&self, location: &Location, end: u64, error: &str, raw: &str) {
        let mut state = self.lock();
        state.unread += 1;
        match state.on_their_way.back_mut() {
            Some(before) => before.end = end,
            None => state.position.bytes = end,
        }
        self.reject(&mut state, Some(location), None, error, raw);
    }

    /// Applies an answer of the server: the number of documents committed so far, and those refused since the last
    /// answer, by position.
    pub(super) fn resolve<'e>(&self, committed: u64, errors: impl Iterator<Item = (u64, &'e str, String)>) {
        let mut state = self.lock();
        for (position, id, error) in errors {
            let index = position.checked_sub(state.first).and_then(|index| usize::try_from(index).ok());
            let sent = index.and_then(|index| state.on_their_way.get_mut(index));
            let (location, raw) = match sent {
                Some(sent) => {
                    sent.rejected = true;
                    (Some(sent.location.clone()), std::mem::take(&mut sent.raw))
                }
                // Only if the server miscounts: the id still identifies the document.
                None => (None, String::new()),
            };
            self.reject(&mut state, location.as_ref(), Some(id), &error, &raw);
        }
        let (mut newly, mut bytes) = (committed.saturating_sub(state.committed), 0);
        state.committed = committed;
        while let Some(front) = state.on_their_way.front() {
            if !front.rejected && newly == 0 {
                break;
            }
            newly -= u64::from(!front.rejected);
            bytes += front.raw.len() as u64 + 1;
            if let Some(Sent { end, mark, rejected, .. }) = state.on_their_way.pop_front() {
                state.position.pass(end, mark.filter(|_| !rejected));
            }
            state.first += 1;
        }
        let rejected = state.rejected;
        drop(state);
        self.bar.inc(bytes);
        let rate = committed as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
        let refused = if rejected > 0 { format!(", {} rejected", table::count(rejected)) } else { String::new() };
        self.bar.set_message(format!("{} committed{refused}, {rate:.0} texts/s", table::count(committed)));
    }

    /// Position up to which every record is committed or refused.
    pub(super) fn position(&self) -> Position {
        self.lock().position.clone()
    }

    /// Prints a line on standard error, above the progress bar.
    pub(super) fn tell(&self, line: &str) {
        self.bar.suspend(|| say(&table::clean(line)));
    }

    /// Completes the file of rejected records. Returns the number of records that never became documents.
    pub(super) fn finish(&self) -> anyhow::Result<u64> {
        let mut state = self.lock();
        if let Some(file) = &mut state.file {
            let flushed = file.flush();
            state.file_error.take().map_or(flushed, Err).context("the file of rejected records is incomplete")?;
        }
        Ok(state.unread)
    }

    fn reject(&self, state: &mut State, location: Option<&Location>, id: Option<&str>, error: &str, raw: &str) {
        state.rejected += 1;
        let (file, line) = (location.map(|location| &*location.source), location.map(|location| location.line));
        let entry = json!({ "file": file, "line": line, "id": id, "error": error, "record": raw });
        if let Some(file) = &mut state.file
            && let Err(error) = writeln!(file, "{entry}")
        {
            state.file_error.get_or_insert(error);
        }
        if self.json {
            // The upload goes on even if nobody reads this.
            let _ = writeln!(io::stdout(), "{entry}");
        } else if state.rejected <= TOLD {
            let location = location.map_or_else(|| format!("id {:?}", id.unwrap_or_default()), Location::to_string);
            self.tell(&format!("{location}: {error}"));
            if state.rejected == TOLD {
                self.tell("further rejected records are only counted: --rejected FILE writes them to a file");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn ledger(path: &Path) -> Ledger {
        Ledger::new(ProgressBar::hidden(), Some(File::create(path).unwrap()), false, Position::default())
    }

    fn sent(line: u64, raw: &str) -> Sent {
        Sent::new(location(line), raw.to_string(), line, None)
    }

    fn location(line: u64) -> Location {
        Location { source: "f".into(), line }
    }

    fn lines(ledger: &Ledger, path: &Path) -> Vec<(u64, String, String)> {
        ledger.finish().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let entry = |line: &str| {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            let string = |name: &str| entry[name].as_str().unwrap_or_default().to_string();
            (entry["line"].as_u64().unwrap_or(0), string("error"), string("record"))
        };
        text.lines().map(entry).collect()
    }

    #[test]
    fn refused_documents_are_found_by_position_wherever_commits_stand() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rejected");
        let ledger = ledger(&path);
        for line in 1..=6 {
            ledger.sent(sent(line * 10, &format!("raw {line}")));
        }
        ledger.reject_unread(&location(65), 65, "not JSON", "{");
        // Position 4 is refused while 0 and 1 commit; then 2 is refused and the rest commits.
        ledger.resolve(2, [(4, "e", "too long".to_string())].into_iter());
        ledger.resolve(4, [(2, "c", "no text".to_string())].into_iter());
        assert_eq!(ledger.lock().on_their_way.len(), 0);
        assert_eq!(ledger.finish().unwrap(), 1);
        let expected = [(65, "not JSON", "{"), (50, "too long", "raw 5"), (30, "no text", "raw 3")];
        assert_eq!(lines(&ledger, &path), expected.map(|(line, error, raw)| (line, error.into(), raw.into())));
    }

    #[test]
    fn the_position_passes_a_record_when_it_and_all_before_it_are_committed_or_refused() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = ledger(&directory.path().join("rejected"));
        ledger.reject_unread(&location(1), 10, "not JSON", "{");
        assert_eq!(ledger.position().bytes, 10, "nothing is before it");
        for line in [20, 30, 50] {
            ledger.sent(sent(line, "raw"));
            if line == 30 {
                ledger.reject_unread(&location(4), 40, "not JSON", "{");
            }
        }
        assert_eq!(ledger.position().bytes, 10);
        ledger.resolve(0, [(1, "b", "no text".to_string())].into_iter());
        assert_eq!(ledger.position().bytes, 10, "the one before is on its way");
        ledger.resolve(1, [].into_iter());
        assert_eq!(ledger.position().bytes, 40, "and those that never became documents");
        ledger.resolve(2, [].into_iter());
        assert_eq!(ledger.position().bytes, 50);
    }

    #[test]
    fn only_what_is_on_its_way_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = ledger(&directory.path().join("rejected"));
        for line in 0..10_000 {
            ledger.sent(sent(line, "raw"));
            ledger.resolve(line.saturating_sub(9), [].into_iter());
        }
        assert!(ledger.lock().on_their_way.len() <= 11);
    }

    #[test]
    fn an_error_at_an_unknown_position_is_still_reported() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rejected");
        let ledger = ledger(&path);
        ledger.resolve(0, [(7, "x", "lost".to_string())].into_iter());
        assert_eq!(lines(&ledger, &path), [(0, "lost".to_string(), String::new())]);
    }
}
