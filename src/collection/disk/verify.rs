//! Verification: a check that everything is as it was stored.

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::failure::VerifyError;
use super::handle::Disk;
use super::record::{self, Damage, Numbers};
use super::snapshot::{ReadError, Snapshot, StoredCollection};

/// Most problems that are listed; the others are only counted.
const LISTED: usize = 100;

/// Result of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The data file.
    pub path: PathBuf,
    /// True if every page has its checksum, and free and used space add up.
    pub pages: bool,
    /// The collections, with what was read of each.
    pub collections: Vec<Verified>,
    /// The first hundred problems.
    pub problems: Vec<Problem>,
    /// Number of all problems.
    pub problem_count: u64,
}

/// A collection, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The name.
    pub name: String,
    /// True if it is the follower of the collection of this name.
    pub follower: bool,
    /// Number of its intact documents.
    pub rows: u64,
    /// Bytes of their records.
    pub record_bytes: u64,
}

/// A difference to what was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A document is damaged.
    #[error("row {row} of collection {collection:?}: {damage}")]
    Damaged {
        /// The collection's name.
        collection: String,
        /// The document's row.
        row: u64,
        /// The damage.
        damage: Damage,
    },
    /// A note of a document that a follower lacks is damaged.
    #[error("the note that the follower of collection {collection:?} lacks document {id:?}: {damage}")]
    Pending {
        /// The collection's name.
        collection: String,
        /// The document's id.
        id: String,
        /// The damage.
        damage: Damage,
    },
    /// A count is wrong.
    #[error("collection {collection:?} has {found} {what}, and {expected} were stored")]
    Count {
        /// The collection's name.
        collection: String,
        /// The thing that was counted.
        what: &'static str,
        /// The stored count.
        expected: u64,
        /// The count that was found.
        found: u64,
    },
}

impl Report {
    /// True if everything is as it was stored.
    pub fn is_clean(&self) -> bool {
        self.pages && self.problem_count == 0
    }

    fn add(&mut self, problem: Problem) {
        self.problem_count += 1;
        if self.problems.len() < LISTED {
            self.problems.push(problem);
        }
    }
}

impl Disk {
    /// Checks every page, every record and all counts. Batches wait while pages are checked, about a second per
    /// gigabyte, but not while records are read.
    pub fn verify(&self) -> Result<Report, VerifyError> {
        let pages = self.check_pages()?;
        let snapshot = self.snapshot()?;
        let path = snapshot.path().to_owned();
        let mut report = Report { path, pages, collections: Vec::new(), problems: Vec::new(), problem_count: 0 };
        for collection in snapshot.collections() {
            verify(&snapshot, collection, &mut report)?;
        }
        Ok(report)
    }
}

fn verify(snapshot: &Snapshot, collection: StoredCollection, report: &mut Report) -> Result<(), ReadError> {
    let StoredCollection { number, name, dimensions, rows, record_bytes, follows, .. } = collection;
    let mut read = Verified { name: name.clone(), follower: follows.is_some(), rows: 0, record_bytes: 0 };
    let mut numbers = Numbers::default();
    let scanned = snapshot.scan::<()>(number, |row, bytes| {
        match bytes.and_then(|bytes| record::decode(row, bytes, dimensions, &mut numbers).map(|_| bytes.len())) {
            Ok(bytes) => {
                read.rows += 1;
                read.record_bytes += bytes as u64;
            }
            Err(damage) => report.add(Problem::Damaged { collection: name.clone(), row, damage }),
        }
        ControlFlow::Continue(())
    })?;
    let found = scanned.unwrap_or_default();
    if found != rows {
        report.add(Problem::Count { collection: name.clone(), what: "documents", expected: rows, found });
    }
    snapshot.scan_pending::<()>(number, |id, noted| {
        if let Err(damage) = noted {
            report.add(Problem::Pending { collection: name.clone(), id: id.to_owned(), damage });
        }
        ControlFlow::Continue(())
    })?;
    // The size of damaged records is unknown.
    if read.rows == rows && read.record_bytes != record_bytes {
        let found = read.record_bytes;
        report.add(Problem::Count { collection: name, what: "bytes", expected: record_bytes, found });
    }
    report.collections.push(read);
    Ok(())
}
