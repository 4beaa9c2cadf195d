//! The listener and what stands around the service: health, reflection, limits, a graceful stop.
//!
//! The port is open before the model is loaded, so that health checks get an answer: `NOT_SERVING`,
//! and calls `UNAVAILABLE`, until the model has answered its self-test, and again while draining.

mod gate;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::budget::ByteBudget;
use crate::machine::memory;
use crate::proto::{self, cognate_server::CognateServer};
use crate::rpc::{Api, Engine};
use gate::{Gate, Gated};

/// The name that health checks ask for, beside the empty one.
const SERVICE: &str = "cognate.v1.Cognate";

/// The name that says whether documents can be stored: not where the disk failed, while all else is served.
const WRITES: &str = "writes";

/// How soon a failed disk is known.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// HTTP/2 windows: what a client may send ahead. 1 MiB keeps a stream of documents flowing over a
/// network of some milliseconds and is what an idle stream can cost at most.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// A client that answers no ping for so long is gone, and its calls with it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// More than this is not needed for messages on any machine: 256 calls with 16 MiB each.
const MOST_MESSAGE_BUDGET: usize = 4 << 30;

/// How long connections may linger once the last call has ended: enough to flush its answer. A
/// watcher of the health service would keep its connection open for ever.
const FLUSH: Duration = Duration::from_millis(250);

/// How a server runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Calls, streams included, in progress at one time; more are refused.
    pub max_calls: usize,
    /// Bytes of one message in either direction, decompressed.
    pub max_message_bytes: usize,
    /// Bytes that requests on their way, decoded messages and answers may take together. Higher: more large calls at
    /// a time, more memory. The engine shares it ([`crate::rpc`]).
    pub message_budget: ByteBudget,
    /// How long calls may take to finish once a stop is asked for; then they are cut off.
    pub drain_timeout: Duration,
}

/// Half of the memory that this process may use, for messages: at least four messages of `max_message_bytes`, and no
/// more than [`MOST_MESSAGE_BUDGET`].
pub fn default_message_budget(max_message_bytes: usize) -> usize {
    let half = memory::limit().map_or(MOST_MESSAGE_BUDGET, |bytes| usize::try_from(bytes / 2).unwrap_or(usize::MAX));
    half.min(MOST_MESSAGE_BUDGET).max(max_message_bytes.saturating_mul(4))
}

/// Why a server did not run, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}; is another server running there? choose another with --addr")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The reflection service cannot be built from the descriptors.
    #[error("the service's descriptors are damaged: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The listener failed.
    #[error("the server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Opens the port; port 0 takes a free one.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(addr).await.map_err(|source| ServeError::Bind { addr, source })
}

/// Serves on `listener` until `stop` resolves, then drains. `load` makes the engine while the port
/// is already open; its error ends the server. `ready` is told once calls are answered.
pub async fn serve<E>(
    listener: TcpListener,
    options: Options,
    load: impl Future<Output = Result<Engine, E>>,
    ready: impl FnOnce(),
    stop: impl Future<Output = ()>,
) -> Result<(), E>
where
    E: From<ServeError>,
{
    let api = Api::default();
    let gate = Arc::new(Gate::new(options.max_calls));
    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, ServingStatus::NotServing).await;

    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let reflection_v1 = reflection().build_v1().map_err(ServeError::from)?;
    let reflection_v1alpha = reflection().build_v1alpha().map_err(ServeError::from)?;
    let service = CognateServer::new(api.clone())
        .max_decoding_message_size(options.max_message_bytes)
        .max_encoding_message_size(options.max_message_bytes)
        // Accepted, but not sent: vectors do not compress, and answers should not wait for it.
        .accept_compressed(Gzip)
        .accept_compressed(Zstd);

    let (close, closed) = oneshot::channel::<()>();
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(Gated::new(service, Arc::clone(&gate)))
        .add_service(health_service)
        .add_service(reflection_v1)
        .add_service(reflection_v1alpha)
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), async {
            // An error means that the sender is gone: stop as well.
            let _ = closed.await;
        });
    let mut server = std::pin::pin!(server);
    let mut stop = std::pin::pin!(stop);

    let loaded = tokio::select! {
        loaded = load => Some(loaded?),
        ended = &mut server => return Ok(ended.map_err(ServeError::from)?),
        () = &mut stop => None,
    };
    if let Some(engine) = loaded {
        api.open(engine);
        set_health(&health, ServingStatus::Serving).await;
        ready();
        tokio::select! {
            ended = &mut server => return Ok(ended.map_err(ServeError::from)?),
            () = &mut stop => {}
            never = watch_writes(&health, &api) => match never {},
        }
    }

    tracing::info!(calls = gate.calls(), "stopping: no new calls, those in progress may finish");
    set_health(&health, ServingStatus::NotServing).await;
    gate.close();
    let _ = close.send(());
    let drained = async {
        gate.drained().await;
        tokio::time::sleep(FLUSH).await;
    };
    tokio::select! {
        ended = &mut server => Ok(ended.map_err(ServeError::from)?),
        () = drained => Ok(()),
        () = tokio::time::sleep(options.drain_timeout) => {
            tracing::warn!(calls = gate.calls(), "calls did not finish within the drain timeout and are cut off");
            Ok(())
        }
    }
}

/// Says so when nothing can be stored any more.
async fn watch_writes(health: &HealthReporter, api: &Api) -> Infallible {
    loop {
        if let Some(reason) = api.writes_stopped() {
            tracing::error!(reason, "documents are read, and none are stored any more");
            health.set_service_status(WRITES, ServingStatus::NotServing).await;
            // Until a restart.
            return std::future::pending().await;
        }
        tokio::time::sleep(HEALTH_INTERVAL).await;
    }
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    for name in ["", SERVICE, WRITES] {
        health.set_service_status(name, status).await;
    }
}
