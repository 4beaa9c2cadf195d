//! The engine's refusals, and the errors that they mean.
//!
//! A status alone does not tell if another attempt may succeed: a node that closes answers 500, and 404 for a copy of a
//! shard that it gives up. So the engine's own name of a failure decides too, and those of its causes.

use serde::Deserialize;

use super::error::Error;
use crate::collection::CollectionError;

/// Characters of an answer in an error.
const SHOWN: usize = 500;

/// Names of failures after which another attempt may succeed, whatever their status. They follow from the classes of
/// OpenSearch 2.19, which name themselves.
const PASSING: &[&str] = &[
    // A node closes, or does not reach another one.
    "connect_transport_exception",
    "no_such_node_exception",
    "node_closed_exception",
    "node_disconnected_exception",
    "node_health_check_failure_exception",
    "node_not_connected_exception",
    "receive_timeout_transport_exception",
    "send_request_transport_exception",
    "transport_exception",
    // A copy of a shard leaves its node, is not ready there, or has another role. With it go the states of searches.
    "already_closed_exception",
    "illegal_index_shard_state_exception",
    "index_shard_closed_exception",
    "index_shard_not_started_exception",
    "index_shard_recovering_exception",
    "index_shard_relocated_exception",
    "no_longer_primary_shard_exception",
    "no_shard_available_action_exception",
    "primary_shard_closed_exception",
    "retry_on_primary_exception",
    "retry_on_replica_exception",
    "search_context_missing_exception",
    "shard_not_found_exception",
    "shard_not_in_primary_mode_exception",
    "unavailable_shards_exception",
    // There is no cluster manager, or another one than before.
    "cluster_manager_not_discovered_exception",
    "cluster_manager_throttling_exception",
    "coordination_state_rejected_exception",
    "failed_to_commit_cluster_state_exception",
    "master_not_discovered_exception",
    "not_cluster_manager_exception",
    "not_master_exception",
    "process_cluster_event_timeout_exception",
    // A node is busy.
    "circuit_breaking_exception",
    "rejected_execution_exception",
    "task_cancelled_exception",
    "timeout_exception",
];

/// The failure of an operation on an index that does not exist.
const NO_INDEX: &str = "index_not_found_exception";

/// The identity that [`NO_INDEX`] has if the whole cluster has no such index.
const NOWHERE: &str = "_na_";

/// An answer that says that something is wrong.
#[derive(Deserialize)]
pub(super) struct Refusal {
    pub error: RefusalReason,
}

/// The engine's words for it.
#[derive(Debug, Deserialize)]
pub(super) struct RefusalReason {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub reason: Option<String>,
    /// The identity of an index that was not found.
    #[serde(default)]
    index_uuid: Option<String>,
    /// The failures of shards.
    #[serde(default)]
    root_cause: Vec<RefusalReason>,
    #[serde(default)]
    caused_by: Option<Box<RefusalReason>>,
}

impl RefusalReason {
    /// True if another attempt may succeed, by the status, if there is one, or by the names of the failure and its
    /// causes.
    pub fn passes(&self, status: Option<u16>) -> bool {
        status.is_some_and(passes)
            || PASSING.contains(&self.kind.as_str())
            || self.is_of_one_node()
            || self.root_cause.iter().chain(self.caused_by.as_deref()).any(|cause| cause.passes(None))
    }

    /// True if one node does not have an index any more that the cluster may have.
    fn is_of_one_node(&self) -> bool {
        self.kind == NO_INDEX && self.index_uuid.as_deref().is_some_and(|id| id != NOWHERE)
    }

    /// The refusal without the engine's sentences, which name nodes and addresses.
    pub fn in_short(&self) -> String {
        // A kind is a word of letters; anything else is not shown.
        let is_word = self.kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && self.kind.len() < 100;
        if is_word { format!("it answers {}", self.kind) } else { "it refuses a request".to_owned() }
    }

    /// The error that a refusal means, if it has a name of its own.
    pub fn known(&self) -> Option<Error> {
        let reason = self.reason.as_deref().unwrap_or_default();
        match self.kind.as_str() {
            NO_INDEX if !self.is_of_one_node() => Some(Error::unknown()),
            "resource_already_exists_exception" => Some(Error::Collection(CollectionError::Exists)),
            "cluster_block_exception" if reason.contains("read-only") || reason.contains("flood") => {
                Some(Error::Full { reason: beginning(reason) })
            }
            "validation_exception" | "illegal_argument_exception" if reason.contains("maximum shards open") => {
                Some(Error::Full { reason: beginning(reason) })
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, beginning(self.reason.as_deref().unwrap_or_default()))
    }
}

/// True if a status says that another attempt may succeed.
pub(super) fn passes(status: u16) -> bool {
    matches!(status, 429 | 502..=504)
}

/// The beginning of a text, for an error.
pub(super) fn beginning(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(refusal: serde_json::Value) -> RefusalReason {
        serde_json::from_value(refusal).unwrap()
    }

    #[test]
    fn a_failure_that_passes_is_told_from_one_that_stays_by_its_status_its_name_and_its_causes() {
        let shards_failed = |cause: &str| {
            let (kind, cause) = ("search_phase_execution_exception", json!([{ "type": cause, "reason": "" }]));
            of(json!({ "type": kind, "reason": "all shards failed", "root_cause": cause }))
        };
        // The state of a search went with its node, between its two phases.
        assert!(shards_failed("search_context_missing_exception").passes(Some(404)));
        assert!(shards_failed("node_disconnected_exception").passes(Some(500)));
        assert!(!shards_failed("query_shard_exception").passes(Some(400)));
        assert!(!shards_failed("null_pointer_exception").passes(Some(500)));
        // A phase that did not begin on any shard names its cause alone.
        let cause =
            json!({ "type": "node_not_connected_exception", "reason": "[node1][127.0.0.1:9300] Node not connected" });
        let phase = json!({ "type": "search_phase_execution_exception", "root_cause": [], "caused_by": cause });
        assert!(of(phase).passes(Some(500)));
        for (kind, passes) in PASSING.iter().map(|kind| (*kind, true)).chain([("parsing_exception", false)]) {
            assert_eq!(of(json!({ "type": kind })).passes(None), passes, "{kind}");
        }
        for (status, expected) in [(429, true), (502, true), (503, true), (504, true), (500, false), (404, false)] {
            assert_eq!(of(json!({ "type": "exception" })).passes(Some(status)), expected, "{status}");
        }
    }

    #[test]
    fn an_index_that_one_node_lacks_is_asked_for_again_and_one_that_the_cluster_lacks_is_not() {
        let lacks = |id: &str| of(json!({ "type": NO_INDEX, "reason": "no such index [x]", "index_uuid": id }));
        let (on_node, nowhere) = (lacks("Jx3nY0cfTzGQJXh4tPpPCg"), lacks(NOWHERE));
        assert!(on_node.passes(Some(404)) && on_node.known().is_none());
        assert!(!nowhere.passes(Some(404)) && nowhere.known() == Some(Error::unknown()));
    }

    #[test]
    fn refusals_with_a_meaning_are_known() {
        let known = |kind: &str, reason: &str| of(serde_json::json!({ "type": kind, "reason": reason })).known();
        assert_eq!(known("index_not_found_exception", "no such index"), Some(Error::unknown()));
        assert_eq!(known("resource_already_exists_exception", ""), Some(CollectionError::Exists.into()));
        let flood = "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded flood-stage watermark, index has \
                     read-only-allow-delete block];";
        assert!(matches!(known("cluster_block_exception", flood), Some(Error::Full { .. })));
        let shards = "this action would add [2] total shards, but this cluster currently has [1000]/[1000] maximum \
                      shards open;";
        assert!(matches!(known("validation_exception", shards), Some(Error::Full { .. })));
        assert_eq!(known("cluster_block_exception", "state not recovered / initialized"), None);
        assert_eq!(beginning(&"é".repeat(SHOWN + 1)).chars().count(), SHOWN + 1);
    }
}
