//! The migrations that a server works on: a task for each, and the gates that writers pass.
//!
//! Each collection has a gate, which its writers hold together while they commit. A switch takes the gate alone: it
//! waits for the writers in progress, and further ones wait for it. Reads pass no gate.
//!
//! Invariant: while a writer holds what `enter` returned, its collection is not exchanged with that of another model.
//! The work of a task is left to `following`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, Semaphore};
use tokio::task::AbortHandle;

use super::status::Failure;
use crate::collection::{DocId, Migration, MigrationState};

/// Migrations that embed at one time. Others wait for their turn. 2: while one waits for the disk, another embeds.
const AT_ONCE: usize = 2;

/// Gates after which those that nobody holds are removed.
const OLD_GATES: usize = 1_024;

/// Documents whose failures are kept. The failures of others are only counted.
const REASONS: usize = 100;

/// The migrations of a server. A clone is cheap.
#[derive(Clone)]
pub struct Migrations(Arc<Shared>);

struct Shared {
    /// The tasks by the names of their collections.
    tasks: Mutex<HashMap<String, Arc<Task>>>,
    /// The gates of the collections that have writers, by their names. A gate lives as long as somebody holds it.
    gates: Mutex<HashMap<String, Weak<RwLock<()>>>>,
    steps: Semaphore,
}

/// A migration that this server works on.
pub struct Task {
    /// The name of the collection.
    pub name: String,
    /// The migration itself.
    pub migration: Arc<Migration>,
    /// Held by the step in progress.
    pub turn: tokio::sync::Mutex<()>,
    /// Held by a call that switches or ends the migration.
    pub acts: tokio::sync::Mutex<()>,
    findings: Mutex<Findings>,
    work: OnceLock<AbortHandle>,
}

/// The findings of the work so far.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// The reason why the last attempt failed; `None`: the work goes on.
    pub waiting_for: Option<Failure>,
    /// The reasons why documents cannot be embedded, of the first ones.
    pub reasons: HashMap<DocId, Failure>,
    /// The number of times that nothing was found lacking.
    pub caught_up: u64,
    /// Documents that were embedded, and the time that it took.
    pub embedded: (usize, Duration),
    /// The comparison of both models; `Some(None)`: it cannot be made.
    pub comparison: Option<Option<Comparison>>,
}

/// The overlap of the nearest documents by both models.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// The number of queries.
    pub queries: usize,
    /// The mean share of hits that both models have.
    pub mean: f32,
    /// The least share of a query.
    pub least: f32,
}

/// The permission to change a collection. Until it is dropped, the collection is not switched.
pub type Entered = OwnedRwLockReadGuard<()>;

impl Default for Migrations {
    fn default() -> Self {
        let (tasks, gates) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { tasks, gates, steps: Semaphore::new(AT_ONCE) }))
    }
}

impl Migrations {
    /// Waits until the collection may be changed: for a switch in progress.
    pub async fn enter(&self, collection: &str) -> Entered {
        self.gate(collection).read_owned().await
    }

    /// Waits until no writer changes the collection, and holds up further ones.
    pub async fn close(&self, collection: &str) -> OwnedRwLockWriteGuard<()> {
        self.gate(collection).write_owned().await
    }

    fn gate(&self, collection: &str) -> Arc<RwLock<()>> {
        let mut gates = lock(&self.0.gates);
        if let Some(gate) = gates.get(collection).and_then(Weak::upgrade) {
            return gate;
        }
        if gates.len() >= OLD_GATES {
            gates.retain(|_, gate| gate.strong_count() > 0);
        }
        let gate = Arc::default();
        gates.insert(collection.to_owned(), Arc::downgrade(&gate));
        gate
    }

    /// The task of a collection.
    pub fn find(&self, collection: &str) -> Option<Arc<Task>> {
        lock(&self.0.tasks).get(collection).cloned()
    }

    /// The task of a migration. The first call for a migration starts it by `begin`.
    pub fn of(&self, name: &str, migration: Arc<Migration>, begin: impl FnOnce(Arc<Task>) -> AbortHandle) -> Arc<Task> {
        let mut tasks = lock(&self.0.tasks);
        if let Some(task) = tasks.get(name).filter(|task| Arc::ptr_eq(&task.migration, &migration)) {
            return Arc::clone(task);
        }
        let task = Arc::new(Task {
            name: name.to_owned(),
            migration,
            turn: tokio::sync::Mutex::default(),
            acts: tokio::sync::Mutex::default(),
            findings: Mutex::default(),
            work: OnceLock::new(),
        });
        let _ = task.work.set(begin(Arc::clone(&task)));
        if let Some(old) = tasks.insert(name.to_owned(), Arc::clone(&task)) {
            old.stop();
        }
        task
    }

    /// Forgets a task whose migration has ended.
    pub fn forget(&self, task: &Arc<Task>) {
        let mut tasks = lock(&self.0.tasks);
        if tasks.get(&task.name).is_some_and(|now| Arc::ptr_eq(now, task)) {
            tasks.remove(&task.name);
        }
        task.stop();
    }

    /// Stops the work. A commit that has begun is finished, and the next start resumes the rest.
    pub fn stop(&self) {
        lock(&self.0.tasks).values().for_each(|task| task.stop());
    }

    /// Waits for a turn to embed, and returns the permit.
    pub async fn take_turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.0.steps.acquire().await.ok()
    }
}

impl Task {
    fn stop(&self) {
        self.work.get().into_iter().for_each(AbortHandle::abort);
    }

    /// The findings so far.
    pub fn findings(&self) -> Findings {
        lock(&self.findings).clone()
    }

    /// Notes that nothing is lacking.
    pub fn caught_up(&self) {
        let mut findings = lock(&self.findings);
        findings.waiting_for = None;
        findings.caught_up += 1;
    }

    /// The number of times that nothing was found lacking.
    pub fn times_caught_up(&self) -> u64 {
        lock(&self.findings).caught_up
    }

    /// Notes the reason why the work does not go on, or that it does.
    pub fn waits_for(&self, failure: Option<Failure>) {
        lock(&self.findings).waiting_for = failure;
    }

    /// Notes a step: the documents that were embedded, the time, and the failures.
    pub fn stepped(&self, embedded: usize, took: Duration, failed: Vec<(DocId, Failure)>) {
        let mut findings = lock(&self.findings);
        findings.embedded.0 += embedded;
        findings.embedded.1 += took;
        let room = REASONS.saturating_sub(findings.reasons.len());
        findings.reasons.extend(failed.into_iter().take(room));
    }

    /// Notes the comparison.
    pub fn compared(&self, comparison: Option<Comparison>) {
        lock(&self.findings).comparison = Some(comparison);
    }

    /// Returns true if the comparison was made, or cannot be made.
    pub fn is_compared(&self) -> bool {
        lock(&self.findings).comparison.is_some()
    }
}

/// Documents that are still to be embedded, without those that cannot be.
pub fn lacking(state: &MigrationState) -> usize {
    match state.first_pass_over {
        true => state.pending - state.refused.min(state.pending),
        false => usize::MAX,
    }
}

/// A panic under one of these locks leaves the data valid: each change is an assignment or an insertion.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
