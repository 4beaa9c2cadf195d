//! THE DISK: the storage that makes `committed` mean "survives a crash, a kill and a power cut".
//!
//! ```text
//! commit ──► bounded queue ──► one writer thread ──► one transaction for all that wait ──► fsync ──► answers
//!                                       │ between batches: purge of dropped collections, compaction
//! snapshot ──► load, backup, verify: a consistent view that commits do not disturb
//! reader ──► search, export: the texts of single rows
//! ```
//!
//! All collections of a data directory are in one redb file, so they share its fsyncs. A lock file beside it
//! ensures that only one process uses the directory.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `cognate` | name | a number: schema version, next collection number |
//! | `collections` | number | checksum, then name, fingerprint, dimensions, counts as JSON |
//! | `dropped` | number | nothing: the collection's rows are still to be purged |
//! | `rows/N`, one for each collection | row, piece | a part of the row's [record](Record) with its checksum |
//! | `pending/N`, one for each [follower](Follows) | id | checksum and number of the latest change that it lacks |
//!
//! A document takes a row number for each of its passages, and its record is stored under the first. So each vector
//! has a number that no other vector of the collection ever has.
//!
//! Invariants: an answer `Ok` comes after the fsync of the batch's transaction. A batch is on disk as a whole or
//! not at all. Nothing is written after a disk error, because a failed fsync leaves the state of earlier writes
//! unknown. Everything read is checked: damage is a named error, and never a silently missing document.
//!
//! The disk knows nothing of ids, except for those that a follower lacks. Its caller, which has all ids in memory, maps
//! them to rows. Nothing outside this directory knows redb.

mod backup;
mod catalog;
mod change;
mod compact;
mod copy;
mod draft;
mod failure;
mod follows;
mod frozen;
pub(crate) mod fuzz;
mod handle;
mod lock;
mod open;
mod options;
mod pending;
mod purge;
mod reader;
mod record;
mod rows;
mod schema;
mod shared;
mod snapshot;
mod space;
mod stats;
mod transaction;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use backup::{BackupError, RestoreError, restore};
pub use change::{Change, NewCollection, Pending, Put};
pub use copy::CopyError;
pub use failure::{CommitError, DiskFull, Rejected, VerifyError, WritesStopped};
pub use follows::{FirstPass, Follows};
pub use handle::Disk;
pub use open::OpenError;
pub use options::Options;
pub use reader::{Reader, RowsOf};
pub use record::{Damage, Record};
pub use snapshot::{ReadError, Snapshot, StoredCollection};
pub use stats::Stats;
pub use verify::{Problem, Report, Verified};
