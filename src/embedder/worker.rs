//! The threads that run the model.
//!
//! Each leads a team of its own through its batches; one that has nothing to do helps another.
//!
//! Invariant: an error or a panic inside the model ends a batch, not the worker; every job that a
//! worker took lands.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::encoder::{Encode, Encoder};
use super::flight::Job;
use super::flights::Flights;
use super::room::Room;
use super::scheduler::{Scheduler, Work};
use super::text::EncodeFailed;
use crate::kernel::priority;

/// What a worker works with, all of it shared with the others.
#[derive(Clone)]
pub struct Worker {
    /// The model.
    pub encoder: Arc<Encoder>,
    /// Where its batches come from.
    pub scheduler: Arc<Scheduler>,
    /// Where they land.
    pub flights: Arc<Flights>,
    /// Who is told how fast it is.
    pub room: Arc<Room>,
}

impl Worker {
    /// Puts batches through the model until the scheduler closes.
    pub fn run(&self) {
        priority::give_way(priority::MODEL);
        let team = Arc::default();
        let mut encoder = self.encoder.for_thread(Arc::clone(&team));
        while let Some(work) = self.scheduler.take(&team) {
            match work {
                Work::Batch(batch) => {
                    self.batch(&batch, &mut encoder);
                    self.scheduler.finished(&team);
                }
                Work::Help(leader, news) => {
                    leader.help(|| news != self.scheduler.news());
                    self.scheduler.left(&leader);
                }
            }
        }
    }

    fn batch(&self, batch: &[Job], encoder: &mut Encode) {
        let ids: Vec<&[u32]> = batch.iter().map(|job| job.ids()).collect();
        let begun = Instant::now();
        let vectors = match encode(encoder, &ids) {
            Ok(vectors) => vectors.into_iter().map(Ok).collect(),
            // One text may have failed its neighbours, or memory did not do for all of them.
            Err(_) if ids.len() > 1 => {
                let mut alone = |ids| encode(encoder, &[ids])?.pop().ok_or(EncodeFailed);
                ids.iter().map(|ids| alone(ids)).collect()
            }
            Err(failed) => vec![Err(failed)],
        };
        self.room.record(ids.iter().map(|ids| ids.len()).sum(), begun.elapsed());
        for (job, vector) in batch.iter().zip(vectors) {
            self.flights.land(job.flight(), vector);
        }
    }
}

/// One batch; an error or a panic inside the model is logged and ends the batch.
pub fn encode(encoder: &mut Encode, batch: &[&[u32]]) -> Result<Vec<Vec<f32>>, EncodeFailed> {
    match catch_unwind(AssertUnwindSafe(|| encoder(batch))) {
        Ok(Ok(vectors)) if vectors.iter().flatten().all(|v| v.is_finite()) => return Ok(vectors),
        Ok(Ok(_)) => tracing::error!(texts = batch.len(), "the model gave values that are not finite"),
        Ok(Err(error)) => tracing::error!(%error, texts = batch.len(), "the model failed"),
        Err(_) => tracing::error!(texts = batch.len(), "the model panicked"),
    }
    Err(EncodeFailed)
}
