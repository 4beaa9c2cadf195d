//! The errors of calls, each readable in one line.

use std::error::Error as StdError;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::{Code, Status, TimeoutExpired};
use tonic_types::{BadRequest, RpcStatusExt, StatusExt, pb};

use super::handshake::{chain, explain};

/// The server of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// The address as given.
    pub address: String,
    /// The connection has TLS.
    pub tls: bool,
    /// A call was answered.
    pub answered: Arc<AtomicBool>,
}

impl Peer {
    /// The probable reason of a connection that was lost before its first answer. The end of the connection may be seen
    /// before the alert that explains it.
    fn guess(&self) -> &'static str {
        match (self.answered.load(Ordering::Relaxed), self.tls) {
            (true, _) => "",
            (false, true) => {
                ", before anything was answered; the server may ask for a client certificate of its authorities: give \
                 one by --tls-cert and --tls-key"
            }
            (false, false) => ", before anything was answered; if the server has TLS, call it by https://",
        }
    }
}

/// The reason why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be parsed.
    #[error("the address {address:?} is not usable: {reason}")]
    Address {
        /// The address as given.
        address: String,
        /// The fault.
        reason: String,
    },
    /// No server answers at the address.
    #[error("cannot connect to {address}: {reason}; if the server is not running, start it with `cognate serve`")]
    Connect {
        /// The address as given.
        address: String,
        /// The innermost cause.
        reason: String,
    },
    /// The server answers, and TLS fails, or one end has TLS and the other has not.
    #[error("cannot talk to {address}: {reason}")]
    Handshake {
        /// The address as given.
        address: String,
        /// The reason, and what to do.
        reason: &'static str,
    },
    /// A file of a certificate or a key cannot be used.
    #[error("{} cannot be used: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
    /// TLS cannot be set up from the files and the name.
    #[error("TLS cannot be set up: {reason}; give the two files of one pair, and a host name")]
    Tls {
        /// The fault.
        reason: String,
    },
    /// The key would cross a network unencrypted.
    #[error("the key is not sent to {address} without TLS: call it by https://, or give --insecure to send it anyway")]
    KeyWithoutTls {
        /// The address as given.
        address: String,
    },
    /// The connection was lost in the middle of a call.
    #[error("the connection to {address} was lost: {reason}")]
    Lost {
        /// The address as given.
        address: String,
        /// The innermost cause.
        reason: String,
    },
    /// The timeout of the call has passed.
    #[error("no answer from {address} in the time allowed")]
    TimedOut {
        /// The address as given.
        address: String,
    },
    /// The server refused the call.
    #[error("{line}")]
    Refused {
        /// The gRPC code.
        code: Code,
        /// The code, the message and the details.
        line: String,
    },
}

impl Error {
    /// Returns true if the call named something that does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: Code::NotFound, .. })
    }

    pub(super) fn connect(peer: &Peer, cause: &(dyn StdError + 'static)) -> Self {
        let address = peer.address.clone();
        match explain(cause, peer.tls) {
            Some(reason) => Self::Handshake { address, reason },
            None => Self::Connect { address, reason: innermost(cause) },
        }
    }

    pub(super) fn call(peer: &Peer, status: &Status) -> Self {
        let address = peer.address.clone();
        // A status from the server has no source; one that tonic made from a broken connection has.
        match status.source() {
            Some(cause) if chain(cause).any(|error| error.is::<TimeoutExpired>()) => Self::TimedOut { address },
            Some(cause) => match explain(cause, peer.tls) {
                Some(reason) => Self::Handshake { address, reason },
                None => Self::Lost { address, reason: innermost(cause) + peer.guess() },
            },
            None => Self::Refused { code: status.code(), line: line(status) },
        }
    }
}

/// The error of one item as a line: `INVALID_ARGUMENT: text of 20000000 bytes, at most 1048576`.
pub fn item_error(status: &pb::Status) -> String {
    let code = Code::from_i32(status.code);
    let mut line = format!("{}: {}", name(code), status.message);
    add_violations(&mut line, status.get_details_bad_request());
    line
}

fn line(status: &Status) -> String {
    let mut line = format!("{}: {}", name(status.code()), status.message());
    add_violations(&mut line, status.get_details_bad_request());
    if let Some(delay) = status.get_details_retry_info().and_then(|info| info.retry_delay) {
        write!(line, "; try again in {:.1} s", delay.as_secs_f64()).expect("a String takes everything");
    }
    line
}

/// Appends the violated fields that the message does not name.
fn add_violations(line: &mut String, details: Option<BadRequest>) {
    for violation in details.into_iter().flat_map(|details| details.field_violations) {
        if !line.contains(&violation.field) {
            write!(line, "; {}: {}", violation.field, violation.description).expect("a String takes everything");
        }
    }
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
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
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;

    fn peer(address: &str) -> Peer {
        Peer { address: address.to_owned(), tls: false, answered: Arc::new(AtomicBool::new(true)) }
    }

    #[test]
    fn a_refusal_names_its_code_and_each_field_once() {
        let details = ErrorDetails::with_bad_request_violation("k", "0, at least 1");
        let told = Status::with_error_details(Code::InvalidArgument, "k: 0, at least 1", details.clone());
        assert_eq!(Error::call(&peer("a:1"), &told).to_string(), "INVALID_ARGUMENT: k: 0, at least 1");
        let untold = Status::with_error_details(Code::InvalidArgument, "wrong request", details);
        assert_eq!(Error::call(&peer("a:1"), &untold).to_string(), "INVALID_ARGUMENT: wrong request; k: 0, at least 1");
    }

    #[test]
    fn a_full_queue_says_when_to_try_again() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
        let status = Status::with_error_details(Code::ResourceExhausted, "the queue is full", details);
        let line = Error::call(&peer("a:1"), &status).to_string();
        assert_eq!(line, "RESOURCE_EXHAUSTED: the queue is full; try again in 1.5 s");
    }

    #[test]
    fn a_broken_connection_is_distinguished_from_a_refusal() {
        let status = Status::from_error(Box::new(std::io::Error::other("connection reset by peer")));
        let line = Error::call(&peer("host:1"), &status).to_string();
        assert_eq!(line, "the connection to host:1 was lost: connection reset by peer");
    }

    #[test]
    fn the_error_of_an_item_reads_like_that_of_a_call() {
        let status = pb::Status { code: 3, message: "texts[3]: too long".into(), details: vec![] };
        assert_eq!(item_error(&status), "INVALID_ARGUMENT: texts[3]: too long");
    }
}
