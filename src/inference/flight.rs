//! A text on its way to the model, shared by the calls that wait for it.
//!
//! Invariant: a flight lives as long as a caller waits for it or a worker computes it. Callers and workers hold it
//! strongly, the lanes of the batch queue only weakly. So a call that is dropped returns its tokens to the token budget
//! at once, however deep they are in the queue. Only an empty entry stays there.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::SetOnce;

use super::key::Key;
use super::lane::Lane;
use super::model::Sequence;
use super::text::{ModelFailed, Output};
use super::token_budget::TokenPermit;
use super::tokenizer::Tokens;
use super::traced::{Traced, Waits};

/// The result of a text: the vector, or the failure of the model.
pub type Outcome = Result<Arc<Output>, ModelFailed>;

/// The stages of a flight, in order. A flight never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// The flight is in no lane yet.
    New,
    /// The flight is in the bulk lane.
    Bulk,
    /// The flight is in the interactive lane. Its entry in the bulk lane, if there is one, is empty.
    Interactive,
    /// The flight is in the short lane. Its entries in other lanes, if there are any, are empty.
    Short,
    /// The flight is in the express lane. Its entries in other lanes, if there are any, are empty.
    Express,
    /// A worker has taken the flight; it may be complete.
    Taken,
}

impl From<Lane> for Stage {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Express => Self::Express,
            Lane::Short => Self::Short,
            Lane::Interactive => Self::Interactive,
            Lane::Bulk => Self::Bulk,
        }
    }
}

/// One text on its way to the model.
pub struct Flight {
    /// The key of the text.
    pub key: Key,
    /// The text as the model reads it.
    pub tokens: Tokens,
    /// The time at which it was made: it waits since then.
    pub began: Instant,
    stage: AtomicU8,
    /// The permit for its tokens, held until it is complete.
    permit: Mutex<Option<TokenPermit>>,
    /// The spans of the call that submitted the text, if that call is traced.
    trace: Option<Box<Traced>>,
    outcome: SetOnce<Outcome>,
}

impl Flight {
    /// Creates a flight. It takes the permit for its tokens, or the rest if that is less, out of the permit of its
    /// call.
    pub fn new(key: Key, tokens: Tokens, permit: &mut TokenPermit) -> Self {
        let permit = permit.split(tokens.ids.len());
        let (stage, outcome) = (AtomicU8::new(Stage::New as u8), SetOnce::new());
        Self { key, tokens, began: Instant::now(), stage, permit: Mutex::new(permit), trace: None, outcome }
    }

    /// Lets the text count in the trace of its call.
    pub fn traced(mut self, waits: Option<&Waits>) -> Self {
        self.trace = waits.map(|waits| Box::new(Traced::from(waits)));
        self
    }

    /// The trace of the call that submitted the text.
    pub fn trace(&self) -> Option<&Traced> {
        self.trace.as_deref()
    }

    /// Moves on to `stage`. Returns false, and does nothing, if the flight has come as far already.
    pub fn advance(&self, stage: Stage) -> bool {
        if stage == Stage::Taken
            && let Some(trace) = &self.trace
        {
            trace.is_taken();
        }
        // Relaxed: only the batch queue moves a flight, under the lock of the scheduler.
        self.stage.fetch_max(stage as u8, Ordering::Relaxed) < stage as u8
    }

    /// True from the moment when a worker takes the flight.
    pub fn is_taken(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == Stage::Taken as u8
    }

    /// True when the outcome is known.
    pub fn is_complete(&self) -> bool {
        self.outcome.initialized()
    }

    /// Waits for the outcome.
    pub async fn outcome(&self) -> Outcome {
        self.outcome.wait().await.clone()
    }

    /// Gives the outcome to all callers, and frees the permit. Only the first outcome counts.
    pub fn complete(&self, outcome: Outcome) {
        drop(self.permit.lock().unwrap_or_else(PoisonError::into_inner).take());
        // An error means that the flight was complete before.
        drop(self.outcome.set(outcome));
    }
}

/// A flight that a worker has taken. A job that is dropped before it is complete has failed, so no caller waits for
/// ever if a worker is lost.
pub struct Job(Arc<Flight>);

impl Job {
    /// Wraps a flight. The caller has moved it to [`Stage::Taken`].
    pub fn new(flight: Arc<Flight>) -> Self {
        Self(flight)
    }

    /// The flight.
    pub fn flight(&self) -> &Flight {
        &self.0
    }

    /// The text as the model reads it.
    pub fn sequence(&self) -> Sequence<'_> {
        self.0.tokens.sequence()
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

    /// A flight of `n` tokens, and the semaphore that has `n` permits again when the permit of the flight is free.
    pub fn flight(n: usize) -> (Arc<Flight>, Arc<Semaphore>) {
        let semaphore = Arc::new(Semaphore::new(n));
        let permits = u32::try_from(n).expect("a test's text is short");
        let permit = Arc::clone(&semaphore).try_acquire_many_owned(permits).expect("a new semaphore is free");
        let mut permit = TokenPermit::from(permit);
        let (key, tokens) = (Keys::new("").key(""), Tokens::of_text(vec![7; n], n));
        (Arc::new(Flight::new(key, tokens, &mut permit)), semaphore)
    }

    #[test]
    fn a_flight_never_goes_back_to_an_earlier_stage() {
        let (flight, _) = flight(1);
        assert!(flight.advance(Stage::Bulk) && !flight.advance(Stage::Bulk));
        assert!(flight.advance(Stage::Interactive) && !flight.advance(Stage::Bulk));
        assert!(!flight.is_taken());
        assert!(flight.advance(Stage::Taken) && !flight.advance(Stage::Interactive));
        assert!(flight.is_taken());
    }

    #[tokio::test]
    async fn completion_frees_the_permit_and_answers_every_caller_once() {
        let (flight, semaphore) = flight(1);
        let output = Arc::new(Output { values: vec![1.0], tokens: 1, tokens_total: 1 });
        let job = Job::new(Arc::clone(&flight));
        job.flight().complete(Ok(Arc::clone(&output)));
        drop(job);
        assert_eq!(semaphore.available_permits(), 1);
        assert_eq!(tokio::join!(flight.outcome(), flight.outcome()), (Ok(Arc::clone(&output)), Ok(output)));
    }

    #[tokio::test]
    async fn a_job_that_is_dropped_has_failed() {
        let (flight, semaphore) = flight(1);
        drop(Job::new(Arc::clone(&flight)));
        assert_eq!(flight.outcome().await, Err(ModelFailed));
        assert_eq!(semaphore.available_permits(), 1);
    }
}
