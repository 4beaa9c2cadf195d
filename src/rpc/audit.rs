//! The audit log: a line for each act that reaches further than documents by id, and for each call that is refused
//! because its caller may not do it.
//!
//! The acts are: creating and deleting a collection, the start, switch, rollback and end of its migration, deleting
//! and updating documents by a filter, and a backup. A
//! reload of certificates or keys has its line in `server/reload.rs`.
//!
//! Invariants: a line has the caller's name, the act, the collection and the outcome. It has no text, id, metadata or
//! key. A caller cannot fill the log with refusals: beyond [`REFUSALS`] in a second they have no line.

use tonic::Status;

use super::status::{Failure, shown};
use crate::identity::Principal;
use crate::per_second::PerSecond;

/// Lines about refused calls in a second.
const REFUSALS: u64 = 10;

/// Writes the line of an act, with the documents that it changed, or the code that it failed with.
pub(super) fn act(caller: Option<&str>, act: &'static str, collection: &str, outcome: Result<usize, &Failure>) {
    match outcome {
        Ok(documents) => {
            tracing::info!(target: "cognate::audit", caller, act, collection, documents, outcome = "done", "audit");
        }
        Err(failure) => {
            let (code, collection) = (Status::from(failure.clone()).code(), shown(collection));
            tracing::info!(target: "cognate::audit", caller, act, %collection, outcome = ?code, "audit");
        }
    }
}

/// Writes the line of a call that its caller may not make.
pub(super) fn refused(principal: &Principal, reason: &str) {
    static LINES: PerSecond = PerSecond::new(REFUSALS);
    if LINES.admits() {
        tracing::info!(target: "cognate::audit", caller = principal.name(), reason, outcome = "refused", "audit");
    }
}
