//! The threads that run models.
//!
//! Each worker leads teams of its own through its batches, one for each model. A worker without a batch helps another.
//! On a CPU one more worker serves the express lane while the others are busy. Its priority is higher, so it gets a
//! core at once, and a worker on another core leaves its batch to help with it ([`Precedence`]).
//!
//! Invariant: an error or a panic inside the model ends a batch, not the worker. Every job that a worker takes is
//! completed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch_queue::Batch;
use super::lane::Lane;
use super::model::{Model, Run, RunError, Sequence};
use super::pace::Pace;
use super::scheduler::{Scheduler, Turn, Work};
use super::single_flight::SingleFlight;
use super::stats::Counters;
use super::text::ModelFailed;
use super::token_budget::TokenBudget;
use super::traced::{BatchSize, BatchSpans};
use crate::machine::leader::Leader;
use crate::machine::precedence::Precedence;
use crate::machine::priority;
use crate::machine::team::Team;

/// A worker. All its parts are shared with the other workers.
#[derive(Clone)]
pub struct Worker {
    /// The source of its batches.
    pub scheduler: Arc<Scheduler>,
    /// The models, by their numbers in the scheduler.
    pub models: Arc<[Served]>,
    /// The place of the batch of the express lane, to which other batches give way.
    pub precedence: Arc<Precedence>,
}

/// A model with what its batches need.
pub struct Served {
    /// The model.
    pub model: Arc<dyn Model>,
    /// The table in which its texts are completed.
    pub single_flight: Arc<SingleFlight>,
    /// The budget whose pace is measured.
    pub token_budget: Arc<TokenBudget>,
    /// Its counters.
    pub counters: Arc<Counters>,
}

/// The reasons why a batch has no rows.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The model returned an error.
    #[error("{0}")]
    Failed(RunError),
    /// The rows are of no use.
    #[error("it gave values that are not finite")]
    NotFinite,
    /// The model has a bug.
    #[error("it panicked")]
    Panicked,
}

impl Worker {
    /// Puts batches through the models until the scheduler closes.
    pub fn run(&self) {
        priority::lower(priority::MODEL);
        let (teams, mut runs) = self.runs(|| Leader::beside(&self.precedence));
        while let Some(work) = self.scheduler.take(&teams) {
            match work {
                Work::Batch(turn) => {
                    let took = self.batch(&turn, &teams, &mut runs);
                    self.scheduler.finish(&turn, &teams, took);
                }
                Work::Help(other, seen) => {
                    other.help(|| seen != self.scheduler.changes());
                    self.scheduler.stop_helping(&other);
                }
            }
        }
    }

    /// Puts batches of the express lane through the models until the scheduler closes.
    pub fn run_express(&self) {
        let (teams, mut runs) = self.runs(Leader::default);
        while let Some(turn) = self.scheduler.take_express() {
            let took = self.batch(&turn, &teams, &mut runs);
            self.scheduler.finish_express(&turn, took);
        }
    }

    /// Prepares each model for this thread, with a team of its own.
    fn runs(&self, leader: impl Fn() -> Leader) -> (Vec<Arc<Team>>, Vec<Run>) {
        let prepare = |served: &Served| {
            let leader = leader();
            (Arc::clone(leader.team()), served.model.for_thread(leader))
        };
        self.models.iter().map(prepare).unzip()
    }

    /// Computes a batch, led through a team of `teams`. Returns the time that it took.
    fn batch(&self, turn: &Turn, teams: &[Arc<Team>], runs: &mut [Run]) -> Duration {
        let (served, model, batch) = (&self.models[turn.model], &mut runs[turn.model], &turn.batch);
        let inputs: Vec<Sequence<'_>> = batch.jobs.iter().map(|job| job.sequence()).collect();
        served.counters.taken(batch);
        let began = Instant::now();
        let running = Running::start(served.token_budget.pace(), batch);
        let size = BatchSize { texts: batch.jobs.len(), tokens: running.tokens, lane: batch.lane };
        let spans = BatchSpans::of(size, batch.jobs.iter().filter_map(|job| job.flight().trace()));
        let first = (batch.lane == Lane::Express).then(|| self.precedence.take(&teams[turn.model]));
        let rows: Vec<Result<Vec<f32>, ModelFailed>> = match logged(model, &inputs) {
            Ok(rows) => rows.into_iter().map(Ok).collect(),
            // One text may have failed the others, or the memory was too small for all of them.
            Err(_) if inputs.len() > 1 => {
                let mut alone = |input| logged(model, &[input])?.pop().ok_or(ModelFailed);
                inputs.iter().map(|input| alone(*input)).collect()
            }
            Err(failed) => vec![Err(failed)],
        };
        drop((first, running, spans));
        let took = began.elapsed();
        served.counters.computed(rows.len(), rows.iter().filter(|row| row.is_err()).count(), took);
        for (job, row) in batch.jobs.iter().zip(rows) {
            served.single_flight.complete(job.flight(), row);
        }
        took
    }
}

/// A batch in progress, for the pace. A worker that panics ends it too, so it does not count as busy for ever.
struct Running<'a> {
    pace: &'a Pace,
    tokens: usize,
    lane: Lane,
}

impl<'a> Running<'a> {
    fn start(pace: &'a Pace, batch: &Batch) -> Self {
        pace.batch_started(Instant::now());
        Self { pace, tokens: batch.tokens(), lane: batch.lane }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.pace.batch_finished(self.tokens, self.lane, Instant::now());
    }
}

fn logged(model: &mut Run, batch: &[Sequence<'_>]) -> Result<Vec<Vec<f32>>, ModelFailed> {
    run(model, batch).map_err(|error| {
        tracing::error!(%error, texts = batch.len(), "the model failed");
        ModelFailed
    })
}

/// Runs the model on one batch. A panic inside the model becomes an error of the batch.
pub fn run(model: &mut Run, batch: &[Sequence<'_>]) -> Result<Vec<Vec<f32>>, BatchError> {
    match catch_unwind(AssertUnwindSafe(|| model(batch))) {
        Ok(Ok(rows)) if rows.iter().flatten().all(|v| v.is_finite()) => Ok(rows),
        Ok(Ok(_)) => Err(BatchError::NotFinite),
        Ok(Err(error)) => Err(BatchError::Failed(error)),
        Err(_) => Err(BatchError::Panicked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panics_in_a_batch_is_not_busy_for_ever() {
        let pace = Pace::new(Instant::now());
        let batch = Batch { lane: Lane::Short, jobs: Vec::new() };
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _running = Running::start(&pace, &batch);
            assert_eq!(pace.busy(), 0, "it is busy: this panics");
        }));
        assert!(panicked.is_err());
        assert_eq!(pace.busy(), 0);
    }
}
