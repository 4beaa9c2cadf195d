//! Why a call was refused or ended before its request was read or its answer taken: what the server around the service
//! says, in the words and codes of [`super::status`].

use std::time::Duration;

use tonic::Code;
use tonic_types::ErrorDetails;

/// What the transport refuses or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The server is being stopped.
    Stopping,
    /// As many calls of a kind as allowed are in progress.
    TooMany {
        /// The kind of call, in the plural.
        calls: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// The connection has many calls in progress, and the last places are kept for others.
    ConnectionHasMany {
        /// The kind of call, in the plural.
        calls: &'static str,
        /// Calls that this connection has in progress.
        of_connection: usize,
        /// Calls in progress, of all connections.
        in_progress: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// The call waited for its client, and others needed its place.
    GaveWay,
    /// Of a message, too little arrived in the time.
    RequestStalled {
        /// The time.
        timeout: Duration,
    },
    /// Of an answer, too little was taken in the time.
    AnswerStalled {
        /// The time.
        timeout: Duration,
    },
    /// Nothing was sent either way in the time.
    StreamIdle {
        /// The time.
        timeout: Duration,
    },
    /// Other messages have the memory.
    NoMemory {
        /// Bytes of the message.
        bytes: usize,
    },
    /// The message is larger than allowed.
    TooLarge {
        /// Its bytes, where they are known: those of a compressed one are not.
        bytes: Option<usize>,
        /// Bytes that a message may have.
        limit: usize,
    },
    /// The stream ended within a message.
    CutOff,
    /// The stream ended before its one message.
    NoMessage,
    /// There is more than the one message.
    SecondMessage,
    /// The flag before a message is neither 0 nor 1.
    BadFlag(u8),
    /// The flag says compressed, and the headers name no encoding.
    NoEncoding,
    /// The message is not what its encoding says.
    Damaged {
        /// The encoding.
        encoding: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// `grpc-timeout` is below zero.
    NegativeTimeout,
}

impl Refusal {
    /// The code and the text of it; when to try again goes into `details`.
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
                (Code::ResourceExhausted, format!("{limit} {calls} are in progress, which is the limit: try again"))
            }
            Self::ConnectionHasMany { calls, of_connection, in_progress, limit } => {
                retry(Duration::from_millis(100));
                let text = format!(
                    "max_calls: {in_progress} {calls} of {limit} are in progress, {of_connection} of them of this \
                     connection: the last places are kept for connections with fewer calls"
                );
                (Code::ResourceExhausted, text)
            }
            Self::GaveWay => {
                retry(Duration::from_secs(1));
                let text = "max_calls: the call waited for its client while others needed its place: try again";
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
                let text = format!("message_budget: there is no memory for a message of {bytes} bytes now: try again");
                (Code::ResourceExhausted, text)
            }
            Self::TooLarge { bytes, limit } => {
                let size = bytes.map_or("more".to_owned(), |bytes| format!("{bytes} bytes"));
                (
                    Code::OutOfRange,
                    format!("the message has {size}, max_message_bytes allows {limit}: send less at once"),
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
                "a message is flagged as compressed, and the header grpc-encoding names no encoding".to_owned(),
            ),
            Self::Damaged { encoding, reason } => {
                (Code::InvalidArgument, format!("the message is not valid {encoding}: {reason}"))
            }
            Self::NegativeTimeout => {
                (Code::InvalidArgument, "grpc-timeout is negative: give a time that is left".to_owned())
            }
        }
    }
}
