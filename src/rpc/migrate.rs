//! `MigrateCollection`: starts, watches, switches, rolls back and ends the migration of a collection.
//!
//! The work itself goes on without a call (`following`). A call looks at its state from time to time, and sends it when
//! it has changed.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::Instant;
use tonic::Status;

use super::access::{Access, AllowedName};
use super::following::{self, not_ready, switch};
use super::guarded::NewMigration;
use super::migrations::{Task, lacking};
use super::models::Served;
use super::status::Failure;
use super::{Engine, Responses, audit, progress};
use crate::backend::Collection;
use crate::collection::{ClientVectors, Migration, MigrationError, PassageSizes};
use crate::embedder::InputType;
use crate::wire::{self, MigrationAction, MigrationPhase};

/// Time between two looks at a migration.
const LOOK: Duration = Duration::from_millis(200);

/// A state is sent again after this time, so that the client knows that the call is alive.
const REPEAT: Duration = Duration::from_secs(10);

/// The longest time that the end of a migration waits for calls that still read what is to be deleted.
const READERS: Duration = Duration::from_secs(5);

/// A change of a migration, by the word of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Switch,
    Rollback,
    Finish,
    Cancel,
}

/// The purpose of a call.
pub(super) enum Purpose {
    /// `None`: the migration is there.
    Watch {
        model: Option<String>,
        client_vectors: ClientVectors,
        then_switches: bool,
    },
    Act(Act),
}

pub async fn migrate(
    engine: Arc<Engine>,
    access: &Access,
    request: wire::MigrateCollectionRequest,
) -> Result<Responses<wire::MigrateCollectionResponse>, Failure> {
    let name = access.name("collection", &request.collection, &engine.limits)?;
    match parse(request)? {
        Purpose::Act(act) => {
            let task = running(&engine, &name).await?;
            let done = perform(&engine, &task, act).await;
            audit::act(access.caller(), act.audited(), name.as_str(), done.as_ref().map(|_| 0));
            Ok(Box::pin(stream::iter([Ok(response(done?))])))
        }
        Purpose::Watch { model, client_vectors, then_switches } => {
            let task = match model {
                None => running(&engine, &name).await?,
                Some(model) => {
                    let model = engine.models.get(&model)?;
                    match engine.store.migration(&name).await? {
                        Some(migration) => there(&engine, &name, migration, (model, client_vectors))?,
                        None => {
                            let begun = begin(&engine, &name, model, client_vectors).await;
                            audit::act(access.caller(), "migrate collection", name.as_str(), begun.as_ref().map(|_| 0));
                            begun?
                        }
                    }
                }
            };
            let then_switches = then_switches.then(|| access.clone());
            Ok(Box::pin(watch(engine, task, then_switches)))
        }
    }
}

/// Checks a request.
pub(super) fn parse(request: wire::MigrateCollectionRequest) -> Result<Purpose, Failure> {
    let wire::MigrateCollectionRequest { model, switch_when_ready, client_vectors, action, .. } = request;
    let client_vectors = match wire::ClientVectors::try_from(client_vectors) {
        Ok(wire::ClientVectors::Unspecified) => ClientVectors::Refuse,
        Ok(wire::ClientVectors::Keep) => ClientVectors::Keep,
        Ok(wire::ClientVectors::Replace) => ClientVectors::Replace,
        Err(_) => {
            let reason = format!("{client_vectors} is not a value of ClientVectors");
            return Err(Failure::invalid("client_vectors", reason));
        }
    };
    let is_treated = client_vectors != ClientVectors::Refuse;
    let act = match MigrationAction::try_from(action) {
        Ok(MigrationAction::Unspecified) => None,
        Ok(MigrationAction::Switch) => Some(Act::Switch),
        Ok(MigrationAction::Rollback) => Some(Act::Rollback),
        Ok(MigrationAction::Finish) => Some(Act::Finish),
        Ok(MigrationAction::Cancel) => Some(Act::Cancel),
        Err(_) => return Err(Failure::invalid("action", format!("{action} is not a value of MigrationAction"))),
    };
    let Some(act) = act else {
        if is_treated && model.is_empty() {
            let reason = "is set without model: a migration that has begun treats them as it does; leave it out";
            return Err(Failure::invalid("client_vectors", reason));
        }
        let model = Some(model).filter(|model| !model.is_empty());
        return Ok(Purpose::Watch { model, client_vectors, then_switches: switch_when_ready });
    };
    let only_to_start =
        [("model", !model.is_empty()), ("switch_when_ready", switch_when_ready), ("client_vectors", is_treated)];
    match only_to_start.into_iter().find(|(_, is_set)| *is_set) {
        Some((field, _)) => Err(Failure::invalid(field, "is set together with action: leave one of them out")),
        None => Ok(Purpose::Act(act)),
    }
}

impl Act {
    fn audited(self) -> &'static str {
        match self {
            Self::Switch => "switch collection",
            Self::Rollback => "roll back collection",
            Self::Finish => "finish migration",
            Self::Cancel => "cancel migration",
        }
    }
}

/// Returns the migration of a collection, which must have one.
async fn running(engine: &Arc<Engine>, name: &AllowedName) -> Result<Arc<Task>, Failure> {
    match engine.store.migration(name).await? {
        Some(migration) => Ok(following::begin(engine, name.as_str(), migration)),
        None => Err(Failure::migration(name.as_str(), MigrationError::NoMigration)),
    }
}

/// Returns the migration in progress, if it is the one that is asked for.
fn there(
    engine: &Arc<Engine>,
    name: &AllowedName,
    migration: Arc<Migration>,
    (model, client_vectors): (&Served, ClientVectors),
) -> Result<Arc<Task>, Failure> {
    let state = migration.state();
    let new = if state.switched { migration.leader() } else { migration.follower() };
    if engine.models.of(new.fingerprint()).is_none_or(|served| served.about.name != model.about.name) {
        let model = engine.models.name_of(new.fingerprint(), new.model().to_owned());
        return Err(Failure::migration(name.as_str(), MigrationError::InProgress { model }));
    }
    if client_vectors != ClientVectors::Refuse && client_vectors != state.client_vectors {
        let reason = "is another value than at the start of the migration: leave it out, or cancel the migration and \
                      start again";
        return Err(Failure::invalid("client_vectors", reason));
    }
    Ok(following::begin(engine, name.as_str(), migration))
}

/// Starts a migration.
async fn begin(
    engine: &Arc<Engine>,
    name: &AllowedName,
    model: &Served,
    client_vectors: ClientVectors,
) -> Result<Arc<Task>, Failure> {
    let passages = engine.store.get(name).await?.passages().map(|sizes| fitting(sizes, model));
    let new = NewMigration { model: model.of_new(), passages, client_vectors };
    let migration = engine.store.begin_migration(&engine.pools.storage, name, new).await?;
    Ok(following::begin(engine, name.as_str(), migration))
}

/// The sizes of passages for a model that may read fewer tokens than the collection's own.
fn fitting(PassageSizes { max_tokens, overlap_tokens }: PassageSizes, model: &Served) -> PassageSizes {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let max_tokens = max_tokens.min(narrow(model.embedder.max_tokens()));
    let around = narrow(model.embedder.tokens_around(InputType::Document));
    PassageSizes { max_tokens, overlap_tokens: overlap_tokens.min(max_tokens.saturating_sub(around) / 2) }
}

/// Switches, rolls back, finishes or cancels. Returns the state after it.
async fn perform(engine: &Arc<Engine>, task: &Arc<Task>, act: Act) -> Result<wire::Migration, Failure> {
    let _acts = task.acts.lock().await;
    let switched = task.migration.state().switched;
    let refused = match act {
        Act::Switch if switched => Some("was switched already: roll it back, or finish the migration"),
        Act::Rollback if !switched => Some("was not switched, so there is nothing to roll back"),
        Act::Finish if !switched => Some("was not switched: switch it first, or cancel the migration"),
        Act::Cancel if switched => Some("was switched: roll it back first, or finish the migration"),
        _ => None,
    };
    if let Some(reason) = refused {
        return Err(Failure::NotMigrated { name: task.name.clone(), reason: reason.to_owned() });
    }
    let phase = match act {
        Act::Switch | Act::Rollback => {
            switch(engine, task).await?;
            return Ok(progress::written(&engine.models, task));
        }
        Act::Finish => MigrationPhase::Finished,
        Act::Cancel => MigrationPhase::Cancelled,
    };
    let before = progress::written(&engine.models, task);
    readers_end(task).await;
    engine.store.end_migration(&engine.pools.storage, &task.name).await?;
    engine.migrations.forget(task);
    let wire::Migration { old_model, new_model, documents, .. } = before;
    Ok(wire::Migration { old_model, new_model, documents, phase: phase.into(), ..Default::default() })
}

/// Waits for the calls that read the collection that is to be deleted, because they found it before the last switch. No
/// new ones come.
async fn readers_end(task: &Task) {
    let (follower, begun) = (task.migration.follower(), Instant::now());
    // The migration holds it, and this function.
    while Arc::strong_count(&follower) > 2 && begun.elapsed() < READERS {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn response(migration: wire::Migration) -> wire::MigrateCollectionResponse {
    wire::MigrateCollectionResponse { migration: Some(migration) }
}

/// A call that watches a migration.
struct Watch {
    engine: Arc<Engine>,
    task: Arc<Task>,
    /// The access of the caller, if the call switches the collection at the end.
    then_switches: Option<Access>,
    sent: Option<(wire::Migration, Instant)>,
    /// The migration is ready when nothing was lacking as often as this: at least once after the call began.
    ready_at: u64,
}

/// The states of a migration, until nothing is left to wait for.
fn watch(
    engine: Arc<Engine>,
    task: Arc<Task>,
    then_switches: Option<Access>,
) -> impl stream::Stream<Item = Result<wire::MigrateCollectionResponse, Status>> + Send {
    let ready_at = task.times_caught_up() + 2;
    let first = Watch { engine, task, then_switches, sent: None, ready_at };
    stream::unfold(Some(first), |watch| async move {
        let mut watch = watch?;
        Some(match watch.next().await {
            Ok((state, true)) => (Ok(response(state)), None),
            Ok((state, false)) => (Ok(response(state)), Some(watch)),
            Err(failure) => (Err(failure.into()), None),
        })
    })
    .fuse()
}

impl Watch {
    /// Waits for the next state that is to be sent. The second value tells if it is the last one.
    async fn next(&mut self) -> Result<(wire::Migration, bool), Failure> {
        loop {
            let now = progress::written(&self.engine.models, &self.task);
            let is_settled = self.is_settled()?;
            // A client that waits for the switch sees the state before it too: the switch may be refused.
            if is_settled && (self.then_switches.is_none() || self.sent.as_ref().is_some_and(|(sent, _)| *sent == now))
            {
                return self.last(now).await.map(|state| (state, true));
            }
            if self.sent.as_ref().is_none_or(|(sent, when)| *sent != now || when.elapsed() >= REPEAT) {
                self.sent = Some((now.clone(), Instant::now()));
                return Ok((now, false));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns true if nothing is left to wait for.
    fn is_settled(&self) -> Result<bool, Failure> {
        let Self { engine, task, .. } = self;
        if engine.migrations.find(&task.name).is_none_or(|now| !Arc::ptr_eq(&now, task)) {
            let reason = "was being migrated, and the migration was finished or cancelled meanwhile".to_owned();
            return Err(Failure::NotMigrated { name: task.name.clone(), reason });
        }
        let state = task.migration.state();
        if state.switched || (lacking(&state) == 0 && state.refused > 0) {
            return Ok(true);
        }
        engine.models.of_collection(&Collection::Local(task.migration.follower()))?;
        let is_ready = progress::phase(&state) == MigrationPhase::Ready && task.times_caught_up() >= self.ready_at;
        Ok(is_ready && task.is_compared())
    }

    /// The last state, after the switch if the call makes one.
    async fn last(&self, now: wire::Migration) -> Result<wire::Migration, Failure> {
        let Some(access) = &self.then_switches else { return Ok(now) };
        let _acts = self.task.acts.lock().await;
        let state = self.task.migration.state();
        if state.switched {
            return Ok(now);
        }
        let switched =
            if state.refused > 0 { Err(not_ready(&self.task)) } else { switch(&self.engine, &self.task).await };
        audit::act(access.caller(), Act::Switch.audited(), &self.task.name, switched.as_ref().map(|()| 0));
        switched?;
        Ok(progress::written(&self.engine.models, &self.task))
    }
}
