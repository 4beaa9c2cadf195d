//! The errors of calls, each readable in one line.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tonic::{Code, Status, TimeoutExpired};

use super::handshake::{chain, explain};
use super::refusal::Refusal;

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
                 one (--tls-cert and --tls-key, `Tls::identity`)"
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
    #[error(
        "the key is not sent to {address} without TLS: call it by https://, or send it anyway (--insecure, \
             `Options::insecure`)"
    )]
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
    #[error("{0}")]
    Refused(Refusal),
}

impl Error {
    /// Returns true if the call named something that does not exist.
    pub fn is_not_found(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.code == Code::NotFound)
    }

    /// Returns the server's refusal, if it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The time after which the same call may be answered, if the server says so. Without it, do not try again: a
    /// client reports an answer that is too large for it by the same code, RESOURCE_EXHAUSTED.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refusal()?.retry_after()
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
            None => Self::Refused(Refusal::from(status)),
        }
    }
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer { address: address.to_owned(), tls: false, answered: Arc::new(AtomicBool::new(true)) }
    }

    #[test]
    fn a_broken_connection_is_distinguished_from_a_refusal() {
        let status = Status::from_error(Box::new(std::io::Error::other("connection reset by peer")));
        let line = Error::call(&peer("host:1"), &status).to_string();
        assert_eq!(line, "the connection to host:1 was lost: connection reset by peer");
    }
}
