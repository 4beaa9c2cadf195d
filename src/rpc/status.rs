//! What went wrong, and the one place where it becomes a gRPC status.

use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, QuotaViolation, StatusExt, pb};

use crate::collection::{BackupError, CollectionError, CommitError, Full, disk};
use crate::compute::Refused;
use crate::compute::stop::Stopped;
use crate::inference::{Overloaded, TextError};

/// Violations reported at most: a status travels in HTTP headers, whose size clients bound.
const MOST_VIOLATIONS: usize = 8;

/// Why a call, or one item of it, was not answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The request is wrong.
    Invalid(Vec<Violation>),
    /// It names something that is not there.
    NotFound(Resource),
    /// It makes something that is there already.
    Exists(Resource),
    /// The collection's vectors come from another model.
    OtherModel {
        /// The collection.
        name: String,
        /// What differs.
        reason: String,
    },
    /// The queue for the model is full.
    Overloaded(Overloaded),
    /// The pool that it is computed in is full, or the call would end after its deadline.
    Refused(Refused),
    /// There is no room for more documents.
    Full(Full),
    /// There is nothing on disk.
    NothingStored(String),
    /// Another call does the same.
    Busy(String),
    /// The file system is almost full.
    DiskFull(String),
    /// The disk failed: nothing is stored until a restart.
    Stopped(String),
    /// As many calls as allowed are in progress.
    TooManyCalls(usize),
    /// The answer would be larger than a message may be.
    AnswerTooLarge {
        /// Bytes that a message may have.
        limit: usize,
    },
    /// The model is still being loaded.
    Starting,
    /// The caller's deadline passed.
    DeadlineExceeded,
    /// Our fault; the cause is in the log.
    Internal,
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its path in the request: `texts[3]`.
    pub field: String,
    /// What is wrong, with the value and the limit.
    pub reason: String,
}

/// A thing with a name.
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
    /// A classifier, and those that there are.
    Classifier {
        /// What the caller named.
        name: String,
        /// The names of all.
        known: Vec<String>,
    },
}

impl Failure {
    /// One wrong field.
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { field: field.into(), reason: reason.into() }])
    }

    /// What became of asking the store for the collection `name`.
    pub fn collection(name: &str, error: CollectionError) -> Self {
        match error {
            CollectionError::Unknown => Self::NotFound(Resource::Collection(name.to_owned())),
            CollectionError::Exists => Self::Exists(Resource::Collection(name.to_owned())),
            CollectionError::OtherModel { .. } => Self::OtherModel { name: name.to_owned(), reason: error.to_string() },
            CollectionError::Full(full) => Self::Full(full),
            CollectionError::Disk(error) => Self::disk(error),
        }
    }

    /// What became of a commit to the collection `name`.
    pub fn commit(name: &str, error: CommitError) -> Self {
        match error {
            CommitError::Deleted => Self::NotFound(Resource::Collection(name.to_owned())),
            CommitError::Full(full) => Self::Full(full),
            CommitError::Stopped(stopped) => stopped.into(),
            CommitError::Disk(error) => Self::disk(error),
        }
    }

    /// What became of a backup.
    pub fn backup(error: BackupError) -> Self {
        match error {
            BackupError::InMemory => Self::NothingStored(error.to_string()),
            BackupError::Busy => Self::Busy(error.to_string()),
            BackupError::Disk(_) | BackupError::Io(_) => {
                tracing::error!(%error, "there is no backup");
                Self::Internal
            }
        }
    }

    fn disk(error: disk::CommitError) -> Self {
        match error {
            disk::CommitError::Stopped { .. } => Self::Stopped(error.to_string()),
            disk::CommitError::DiskFull { .. } => Self::DiskFull(error.to_string()),
            disk::CommitError::Rejected(rejected) => {
                tracing::error!(%rejected, "what is in memory and what is on disk do not fit each other");
                Self::Internal
            }
        }
    }

    /// What became of embedding the text in `field`.
    pub fn text(field: impl Into<String>, error: &TextError) -> Self {
        match error {
            TextError::TooLong { .. } | TextError::NoTokens | TextError::Tokenizer(_) => {
                Self::invalid(field, error.to_string())
            }
            TextError::Model(_) => Self::Internal,
        }
    }

    /// The status for an item's result.
    pub fn to_item(&self) -> pb::Status {
        let status = Status::from(self.clone());
        let Ok(with_details) = pb::Status::decode(status.details()) else {
            return pb::Status { code: status.code().into(), message: status.message().to_owned(), details: vec![] };
        };
        with_details
    }
}

/// The first characters of a value that a client sent, to show it back.
pub fn shown(value: &str) -> String {
    const MOST: usize = 64;
    if value.len() <= MOST {
        format!("{value:?}")
    } else {
        format!("{:?}…", &value[..value.floor_char_boundary(MOST)])
    }
}

impl From<Overloaded> for Failure {
    fn from(overloaded: Overloaded) -> Self {
        Self::Overloaded(overloaded)
    }
}

impl From<Stopped> for Failure {
    /// Only its deadline can end a call whose answer somebody still waits for.
    fn from(_: Stopped) -> Self {
        Self::DeadlineExceeded
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let mut details = ErrorDetails::new();
        let (code, message) = match failure {
            Failure::Invalid(mut violations) => {
                let more = violations.len().saturating_sub(MOST_VIOLATIONS);
                violations.truncate(MOST_VIOLATIONS);
                let texts: Vec<String> = violations.iter().map(|v| format!("{}: {}", v.field, v.reason)).collect();
                details.set_bad_request(
                    violations.into_iter().map(|v| FieldViolation::new(v.field, v.reason)).collect::<Vec<_>>(),
                );
                let and_more = if more > 0 { format!("; and {more} more") } else { String::new() };
                (Code::InvalidArgument, texts.join("; ") + &and_more)
            }
            Failure::NotFound(resource) => (Code::NotFound, resource.describe(&mut details, "there is no")),
            Failure::Exists(resource) => (Code::AlreadyExists, resource.describe(&mut details, "there already is a")),
            Failure::OtherModel { name, reason } => {
                details.set_resource_info("collection", name.clone(), "", reason.clone());
                (Code::FailedPrecondition, format!("collection {}: {reason}", shown(&name)))
            }
            Failure::Overloaded(overloaded) => {
                details.set_retry_info(overloaded.retry_after());
                (Code::ResourceExhausted, overloaded.to_string())
            }
            Failure::Refused(Refused::Panicked) => return Failure::Internal.into(),
            Failure::Refused(refused) => {
                details.set_retry_info(refused.retry_after());
                (Code::ResourceExhausted, refused.to_string())
            }
            Failure::Full(full) => {
                let violation = QuotaViolation::new(full.limit.to_string(), full.to_string());
                details.set_quota_failure(vec![violation]);
                (Code::ResourceExhausted, full.to_string())
            }
            Failure::NothingStored(reason) => (Code::FailedPrecondition, reason),
            Failure::Busy(reason) => (Code::Aborted, reason),
            Failure::DiskFull(reason) => (Code::ResourceExhausted, reason),
            Failure::Stopped(reason) => (Code::Unavailable, reason),
            Failure::TooManyCalls(limit) => {
                details.set_retry_info(Some(Duration::from_millis(100)));
                (Code::ResourceExhausted, format!("max_calls: {limit} calls are in progress"))
            }
            Failure::AnswerTooLarge { limit } => (
                Code::ResourceExhausted,
                format!("the answer exceeds max_message_bytes of {limit}: ask for less at a time, or for fewer fields"),
            ),
            Failure::Starting => {
                details.set_retry_info(Some(Duration::from_secs(1)));
                (Code::Unavailable, "the model is being loaded".to_owned())
            }
            Failure::DeadlineExceeded => (Code::DeadlineExceeded, "the caller's deadline passed".to_owned()),
            Failure::Internal => (Code::Internal, "internal error; the server's log has the cause".to_owned()),
        };
        Status::with_error_details(code, message, details)
    }
}

impl Resource {
    fn describe(&self, details: &mut ErrorDetails, what: &str) -> String {
        match self {
            Self::Collection(name) => {
                details.set_resource_info("collection", name.clone(), "", format!("{what} collection of this name"));
                format!("{what} collection {}", shown(name))
            }
            Self::Document { collection, id } => {
                details.set_resource_info(
                    "document",
                    id.clone(),
                    collection.clone(),
                    format!("{what} document of this id"),
                );
                format!("{what} document {} in collection {}", shown(id), shown(collection))
            }
            Self::Classifier { name, known } => {
                let those = match known.as_slice() {
                    [] => "this server has none".to_owned(),
                    known => format!("this server has {}", known.join(", ")),
                };
                details.set_resource_info("classifier", name.clone(), "", those.clone());
                format!("{what} classifier {}: {those}", shown(name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_named_and_their_number_is_bounded() {
        let violations =
            (0..20).map(|n| Violation { field: format!("texts[{n}]"), reason: "too long".to_owned() }).collect();
        let status = Status::from(Failure::Invalid(violations));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with("texts[0]: too long; ") && status.message().ends_with("and 12 more"));
        let details = status.get_details_bad_request().unwrap();
        assert_eq!(details.field_violations.len(), MOST_VIOLATIONS);
        assert_eq!(details.field_violations[3].field, "texts[3]");
    }

    #[test]
    fn an_item_carries_the_same_code_and_details_as_a_call_would() {
        let item = Failure::invalid("texts[1]", "2 bytes exceed the limit of 1").to_item();
        assert_eq!(item.code, i32::from(Code::InvalidArgument));
        assert_eq!(item.message, "texts[1]: 2 bytes exceed the limit of 1");
        assert!(item.details[0].type_url.ends_with("google.rpc.BadRequest"));
    }

    #[test]
    fn a_long_value_is_shown_by_its_beginning() {
        assert_eq!(shown("a\"b"), r#""a\"b""#);
        assert!(shown(&"é".repeat(100)).ends_with("…"));
        assert!(shown(&"é".repeat(100)).len() < 80);
    }
}
