//! The handle of the disk that the rest of the process uses.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use redb::Database;
use tracing::Span;

use super::catalog::Catalog;
use super::change::Change;
use super::failure::{CommitError, VerifyError, WritesStopped};
use super::open::{Directory, OpenError};
use super::options::Options;
use super::shared::Shared;
use super::snapshot::{ReadError, Snapshot};
use super::space;
use super::stats::Stats;
use super::writer::{Job, Writer};

/// An open data directory. Dropping it stores the queued batches and closes the file.
pub struct Disk {
    pub(super) shared: Arc<Shared>,
    /// `None` only while the disk is being dropped.
    queue: Option<SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
    next_collection: AtomicU32,
}

/// A batch on its way to the disk. It gets there even if nobody waits for it.
#[must_use = "the batch is on disk only when `wait` says so"]
pub(super) struct Pending {
    answer: Receiver<Result<(), CommitError>>,
    /// The data file, for messages.
    path: PathBuf,
}

impl Disk {
    /// Opens the directory, creates it if it is missing, and checks every page of its file.
    pub fn open(directory: &Path, options: Options) -> Result<Self, OpenError> {
        let directory = Directory::take(directory)?;
        let database = directory.open(options.cache_bytes)?;
        Self::start(directory, database, options)
    }

    pub(super) fn start(directory: Directory, database: Database, options: Options) -> Result<Self, OpenError> {
        let database = Arc::new(database);
        let snapshot = Snapshot::of(&database, &directory.file).map_err(|error| {
            let reason = match error {
                ReadError::CollectionDamaged { number, damage, .. } => format!("collection number {number}: {damage}"),
                ReadError::Failed { reason, .. } => reason,
                other => other.to_string(),
            };
            OpenError::Damaged { path: directory.file.clone(), reason }
        })?;
        let catalog: Catalog = snapshot.catalog().clone();
        drop(snapshot);

        let next_collection = AtomicU32::new(catalog.next());
        let (queue, jobs) = sync_channel(options.queue_batches);
        let shared = Arc::new(Shared::new(database, directory, options));
        let writer = Writer::new(Arc::clone(&shared), catalog, jobs);
        let writer = std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| OpenError::io(&shared.directory.path, "start the thread that writes", error))?;
        Ok(Self { shared, queue: Some(queue), writer: Some(writer), next_collection })
    }

    /// The path of a subdirectory of the data directory. It may be missing, but is never a link.
    pub fn subdirectory(&self, name: &str) -> Result<PathBuf, OpenError> {
        self.shared.directory.subdirectory(name)
    }

    /// Returns a number for a new collection. No number is returned twice.
    pub fn new_collection_number(&self) -> u32 {
        self.next_collection.fetch_add(1, Ordering::Relaxed)
    }

    /// Stores a batch as a whole or not at all, and returns after the sync, which waiting batches may share.
    pub fn commit(&self, batch: Vec<Change>) -> Result<(), CommitError> {
        self.submit(batch).wait()
    }

    /// Appends a batch to the queue without waiting for its sync, for [`commit`](Self::commit) and for tests of
    /// crashes, which keep several batches in flight. Waits only while the queue is full. Batches are stored in this
    /// order. A batch may remove a row that an earlier one adds, without waiting for it: if the earlier one is refused,
    /// this one is rejected, because the row is missing.
    pub(super) fn submit(&self, batch: Vec<Change>) -> Pending {
        let (done, answer) = sync_channel(1);
        let pending = Pending { answer, path: self.shared.directory.file.clone() };
        let queue = self.queue.as_ref().expect("the queue is there until the disk is dropped");
        if let Some(stopped) = self.shared.stopped() {
            // A refusal is answered at once, not through the queue.
            let _ = done.send(Err(stopped));
        } else {
            // If the writer is gone, its end of the channel is dropped, which `wait` notices.
            let _ = queue.send(Job::Commit { batch, done, span: Span::current() });
        }
        pending
    }

    /// A consistent view of what is committed.
    pub fn snapshot(&self) -> Result<Snapshot, ReadError> {
        Snapshot::of(&self.shared.database(), &self.shared.directory.file)
    }

    /// Counters and sizes.
    pub fn stats(&self) -> Stats {
        let directory = &self.shared.directory;
        Stats {
            file_bytes: space::allocated(&directory.file).ok(),
            free_bytes: space::free(&directory.path).ok(),
            min_free_bytes: self.shared.options.min_free_bytes,
            stopped: self.shared.stopped.get().cloned(),
            ..self.shared.counters.read()
        }
    }

    /// True if a file of `bytes` beside the documents would leave the reserve free. Always false on a disk that
    /// failed.
    pub fn has_room(&self, bytes: u64) -> bool {
        if self.shared.stopped.get().is_some() {
            return false;
        }
        let free = space::free(&self.shared.directory.path).unwrap_or(u64::MAX);
        free.saturating_sub(bytes) >= self.shared.options.min_free_bytes
    }

    /// Reason why writes stopped; `None`: they go on.
    pub fn stopped(&self) -> Option<CommitError> {
        self.shared.stopped()
    }

    pub(super) fn check_pages(&self) -> Result<bool, VerifyError> {
        let (done, answer) = sync_channel(1);
        let queue = self.queue.as_ref().expect("the queue is there until the disk is dropped");
        // As in `submit`.
        let _ = queue.send(Job::CheckPages { done });
        answer.recv().unwrap_or_else(|_| Err(VerifyError::Stopped(self.shared.refusal())))
    }

    pub(super) fn options(&self) -> &Options {
        &self.shared.options
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(path = %self.shared.directory.file.display(), "the thread that writes panicked");
        }
    }
}

impl Pending {
    /// Waits until the batch is synced or refused.
    pub(super) fn wait(self) -> Result<(), CommitError> {
        self.answer.recv().unwrap_or_else(|_| {
            let reason = "the thread that writes has ended".into();
            Err(WritesStopped { path: self.path, reason }.into())
        })
    }
}
