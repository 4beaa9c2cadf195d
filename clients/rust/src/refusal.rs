//! A refusal as the server tells it: `google.rpc.Status`, of a call or of one item of it, with its details decoded.

use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, RpcStatusExt, StatusExt, pb};

/// The reason why the server did not do something. It is readable in one line.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// The reason in words.
    pub message: String,
    /// The details: `bad_request`, `resource_info`, `retry_info` and others.
    pub details: Box<ErrorDetails>,
}

impl Refusal {
    /// The fields that are wrong, each with what was expected. Empty: the request is not the reason.
    pub fn violations(&self) -> &[FieldViolation] {
        self.details.bad_request().map_or(&[], |details| &details.field_violations)
    }

    /// The time after which the same request may be answered, if the server says so. Without it, do not try again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.details.retry_info()?.retry_delay
    }
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        let details = Box::new(status.get_error_details());
        Self { code: status.code(), message: status.message().to_owned(), details }
    }
}

impl From<&pb::Status> for Refusal {
    fn from(status: &pb::Status) -> Self {
        let details = Box::new(status.get_error_details());
        Self { code: Code::from_i32(status.code), message: status.message.clone(), details }
    }
}

/// `RESOURCE_EXHAUSTED: the queue is full; try again in 1.5 s`, with the fields that the message does not name.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", name(self.code), self.message)?;
        for violation in self.violations() {
            if !self.message.contains(&violation.field) {
                write!(f, "; {}: {}", violation.field, violation.description)?;
            }
        }
        match self.retry_after() {
            Some(delay) => write!(f, "; try again in {:.1} s", delay.as_secs_f64()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

/// The error of one item as a line: `INVALID_ARGUMENT: text of 20000000 bytes, at most 1048576`.
pub fn item_error(status: &pb::Status) -> String {
    Refusal::from(status).to_string()
}

/// The code's name in the gRPC specification.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_code_and_each_field_once() {
        let details = ErrorDetails::with_bad_request_violation("k", "0, at least 1");
        let line = |message| {
            let status = Status::with_error_details(Code::InvalidArgument, message, details.clone());
            Refusal::from(&status).to_string()
        };
        assert_eq!(line("k: 0, at least 1"), "INVALID_ARGUMENT: k: 0, at least 1");
        assert_eq!(line("wrong request"), "INVALID_ARGUMENT: wrong request; k: 0, at least 1");
    }

    #[test]
    fn a_full_queue_says_when_to_try_again() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
        let refusal = Refusal::from(&Status::with_error_details(Code::ResourceExhausted, "the queue is full", details));
        assert_eq!(refusal.to_string(), "RESOURCE_EXHAUSTED: the queue is full; try again in 1.5 s");
        assert_eq!(refusal.retry_after(), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn the_error_of_an_item_reads_like_that_of_a_call() {
        let status = pb::Status { code: 3, message: "texts[3]: too long".into(), details: vec![] };
        assert_eq!(item_error(&status), "INVALID_ARGUMENT: texts[3]: too long");
    }
}
