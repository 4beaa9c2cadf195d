//! The access log: a line for each call that has ended, if the settings want one.
//!
//! Invariants: a line has numbers, names of this server, the caller's name and address, and the id of the trace. It has
//! nothing of a message. By default there are no lines: each costs a few microseconds and a write, and clients would
//! decide the size of the log. Metrics count all calls.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use tonic::Code;

use super::methods::Method;
use super::observed::{CallObserver, CallRecord};

/// The calls that get a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessLog {
    /// No call.
    None,
    /// Calls that end with an error.
    Errors,
    /// All calls.
    All,
    /// One call in this number.
    OneIn(NonZeroU64),
}

impl FromStr for AccessLog {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "errors" => Ok(Self::Errors),
            "all" => Ok(Self::All),
            _ => text
                .strip_prefix("1/")
                .and_then(|n| n.parse().ok())
                .map(Self::OneIn)
                .ok_or_else(|| "expected none, errors, all, or 1/N for one call in N".to_owned()),
        }
    }
}

/// The writer of the lines.
#[derive(Debug)]
pub(super) struct AccessLines {
    which: AccessLog,
    calls: AtomicU64,
}

impl AccessLines {
    pub(super) fn new(which: AccessLog) -> Self {
        Self { which, calls: AtomicU64::new(0) }
    }

    fn wants(&self, code: Code) -> bool {
        match self.which {
            AccessLog::None => false,
            AccessLog::Errors => code != Code::Ok,
            AccessLog::All => true,
            AccessLog::OneIn(n) => self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(n.get()),
        }
    }
}

impl CallObserver for AccessLines {
    fn began(&self, _: Method) {}

    fn ended(&self, record: &CallRecord) {
        if !self.wants(record.code) {
            return;
        }
        tracing::info!(
            target: "cognate::access",
            method = record.method.name(),
            code = ?record.code,
            principal = record.principal.as_deref(),
            peer = record.peer.remote.address.map(tracing::field::display),
            bytes_in = record.bytes_in,
            bytes_out = record.bytes_out,
            messages_in = record.messages_in,
            messages_out = record.messages_out,
            milliseconds = record.duration.as_secs_f64() * 1e3,
            trace_id = record.trace.map(tracing::field::display),
            "call"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_names_the_calls_that_get_a_line() {
        let lines = |setting: &str, code| {
            let lines = AccessLines::new(setting.parse().unwrap());
            (0..12).filter(|_| lines.wants(code)).count()
        };
        let counts = |code| ["none", "errors", "all", "1/4", "1/1"].map(|setting| lines(setting, code));
        assert_eq!(counts(Code::Ok), [0, 0, 12, 3, 12]);
        assert_eq!(counts(Code::NotFound), [0, 12, 12, 3, 12]);
        for wrong in ["", "some", "1/0", "1/-2", "2/3"] {
            assert!(wrong.parse::<AccessLog>().is_err(), "{wrong}");
        }
    }
}
