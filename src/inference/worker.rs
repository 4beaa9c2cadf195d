//! The threads that run a model.
//!
//! Each worker leads a team of its own through its batches. A worker without a batch helps another.
//!
//! Invariant: an error or a panic inside the model ends a batch, not the worker. Every job that a worker takes is
//! completed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::batch_queue::Batch;
use super::model::{Model, Run, RunError, Sequence};
use super::scheduler::{Scheduler, Work};
use super::single_flight::SingleFlight;
use super::text::ModelFailed;
use super::token_budget::TokenBudget;
use crate::machine::priority;
use crate::machine::team::Leader;

/// A worker. All its parts are shared with the other workers.
#[derive(Clone)]
pub struct Worker {
    /// The model.
    pub model: Arc<dyn Model>,
    /// The source of its batches.
    pub scheduler: Arc<Scheduler>,
    /// The table in which it completes texts.
    pub single_flight: Arc<SingleFlight>,
    /// The budget whose pace it measures.
    pub token_budget: Arc<TokenBudget>,
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
    /// Puts batches through the model until the scheduler closes.
    pub fn run(&self) {
        priority::lower(priority::MODEL);
        let leader = Leader::default();
        let team = Arc::clone(leader.team());
        let mut model = self.model.for_thread(leader);
        while let Some(work) = self.scheduler.take(&team) {
            match work {
                Work::Batch(batch) => {
                    self.batch(&batch, &mut model);
                    self.scheduler.finish(&team);
                }
                Work::Help(other, seen) => {
                    other.help(|| seen != self.scheduler.changes());
                    self.scheduler.stop_helping(&other);
                }
            }
        }
    }

    fn batch(&self, batch: &Batch, model: &mut Run) {
        let inputs: Vec<Sequence<'_>> = batch.jobs.iter().map(|job| job.sequence()).collect();
        self.token_budget.pace().batch_started(Instant::now());
        let rows = match logged(model, &inputs) {
            Ok(rows) => rows.into_iter().map(Ok).collect(),
            // One text may have failed the others, or the memory was too small for all of them.
            Err(_) if inputs.len() > 1 => {
                let mut alone = |input| logged(model, &[input])?.pop().ok_or(ModelFailed);
                inputs.iter().map(|input| alone(*input)).collect()
            }
            Err(failed) => vec![Err(failed)],
        };
        self.token_budget.pace().batch_finished(
            inputs.iter().map(|input| input.ids.len()).sum(),
            batch.lane,
            Instant::now(),
        );
        for (job, row) in batch.jobs.iter().zip(rows) {
            self.single_flight.complete(job.flight(), row);
        }
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
