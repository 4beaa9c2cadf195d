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

impl State {
    fn is_red(&self) -> bool {
        self.status == "red"
    }

    /// The reason why some documents are on no node. A new index has no node for a moment, so one red answer among
    /// others is passed over. After a failure it is not: nodes that come back do not have their documents at once.
    fn problem(&self, was_good: bool) -> Option<Unavailable> {
        let reason = || format!("{} shards have no node, and some documents are on none", self.unassigned_shards);
        (self.is_red() && !was_good).then(|| Unavailable::new(reason(), INTERVAL))
    }
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
    let mut was_good = true;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(engine) = engine.upgrade() else { return };
        let path = format!("/_cluster/health/{}*?timeout=1s", engine.options.prefix);
        let state = tokio::time::timeout(PATIENCE, engine.ask::<State>(Method::Get, path, None)).await;
        let Some(health) = health.upgrade() else { return };
        let was_good = std::mem::replace(&mut was_good, matches!(&state, Ok(Ok(state)) if !state.is_red()));
        let problem = match state {
            Ok(Ok(state)) => state.problem(was_good),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_without_a_node_are_a_problem_unless_all_was_good_at_the_answer_before() {
        let state = |status: &str| State { status: status.to_owned(), unassigned_shards: 1 };
        assert_eq!(state("red").problem(true), None);
        assert!(state("red").problem(false).is_some());
        assert_eq!(state("yellow").problem(false), None);
    }
}
