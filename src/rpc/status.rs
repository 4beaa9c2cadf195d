//! Failures, and the one place where a failure becomes a gRPC status.
//!
//! Invariant: a status takes at most [`MAX_WIRE_BYTES`] of HTTP headers, whatever it quotes, and the error of one item at
//! most [`MAX_ITEM_BYTES`] of its answer. Clients bound the headers that they read, many at 8 KiB in all, and an answer
//! may hold a thousand errors. Longer messages are cut, and details that do not fit are left out, the last ones first.

use std::time::Duration;

use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, QuotaViolation, StatusExt, pb};

use super::refusal::Refusal;
use crate::collection::{BackupError, CollectionError, CommitError, ExportError, Full, TooManyFields, disk};
use crate::compute::Refused;
use crate::compute::stop::Stopped;
use crate::embedder::NotAnEmbedding;
use crate::inference::{Overloaded, TextError};

/// Violations reported at most.
const MOST_VIOLATIONS: usize = 8;

/// Bytes of a status on the wire: its message, percent-encoded, and its details, in base64.
pub const MAX_WIRE_BYTES: usize = 4096;

/// Bytes of the error of one item, as it is encoded in an answer.
pub const MAX_ITEM_BYTES: usize = 1024;

/// Bytes of a message on the wire, percent-encoded. The details repeat it.
const MAX_MESSAGE_BYTES: usize = 1280;

/// Bytes of a message in the error of one item.
const MAX_ITEM_MESSAGE_BYTES: usize = 480;

/// Characters of a value that are shown back to the client who sent it.
const SHOWN_CHARS: usize = 100;

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
    /// The document would bring too many fields.
    TooManyFields(TooManyFields),
    /// There is nothing on disk.
    NothingStored(String),
    /// Another call does the same.
    Busy(String),
    /// As many calls of one kind as allowed are in progress.
    TooMany(String),
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
    /// The client took nothing of its answer.
    NotTaken {
        /// For so long.
        patience: Duration,
    },
    /// The server around the service refused or ended the call.
    Transport(Refusal),
    /// What was sent is no message, or not as many as the call takes.
    Malformed(String),
    /// Other messages have the memory that this one would take.
    NoMemory {
        /// Bytes that it would take.
        bytes: usize,
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

    /// What became of an export.
    pub fn export(error: ExportError) -> Self {
        match error {
            ExportError::TooMany => Self::TooMany(error.to_string()),
            ExportError::Stopped(stopped) => stopped.into(),
        }
    }

    /// What became of a backup.
    pub fn backup(error: BackupError) -> Self {
        use disk::{BackupError as Disk, CopyError};
        match error {
            BackupError::InMemory => Self::NothingStored(error.to_string()),
            BackupError::Busy => Self::Busy(error.to_string()),
            BackupError::Disk(Disk::Copy(CopyError::DiskFull { .. })) => Self::DiskFull(error.to_string()),
            // Nobody is told: the caller has gone.
            BackupError::Disk(Disk::Copy(CopyError::GivenUp)) => Self::DeadlineExceeded,
            BackupError::Disk(_) | BackupError::Io(_) => {
                tracing::error!(%error, "there is no backup");
                Self::Internal
            }
        }
    }

    /// What became of scaling a vector of the model to length 1: the model gave none that has a direction.
    pub fn of_model(error: &NotAnEmbedding) -> Self {
        tracing::error!(%error, "the model's vector of a text has no direction");
        Self::Internal
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
        let (code, message, details) = self.clone().parts();
        let message = clipped(message, MAX_ITEM_MESSAGE_BYTES, str::len);
        let status = fitting(code, &message, details, |status| status.details().len() <= MAX_ITEM_BYTES);
        match pb::Status::decode(status.details()) {
            Ok(with_details) if !status.details().is_empty() => with_details,
            _ => pb::Status { code: code.into(), message, details: vec![] },
        }
    }
}

/// The beginning of a value that a client sent, in quotes, to show it back: at most `SHOWN_CHARS` characters.
pub fn shown(value: &str) -> String {
    let mut quoted = String::from('"');
    let mut left = SHOWN_CHARS - 3; // two quotes and the ellipsis
    for character in value.chars() {
        let escaped: String = if character == '\'' { "'".to_owned() } else { character.escape_debug().collect() };
        let Some(rest) = left.checked_sub(escaped.chars().count()) else {
            quoted.push_str("\"…");
            return quoted;
        };
        left = rest;
        quoted.push_str(&escaped);
    }
    quoted.push('"');
    quoted
}

/// The beginning of a name that a client sent, without quotes: at most `SHOWN_CHARS` characters.
pub fn shown_name(name: &str) -> String {
    match name.char_indices().nth(SHOWN_CHARS) {
        None => name.to_owned(),
        Some(_) => name.chars().take(SHOWN_CHARS - 1).chain(['…']).collect(),
    }
}

/// `text`, cut so that it measures `most` at most.
fn clipped(text: String, most: usize, measure: impl Fn(&str) -> usize) -> String {
    if text.len() * 3 <= most || measure(&text) <= most {
        return text;
    }
    let most = most.saturating_sub(measure("…"));
    let mut used = 0;
    let end = text.char_indices().find(|(at, character)| {
        used += measure(&text[*at..*at + character.len_utf8()]);
        used > most
    });
    format!("{}…", &text[..end.map_or(text.len(), |(at, _)| at)])
}

/// Bytes of a text as the value of `grpc-message`: what is not a plain printable character takes three.
fn percent_encoded_len(text: &str) -> usize {
    let plain = |byte: u8| (0x21..0x7f).contains(&byte) && !b"\"#%<>`?{}".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { 1 } else { 3 }).sum()
}

/// Bytes that a status takes in headers.
fn wire_bytes(status: &Status) -> usize {
    percent_encoded_len(status.message()) + (status.details().len() * 4).div_ceil(3)
}

/// The status with as many of its details as `fits` allows.
fn fitting(code: Code, message: &str, mut details: ErrorDetails, fits: impl Fn(&Status) -> bool) -> Status {
    loop {
        let status = Status::with_error_details(code, message, details.clone());
        if fits(&status) {
            return status;
        }
        let mut violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        if violations.pop().is_none() || violations.is_empty() {
            return Status::new(code, message);
        }
        details.set_bad_request(violations);
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
        let (code, message, details) = failure.parts();
        let message = clipped(message, MAX_MESSAGE_BYTES, percent_encoded_len);
        fitting(code, &message, details, |status| wire_bytes(status) <= MAX_WIRE_BYTES)
    }
}

impl Failure {
    /// The code, the message and the details, of any length.
    fn parts(self) -> (Code, String, ErrorDetails) {
        let mut details = ErrorDetails::new();
        let (code, message) = match self {
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
                details.set_resource_info("collection", shown_name(&name), "", reason.clone());
                (Code::FailedPrecondition, format!("collection {}: {reason}", shown(&name)))
            }
            Failure::Overloaded(overloaded) => {
                details.set_retry_info(overloaded.retry_after());
                (Code::ResourceExhausted, overloaded.to_string())
            }
            Failure::Refused(Refused::Panicked) => return Failure::Internal.parts(),
            Failure::Refused(refused) => {
                details.set_retry_info(refused.retry_after());
                (Code::ResourceExhausted, refused.to_string())
            }
            Failure::Full(full) => {
                let violation = QuotaViolation::new(full.limit.to_string(), full.to_string());
                details.set_quota_failure(vec![violation]);
                (Code::ResourceExhausted, full.to_string())
            }
            Failure::TooManyFields(error) => {
                let violation = QuotaViolation::new("max_collection_fields", error.to_string());
                details.set_quota_failure(vec![violation]);
                (Code::ResourceExhausted, error.to_string())
            }
            Failure::NothingStored(reason) => (Code::FailedPrecondition, reason),
            Failure::Busy(reason) => (Code::Aborted, reason),
            Failure::TooMany(reason) => {
                details.set_retry_info(Some(Duration::from_secs(1)));
                (Code::ResourceExhausted, reason)
            }
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
            Failure::NotTaken { patience } => (
                Code::Aborted,
                format!("the answer was given up: its client took none of it for {} s", patience.as_secs()),
            ),
            Failure::Transport(refusal) => refusal.describe(&mut details),
            Failure::Malformed(reason) => (Code::InvalidArgument, reason),
            Failure::NoMemory { bytes } => {
                details.set_retry_info(Some(Duration::from_secs(1)));
                let text =
                    format!("message_budget: other messages have the memory, {bytes} bytes are needed: try again");
                (Code::ResourceExhausted, text)
            }
            Failure::Starting => {
                details.set_retry_info(Some(Duration::from_secs(1)));
                (Code::Unavailable, "the model is being loaded".to_owned())
            }
            Failure::DeadlineExceeded => (Code::DeadlineExceeded, "the caller's deadline passed".to_owned()),
            Failure::Internal => (Code::Internal, "internal error; the server's log has the cause".to_owned()),
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
            Self::Classifier { name, known } => {
                let those = match known.as_slice() {
                    [] => "this server has none".to_owned(),
                    known => format!("this server has {}", known.join(", ")),
                };
                details.set_resource_info("classifier", shown_name(name), "", those.clone());
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
        assert_eq!(shown("it's"), r#""it's""#);
        for long in ["é".repeat(200), "\u{1}".repeat(1 << 20), "\"".repeat(300), "日".repeat(98)] {
            assert!(shown(&long).ends_with('…') && shown(&long).chars().count() <= SHOWN_CHARS, "{}", shown(&long));
            assert!(shown_name(&long).chars().count() <= SHOWN_CHARS);
        }
        assert_eq!(shown_name(&"é".repeat(100)), "é".repeat(100));
    }

    /// Failures that quote as much as they can, of what costs most on the wire.
    fn longest() -> Vec<Failure> {
        let name = || "日\u{1}%".repeat(1 << 18);
        let violation = |n: usize| Violation { field: format!("texts[{n}].{}", name()), reason: name() };
        vec![
            Failure::Invalid((0..20).map(violation).collect()),
            Failure::NotFound(Resource::Collection(name())),
            Failure::NotFound(Resource::Document { collection: name(), id: name() }),
            Failure::NotFound(Resource::Classifier { name: name(), known: vec![name(); 9] }),
            Failure::OtherModel { name: name(), reason: name() },
            Failure::Stopped(name()),
        ]
    }

    #[test]
    fn a_status_fits_the_headers_that_clients_read_whatever_it_quotes() {
        for failure in longest() {
            let status = Status::from(failure);
            let headers = status.clone().into_http::<()>().into_parts().0.headers;
            let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
            assert!(wire_bytes(&status) <= MAX_WIRE_BYTES && bytes <= MAX_WIRE_BYTES + 128, "{bytes}: {status:?}");
            assert!(!status.message().is_empty());
        }
    }

    #[test]
    fn the_error_of_an_item_is_small_whatever_it_quotes() {
        for failure in longest() {
            let item = failure.to_item();
            assert!(item.encoded_len() <= MAX_ITEM_BYTES && !item.message.is_empty(), "{}", item.encoded_len());
        }
    }

    #[test]
    fn details_that_do_not_fit_are_left_out_from_the_end() {
        let violation = |n: usize| Violation { field: format!("texts[{n}]"), reason: "x".repeat(500) };
        let status = Status::from(Failure::Invalid((0..8).map(violation).collect()));
        let kept = status.get_details_bad_request().expect("some fit").field_violations;
        assert!((1..8).contains(&kept.len()) && kept[0].field == "texts[0]", "{kept:?}");
    }
}
