//! METRICS: the state of a server in the text format of OpenMetrics, for Prometheus, and probes for load balancers.
//!
//! ```text
//! GET ─► http ─► scrape ─► calls        the observer of calls, with its own counters
//!        bounded           principals   the observer of callers with names; their limits and what they store
//!                          connections  the server's monitor
//!                          models       the stats of each model
//!                          documents    collections, searches, the disk
//!                          process      the process and its build
//! ```
//!
//! Invariants: the parts count as they work, and know nothing of metrics. A scrape reads these counts, and computes
//! nothing that grows with the documents. It holds up no call. Labels are names of methods, codes, models,
//! collections and callers, and bounded; nothing of a message is ever in a scrape.

mod calls;
mod connections;
mod documents;
mod families;
mod http;
mod models;
mod principals;
mod process;
mod scrape;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::server;
use scrape::Metrics;

/// The settings of metrics.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address that answers scrapes and probes; `None`: nothing does.
    pub addr: Option<SocketAddr>,
    /// The collections with series of their own: the largest ones. Higher: more series for each scrape.
    pub collections: usize,
    /// The callers with series of their own: the first ones. Higher: more series for each scrape.
    pub principals: usize,
}

/// The reason why metrics cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} for metrics: {source}; choose another address with --metrics-addr")]
pub struct CannotListen {
    addr: SocketAddr,
    source: std::io::Error,
}

/// Serves metrics until it is dropped.
pub struct Endpoint(JoinHandle<()>);

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves the metrics of the server with these options, if its settings want them. To be called before the server
/// starts: it begins to observe calls.
pub async fn serve(options: &Options, server: &mut server::Options) -> Result<Option<Endpoint>, CannotListen> {
    let Some(addr) = options.addr else { return Ok(None) };
    let cannot = |source| CannotListen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(cannot)?;
    let addr = listener.local_addr().map_err(cannot)?;
    tracing::info!(%addr, "metrics are served at /metrics, and probes at /livez and /readyz");
    let metrics = Arc::new(Metrics::new(options.collections, options.principals, server));
    Ok(Some(Endpoint(tokio::spawn(http::serve(listener, metrics)))))
}
