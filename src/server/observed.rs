//! The record of a call, for those who observe calls: metrics and the log.
//!
//! Invariant: each observer learns of a gRPC request once when it begins and once when it ends, however it ends. The
//! end is reported on drop. A call whose client left before it got a status ends with `CANCELLED`. A record has numbers
//! and bounded names only: nothing of a message. Requests that are not gRPC are no calls.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderMap;
use tonic::Code;

use super::methods::Method;
use super::peer::Peer;
use super::request::Heads;
use crate::telemetry::{self, CallTrace, TraceId};

/// The names of the codes of statuses, in their order, as metrics of gRPC servers usually have them.
pub const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// An observer of calls. Its functions run on async threads: they only count, or hand over.
pub trait CallObserver: Send + Sync {
    /// Notes that a call begins.
    fn began(&self, method: Method);

    /// Notes that a call has ended.
    fn ended(&self, record: &CallRecord);
}

/// All observers of calls.
#[derive(Clone, Default)]
pub struct CallObservers(Vec<Arc<dyn CallObserver>>);

impl CallObservers {
    /// Adds an observer.
    pub fn add(&mut self, observer: Arc<dyn CallObserver>) {
        self.0.push(observer);
    }
}

impl fmt::Debug for CallObservers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallObservers({})", self.0.len())
    }
}

/// The facts about a call that has ended.
#[derive(Debug, Clone)]
pub struct CallRecord {
    /// The method.
    pub method: Method,
    /// The client.
    pub peer: Arc<Peer>,
    /// The name of the principal; `None` if nobody was authenticated.
    pub principal: Option<Arc<str>>,
    /// The code of its status.
    pub code: Code,
    /// Bytes of the request, as they came: with the heads of messages, and compressed if the client compresses.
    pub bytes_in: u64,
    /// Messages of the request.
    pub messages_in: u64,
    /// Bytes of the answer, as they were handed to HTTP.
    pub bytes_out: u64,
    /// Messages of the answer.
    pub messages_out: u64,
    /// The time from the head of the request to the last byte of the answer.
    pub duration: Duration,
    /// The trace that it belongs to, if it is traced or its caller names one.
    pub trace: Option<TraceId>,
}

/// A call in progress, until it is dropped.
pub struct Observed<'a> {
    observers: &'a CallObservers,
    began: Instant,
    received: Arc<Traffic>,
    heads: Heads,
    trace: CallTrace,
    /// The record so far.
    pub record: CallRecord,
}

/// The bytes and messages of a request that have arrived. Its body counts them.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes.
    pub bytes: AtomicU64,
    /// Whole messages.
    pub messages: AtomicU64,
}

impl<'a> Observed<'a> {
    /// Begins the record of a call of `peer`.
    pub fn begin(observers: &'a CallObservers, method: Method, peer: &Arc<Peer>) -> Self {
        observers.0.iter().for_each(|observer| observer.began(method));
        let record = CallRecord {
            method,
            peer: Arc::clone(peer),
            principal: None,
            code: Code::Cancelled,
            bytes_in: 0,
            messages_in: 0,
            bytes_out: 0,
            messages_out: 0,
            duration: Duration::ZERO,
            trace: None,
        };
        Self {
            observers,
            began: Instant::now(),
            received: Arc::default(),
            heads: Heads::default(),
            trace: CallTrace::none(),
            record,
        }
    }

    /// Begins the trace of the call, when its caller is known. Returns its span; none if the call is not traced.
    pub fn begin_trace(&mut self, headers: &HeaderMap) -> tracing::Span {
        let Self { record, trace, .. } = self;
        let (method, address) = (record.method, record.peer.remote.address);
        *trace = telemetry::begin_call(headers, (method.service(), method.name()), address, record.principal.is_some());
        record.trace = trace.id;
        trace.span.clone()
    }

    /// The time at which the call began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// The counters of its request.
    pub fn received(&self) -> Arc<Traffic> {
        Arc::clone(&self.received)
    }

    /// Counts the messages in a part of the service's answer, in order.
    pub fn answered(&mut self, data: &[u8]) {
        self.record.messages_out += self.heads.count(data);
    }

    /// Counts bytes of the answer, in the protocol of the caller.
    pub fn sent(&mut self, bytes: usize) {
        self.record.bytes_out += bytes as u64;
    }

    /// Sets the code that `headers` or trailers tell the client, if they tell one.
    pub fn told(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get("grpc-status") {
            self.record.code = Code::from_bytes(code.as_bytes());
        }
    }
}

impl Drop for Observed<'_> {
    fn drop(&mut self) {
        self.record.duration = self.began.elapsed();
        self.record.bytes_in = self.received.bytes.load(Ordering::Relaxed);
        self.record.messages_in = self.received.messages.load(Ordering::Relaxed);
        self.trace.end(self.record.code as i32);
        self.observers.0.iter().for_each(|observer| observer.ended(&self.record));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::stream::Remote;
    use super::*;
    use crate::budget::ByteBudget;

    #[derive(Default)]
    struct Seen(Mutex<(usize, Vec<CallRecord>)>);

    impl CallObserver for Seen {
        fn began(&self, _: Method) {
            self.0.lock().unwrap().0 += 1;
        }

        fn ended(&self, record: &CallRecord) {
            self.0.lock().unwrap().1.push(record.clone());
        }
    }

    /// The record that an observer gets of a call, which `during` changes.
    fn record(during: impl FnOnce(&mut Observed<'_>)) -> CallRecord {
        let seen = Arc::new(Seen::default());
        let mut observers = CallObservers::default();
        observers.add(Arc::clone(&seen) as Arc<dyn CallObserver>);
        let peer = Peer::new(ByteBudget::new(1), Remote::default());
        let mut observed = Observed::begin(&observers, Method::of("/cognate.v1.Cognate/Embed"), &peer);
        during(&mut observed);
        assert!(seen.0.lock().unwrap().1.is_empty(), "it has not ended");
        drop(observed);
        let (began, mut ended) = std::mem::take(&mut *seen.0.lock().unwrap());
        assert_eq!((began, ended.len()), (1, 1));
        ended.remove(0)
    }

    #[test]
    fn a_call_that_is_dropped_is_reported_once_as_cancelled() {
        let record = record(|_| ());
        assert_eq!((record.code, record.method.name()), (Code::Cancelled, "Embed"));
    }

    #[test]
    fn the_code_is_the_one_that_the_client_was_told() {
        let headers = |code: &str| HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]);
        assert_eq!(record(|call| call.told(&headers("0"))).code, Code::Ok);
        assert_eq!(record(|call| call.told(&headers("8"))).code, Code::ResourceExhausted);
        assert_eq!(record(|call| call.told(&HeaderMap::new())).code, Code::Cancelled);
    }

    #[test]
    fn each_code_has_a_name() {
        let names = (0..CODES.len() as i32).map(|code| format!("{:?}", Code::from_i32(code)));
        let known = CODES.map(|name| match name {
            "OK" => "Ok".to_owned(),
            "Canceled" => "Cancelled".to_owned(),
            name => name.to_owned(),
        });
        assert_eq!(names.collect::<Vec<_>>(), known);
        assert_eq!(Code::from_i32(CODES.len() as i32), Code::Unknown, "there are no more");
    }

    #[test]
    fn messages_of_an_answer_are_counted_wherever_it_is_cut() {
        let answer = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[1, 0, 0, 0, 1], b"x"].concat();
        for size in 1..=answer.len() {
            let record = record(|call| answer.chunks(size).for_each(|part| call.answered(part)));
            assert_eq!(record.messages_out, 3, "in pieces of {size}");
        }
    }
}
