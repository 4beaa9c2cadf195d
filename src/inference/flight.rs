//! A text on its way to the model, and those who wait for it.
//!
//! Invariant: a flight lives as long as somebody waits for it or a worker computes it. Callers and
//! workers hold it strongly, the lanes of the scheduler only weakly. So a call that is dropped frees
//! its tokens and its room at once, however deep they are in the queue; what it leaves there is an
//! empty shell that weighs nothing but itself.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::SetOnce;

use super::key::Key;
use super::lane::Lane;
use super::text::{ModelFailed, Output};
use super::token_budget::TokenPermit;
use super::tokenizer::Tokens;

/// What became of a text.
pub type Outcome = Result<Arc<Output>, ModelFailed>;

/// How far a flight has come; it never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// In no lane yet.
    New,
    /// In the bulk lane.
    Bulk,
    /// In the interactive lane, and perhaps still in the bulk lane, as a shell.
    Interactive,
    /// In the lane for short calls, and perhaps still in others, as a shell.
    Short,
    /// A worker has it, or had it.
    Taken,
}

impl From<Lane> for Stage {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Short => Self::Short,
            Lane::Interactive => Self::Interactive,
            Lane::Bulk => Self::Bulk,
        }
    }
}

/// One text on its way to the model.
pub struct Flight {
    /// What the text is known by.
    pub key: Key,
    /// The text as the model reads it.
    pub tokens: Tokens,
    stage: AtomicU8,
    /// The room that its tokens take in the queue until it has landed.
    permit: Mutex<Option<TokenPermit>>,
    outcome: SetOnce<Outcome>,
}

impl Flight {
    /// A text that waits for the model. It takes the room for its tokens, or what is left, out of its call's.
    pub fn new(key: Key, tokens: Tokens, permit: &mut TokenPermit) -> Self {
        let permit = permit.split(tokens.ids.len());
        let (stage, outcome) = (AtomicU8::new(Stage::New as u8), SetOnce::new());
        Self { key, tokens, stage, permit: Mutex::new(permit), outcome }
    }

    /// Moves on to `stage`; false, and nothing happens, if it has come as far already.
    pub fn advance(&self, stage: Stage) -> bool {
        // Relaxed: only the scheduler's lanes move a flight, under their lock.
        self.stage.fetch_max(stage as u8, Ordering::Relaxed) < stage as u8
    }

    /// A worker has it, or had it.
    pub fn is_taken(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == Stage::Taken as u8
    }

    /// It is known what became of it.
    pub fn is_complete(&self) -> bool {
        self.outcome.initialized()
    }

    /// What became of it, once it is known.
    pub async fn outcome(&self) -> Outcome {
        self.outcome.wait().await.clone()
    }

    /// Tells all who wait what became of it, and frees its room. Only the first time counts.
    pub fn complete(&self, outcome: Outcome) {
        drop(self.permit.lock().unwrap_or_else(PoisonError::into_inner).take());
        // An error means that it has landed before.
        drop(self.outcome.set(outcome));
    }
}

/// A flight in the hands of a worker. Should the worker be lost, nobody waits for ever: a job that is
/// dropped before it landed has failed.
pub struct Job(Arc<Flight>);

impl Job {
    /// The flight, which its caller has moved to [`Stage::Taken`].
    pub fn new(flight: Arc<Flight>) -> Self {
        Self(flight)
    }

    /// The flight.
    pub fn flight(&self) -> &Flight {
        &self.0
    }

    /// Its token ids; never empty.
    pub fn ids(&self) -> &[u32] {
        &self.0.tokens.ids
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.0.complete(Err(ModelFailed));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::sync::Semaphore;

    use super::super::key::Keys;
    use super::*;

    /// A flight of `n` tokens, with the semaphore that has `n` permits again when its room is free.
    pub fn flight(n: usize) -> (Arc<Flight>, Arc<Semaphore>) {
        let semaphore = Arc::new(Semaphore::new(n));
        let permits = u32::try_from(n).expect("a test's text is short");
        let permit = Arc::clone(&semaphore).try_acquire_many_owned(permits).expect("a new semaphore is free");
        let mut permit = TokenPermit::from(permit);
        let (key, tokens) = (Keys::new("").key("", ""), Tokens { ids: vec![7; n], total: n });
        (Arc::new(Flight::new(key, tokens, &mut permit)), semaphore)
    }

    #[test]
    fn a_flight_goes_forward_only() {
        let (flight, _) = flight(1);
        assert!(flight.advance(Stage::Bulk) && !flight.advance(Stage::Bulk));
        assert!(flight.advance(Stage::Interactive) && !flight.advance(Stage::Bulk));
        assert!(!flight.is_taken());
        assert!(flight.advance(Stage::Taken) && !flight.advance(Stage::Interactive));
        assert!(flight.is_taken());
    }

    #[tokio::test]
    async fn landing_frees_the_room_and_answers_everyone_once() {
        let (flight, semaphore) = flight(1);
        let output = Arc::new(Output { values: vec![1.0], tokens: 1, tokens_total: 1 });
        let job = Job::new(Arc::clone(&flight));
        job.flight().complete(Ok(Arc::clone(&output)));
        drop(job);
        assert_eq!(semaphore.available_permits(), 1);
        assert_eq!(tokio::join!(flight.outcome(), flight.outcome()), (Ok(Arc::clone(&output)), Ok(output)));
    }

    #[tokio::test]
    async fn a_job_that_is_lost_has_failed() {
        let (flight, semaphore) = flight(1);
        drop(Job::new(Arc::clone(&flight)));
        assert_eq!(flight.outcome().await, Err(ModelFailed));
        assert_eq!(semaphore.available_permits(), 1);
    }
}
