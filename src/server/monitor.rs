//! A view of a running server, for metrics and probes: its phase, its parts, its connections, its certificate.
//!
//! Invariant: to look costs no lock that a call waits for, and changes nothing.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use super::connection_counts::ConnectionCounts;
use super::tls::{Expiry, Tls};
use crate::rpc::{Api, Engine};

/// The phase of a server's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The models and the collections are loaded.
    Starting,
    /// Calls are answered.
    Serving,
    /// No new calls are answered.
    Stopping,
}

/// A view of a server. Cheap to clone.
#[derive(Clone, Default)]
pub struct Monitor(Arc<Watched>);

#[derive(Default)]
struct Watched {
    api: Api,
    phase: AtomicU8,
    connections: Arc<ConnectionCounts>,
    tls: OnceLock<Arc<Tls>>,
}

impl Monitor {
    /// The phase of the server; the same that its health service tells.
    pub fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Stopping,
        }
    }

    /// The parts that answer calls; `None` until they are loaded.
    pub fn engine(&self) -> Option<Arc<Engine>> {
        self.0.api.loaded()
    }

    /// The counts of connections.
    pub fn connections(&self) -> &Arc<ConnectionCounts> {
        &self.0.connections
    }

    /// The end of the certificate in force; `None`: the server has no TLS.
    pub fn certificate_expiry(&self) -> Option<Expiry> {
        self.0.tls.get().map(|tls| tls.expiry())
    }

    pub(super) fn watch_tls(&self, tls: Arc<Tls>) {
        // A server is served once.
        let _ = self.0.tls.set(tls);
    }

    pub(super) fn api(&self) -> &Api {
        &self.0.api
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Relaxed);
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Monitor").field(&self.phase()).finish()
    }
}
