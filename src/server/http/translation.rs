//! The seam between the messages of rpcs and other forms of the same calls.
//!
//! A call in another form goes the way of every call: its message is counted, bounded and paid for as it arrives, its
//! caller is recognised and admitted, and the service answers it. A translation turns bytes into bytes at both ends.
//! Invariants: it runs on an async thread for small messages alone. Its output is paid for as it grows ([`Output`]).

use std::io::{self, Write};

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::Value;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::budget::{ByteBudget, Held};
use crate::rpc::refusal::Refusal;
use crate::rpc::status::Failure;

/// The memory that a translation of a request may take, as a multiple of the request: a copy, the message, and the
/// names of an object that are checked for doubles.
pub const MEMORY_FACTOR: usize = 4;

/// Bytes of an answer that take none of the budget.
const FREE: usize = 16 * 1024;

/// Translates the messages of one call. It may keep facts of the request for the answer.
pub trait Translation: Send + Sync {
    /// Returns the message of the rpc that `body` asks for, of at most `limit` bytes.
    fn request(&self, body: &[u8], limit: usize) -> Result<Vec<u8>, Failure>;

    /// Writes `message`, an answer of the rpc, in the caller's form.
    fn answer(&self, message: &[u8], out: &mut Output) -> Result<(), Failure>;
}

/// The answer to a call that failed.
#[derive(Debug)]
pub struct Failed {
    /// The HTTP status.
    pub status: StatusCode,
    /// Further headers.
    pub headers: HeaderMap,
    /// JSON.
    pub body: Vec<u8>,
}

impl Failed {
    /// The answer to a call that ended with `status`. Its headers say when to try again, and how to authenticate.
    pub fn new(status: &Status, http: StatusCode, body: &Value) -> Self {
        let mut headers = HeaderMap::new();
        if let Some(delay) = status.get_details_retry_info().and_then(|info| info.retry_delay) {
            headers.insert(RETRY_AFTER, HeaderValue::from(delay.as_secs_f64().ceil() as u64));
        }
        if status.code() == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Self { status: http, headers, body: body.to_string().into_bytes() }
    }
}

/// A form of failures.
pub type FailureForm = fn(&Status) -> Failed;

/// An answer as it is written. It is bounded, and the budget pays for it until its last byte is sent.
pub struct Output {
    bytes: Vec<u8>,
    held: Option<Held>,
    budget: ByteBudget,
    limit: usize,
}

impl Output {
    /// An empty answer that may have `limit` bytes.
    pub fn new(budget: ByteBudget, limit: usize) -> Self {
        Self { bytes: Vec::new(), held: None, budget, limit }
    }

    /// Writes bytes, if the limit and the budget allow them.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let needed = self.bytes.len() + bytes.len();
        if needed > self.bytes.capacity() {
            self.grow(needed)?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes a value as JSON.
    pub fn put_json(&mut self, value: &(impl serde::Serialize + ?Sized)) -> Result<(), Failure> {
        let mut writing = Writing { out: self, failure: None };
        let written = serde_json::to_writer(&mut writing, value);
        let failure = writing.failure.take();
        written.map_err(|_| failure.unwrap_or(Failure::Internal))
    }

    /// The number of bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes the number of the bytes behind the four at `at` into these.
    pub fn set_length_at(&mut self, at: usize) {
        let length = self.bytes.len().saturating_sub(at + 4);
        // An answer has at most four times `max_message_bytes`.
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&length);
        }
    }

    /// Makes room for `needed` bytes in all.
    fn grow(&mut self, needed: usize) -> Result<(), Failure> {
        if needed > self.limit {
            return Err(Refusal::LargeInItsForm { limit: self.limit }.into());
        }
        let capacity = needed.max(self.bytes.capacity() * 2).clamp(1024, self.limit.max(1024));
        if capacity > FREE {
            // The old bytes are copied into the new ones, so both are held for a moment.
            let no_memory = || Failure::from(Refusal::NoMemory { bytes: capacity });
            let more = self.budget.try_hold(capacity).ok_or_else(no_memory)?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
            self.held = Some(more);
        } else {
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        Ok(())
    }

    /// Ends the answer.
    pub fn finish(self) -> Bytes {
        match self.held {
            None => Bytes::from(self.bytes),
            held => Bytes::from_owner(Paid { bytes: self.bytes, _held: held }),
        }
    }
}

/// Bytes that hold their part of the budget.
struct Paid {
    bytes: Vec<u8>,
    _held: Option<Held>,
}

impl AsRef<[u8]> for Paid {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes JSON into an answer.
struct Writing<'a> {
    out: &'a mut Output,
    /// The reason why it could not be written.
    failure: Option<Failure>,
}

impl Write for Writing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.out.put(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(failure) => {
                self.failure = Some(failure);
                Err(io::ErrorKind::StorageFull.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_bounded_and_paid_for_until_it_is_dropped() {
        let budget = ByteBudget::new(1 << 20);
        let mut out = Output::new(budget.clone(), 100_000);
        for _ in 0..10 {
            out.put(&[b'x'; 9_000]).unwrap();
        }
        // The budget counts in small units.
        assert!((90_000..=100_064).contains(&budget.in_use()), "{}", budget.in_use());
        assert_eq!(out.put(&[0; 20_000]), Err(Refusal::LargeInItsForm { limit: 100_000 }.into()));
        let bytes = out.finish();
        assert_eq!(bytes.len(), 90_000);
        drop(bytes);
        assert_eq!(budget.in_use(), 0);
        let mut poor = Output::new(ByteBudget::new(1 << 10), 100_000);
        assert!(poor.put(&[0; 20_000]).is_err());
        assert!(poor.put_json("small").is_ok());
    }
}
