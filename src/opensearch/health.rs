//! The state of the engine: if it answers, and if it has all documents.
//!
//! A task asks for it every second. The failure of one call says nothing of the engine.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::http::Method;
use serde::Deserialize;

use super::engine::Engine;
use super::error::{Error, Unavailable};

/// Time between an answer and the next question.
const INTERVAL: Duration = Duration::from_secs(1);

/// Time that an answer may take, all attempts together.
const PATIENCE: Duration = Duration::from_secs(5);

/// The state as of the last question.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Option<Unavailable>>);

#[derive(Deserialize)]
struct State {
    status: String,
    unassigned_shards: u64,
}

impl Health {
    /// Asks from now on, as long as somebody holds the state.
    pub fn watch(engine: &Arc<Engine>) -> Arc<Self> {
        let health = Arc::<Self>::default();
        tokio::spawn(ask(Arc::downgrade(engine), Arc::downgrade(&health)));
        health
    }

    /// The reason why documents cannot be stored or found now.
    pub fn problem(&self) -> Option<Unavailable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn ask(engine: Weak<Engine>, health: Weak<Health>) {
    let mut was_red = false;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(engine) = engine.upgrade() else { return };
        let path = format!("/_cluster/health/{}*?timeout=1s", engine.options.prefix);
        let state = tokio::time::timeout(PATIENCE, engine.ask::<State>(Method::Get, path, None)).await;
        let Some(health) = health.upgrade() else { return };
        let problem = match state {
            Ok(Ok(State { status, unassigned_shards })) => {
                // A new index is red for a moment.
                let is_red = std::mem::replace(&mut was_red, status == "red") && was_red;
                let reason = || format!("{unassigned_shards} shards have no node, and some documents are on none");
                is_red.then(|| Unavailable::new(reason(), INTERVAL))
            }
            Ok(Err(Error::Unavailable(unavailable))) => Some(unavailable),
            Ok(Err(error)) => {
                if health.problem().is_none() {
                    tracing::error!(%error, "the search engine does not tell its health");
                }
                Some(Unavailable::new("it does not tell its health", INTERVAL))
            }
            Err(_) => {
                let reason = format!("it does not answer in {} s", PATIENCE.as_secs());
                Some(Unavailable::new(reason, INTERVAL))
            }
        };
        *health.0.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}
