//! The work of a migration: embeds what the follower lacks, step by step, until the migration ends.
//!
//! A step takes documents of the leader, embeds their texts in the bulk lane by the follower's model, and stores them.
//! All migrations embed as one caller, so that they have one share of the model. A failed step is tried again after a
//! pause that grows.
//!
//! Invariants: a task has one step in work. It may end at any moment, because a step is stored whole or not at all and
//! the store knows what is lacking. The switch happens when nothing is lacking and no writer is at work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::migrations::{Task, lacking};
use super::status::Failure;
use super::{Engine, comparison, text_vectors};
use crate::backend::Collection;
use crate::collection::{Migration, MigrationError, Step, Vectors};
use crate::compute::stop::Stop;
use crate::compute::{SHORT, Terms, WhenFull};

/// Documents of a step: a quarter of a second for a model of MiniLM's size, beside a commit of some milliseconds.
const STEP_DOCUMENTS: usize = 256;
/// Bytes of text of a step, at which it ends.
const STEP_BYTES: usize = 1 << 20;
/// Documents that a switch may embed while writers wait.
pub const CLOSE: usize = 256;
/// A switch closes the gate when fewer documents are lacking, so that writers wait for little.
const NEAR: usize = 16;
/// Attempts of a switch to come as near as that.
const ROUNDS: usize = 20;
/// Time between two looks at a migration that lacks nothing.
const IDLE: Duration = Duration::from_millis(100);
/// The pause after the first failure. It doubles with each further one.
const LEAST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const MOST_PAUSE: Duration = Duration::from_secs(30);

/// Works on all migrations of the store.
pub fn resume(engine: &Arc<Engine>) {
    let store = engine.store.unguarded().local();
    for migration in store.iter().flat_map(|store| store.migrations()) {
        let name = migration.leader().name().to_owned();
        tracing::info!(collection = name, "the migration of a collection goes on");
        begin(engine, &name, migration);
    }
}

/// The task of a migration, which begins if it does not run.
pub fn begin(engine: &Arc<Engine>, name: &str, migration: Arc<Migration>) -> Arc<Task> {
    engine.migrations.of(name, migration, |task| tokio::spawn(follow(Arc::clone(engine), task)).abort_handle())
}

async fn follow(engine: Arc<Engine>, task: Arc<Task>) {
    let mut pause = LEAST_PAUSE;
    while is_there(&engine, &task) {
        if lacking(&task.migration.state()) == 0 {
            task.caught_up();
            if !task.is_compared() {
                task.compared(comparison::compare(&engine, &task.migration).await);
            }
            tokio::time::sleep(IDLE).await;
            continue;
        }
        let turn = engine.migrations.take_turn().await;
        let stepped = step(&engine, &task).await;
        drop(turn);
        let failed = stepped.err();
        let sleeps = failed.is_some();
        if let Some(failure) = &failed {
            tracing::warn!(collection = task.name, ?failure, ?pause, "a migration waits");
        }
        task.waits_for(failed);
        if sleeps {
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(MOST_PAUSE);
        } else {
            pause = LEAST_PAUSE;
        }
    }
    engine.migrations.forget(&task);
}

/// Returns true until the migration has ended.
fn is_there(engine: &Engine, task: &Task) -> bool {
    let now = engine.store.unguarded().local().and_then(|store| store.migration(&task.name));
    now.is_some_and(|now| Arc::ptr_eq(&now, &task.migration))
}

/// Embeds and stores the next documents that the follower lacks.
async fn step(engine: &Engine, task: &Task) -> Result<(), Failure> {
    let _turn = task.turn.lock().await;
    let (begun, follower) = (Instant::now(), task.migration.follower());
    let model = engine.models.of_collection(&Collection::Local(Arc::clone(&follower)))?;
    let step = match on_storage(engine, task, |migration| migration.next(STEP_DOCUMENTS, STEP_BYTES)).await? {
        Ok(step) if step.is_empty() => return Ok(()),
        Ok(step) => step,
        Err(MigrationError::Stale | MigrationError::NoMigration) => return Ok(()),
        Err(error) => return Err(Failure::migration(&task.name, error)),
    };
    let texts: Vec<String> = step.documents().iter().map(|document| document.text.to_string()).collect();
    let bytes = texts.iter().map(String::len).sum();
    let (sizes, n) = (follower.passages(), texts.len());
    let shape = (sizes, follower.dimensions());
    let _held = text_vectors::hold_vectors(&engine.messages, texts.iter().map(|text| &**text), shape, bytes).await?;
    let computed = text_vectors::compute(&model.embedder, texts, sizes, Terms::from(WhenFull::Wait)).await?;
    let (mut vectors, mut failed): (Vec<Option<Vectors>>, _) = (Vec::with_capacity(n), Vec::new());
    for (document, computed) in step.documents().iter().zip(computed) {
        match text_vectors::of_text(computed, &document.text, || "text".to_owned()) {
            Ok(of_document) => vectors.push(Some(of_document)),
            // The model failed, and not the document.
            Err(Failure::Internal) => return Err(Failure::Internal),
            Err(failure) => {
                failed.push((document.id.clone(), failure));
                vectors.push(None);
            }
        }
    }
    apply(engine, task, step, vectors).await?;
    task.stepped(n, begun.elapsed(), failed);
    Ok(())
}

async fn apply(engine: &Engine, task: &Task, step: Step, vectors: Vec<Option<Vectors>>) -> Result<(), Failure> {
    match on_storage(engine, task, move |migration| migration.apply(step, vectors)).await? {
        Ok(()) | Err(MigrationError::Stale | MigrationError::NoMigration) => Ok(()),
        Err(error) => Err(Failure::migration(&task.name, error)),
    }
}

async fn on_storage<T: Send + 'static>(
    engine: &Engine,
    task: &Task,
    work: impl FnOnce(&Migration) -> T + Send + 'static,
) -> Result<T, Failure> {
    let migration = Arc::clone(&task.migration);
    Ok(engine.pools.storage.run(WhenFull::Wait, SHORT, move |_: &Stop| work(&migration)).await?)
}

/// Exchanges the roles of both collections. Writers wait while the last few documents are embedded.
pub async fn switch(engine: &Engine, task: &Task) -> Result<(), Failure> {
    for _ in 0..ROUNDS {
        let mut state = task.migration.state();
        if !state.first_pass_over || state.refused > 0 {
            return Err(not_ready(task));
        }
        if lacking(&state) > NEAR {
            step(engine, task).await?;
            continue;
        }
        let _closed = engine.migrations.close(&task.name).await;
        state = task.migration.state();
        if lacking(&state) > CLOSE {
            continue;
        }
        while lacking(&state) > 0 {
            step(engine, task).await?;
            state = task.migration.state();
        }
        let _turn = task.turn.lock().await;
        return engine.store.switch(&engine.pools.storage, &task.name).await;
    }
    Err(not_ready(task))
}

/// The failure of a switch that comes too early.
pub fn not_ready(task: &Task) -> Failure {
    let state = task.migration.state();
    let (first_pass_over, pending, refused) = (state.first_pass_over, state.pending, state.refused);
    Failure::migration(&task.name, MigrationError::NotReady { first_pass_over, pending, refused })
}
