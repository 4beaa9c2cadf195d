//! METRICS: the state of a server in the text format of OpenMetrics, for Prometheus, and probes for load balancers.
//!
//! ```text
//! scrape ─► http ─► Metrics::render ─► calls        the observer of calls, with its own counters
//!           bounded   one at a time    connections  the server's monitor
//!                                      models       Stats of each model
//!                                      documents    collections, searches, the disk
//!                                      process      the process and its build
//! ```
//!
//! Invariants: the parts count as they work, and know nothing of metrics. A scrape reads these counts, and computes
//! nothing that grows with the documents. It holds up no call. Labels are names of methods, codes, models and
//! collections, and bounded; nothing of a message is ever in a scrape.

mod calls;
mod connections;
mod documents;
mod families;
mod http;
mod models;
mod process;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::server::{self, Monitor, Phase};
use calls::Calls;
use families::Families;
use process::Process;

/// The settings of metrics.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address that answers scrapes and probes; `None`: nothing does.
    pub addr: Option<SocketAddr>,
    /// The collections with series of their own: the largest ones. Higher: more series for each scrape.
    pub collections: usize,
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
    let metrics = Arc::new(Metrics::new(options, server));
    Ok(Some(Endpoint(tokio::spawn(http::serve(listener, metrics)))))
}

/// Everything that a scrape reads.
struct Metrics {
    registry: Registry,
    monitor: Monitor,
}

impl Metrics {
    fn new(options: &Options, server: &mut server::Options) -> Self {
        let calls = Arc::new(Calls::default());
        server.observers.add(Arc::clone(&calls) as Arc<dyn server::CallObserver>);
        let monitor = server.monitor.clone();
        let (process, limits) = (Process::new(), connections::Limits::of(server));
        let collections = options.collections;
        let mut registry = Registry::default();
        let mut add = |write: Box<WriteFamilies>| registry.register_collector(Box::new(Part(write)));
        add(Box::new(move |families| calls.write(families)));
        let of_server = monitor.clone();
        add(Box::new(move |families| connections::write(families, &of_server, &limits)));
        let loaded = monitor.clone();
        add(Box::new(move |families| {
            let Some(engine) = loaded.engine() else { return Ok(()) };
            models::write(families, &engine)?;
            documents::write(families, &engine, collections)
        }));
        add(Box::new(move |families| process.write(families)));
        Self { registry, monitor }
    }

    /// The state of the server in the text format of OpenMetrics.
    fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// The reason why a load balancer should send no calls; `Ok`: it should. It is that of the health service.
    fn readiness(&self) -> Result<&'static str, &'static str> {
        match self.monitor.phase() {
            Phase::Starting => Err("not ready: models and collections are being loaded\n"),
            Phase::Stopping => Err("not ready: the server is stopping\n"),
            Phase::Serving if self.monitor.engine().is_some_and(|engine| engine.store.stopped().is_some()) => {
                Ok("ready, but the disk failed and no documents can be stored: the log has the reason\n")
            }
            Phase::Serving => Ok("ready\n"),
        }
    }
}

/// Writes the families of one part.
type WriteFamilies = dyn Fn(&mut Families<'_>) -> fmt::Result + Send + Sync;

/// The metrics of one part of the server, read at each scrape.
struct Part(Box<WriteFamilies>);

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Part")
    }
}

impl Collector for Part {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.0)(&mut Families::new(encoder))
    }
}
