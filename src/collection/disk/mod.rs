//! THE DISK: what makes `committed` mean "survives a crash, a kill and a power cut".
//!
//! ```text
//! commit, submit ──► bounded queue ──► one writer thread ──► one transaction for all that wait ──► fsync ──► answers
//!                                       │ between batches: purge of dropped collections, compaction
//! snapshot ──► load, backup, verify, export: a consistent view that commits do not disturb
//! ```
//!
//! All collections of a data directory share one redb file, so that they share its fsyncs. Beside
//! it lies a lock, so that the directory has one process.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `cognate` | name | a number: schema version, next collection number |
//! | `collections` | number | checksum, then name, fingerprint, dimensions, counts as JSON |
//! | `dropped` | number | nothing: its rows are still to be purged |
//! | `rows/N`, one for each collection | row, piece | a part of the row's [record](Record) with its checksum |
//!
//! Invariants: an answer `Ok` comes after the fsync of the transaction that holds the batch; a
//! batch is on disk whole or not at all; nothing is written after an error of the disk, because a
//! failed fsync says nothing about earlier writes; what is read was checked, and what is damaged is
//! an error with a name and never a document less.
//!
//! The disk knows nothing of ids: which row is whose is its caller's, who has all documents in
//! memory. Nothing outside this directory knows redb.

mod backup;
mod catalog;
mod change;
mod compact;
mod copy;
mod draft;
mod failure;
pub(crate) mod fuzz;
mod handle;
mod lock;
mod open;
mod options;
mod purge;
mod record;
mod rows;
mod schema;
mod snapshot;
mod space;
mod stats;
mod transaction;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use backup::{BackupError, RestoreError, restore};
pub use change::{Change, NewCollection, Put};
pub use copy::CopyError;
pub use failure::{CommitError, Rejected};
pub use handle::{Disk, Pending};
pub use open::OpenError;
pub use options::Options;
pub use record::{Damage, Record};
pub use snapshot::{ReadError, Snapshot, StoredCollection};
pub use stats::Stats;
pub use verify::{Problem, Report, Verified, VerifyError};
