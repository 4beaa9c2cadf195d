//! The writer thread: the only thread that writes.
//!
//! It puts all waiting batches, up to a size, into one transaction, syncs, and answers them. The next batches
//! gather during the sync: the slower the disk, the more batches share a sync. It also purges dropped collections,
//! and replaces a file that is mostly holes.
//!
//! Commits are two-phase in redb's sense, with two syncs, so that the file names its last acknowledged state. With
//! one sync, redb would take a damaged last state for one that a crash cut off, and silently return to the state
//! before.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use tracing::{Span, info_span};

use super::catalog::Catalog;
use super::change::Change;
use super::compact::{self, Compaction, Outcome};
use super::failure::{CommitError, DiskFull, Rejected, VerifyError};
use super::shared::Shared;
use super::snapshot::ReadError;
use super::transaction::Transaction;
use super::{purge, space};

/// Interval of checks if the file should be compacted.
const REST: Duration = Duration::from_secs(1);
/// Interval of checks if a compaction's copy is finished.
const COPYING_REST: Duration = Duration::from_millis(20);
/// Minimum time between compactions, whatever their result: a wrong estimate must not keep the disk busy.
const COMPACTION_REST: Duration = Duration::from_secs(600);

/// A job for the writer.
pub(super) enum Job {
    Commit { batch: Vec<Change>, done: SyncSender<Result<(), CommitError>>, span: Span },
    CheckPages { done: SyncSender<Result<bool, VerifyError>> },
}

/// A batch and the channel to its caller.
struct QueuedBatch {
    batch: Vec<Change>,
    done: SyncSender<Result<(), CommitError>>,
    /// The span of the commit that waits.
    span: Span,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    catalog: Catalog,
    jobs: Receiver<Job>,
    /// A job that came while batches were gathered, to be done next.
    next: Option<Job>,
    compaction: Option<Compaction>,
    no_compaction_before: Instant,
    /// Most bytes of records that the file held since this process started. The file has space for them.
    most_record_bytes: u64,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, catalog: Catalog, jobs: Receiver<Job>) -> Self {
        let writer = Self {
            most_record_bytes: catalog.record_bytes(),
            shared,
            catalog,
            jobs,
            next: None,
            compaction: None,
            no_compaction_before: Instant::now(),
        };
        writer.count();
        writer
    }

    /// Works until the disk is dropped and the queue is empty.
    pub(super) fn run(mut self) {
        loop {
            let job = match self.next.take() {
                Some(job) => Ok(job),
                None => self.jobs.recv_timeout(self.rest()),
            };
            match job {
                Ok(Job::Commit { batch, done, span }) => {
                    let group = self.gather(QueuedBatch { batch, done, span });
                    self.commit(group);
                }
                Ok(Job::CheckPages { done }) => {
                    // The caller may have gone.
                    let _ = done.send(self.check_pages());
                }
                Err(RecvTimeoutError::Timeout) if self.purges() => self.commit(Vec::new()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.compact();
        }
        if let Some(compaction) = self.compaction.take() {
            compaction.give_up(&self.shared);
        }
    }

    /// Time to wait for a job before other work.
    fn rest(&self) -> Duration {
        if self.compaction.is_some() {
            COPYING_REST
        } else if self.purges() {
            Duration::ZERO
        } else {
            REST
        }
    }

    /// True if something is to be purged and may be. During a copy nothing is purged, because the copy would keep
    /// it.
    fn purges(&self) -> bool {
        self.catalog.dropped() > 0 && self.compaction.is_none() && self.shared.stopped.get().is_none()
    }

    /// The batches that wait now, up to the size of one transaction.
    fn gather(&mut self, first: QueuedBatch) -> Vec<QueuedBatch> {
        let size = |batch: &[Change]| batch.iter().map(Change::bytes).sum::<usize>();
        let mut bytes = size(&first.batch);
        let mut group = vec![first];
        while bytes < self.shared.options.transaction_bytes {
            match self.jobs.try_recv() {
                Ok(Job::Commit { batch, done, span }) => {
                    bytes += size(&batch);
                    group.push(QueuedBatch { batch, done, span });
                }
                Ok(other) => {
                    self.next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        group
    }

    /// Stores a group of batches and answers each.
    fn commit(&mut self, group: Vec<QueuedBatch>) {
        if self.shared.stopped.get().is_some() {
            return self.refuse(group);
        }
        let group = self.refuse_without_room(group);
        if group.is_empty() && !self.purges() {
            return;
        }
        // A panic on the way to the disk is treated as a disk error: its effect is unknown.
        match catch_unwind(AssertUnwindSafe(|| self.store(&group))) {
            Ok(Ok(answers)) => {
                self.most_record_bytes = self.most_record_bytes.max(self.catalog.record_bytes());
                self.count();
                for (waiting, answer) in group.into_iter().zip(answers) {
                    // The caller may have gone; the batch is stored.
                    let _ = waiting.done.send(answer.map_err(CommitError::from));
                }
                return;
            }
            Ok(Err(error)) => self.stop(&error.to_string()),
            Err(_) => self.stop("a commit panicked"),
        }
        self.refuse(group);
    }

    fn refuse(&self, group: Vec<QueuedBatch>) {
        for waiting in group {
            let _ = waiting.done.send(Err(self.shared.refusal()));
        }
    }

    /// Runs one transaction: batches, a piece of the purge, the catalog, the sync.
    fn store(&mut self, group: &[QueuedBatch]) -> Result<Vec<Result<(), Rejected>>, redb::Error> {
        let purges = self.purges();
        let database = self.shared.database();
        let mut inner = database.begin_write()?;
        inner.set_two_phase_commit(true);
        let touched = self.compaction.as_mut().map(|compaction| &mut compaction.touched);
        let mut transaction = Transaction::new(&inner, &mut self.catalog, touched);
        let answers: Vec<_> =
            group.iter().map(|waiting| transaction.apply(&waiting.batch)).collect::<Result<_, redb::Error>>()?;
        drop(transaction);
        let stored = answers.iter().filter(|answer| answer.is_ok()).count();
        if stored == 0 && !purges {
            inner.abort()?;
            return Ok(answers);
        }
        if purges {
            purge::some(&inner, &mut self.catalog)?;
        }
        self.catalog.save(&inner)?;
        // In the trace of each commit that shares the sync.
        let fsync = |waiting: &QueuedBatch| waiting.span.in_scope(|| info_span!("fsync", batches = group.len()));
        let spans: Vec<Span> = group.iter().map(fsync).collect();
        let began = Instant::now();
        inner.commit()?;
        self.shared.counters.commit_times.0.record_time(began.elapsed());
        drop(spans);
        self.shared.counters.batches.fetch_add(stored as u64, Ordering::Relaxed);
        self.shared.counters.transactions.fetch_add(1, Ordering::Relaxed);
        Ok(answers)
    }

    /// Refuses the batches that the file system has no space for, and returns the others.
    fn refuse_without_room(&self, group: Vec<QueuedBatch>) -> Vec<QueuedBatch> {
        let grows = |waiting: &QueuedBatch| waiting.batch.iter().any(Change::grows);
        if !group.iter().any(grows) {
            return group;
        }
        let directory = &self.shared.directory;
        // If the system does not report free space, the reserve cannot be kept. A full disk then stops the writes.
        let free = space::free(&directory.path).unwrap_or(u64::MAX);
        let record_bytes = self.catalog.record_bytes();
        let by_estimate =
            space::allocated(&directory.file).map_or(0, |allocated| space::reusable(allocated, record_bytes));
        // Space of records that were removed since the file held the most is reusable at once.
        let reusable = by_estimate.max(self.most_record_bytes.saturating_sub(record_bytes));
        let mut wanted = 0;
        let mut fits = |waiting: &QueuedBatch| {
            let bytes = waiting.batch.iter().map(Change::bytes).sum::<usize>() as u64;
            let beyond = (wanted + bytes).saturating_sub(reusable);
            // Batches that fit inside the file may still need pages outside, because redb prefers pages that were
            // never written. They may use half of the reserve.
            let reserve = self.shared.options.min_free_bytes;
            // Twice, because redb copies pages before it changes them.
            let needed = if beyond > 0 { reserve.saturating_add(2 * beyond) } else { reserve / 2 };
            if free < needed {
                let path = directory.path.clone();
                let _ = waiting.done.send(Err(DiskFull { path, free, needed }.into()));
                return false;
            }
            wanted += bytes;
            true
        };
        group.into_iter().filter(|waiting| !grows(waiting) || fits(waiting)).collect()
    }

    /// Stops all writes from now on.
    fn stop(&self, reason: &str) {
        tracing::error!(path = %self.shared.directory.file.display(), reason, "writes have stopped until a restart");
        // Ignored if set before: the first reason counts.
        let _ = self.shared.stopped.set(reason.into());
    }

    fn check_pages(&self) -> Result<bool, VerifyError> {
        let path = || self.shared.directory.file.clone();
        if let Some(stopped) = self.shared.stopped() {
            return Err(VerifyError::Stopped(stopped));
        }
        match catch_unwind(AssertUnwindSafe(|| self.shared.alone(redb::Database::check_integrity))) {
            Ok(None) | Ok(Some(Err(redb::DatabaseError::TransactionInProgress))) => {
                Err(VerifyError::Busy { path: path() })
            }
            Ok(Some(Ok(clean))) => Ok(clean),
            Ok(Some(Err(error))) => {
                self.stop(&error.to_string());
                Err(ReadError::Failed { path: path(), reason: error.to_string() }.into())
            }
            Err(_) => {
                self.stop("its structure is wrong");
                Err(ReadError::Failed { path: path(), reason: "its structure is wrong".to_owned() }.into())
            }
        }
    }

    /// Begins, awaits or ends a compaction.
    fn compact(&mut self) {
        match self.compaction.take_if(|compaction| compaction.is_finished()) {
            Some(compaction) => self.end_compaction(compaction),
            None if self.compaction.is_none() => self.begin_compaction(),
            None => {}
        }
    }

    fn begin_compaction(&mut self) {
        let now = Instant::now();
        let waits = now < self.no_compaction_before || self.purges() || self.shared.stopped.get().is_some();
        if waits {
            return;
        }
        self.no_compaction_before = now + REST;
        if !compact::is_due(&self.shared, &self.catalog) {
            return;
        }
        match Compaction::start(&self.shared) {
            Ok(compaction) => self.compaction = Some(compaction),
            Err(error) => {
                tracing::warn!(%error, "cannot compact");
                self.no_compaction_before = now + COMPACTION_REST;
            }
        }
    }

    fn end_compaction(&mut self, compaction: Compaction) {
        if self.shared.stopped.get().is_some() {
            return compaction.give_up(&self.shared);
        }
        self.no_compaction_before = Instant::now() + COMPACTION_REST;
        let path = &self.shared.directory.file;
        let before = space::allocated(path).unwrap_or_default();
        match compaction.finish(&self.shared, &self.catalog) {
            Outcome::Replaced(database) => {
                self.shared.replace(database);
                self.most_record_bytes = self.catalog.record_bytes();
                self.shared.counters.compactions.fetch_add(1, Ordering::Relaxed);
                let after = space::allocated(path).unwrap_or_default();
                tracing::info!(path = %path.display(), before, after, "compacted");
            }
            Outcome::Kept(reason) => tracing::warn!(path = %path.display(), reason, "not compacted"),
            Outcome::Unknown(error) => self.stop(&format!("cannot sync the directory: {error}")),
        }
    }

    fn count(&self) {
        let counters = &self.shared.counters;
        for (counter, value) in [
            (&counters.record_bytes, self.catalog.record_bytes()),
            (&counters.rows, self.catalog.rows()),
            (&counters.collections, self.catalog.len() as u64),
            (&counters.dropped, self.catalog.dropped() as u64),
        ] {
            counter.store(value, Ordering::Relaxed);
        }
    }
}
