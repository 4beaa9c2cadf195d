//! Compaction: replaces a file that is mostly holes by a packed copy, while commits go on.
//!
//! redb reuses the space of removed rows but cannot return it: its own compaction takes ten seconds for a gigabyte,
//! in which nobody commits. So a thread copies a snapshot into a new file, while the writer notes the rows that
//! change. Between two batches the writer brings the copy up to date and renames it over the old file. If the
//! process is killed at any moment, the data file is one of the two, and it has all that was acknowledged.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use redb::{Database, ReadableDatabase, TableError};

use super::catalog::Catalog;
use super::copy::{Copy, CopyError};
use super::draft::RowId;
use super::shared::Shared;
use super::snapshot::Snapshot;
use super::{pending, rows, schema, space};
use crate::machine::files;

/// Most rows that may change during a copy; bringing it up to date with them takes half a second. A collection that
/// changes faster is not compacted until it is quieter, and neither is a file while more ids are pending.
const MOST_TOUCHED: usize = 50_000;

/// A copy that is being made.
pub(super) struct Compaction {
    copy: JoinHandle<Result<Database, CopyError>>,
    given_up: Arc<AtomicBool>,
    /// Rows that changed since the copied snapshot.
    pub(super) touched: BTreeSet<RowId>,
}

/// Results of a compaction.
pub(super) enum Outcome {
    /// The new file is the data file and has all documents.
    Replaced(Database),
    /// The old file goes on unchanged, for this reason.
    Kept(String),
    /// A power cut may leave either of the two files.
    Unknown(io::Error),
}

/// True if more than half of the file's space is not needed, and few ids are pending.
pub(super) fn is_due(shared: &Shared, catalog: &Catalog) -> bool {
    let Ok(allocated) = space::allocated(&shared.directory.file) else { return false };
    let holes = allocated > shared.options.compact_above_bytes && allocated / 2 > space::packed(catalog.record_bytes());
    holes && pending_ids(shared, catalog).is_ok_and(|ids| ids <= MOST_TOUCHED as u64)
}

/// Number of pending ids of all followers. They are copied when no commit runs.
fn pending_ids(shared: &Shared, catalog: &Catalog) -> Result<u64, redb::Error> {
    let mut followers = catalog.followers().peekable();
    if followers.peek().is_none() {
        return Ok(0);
    }
    let transaction = shared.database().begin_read()?;
    followers.map(|(follower, _)| pending::len(&transaction, follower)).sum()
}

impl Compaction {
    /// Begins to copy all that is committed now.
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self, CopyError> {
        let snapshot = Snapshot::of(&shared.database(), &shared.directory.file)?;
        let given_up = Arc::new(AtomicBool::new(false));
        let to = shared.directory.new_file.clone();
        let (shared, stop) = (Arc::clone(shared), Arc::clone(&given_up));
        let copy = move || {
            let options = &shared.options;
            let copy = Copy {
                to: &shared.directory.new_file,
                cache_bytes: options.cache_bytes,
                min_free_bytes: options.min_free_bytes,
                go_on: &|| !stop.load(Ordering::Relaxed),
            };
            copy.make(&snapshot)
        };
        let copy = Builder::new().name("compact".to_owned()).spawn(copy).map_err(|error| CopyError::Write {
            path: to,
            reason: error.to_string(),
            is_full: false,
        })?;
        Ok(Self { copy, given_up, touched: BTreeSet::new() })
    }

    /// True if the copying thread has ended.
    pub(super) fn is_finished(&self) -> bool {
        if self.touched.len() > MOST_TOUCHED {
            self.given_up.store(true, Ordering::Relaxed);
        }
        self.copy.is_finished()
    }

    /// Waits for the copying to end, and removes its file.
    pub(super) fn give_up(self, shared: &Shared) {
        self.given_up.store(true, Ordering::Relaxed);
        // The result is thrown away.
        let _ = self.copy.join();
        let _ = std::fs::remove_file(&shared.directory.new_file);
    }

    /// Brings the copy up to date, and renames it over the old file.
    pub(super) fn finish(self, shared: &Shared, catalog: &Catalog) -> Outcome {
        let pending = pending_ids(shared, catalog).unwrap_or(u64::MAX);
        let too_many = self.touched.len() > MOST_TOUCHED || pending > MOST_TOUCHED as u64;
        let made = match self.copy.join() {
            Ok(Ok(database)) if !too_many => bring_up_to_date(shared, &database, &self.touched, catalog)
                .map(|()| database)
                .map_err(|error| error.to_string()),
            Ok(Ok(_)) => Err(format!("more than {MOST_TOUCHED} documents changed meanwhile or are pending")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the copying panicked".to_owned()),
        };
        let replaced = made.and_then(|database| {
            let (from, to) = (&shared.directory.new_file, &shared.directory.file);
            std::fs::rename(from, to).map(|()| database).map_err(|error| error.to_string())
        });
        match replaced {
            Ok(database) => match files::sync_directory(&shared.directory.path) {
                Ok(()) => Outcome::Replaced(database),
                Err(error) => Outcome::Unknown(error),
            },
            Err(reason) => {
                // The next start removes it too.
                let _ = std::fs::remove_file(&shared.directory.new_file);
                Outcome::Kept(reason)
            }
        }
    }
}

/// Copies the rows that changed since the snapshot, the pending ids of followers, and the catalog. No commit runs
/// meanwhile.
fn bring_up_to_date(
    shared: &Shared,
    copy: &Database,
    touched: &BTreeSet<RowId>,
    catalog: &Catalog,
) -> Result<(), redb::Error> {
    let old = shared.database().begin_read()?;
    let mut new = copy.begin_write()?;
    new.set_two_phase_commit(true);
    let mut of_collection = touched.iter().copied().peekable();
    while let Some((collection, _)) = of_collection.peek().copied() {
        let row_ids = std::iter::from_fn(|| of_collection.next_if(|row_id| row_id.0 == collection));
        if catalog.get(collection).is_none() {
            row_ids.for_each(drop);
            continue;
        }
        let name = schema::rows_table(collection);
        let old_rows = match old.open_table(schema::rows(&name)) {
            Ok(rows) => Some(rows),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let mut new_rows = new.open_table(schema::rows(&name))?;
        for (_, row) in row_ids {
            rows::remove(&mut new_rows, row)?;
            let Some(old_rows) = &old_rows else { continue };
            for piece in old_rows.range((row, 0)..=(row, u32::MAX))? {
                let (key, bytes) = piece?;
                new_rows.insert(key.value(), bytes.value())?;
            }
        }
    }
    for (follower, _) in catalog.followers() {
        pending::copy(&old, &new, follower)?;
    }
    catalog.clone().save_all(&new)?;
    Ok(new.commit()?)
}
