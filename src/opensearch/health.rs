//! The state of the engine: if it answers, and if it has all documents.
//!
//! A task asks for it every few seconds. A call that fails is noted at once.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::http::Method;
use serde::Deserialize;

use super::engine::Engine;
use super::error::{Error, Unavailable};

/// Time between two questions.
const INTERVAL: Duration = Duration::from_secs(2);

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
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(engine) = engine.upgrade() else { return };
        let path = format!("/_cluster/health/{}*?timeout=1s", engine.options.prefix);
        let state = engine.ask::<State>(Method::Get, path, None).await;
        let Some(health) = health.upgrade() else { return };
        let problem = match state {
            Ok(state) if state.status == "red" => Some(Unavailable {
                reason: format!("{} shards have no node, and some documents are on none", state.unassigned_shards),
                retry_after: INTERVAL,
            }),
            Ok(_) => None,
            Err(Error::Unavailable(unavailable)) => Some(unavailable),
            Err(error) => Some(Unavailable { reason: error.to_string(), retry_after: INTERVAL }),
        };
        *health.0.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}
