//! The audit log: a line for each act that reaches further than documents by id, and for each call that is refused
//! because its caller may not do it.
//!
//! The acts are: creating and deleting a collection, deleting and updating documents by a filter, and a backup. A
//! reload of certificates or keys has its line in `server/reload.rs`.
//!
//! Invariants: a line has the caller's name, the act, the collection and the outcome. It has no text, id, metadata or
//! key. A caller cannot fill the log with refusals: beyond [`REFUSALS`] in a second they have no line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tonic::Status;

use super::status::{Failure, shown};
use crate::identity::Principal;

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
    /// The second of the last refusal in the upper half, and the number of its refusals in the lower half.
    static SECOND: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if counted(&SECOND, now) <= REFUSALS {
        tracing::info!(target: "cognate::audit", caller = principal.name(), reason, outcome = "refused", "audit");
    }
}

/// Counts an event of the second `now`; returns the number of events in it.
fn counted(second: &AtomicU64, now: u64) -> u64 {
    let next = |seen: u64| {
        let events = if seen >> 32 == now { seen & u64::from(u32::MAX) } else { 0 };
        (now << 32) | (events + 1).min(u64::from(u32::MAX))
    };
    // Never fails: the closure always returns a next value.
    let seen = second.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |seen| Some(next(seen)));
    next(seen.unwrap_or_default()) & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_in_each_second() {
        let second = AtomicU64::new(0);
        let lines = |now| (0..1_000).filter(|_| counted(&second, now) <= REFUSALS).count() as u64;
        assert_eq!((lines(7), lines(7), lines(8)), (REFUSALS, 0, REFUSALS));
    }
}
