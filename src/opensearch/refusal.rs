//! The engine's refusals, and the errors that they mean.

use serde::Deserialize;

use super::error::Error;
use crate::collection::CollectionError;

/// Characters of an answer in an error.
const SHOWN: usize = 500;

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
}

impl RefusalReason {
    /// True if another attempt may succeed, by this status: the engine is busy, or a copy of a shard is on its way to
    /// another node.
    pub fn passes(&self, status: u16) -> bool {
        passes(status) || (status >= 500 && self.kind == "search_phase_execution_exception")
    }

    /// The error that a refusal means, if it has a name of its own.
    pub fn known(&self) -> Option<Error> {
        let reason = self.reason.as_deref().unwrap_or_default();
        match self.kind.as_str() {
            "index_not_found_exception" => Some(Error::unknown()),
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
    use super::*;

    #[test]
    fn refusals_with_a_meaning_are_known() {
        let known =
            |kind: &str, reason: &str| RefusalReason { kind: kind.to_owned(), reason: Some(reason.to_owned()) }.known();
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
