//! The client of a connection, as its calls see it, and the settings of connections.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use super::request::ClientTimeouts;
use super::stream::Remote;
use crate::budget::ByteBudget;
use crate::identity::CertificateNames;

/// The settings of connections and their calls.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes of one message in either direction, decompressed.
    pub max_message_bytes: usize,
    /// The time limits for the client of a call.
    pub client_timeouts: ClientTimeouts,
    /// Time for the first frame of a connection. Higher: slower networks can connect, and silent connections stay
    /// longer.
    pub handshake_timeout: Duration,
    /// Time that a connection may have no call. Higher: clients that call rarely reconnect less often, and unused
    /// connections stay longer.
    pub connection_idle_timeout: Duration,
    /// Silence after which a client gets a ping. Lower: a client that is gone is noticed earlier, more packets.
    pub keepalive_interval: Duration,
    /// Time for the answer to a ping. Higher: slower networks keep their connections.
    pub keepalive_timeout: Duration,
    /// Age at which a connection is asked to close, give or take a tenth. Lower: balancers spread clients sooner.
    pub max_age: Option<Duration>,
    /// Time for calls in progress after that; then they are cut off.
    pub max_age_grace: Option<Duration>,
    /// Concurrent streams of a connection. Higher: a proxy needs fewer connections. The client queues further ones.
    pub max_streams: u32,
}

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// The number of the connection.
    pub id: u64,
    /// The memory that its requests may take.
    pub memory: ByteBudget,
    /// Its address and certificate.
    pub remote: Remote,
    /// The names of its certificate, read at the first call.
    names: OnceLock<CertificateNames>,
    begun: Instant,
    calls: AtomicUsize,
    last_call_ms: AtomicU64,
}

impl Peer {
    pub(super) fn new(memory: ByteBudget, remote: Remote) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            memory,
            remote,
            names: OnceLock::new(),
            begun: Instant::now(),
            calls: AtomicUsize::new(0),
            last_call_ms: AtomicU64::new(0),
        })
    }

    /// Counts a call until the result is dropped.
    pub fn begin_call(self: &Arc<Self>) -> ActiveCall {
        self.calls.fetch_add(1, Ordering::Relaxed);
        ActiveCall(Arc::clone(self))
    }

    /// The names of its certificate, if it has one.
    pub fn certificate_names(&self) -> Option<&CertificateNames> {
        let certificate = self.remote.certificate.as_ref()?;
        Some(self.names.get_or_init(|| CertificateNames::of(certificate)))
    }

    /// The time since the connection was accepted.
    pub(super) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Returns true during a call.
    pub(super) fn has_calls(&self) -> bool {
        self.calls.load(Ordering::Relaxed) > 0
    }

    /// The time since the last call ended; zero during a call.
    pub(super) fn idle_for(&self) -> Duration {
        if self.has_calls() {
            return Duration::ZERO;
        }
        self.begun.elapsed().saturating_sub(Duration::from_millis(self.last_call_ms.load(Ordering::Relaxed)))
    }
}

/// A call in progress.
#[derive(Debug)]
pub struct ActiveCall(Arc<Peer>);

impl Drop for ActiveCall {
    fn drop(&mut self) {
        self.0.last_call_ms.store(self.0.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}
