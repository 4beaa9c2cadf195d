//! The writer of a collection: all changes that wait at one moment share one request.
//!
//! ```text
//! commit, remove, update ──► queue ──► requests in flight, each with all that waits ──► answers
//! ```
//! A request is answered when its changes are in the log of every copy and searches find them (`refresh=wait_for`).
//!
//! Invariants: changes of one document take effect in the order in which they were queued: a change waits while another
//! one of the same document is in flight, and a request has one of each document. Changes that are queued are sent,
//! whether their caller waits for them or not. The documents in all queues take at most [`WAITING_BYTES`].

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer;
use super::http::Method;
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use serde::Deserialize;
use tokio::sync::{mpsc, oneshot};

use super::document::Change;
use super::engine::Engine;
use super::error::{Error, Unavailable};
use super::http::{self, Request};
use super::refusal::RefusalReason;
use crate::budget::Held;
use crate::collection::DocId;

/// Memory of the changes that wait or are in flight, of all collections.
pub(super) const WAITING_BYTES: usize = 128 << 20;

/// A request with this many bytes takes no further changes. The engine accepts 100 MB.
pub(super) const MOST_REQUEST_BYTES: usize = 8 << 20;

/// Jobs in the queue of one collection; further ones wait before it.
const QUEUED: usize = 64;

/// Requests of one collection in flight.
const IN_FLIGHT: usize = 4;

/// Time for which changes are sent again while the engine does not answer, or refuses them because it is busy. A node
/// that starts anew, or another one that takes over, needs less.
const PATIENCE: Duration = Duration::from_secs(100);

/// The result of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is stored, and searches find it.
    Done,
    /// The document to remove did not exist.
    Missing,
    /// The document does not have the version that the change depends on.
    Conflict,
    /// It was refused.
    Refused(Error),
}

/// The result of a job: an outcome for each change, or nothing is known to have happened.
type Outcomes = Result<Vec<Outcome>, Error>;

/// The queue of a collection. Its task ends with the last sender.
#[derive(Clone)]
pub(super) struct Writer(mpsc::Sender<Job>);

/// Changes that were queued together, of different documents.
struct Job {
    changes: Vec<Change>,
    done: oneshot::Sender<Outcomes>,
    _held: Held,
}

impl Job {
    fn bytes(&self) -> usize {
        self.changes.iter().map(|change| change.lines.len()).sum()
    }
}

impl Writer {
    /// Starts the writer of a collection, which is called through this alias.
    pub fn start(engine: Arc<Engine>, alias: String) -> Self {
        let (sender, queue) = mpsc::channel(QUEUED);
        tokio::spawn(run(engine, alias, queue));
        Self(sender)
    }

    /// Queues changes of different documents. `held` is the memory that they take. The receiver gets the outcomes.
    pub async fn queue(&self, changes: Vec<Change>, held: Held) -> oneshot::Receiver<Outcomes> {
        let (done, outcomes) = oneshot::channel();
        // A writer that has ended drops the job, and the receiver fails.
        let _ = self.0.send(Job { changes, done, _held: held }).await;
        outcomes
    }
}

/// Waits for the outcomes of a job.
pub(super) async fn outcomes(receiver: oneshot::Receiver<Outcomes>) -> Outcomes {
    receiver.await.unwrap_or_else(|_| Err(Error::unexpected("the writer of the collection has ended")))
}

async fn run(engine: Arc<Engine>, alias: String, mut queue: mpsc::Receiver<Job>) {
    let (mut waiting, mut in_flight) = (VecDeque::<Job>::new(), FuturesUnordered::new());
    let mut busy: HashSet<DocId> = HashSet::new();
    let mut is_open = true;
    while is_open || !waiting.is_empty() || !in_flight.is_empty() {
        tokio::select! {
            job = queue.recv(), if is_open && waiting.len() < QUEUED => match job {
                Some(job) => {
                    waiting.push_back(job);
                    while waiting.len() < QUEUED && let Ok(job) = queue.try_recv() {
                        waiting.push_back(job);
                    }
                }
                None => is_open = false,
            },
            Some(ids) = in_flight.next(), if !in_flight.is_empty() => {
                for id in &ids {
                    busy.remove(id);
                }
            }
        }
        while in_flight.len() < IN_FLIGHT {
            let Some((jobs, ids)) = next_request(&mut waiting, &busy) else { break };
            busy.extend(ids.iter().cloned());
            let (engine, alias) = (&engine, &alias);
            in_flight.push(async move {
                send_all(engine, alias, jobs).await;
                ids
            });
        }
    }
}

/// Takes the jobs of one request from the front. `None`: nothing waits, or the first job waits for one in flight.
fn next_request(waiting: &mut VecDeque<Job>, busy: &HashSet<DocId>) -> Option<(Vec<Job>, Vec<DocId>)> {
    let (mut jobs, mut ids, mut bytes) = (Vec::new(), HashSet::new(), 0);
    while let Some(job) = waiting.front() {
        let clashes = job.changes.iter().any(|change| busy.contains(&change.id) || ids.contains(&change.id));
        if clashes || (bytes > 0 && bytes + job.bytes() > MOST_REQUEST_BYTES) {
            break;
        }
        bytes += job.bytes();
        ids.extend(job.changes.iter().map(|change| change.id.clone()));
        jobs.extend(waiting.pop_front());
    }
    (!jobs.is_empty()).then(|| (jobs, ids.into_iter().collect()))
}

/// Sends the changes of jobs in one request, and tells each job what became of its own.
async fn send_all(engine: &Engine, alias: &str, jobs: Vec<Job>) {
    let changes: Vec<&Change> = jobs.iter().flat_map(|job| &job.changes).collect();
    let mut outcomes = send(engine, alias, &changes).await.map(Vec::into_iter);
    for Job { changes, done, .. } in jobs {
        let of_job = match &mut outcomes {
            Ok(outcomes) => Ok(outcomes.by_ref().take(changes.len()).collect()),
            Err(error) => Err(error.clone()),
        };
        // An error means that the caller has left.
        let _ = done.send(of_job);
    }
}

/// Sends changes, and those that the engine refuses for now once more, until [`PATIENCE`] is over.
async fn send(engine: &Engine, alias: &str, changes: &[&Change]) -> Outcomes {
    let mut outcomes: Vec<Option<Outcome>> = vec![None; changes.len()];
    let mut left: Vec<usize> = (0..changes.len()).collect();
    let path = format!(
        "/{alias}/_bulk?refresh=wait_for&require_alias=true&timeout={}ms&filter_path=items.*.status,items.*.error",
        engine.options.timeout.as_millis() / 2
    );
    let (begun, mut attempt) = (Instant::now(), 0);
    let mut last = Unavailable::new("", http::pause(0));
    loop {
        let body: Vec<u8> = left.iter().flat_map(|&at| changes[at].lines.iter().copied()).collect();
        let request = Request { method: Method::Post, path: path.clone(), body: Bytes::from(body) };
        let permit = engine.writes.acquire().await;
        let answer = engine.ask_if_it_fits(&request).await;
        drop(permit);
        match answer {
            Ok(Some(BulkAnswer { items })) if items.len() == left.len() => {
                let mut again = Vec::new();
                for (at, item) in left.into_iter().zip(items) {
                    match item.outcome() {
                        Outcome::Refused(Error::Unavailable(refused)) => {
                            last = refused;
                            again.push(at);
                        }
                        outcome => outcomes[at] = Some(outcome),
                    }
                }
                left = again;
            }
            Ok(Some(BulkAnswer { items })) => {
                return Err(Error::unexpected(format!("{} answers to {} changes", items.len(), left.len())));
            }
            Ok(None) => return Err(Error::unexpected("the answer to a bulk request is too large")),
            Err(Error::Unavailable(unavailable)) => last = unavailable,
            Err(error) => return Err(error),
        }
        if left.is_empty() || begun.elapsed() >= PATIENCE {
            if !left.is_empty() {
                engine.http.give_up(&last);
            }
            let refused = || Outcome::Refused(Error::Unavailable(last.clone()));
            return Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(refused)).collect());
        }
        tokio::time::sleep(http::pause(attempt)).await;
        attempt += 1;
    }
}

#[derive(Deserialize)]
pub(super) struct BulkAnswer {
    pub items: Vec<Item>,
}

/// The answer to one change.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Item {
    Index(ItemResult),
    Delete(ItemResult),
}

#[derive(Deserialize)]
pub(super) struct ItemResult {
    status: u16,
    #[serde(default)]
    error: Option<RefusalReason>,
}

impl Item {
    /// The result of the change. A refusal as not available means that it may succeed at another time.
    pub fn outcome(self) -> Outcome {
        let (Self::Index(result) | Self::Delete(result)) = self;
        match (result.status, result.error) {
            (200..=299, _) => Outcome::Done,
            (404, None) => Outcome::Missing,
            (409, _) => Outcome::Conflict,
            (status, Some(error)) => Outcome::Refused(answer::failed(&error, Some(status))),
            (status, None) => Outcome::Refused(Error::unexpected(format!("status {status}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::ByteBudget;

    fn job(ids: &[&str], bytes: usize) -> Job {
        let change = |id: &&str| Change { id: DocId::new(id).unwrap(), lines: vec![0; bytes] };
        let held = ByteBudget::new(64).try_hold(1).unwrap();
        Job { changes: ids.iter().map(change).collect(), done: oneshot::channel().0, _held: held }
    }

    fn taken(waiting: &mut VecDeque<Job>, busy: &[&str]) -> usize {
        let busy = busy.iter().map(|id| DocId::new(id).unwrap()).collect();
        next_request(waiting, &busy).map_or(0, |(jobs, _)| jobs.len())
    }

    #[test]
    fn all_that_waits_shares_a_request_and_changes_of_one_document_stay_in_order() {
        let mut waiting = VecDeque::from([job(&["a"], 1), job(&["b", "c"], 1), job(&["a"], 1), job(&["d"], 1)]);
        assert_eq!(taken(&mut waiting, &["x"]), 2, "the second change of a waits for the first");
        assert_eq!(taken(&mut waiting, &["a", "b", "c"]), 0, "nothing overtakes it");
        assert_eq!(taken(&mut waiting, &[]), 2);
        assert_eq!(taken(&mut waiting, &[]), 0);
    }

    #[test]
    fn a_request_is_bounded_and_a_large_job_goes_alone() {
        let half = MOST_REQUEST_BYTES / 2 + 1;
        let mut waiting = VecDeque::from([job(&["a"], half), job(&["b"], half), job(&["c"], 3 * half), job(&["d"], 1)]);
        assert_eq!([0; 4].map(|_| taken(&mut waiting, &[])), [1, 1, 1, 1]);
    }

    #[test]
    fn each_answer_has_its_meaning() {
        let of = |json: &str| serde_json::from_str::<Item>(json).unwrap().outcome();
        assert_eq!(of(r#"{"index":{"status":201}}"#), Outcome::Done);
        assert_eq!(of(r#"{"delete":{"status":404}}"#), Outcome::Missing);
        let conflict = r#"{"index":{"status":409,"error":{"type":"version_conflict_engine_exception"}}}"#;
        assert_eq!(of(conflict), Outcome::Conflict);
        let gone = r#"{"index":{"status":404,"error":{"type":"index_not_found_exception","reason":"no such index"}}}"#;
        assert_eq!(of(gone), Outcome::Refused(Error::unknown()));
        for again in [
            r#"{"index":{"status":429,"error":{"type":"rejected_execution_exception"}}}"#,
            r#"{"index":{"status":500,"error":{"type":"node_closed_exception"}}}"#,
            r#"{"delete":{"status":404,"error":{"type":"index_shard_closed_exception"}}}"#,
        ] {
            assert!(matches!(of(again), Outcome::Refused(Error::Unavailable(_))), "{again}");
        }
        let full = r#"{"index":{"status":429,"error":{"type":"cluster_block_exception",
            "reason":"disk usage exceeded flood-stage watermark"}}}"#;
        assert!(matches!(of(full), Outcome::Refused(Error::Full { .. })));
        let wrong = of(r#"{"index":{"status":400,"error":{"type":"x"}}}"#);
        assert!(matches!(wrong, Outcome::Refused(Error::Unexpected { .. })));
    }
}
