//! Calls by method and code, by the names that gRPC servers usually give them.
//!
//! Invariant: a call costs some additions to atomics, and no lock. A method has series from its first call on, except
//! the number of calls that began, which every method has.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::families::{Families, Family, Labels};
use crate::compute::{CALL_TIMES, Distribution, Histogram};
use crate::server::{CODES, CallObserver, CallRecord, Method};

/// The counts of all calls.
pub struct Calls(Box<[OfMethod]>);

impl Default for Calls {
    fn default() -> Self {
        Self(Method::all().map(OfMethod::new).collect())
    }
}

/// The counts of a method.
struct OfMethod {
    method: Method,
    started: AtomicU64,
    by_code: [AtomicU64; CODES.len()],
    times: Histogram,
    messages_in: AtomicU64,
    messages_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl OfMethod {
    fn new(method: Method) -> Self {
        let [started, messages_in, messages_out, bytes_in, bytes_out] = Default::default();
        let (by_code, times) = (Default::default(), Histogram::new(CALL_TIMES));
        Self { method, started, by_code, times, messages_in, messages_out, bytes_in, bytes_out }
    }

    fn labels(&self) -> Labels {
        let method = self.method;
        vec![
            ("grpc_type", method.kind().into()),
            ("grpc_service", method.service().into()),
            ("grpc_method", method.name().into()),
        ]
    }

    fn handled(&self) -> u64 {
        self.by_code.iter().map(get).sum()
    }

    fn in_flight(&self) -> u64 {
        // The calls that ended first: a call that ends meanwhile still counts.
        let handled = self.handled();
        get(&self.started).saturating_sub(handled)
    }
}

impl CallObserver for Calls {
    fn began(&self, method: Method) {
        self.0[method.index()].started.fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self, record: &CallRecord) {
        let of_method = &self.0[record.method.index()];
        // Before the code: a call counts as ended when all of it is counted.
        of_method.times.record_time(record.duration);
        for (counter, n) in [
            (&of_method.messages_in, record.messages_in),
            (&of_method.messages_out, record.messages_out),
            (&of_method.bytes_in, record.bytes_in),
            (&of_method.bytes_out, record.bytes_out),
        ] {
            counter.fetch_add(n, Ordering::Relaxed);
        }
        if let Some(counter) = of_method.by_code.get(record.code as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Calls {
    /// Writes the families of calls.
    pub fn write(&self, families: &mut Families<'_>) -> fmt::Result {
        let called = || self.0.iter().filter(|of_method| get(&of_method.started) > 0);
        let counts = |counter: fn(&OfMethod) -> &AtomicU64| {
            called().map(move |of_method| (of_method.labels(), get(counter(of_method))))
        };
        families.counters(
            Family::of("grpc_server_started", "Calls that began."),
            self.0.iter().map(|of_method| (of_method.labels(), get(&of_method.started))),
        )?;
        let by_code = called().flat_map(|of_method| {
            CODES.iter().zip(&of_method.by_code).map(|(code, counter)| {
                let mut labels = of_method.labels();
                labels.push(("grpc_code", (*code).into()));
                (labels, get(counter))
            })
        });
        families
            .counters(Family::of("grpc_server_handled", "Calls that ended, by the code of their status."), by_code)?;
        families.gauges(
            Family::of("grpc_server_in_flight", "Calls in progress."),
            called().map(|of_method| (of_method.labels(), of_method.in_flight())),
        )?;
        families.histograms(
            Family::seconds("grpc_server_handling", "Time from the head of a request to the last byte of the answer."),
            called()
                .map(|of_method| -> (Labels, Distribution) { (of_method.labels(), of_method.times.distribution()) }),
        )?;
        families.counters(
            Family::of("grpc_server_msg_received", "Messages of requests, of calls that ended."),
            counts(|of_method| &of_method.messages_in),
        )?;
        families.counters(
            Family::of("grpc_server_msg_sent", "Messages of answers, of calls that ended."),
            counts(|of_method| &of_method.messages_out),
        )?;
        families.counters(
            Family::bytes("grpc_server_received", "Bytes of requests as they came, of calls that ended."),
            counts(|of_method| &of_method.bytes_in),
        )?;
        families.counters(
            Family::bytes("grpc_server_sent", "Bytes of answers, of calls that ended."),
            counts(|of_method| &of_method.bytes_out),
        )
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
