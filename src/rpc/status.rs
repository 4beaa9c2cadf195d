//! Failures, and the one place where a failure becomes a gRPC status.
//!
//! A failure is the reason, in the terms of the service, why a call or one of its items was not answered. One match
//! gives each failure its code, message and details, so the compiler demands an arm for a new one.
//!
//! Invariant: a failure has the same code and text whether it ends a call or belongs to one item. `causes` turns errors
//! of the parts below into failures. `bounds` limits the size of a status and the values that it quotes.

mod bounds;
mod causes;

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, QuotaViolation, pb};

pub(crate) use bounds::shown;
pub(super) use bounds::{MAX_ITEM_BYTES, shown_name};
pub(super) use causes::QUERY;

use super::refusal::Refusal;
use crate::collection::{BackupError, Full, TooManyFields, disk};
use crate::compute::{Exceeded, Refused};
use crate::inference::Overloaded;

/// Violations reported at most.
const MAX_VIOLATIONS: usize = 8;

/// The reason why a call, or one item of it, was not answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The request is wrong.
    Invalid(Vec<Violation>),
    /// The request names something that does not exist.
    NotFound(Resource),
    /// The request creates something that already exists.
    Exists(Resource),
    /// A text is to be embedded for a collection, and its model is not served.
    NoModel {
        /// The collection.
        collection: String,
        /// The name of its model when it was created; empty: not known.
        model: String,
        /// The fingerprint of its model.
        fingerprint: String,
        /// The names of the models that are served.
        served: Vec<String>,
    },
    /// The collection has no lexical index, and is to be searched by words.
    NoLexicalIndex {
        /// The collection.
        name: String,
    },
    /// The migration of a collection is not there, or is not in the state that the call needs.
    NotMigrated {
        /// The collection.
        name: String,
        /// The state that it is in, and what to do.
        reason: String,
    },
    /// The queue for the model is full.
    Overloaded(Overloaded),
    /// The pool is full, or the call would end after its deadline.
    Refused(Refused),
    /// The quota of documents is used up.
    Full(Full),
    /// The document would add too many fields.
    TooManyFields(TooManyFields),
    /// The server stores nothing on disk.
    NothingStored,
    /// Another backup is being made or read.
    BackupInProgress,
    /// Leader and follower were exchanged while the call changed documents.
    Moved,
    /// The most exports that are allowed are open.
    TooManyExports {
        /// The limit, and what to do.
        reason: String,
    },
    /// The store of documents does not answer, or cannot serve the collection now.
    StoreUnavailable {
        /// The last failure.
        reason: String,
        /// The time after which another attempt may succeed.
        retry_after: Duration,
    },
    /// The store of documents has no room left.
    StoreFull {
        /// Its reason, and what to do.
        reason: String,
    },
    /// Only the store of this process has what is asked for.
    NotOfThisStore {
        /// The means of the store that the server has.
        reason: &'static str,
    },
    /// The file system is almost full.
    DiskFull(disk::DiskFull),
    /// The disk failed: nothing can be stored until a restart.
    Stopped(disk::WritesStopped),
    /// The limit of concurrent calls is reached.
    TooManyCalls(usize),
    /// The answer would be larger than the message limit.
    AnswerTooLarge {
        /// The message limit, in bytes.
        limit: usize,
    },
    /// The texts that a reranker would read are too large.
    TextsTooLarge {
        /// Bytes that those of one query may have.
        limit: usize,
    },
    /// The client took nothing of its answer.
    NotTaken {
        /// The time without progress.
        timeout: Duration,
    },
    /// The caller has used up its own allowance.
    Exceeded(Exceeded),
    /// The caller has shown no valid key and no known certificate.
    Unauthenticated,
    /// The caller may not do this.
    NotAllowed {
        /// The rights that the call needs, and those that the caller has.
        reason: String,
    },
    /// The server around the service refused or ended the call.
    Transport(Refusal),
    /// The bytes are not a message, or the number of messages is wrong for the call.
    Malformed(String),
    /// Other messages hold the memory that this one needs.
    NoMemory {
        /// Bytes that it needs.
        bytes: usize,
    },
    /// The model is still being loaded.
    Starting,
    /// The caller's deadline passed.
    DeadlineExceeded,
    /// A fault of the server; the cause is in the log.
    Internal,
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its path in the request: `texts[3]`.
    pub field: String,
    /// The reason, with the value and the limit.
    pub reason: String,
}

/// A named resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A collection.
    Collection(String),
    /// A document of a collection.
    Document {
        /// The collection.
        collection: String,
        /// The id.
        id: String,
    },
    /// An embedding model, a classifier or a reranker.
    Model {
        /// `embedding model`, `classifier` or `reranker`.
        kind: &'static str,
        /// The name in the request.
        name: String,
        /// The names of all models of the kind.
        known: Vec<String>,
    },
}

impl Failure {
    /// A failure with one wrong field.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { field: field.into(), reason: reason.into() }])
    }

    /// The status for the result of one item.
    pub fn to_item(&self) -> pb::Status {
        let (code, message, details) = self.clone().parts();
        bounds::of_item(code, message, details)
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let (code, message, details) = failure.parts();
        bounds::of_call(code, message, details)
    }
}

impl Failure {
    /// The code, the message and the details, of any length.
    fn parts(self) -> (Code, String, ErrorDetails) {
        let mut details = ErrorDetails::new();
        let (code, message) = match self {
            Failure::Invalid(mut violations) => {
                let more = violations.len().saturating_sub(MAX_VIOLATIONS);
                violations.truncate(MAX_VIOLATIONS);
                let texts: Vec<String> = violations.iter().map(|v| format!("{}: {}", v.field, v.reason)).collect();
                details.set_bad_request(
                    violations.into_iter().map(|v| FieldViolation::new(v.field, v.reason)).collect::<Vec<_>>(),
                );
                let and_more = if more > 0 { format!("; and {more} more") } else { String::new() };
                (Code::InvalidArgument, texts.join("; ") + &and_more)
            }
            Failure::NotFound(resource) => (Code::NotFound, resource.describe(&mut details, "there is no")),
            Failure::Exists(resource) => (Code::AlreadyExists, resource.describe(&mut details, "there already is a")),
            Failure::NoModel { collection, model, fingerprint, served } => {
                let of = if model.is_empty() { String::new() } else { format!("{} with ", shown(&model)) };
                let reason = format!(
                    "needs its model, {of}fingerprint {fingerprint}, for a text, and this server has {}: start it with \
                     that model too (--model NAME=PLACE), or search by vectors or ids",
                    served.join(", ")
                );
                details.set_resource_info("embedding model", shown_name(&fingerprint), "", reason.clone());
                (Code::FailedPrecondition, format!("collection {} {reason}", shown(&collection)))
            }
            Failure::NoLexicalIndex { name } => {
                let reason = "has no lexical index: search it with SEARCH_MODE_VECTOR; or export it with vectors, and \
                              upload that to a collection that is created with one";
                details.set_resource_info("collection", shown_name(&name), "", reason);
                (Code::FailedPrecondition, format!("collection {} {reason}", shown(&name)))
            }
            Failure::NotMigrated { name, reason } => {
                details.set_resource_info("collection", shown_name(&name), "", reason.clone());
                (Code::FailedPrecondition, format!("collection {} {reason}", shown(&name)))
            }
            Failure::Overloaded(overloaded) => {
                details.set_retry_info(overloaded.retry_after());
                (Code::ResourceExhausted, overloaded.to_string())
            }
            Failure::Exceeded(exceeded) => {
                details.set_retry_info(Some(exceeded.retry_after));
                (Code::ResourceExhausted, exceeded.to_string())
            }
            Failure::Refused(Refused::Panicked) => return Failure::Internal.parts(),
            Failure::Refused(refused) => {
                details.set_retry_info(refused.retry_after());
                (Code::ResourceExhausted, refused.to_string())
            }
            Failure::Full(full) => {
                let subject = match &full.owner {
                    Some(owner) => format!("principal:{owner}"),
                    None => full.limit.to_string(),
                };
                let mut violation = QuotaViolation::new(subject, full.to_string());
                violation.quota_metric = full.limit.to_string();
                violation.quota_value = i64::try_from(full.most).unwrap_or(i64::MAX);
                details.set_quota_failure(vec![violation]);
                (Code::ResourceExhausted, full.to_string())
            }
            Failure::TooManyFields(error) => {
                let violation = QuotaViolation::new("max_collection_fields", error.to_string());
                details.set_quota_failure(vec![violation]);
                (Code::ResourceExhausted, error.to_string())
            }
            Failure::NothingStored => (Code::FailedPrecondition, BackupError::InMemory.to_string()),
            Failure::BackupInProgress => (Code::Aborted, BackupError::Busy.to_string()),
            Failure::Moved => {
                (Code::Aborted, "the collection moved to another model meanwhile: repeat the call".to_owned())
            }
            Failure::TooManyExports { reason } => {
                details.set_retry_info(Some(Duration::from_secs(1)));
                (Code::ResourceExhausted, reason)
            }
            Failure::StoreUnavailable { reason, retry_after } => {
                details.set_retry_info(Some(retry_after));
                (Code::Unavailable, reason)
            }
            Failure::StoreFull { reason } => (Code::ResourceExhausted, reason),
            Failure::NotOfThisStore { reason } => (Code::FailedPrecondition, reason.to_owned()),
            Failure::DiskFull(full) => (Code::ResourceExhausted, full.to_string()),
            Failure::Stopped(stopped) => (Code::Unavailable, stopped.to_string()),
            Failure::TooManyCalls(limit) => {
                details.set_retry_info(Some(Duration::from_millis(100)));
                (
                    Code::ResourceExhausted,
                    format!("max_calls: {limit} calls are in progress, which is the limit: try again later"),
                )
            }
            Failure::AnswerTooLarge { limit } => (
                Code::ResourceExhausted,
                format!("the answer exceeds max_message_bytes of {limit}: ask for less at a time, or for fewer fields"),
            ),
            Failure::TextsTooLarge { limit } => (
                Code::ResourceExhausted,
                format!(
                    "the documents that the reranker would read for a query have more than {limit} bytes of text: \
                     lower rerank.candidates, or ask with fewer queries at a time"
                ),
            ),
            Failure::NotTaken { timeout } => (
                Code::Aborted,
                format!("the answer was abandoned: its client took none of it for {} s", timeout.as_secs()),
            ),
            // One text for all causes: the caller learns nothing about keys that it does not have.
            Failure::Unauthenticated => (
                Code::Unauthenticated,
                "this server needs a valid key: send the header `authorization: Bearer KEY`, or connect with a client \
                 certificate that it knows"
                    .to_owned(),
            ),
            Failure::NotAllowed { reason } => (Code::PermissionDenied, reason),
            Failure::Transport(refusal) => refusal.describe(&mut details),
            Failure::Malformed(reason) => (Code::InvalidArgument, reason),
            Failure::NoMemory { bytes } => {
                details.set_retry_info(Some(Duration::from_secs(1)));
                let text = format!(
                    "message_budget: {bytes} bytes are needed, but other messages hold the memory: try again later"
                );
                (Code::ResourceExhausted, text)
            }
            Failure::Starting => {
                details.set_retry_info(Some(Duration::from_secs(1)));
                (Code::Unavailable, "the model is being loaded".to_owned())
            }
            Failure::DeadlineExceeded => (Code::DeadlineExceeded, "the caller's deadline passed".to_owned()),
            Failure::Internal => (Code::Internal, "internal error: the server's log has the cause".to_owned()),
        };
        (code, message, details)
    }
}

impl Resource {
    fn describe(&self, details: &mut ErrorDetails, what: &str) -> String {
        match self {
            Self::Collection(name) => {
                let described = format!("{what} collection of this name");
                details.set_resource_info("collection", shown_name(name), "", described);
                format!("{what} collection {}", shown(name))
            }
            Self::Document { collection, id } => {
                details.set_resource_info(
                    "document",
                    shown_name(id),
                    shown_name(collection),
                    format!("{what} document of this id"),
                );
                format!("{what} document {} in collection {}", shown(id), shown(collection))
            }
            Self::Model { kind, name, known } => {
                let those = match known.as_slice() {
                    [] => "this server has none".to_owned(),
                    known => format!("this server has {}", known.join(", ")),
                };
                details.set_resource_info(*kind, shown_name(name), "", those.clone());
                format!("{what} {kind} {}: {those}", shown(name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn violations_are_named_and_their_number_is_bounded() {
        let violations =
            (0..20).map(|n| Violation { field: format!("texts[{n}]"), reason: "too long".to_owned() }).collect();
        let status = Status::from(Failure::Invalid(violations));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("texts[0]: too long; ") && status.message().ends_with("and 12 more"));
        let details = status.get_details_bad_request().unwrap();
        assert_eq!(details.field_violations.len(), MAX_VIOLATIONS);
        assert_eq!(details.field_violations[3].field, "texts[3]");
    }

    #[test]
    fn an_item_has_the_same_code_and_details_as_a_call() {
        let item = Failure::invalid("texts[1]", "2 bytes exceed the limit of 1").to_item();
        assert_eq!(item.code, i32::from(Code::InvalidArgument));
        assert_eq!(item.message, "texts[1]: 2 bytes exceed the limit of 1");
        assert!(item.details[0].type_url.ends_with("google.rpc.BadRequest"));
    }
}
