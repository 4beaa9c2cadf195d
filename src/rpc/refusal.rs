//! The refusals of the server around the service: the reasons why it refused or ended a call, with their codes and
//! texts. They apply before the request was read or until the answer was sent.

use std::time::Duration;

use tonic::Code;
use tonic_types::ErrorDetails;

/// The reason why the transport refuses or ends a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The server is being stopped.
    Stopping,
    /// The limit of concurrent calls of a kind is reached.
    TooMany {
        /// The kind of call, in the plural.
        calls: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The connection has many calls in progress, and the last permits are reserved for others.
    ConnectionHasMany {
        /// The kind of call, in the plural.
        calls: &'static str,
        /// Calls in progress on this connection.
        of_connection: usize,
        /// Calls in progress on all connections.
        in_progress: usize,
        /// The limit.
        limit: usize,
    },
    /// The call waited for its client, and others needed its permit.
    GaveWay,
    /// Too little of a message arrived in the time.
    RequestStalled {
        /// The time.
        timeout: Duration,
    },
    /// Too little of an answer was taken in the time.
    AnswerStalled {
        /// The time.
        timeout: Duration,
    },
    /// Nothing was sent in either direction in the time.
    StreamIdle {
        /// The time.
        timeout: Duration,
    },
    /// Other messages hold the memory.
    NoMemory {
        /// Bytes of the message.
        bytes: usize,
    },
    /// The message is larger than allowed.
    TooLarge {
        /// Its bytes, if they are known: those of a compressed message are not.
        bytes: Option<usize>,
        /// Bytes that a message may have.
        limit: usize,
    },
    /// The stream ended in the middle of a message.
    CutOff,
    /// The stream ended before its one message.
    NoMessage,
    /// A second message came where one is expected.
    SecondMessage,
    /// The flag before a message is neither 0 nor 1.
    BadFlag(u8),
    /// The flag says compressed, but the headers name no encoding.
    NoEncoding,
    /// The answer is larger in the form that was asked for than it may be.
    LargeInItsForm {
        /// Bytes that it may have.
        limit: usize,
    },
    /// The header names an encoding that this server does not know.
    UnknownEncoding {
        /// The header.
        header: String,
    },
    /// The call belongs to another server's API, and is not one of those that this server answers too.
    NotOffered {
        /// The reason, and what to do instead.
        reason: &'static str,
    },
    /// The message is not valid in its encoding.
    Damaged {
        /// The encoding.
        encoding: &'static str,
        /// The decoder's reason.
        reason: String,
    },
    /// `grpc-timeout` is negative.
    NegativeTimeout,
}

impl Refusal {
    /// Returns the code and the text, and sets the retry delay in `details`.
    pub(super) fn describe(&self, details: &mut ErrorDetails) -> (Code, String) {
        let mut retry = |after: Duration| {
            details.set_retry_info(Some(after));
        };
        match self {
            Self::Stopping => {
                retry(Duration::from_secs(1));
                (Code::Unavailable, "the server is stopping".to_owned())
            }
            Self::TooMany { calls, limit } => {
                retry(Duration::from_millis(500));
                (
                    Code::ResourceExhausted,
                    format!("{limit} {calls} are in progress, which is the limit: try again later"),
                )
            }
            Self::ConnectionHasMany { calls, of_connection, in_progress, limit } => {
                retry(Duration::from_millis(100));
                let text = format!(
                    "max_calls: {in_progress} {calls} of {limit} are in progress, {of_connection} of them on this \
                     connection: the rest is reserved for connections with fewer calls"
                );
                (Code::ResourceExhausted, text)
            }
            Self::GaveWay => {
                retry(Duration::from_secs(1));
                let text = "max_calls: the call waited for its client while others needed its permit: try again";
                (Code::ResourceExhausted, text.to_owned())
            }
            Self::RequestStalled { timeout } => {
                (Code::DeadlineExceeded, format!("the request did not arrive: too little of it came in {timeout:?}"))
            }
            Self::AnswerStalled { timeout } => (
                Code::DeadlineExceeded,
                format!("the answer was not taken: too little of it could be sent in {timeout:?}"),
            ),
            Self::StreamIdle { timeout } => (
                Code::DeadlineExceeded,
                format!("the stream was idle for {timeout:?}, which is stream_idle_timeout: open it again when needed"),
            ),
            Self::NoMemory { bytes } => {
                retry(Duration::from_secs(1));
                let text =
                    format!("message_budget: there is no memory for a message of {bytes} bytes now: try again later");
                (Code::ResourceExhausted, text)
            }
            Self::TooLarge { bytes, limit } => {
                let size = bytes.map_or("more".to_owned(), |bytes| format!("{bytes} bytes"));
                (
                    Code::OutOfRange,
                    format!("the message has {size}, max_message_bytes allows {limit}: send less in one message"),
                )
            }
            Self::CutOff => (Code::InvalidArgument, "the request ended in the middle of a message".to_owned()),
            Self::NoMessage => {
                (Code::InvalidArgument, "the request has no message: this call takes exactly one".to_owned())
            }
            Self::SecondMessage => {
                (Code::InvalidArgument, "the request has a second message: this call takes exactly one".to_owned())
            }
            Self::BadFlag(flag) => {
                (Code::InvalidArgument, format!("the compression flag of a message is {flag}: it must be 0 or 1"))
            }
            // The protocol prescribes this code.
            Self::NoEncoding => (
                Code::Internal,
                "a message is flagged as compressed, but the header grpc-encoding names no encoding".to_owned(),
            ),
            Self::LargeInItsForm { limit } => (
                Code::ResourceExhausted,
                format!("the answer would have more than {limit} bytes in JSON: ask for less at a time, or by gRPC"),
            ),
            Self::UnknownEncoding { header } => {
                (Code::Unimplemented, format!("the header {header} must be gzip, zstd or identity"))
            }
            Self::NotOffered { reason } => (Code::Unimplemented, (*reason).to_owned()),
            Self::Damaged { encoding, reason } => {
                (Code::InvalidArgument, format!("the message is not valid {encoding}: {reason}"))
            }
            Self::NegativeTimeout => {
                (Code::InvalidArgument, "grpc-timeout is negative: expected a time that is left".to_owned())
            }
        }
    }
}
